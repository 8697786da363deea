"""The ingest process answers while it reads, survives what is sent to it, and loses nothing when it stops."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.errors import InvalidQuery, MalformedRequest, StoreUnavailable
from fairlead.predictions.ask import IngestClient, reachable
from fairlead.predictions.ingest import Ingest
from fairlead.predictions.segments import SegmentWriter, frame
from tests.predictions.records import SCHEMA, make_record
from tests.waiting import wait_until

_RUN = """
import sys
from fairlead.predictions.server import run_ingest
from fairlead.settings import Settings
run_ingest(Settings(data=sys.argv[1], ingest_flush_seconds=float(sys.argv[2]), query_seconds=20.0))
"""


class Process:
    """An ingest process, the client that asks it, and a gateway's writer."""

    def __init__(self, folder: Path, flush_seconds: float = 3_600.0) -> None:
        self.folder = folder
        self.writer = SegmentWriter(folder / "log" / "g0")
        self.writer.register_schema(SCHEMA)
        self.client = IngestClient(folder / "run" / "ingest.sock", timeout=30.0)
        self._arguments = [sys.executable, "-c", _RUN, str(folder), str(flush_seconds)]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._arguments, stderr=subprocess.PIPE, text=True)
        wait_until(self._answers, 20.0)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
        try:
            self.client.call("status")
        except StoreUnavailable:
            return False
        return True

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        assert self.process.stderr is not None
        self.process.stderr.read()
        return self.process.wait(20.0)

    def answers(self) -> bool:
        return bool(self.client.call("sql", sql="SELECT 1 AS n")["rows"] == [{"n": 1}])

    def count(self) -> Any:
        return self.client.call("sql", sql="SELECT count(*) AS n FROM predictions")["rows"][0]["n"]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Process]:
    made = Process(tmp_path)
    yield made
    if made.process.poll() is None:
        made.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    # longer than the kernel allows for the address of a socket
    folder = tmp_path_factory.mktemp("x" * 100)
    made = Process(folder)
    yield made
    made.stop()


def test_an_answer_is_in_the_log_for_whoever_asks_after_it(shared: Process) -> None:
    for expected in range(1, 4):
        shared.writer.append(frame(make_record(request_id=f"r{expected}")))
        assert shared.count() == expected
    assert [record["request_id"] for record in shared.client.call("find", request_id="r2")] == ["r2"]


def test_the_process_reads_and_flushes_by_itself(tmp_path: Path) -> None:
    process = Process(tmp_path, flush_seconds=0.1)
    process.writer.append(frame(make_record()))
    wait_until(lambda: process.client.call("status")["rows"] == 1)
    assert process.stop() == 0


def test_sigterm_flushes_and_ends_with_0(running: Process) -> None:
    running.writer.append(*[frame(make_record()) for _ in range(50)])
    assert running.stop() == 0
    assert not (running.folder / "run" / "ingest.sock").exists()
    ingest = Ingest(running.folder)
    status = ingest.status()
    assert (status.rows, status.lag_bytes) == (50, 0)
    ingest.close()


def test_kill_9_and_a_restart_lose_and_double_nothing(running: Process) -> None:
    running.writer.append(frame(make_record()))
    running.client.call("flush")
    running.writer.append(frame(make_record()))
    assert running.count() == 2
    running.stop(signal.SIGKILL)
    running.writer.append(frame(make_record()))
    running.start()
    assert running.count() == 3


def test_errors_come_through_with_class_remedy_and_details(shared: Process) -> None:
    with pytest.raises(InvalidQuery, match="read_csv") as refused:
        shared.client.call("sql", sql="FROM read_csv('/etc/passwd')")
    assert "predictions" in refused.value.remedy
    with pytest.raises(MalformedRequest, match="no operation"):
        shared.client.call("destroy")


def test_an_answer_too_large_for_one_message_is_refused(shared: Process) -> None:
    with pytest.raises(InvalidQuery, match="MiB"):
        shared.client.call("sql", sql="SELECT repeat('x', 10000) FROM range(9000)")
    assert shared.answers()


def test_a_long_query_delays_neither_reading_nor_other_questions_nor_the_end(running: Process) -> None:
    slow = "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range + b.range = 7"
    outcome: list[Exception] = []

    def ask_slowly() -> None:
        try:
            running.client.call("sql", sql=slow)
        except Exception as error:
            outcome.append(error)

    asking = threading.Thread(target=ask_slowly)
    asking.start()
    time.sleep(0.2)
    running.writer.append(frame(make_record()))
    wait_until(lambda: running.client.call("status")["fresh_rows"] == 1)
    assert running.count() == 1
    assert asking.is_alive()
    assert running.stop() == 0  # well before the query's 20 s are over
    asking.join()
    assert len(outcome) == 1


def test_many_ask_at_once_and_each_gets_its_own_answer(shared: Process) -> None:
    wrong: list[Any] = []

    def ask(number: int) -> None:
        for _ in range(5):
            found = shared.client.call("sql", sql="SELECT ? AS n", params=[number])["rows"]
            if found != [{"n": number}]:
                wrong.append(found)

    askers = [threading.Thread(target=ask, args=[number]) for number in range(8)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert wrong == []


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x05",
        b"\xff\xff\xff\xff",
        b"\x03\x00\x00\x00{",
        b"\x02\x00\x00\x00{}",
        b"\x01\x00\x00\x007",
        b"\x0f\x00\x00\x00" + b'{"op":7,"args"}',
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_nonsense_on_the_socket_harms_nobody_else(shared: Process, sent: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        with reachable(shared.folder / "run" / "ingest.sock") as address:
            connection.connect(address)
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(10.0)
        while connection.recv(4096):
            pass
    assert shared.answers()


def test_only_its_user_may_ask(shared: Process) -> None:
    assert (shared.folder / "run" / "ingest.sock").stat().st_mode & 0o777 == 0o600


def test_a_second_process_on_the_folder_is_refused(shared: Process) -> None:
    arguments = [sys.executable, "-c", _RUN, str(shared.folder), "60"]
    second = subprocess.run(arguments, capture_output=True, text=True)
    assert second.returncode != 0
    assert "DataFolderInUse" in second.stderr
    assert shared.answers()


def test_without_the_process_the_client_says_what_to_do(tmp_path: Path) -> None:
    away = IngestClient(tmp_path / "run" / "ingest.sock")
    with pytest.raises(StoreUnavailable) as refused:
        away.call("status")
    assert "fairlead up" in refused.value.remedy
    (tmp_path / "run").mkdir()
    with pytest.raises(StoreUnavailable):
        away.call("status")


def test_a_process_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "ingest.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        with reachable(path) as address:
            silent.bind(address)
        silent.listen()
        with pytest.raises(StoreUnavailable, match=r"within 0\.05 s"):
            IngestClient(path, timeout=0.05).call("status")


def test_the_client_imports_no_heavy_library() -> None:
    code = (
        "import sys, fairlead.predictions.ask, fairlead.predictions.segments, fairlead.predictions.outcomes\n"
        "print(sorted({'pyarrow', 'duckdb', 'numpy', 'pandas', 'xxhash'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
