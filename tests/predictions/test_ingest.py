"""From segments to Parquet: every record once, whatever happens on the way."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from fairlead.errors import DataFolderInUse, StoreUnavailable
from fairlead.predictions.ingest import Ingest
from fairlead.predictions.parquet import read_table
from fairlead.predictions.segments import SegmentWriter, frame
from tests.predictions.records import AT, SCHEMA, make_outcome, make_record


@pytest.fixture
def writer(tmp_path: Path) -> SegmentWriter:
    opened = SegmentWriter(tmp_path / "log" / "g0")
    opened.register_schema(SCHEMA)
    return opened


def stored(ingest: Ingest, dataset: str = "predictions") -> pa.Table:
    """What lies in Parquet."""
    with ingest.snapshot() as snapshot:
        tables = [
            table
            for file in snapshot.files
            if file.dataset == dataset
            for table in read_table(snapshot.root, file)
        ]
    return pa.concat_tables(tables, promote_options="default")


def visible(ingest: Ingest) -> Counter[str]:
    """How often each request id is visible, in memory or in Parquet."""
    with ingest.snapshot() as snapshot:
        tables = [
            table
            for file in snapshot.files
            if file.dataset == "predictions"
            for table in read_table(snapshot.root, file)
        ]
        tables += [table for held in snapshot.fresh.predictions.values() for table in held]
    return Counter(name for table in tables for name in table.column("request_id").to_pylist())


def files_on_disk(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.suffix in (".parquet", ".npy"))


def test_a_record_is_visible_at_the_next_poll_and_once_only(tmp_path: Path, writer: SegmentWriter) -> None:
    ingest = Ingest(tmp_path)
    writer.append(frame(make_record(request_id="a")))
    assert ingest.poll()
    assert visible(ingest) == {"a": 1}
    ingest.flush()
    writer.append(frame(make_record(request_id="b")))
    ingest.poll()
    assert visible(ingest) == {"a": 1, "b": 1}
    assert stored(ingest).column("request_id").to_pylist() == ["a"]


def test_models_outcomes_and_windows_go_to_files_of_their_own(tmp_path: Path, writer: SegmentWriter) -> None:
    ingest = Ingest(tmp_path)
    records = [make_record(), make_record(model="churn"), make_record()]
    writer.append(*map(frame, [*records, make_outcome(), make_outcome(value="yes", metric="label")]))
    ingest.poll()
    assert ingest.flush()
    with ingest.snapshot() as snapshot:
        assert sorted((file.dataset, file.model, file.rows) for file in snapshot.files if file.model) == [
            ("predictions", "churn", 1),
            ("predictions", "shop", 2),
            ("profiles", "churn", 1),
            ("profiles", "shop", 1),
        ]
        assert snapshot.fresh.rows == 0
    assert stored(ingest, "outcomes").column("text").to_pylist() == [None, "yes"]
    assert sum(stored(ingest, "windows").column("count").to_pylist()) == 3


def test_nothing_new_is_nothing_to_flush(tmp_path: Path, writer: SegmentWriter) -> None:
    ingest = Ingest(tmp_path)
    assert not ingest.flush()
    writer.append(frame(make_record()))
    ingest.poll()
    assert ingest.flush()
    assert not ingest.flush()


def test_a_restart_reads_on_where_parquet_ends(tmp_path: Path, writer: SegmentWriter) -> None:
    first = Ingest(tmp_path)
    writer.append(frame(make_record(request_id="in parquet")))
    first.poll()
    first.flush()
    writer.append(frame(make_record(request_id="only in memory")))
    first.poll()
    first.close()
    writer.append(frame(make_record(request_id="after the crash")))
    second = Ingest(tmp_path)
    second.catch_up()
    assert visible(second) == {"in parquet": 1, "only in memory": 1, "after the crash": 1}
    second.flush()
    # the schema stood before the position from which the second read on
    assert [row["age"] for row in stored(second).column("features").to_pylist()] == [31.5] * 3


def test_segments_are_removed_when_they_are_in_parquet_and_let_go(
    tmp_path: Path, writer: SegmentWriter
) -> None:
    ingest = Ingest(tmp_path)
    log = tmp_path / "log" / "g0"
    writer.append(frame(make_record()))
    writer.close()
    writer.append(frame(make_record()))
    ingest.poll()
    assert len(list(log.glob("*.seg"))) == 2
    ingest.flush()
    (living,) = log.glob("*.seg")
    writer.append(frame(make_record()))
    ingest.poll()
    ingest.flush()
    assert list(log.glob("*.seg")) == [living]
    writer.close()
    ingest.poll()
    ingest.maintain()
    assert list(log.glob("*.seg")) == []
    assert stored(ingest).num_rows == 3


def test_rows_are_flushed_when_they_are_many_or_old(tmp_path: Path, writer: SegmentWriter) -> None:
    many = Ingest(tmp_path, flush_rows=3, flush_seconds=3_600)
    for expected in (0, 0, 3):
        writer.append(frame(make_record()))
        many.poll()
        many.maintain()
        assert many.status().rows == expected
    many.close()
    old = Ingest(tmp_path, flush_seconds=0.0)
    writer.append(frame(make_record()))
    old.poll()
    old.maintain()
    assert old.status().rows == 4


def test_reading_pauses_when_memory_is_full_and_goes_on_after_a_flush(
    tmp_path: Path, writer: SegmentWriter
) -> None:
    ingest = Ingest(tmp_path, flush_rows=2)
    for _ in range(3):
        writer.append(*[frame(make_record()) for _ in range(8)])
        ingest.poll()
    assert ingest.status().fresh_rows == 8
    assert ingest.status().lag_bytes > 0
    assert not ingest.poll()
    while ingest.poll() or ingest.flush():
        pass
    assert ingest.status().lag_bytes == 0
    assert stored(ingest).num_rows == 24


def test_small_files_are_merged_and_the_old_ones_removed(tmp_path: Path, writer: SegmentWriter) -> None:
    ingest = Ingest(tmp_path, flush_seconds=0.0, clock=lambda: AT / 1e6)
    for _ in range(8):
        writer.append(*[frame(make_record()) for _ in range(5)])
        ingest.poll()
        ingest.maintain()
    assert Counter(visible(ingest).values()) == {1: 40}
    with ingest.snapshot() as snapshot:
        predictions = [file for file in snapshot.files if file.dataset == "predictions"]
        assert [file.rows for file in predictions] == [40]
        named = sorted(Path(path).name for file in snapshot.files for path in file.paths())
    assert files_on_disk(tmp_path) == named


def test_a_query_keeps_its_files_until_it_is_done(tmp_path: Path, writer: SegmentWriter) -> None:
    ingest = Ingest(tmp_path, clock=lambda: AT / 1e6)
    for _ in range(8):
        writer.append(frame(make_record()))
        ingest.poll()
        ingest.flush()
    with ingest.snapshot() as outer:
        with ingest.snapshot() as snapshot:
            while ingest.compact():
                pass
            assert sum(table.num_rows for file in snapshot.files for table in read_table(snapshot.root, file))
        assert all((tmp_path / "predictions" / file.path).exists() for file in outer.files)
    assert not any((tmp_path / "predictions" / file.path).exists() for file in outer.files)
    assert sum(visible(ingest).values()) == 8


def test_queries_during_flushes_see_every_record_exactly_once(tmp_path: Path, writer: SegmentWriter) -> None:
    ingest = Ingest(tmp_path)
    stop = threading.Event()

    def keep_flushing() -> None:
        while not stop.is_set():
            ingest.flush()
            ingest.compact()

    flushing = threading.Thread(target=keep_flushing)
    flushing.start()
    try:
        for count in range(1, 40):
            writer.append(frame(make_record()))
            ingest.poll()
            seen = visible(ingest)
            assert len(seen) == sum(seen.values()) == count
    finally:
        stop.set()
        flushing.join()


def test_a_second_process_on_the_folder_is_refused(tmp_path: Path) -> None:
    first = Ingest(tmp_path)
    with pytest.raises(DataFolderInUse, match="Another process"):
        Ingest(tmp_path)
    first.close()
    Ingest(tmp_path).close()


def test_a_record_that_no_column_can_hold_stops_nobody(tmp_path: Path, writer: SegmentWriter) -> None:
    ingest = Ingest(tmp_path)
    records = [make_record() for _ in range(9)]
    records[4] = msgspec.structs.replace(records[4], at=2**63)
    writer.append(*map(frame, records))
    ingest.poll()
    ingest.flush()
    assert stored(ingest).num_rows == 8
    assert ingest.status().unstorable == 1


def test_status_tells_how_far_ingestion_is(tmp_path: Path, writer: SegmentWriter) -> None:
    ingest = Ingest(tmp_path, clock=lambda: 1_234.5)
    writer.append(frame(make_record(contract_id="unknown")), frame(make_record()))
    before = ingest.status()
    assert (before.lag_bytes > 0, before.rows, before.fresh_rows) == (True, 0, 0)
    ingest.poll()
    ingest.poll()
    polled = ingest.status()
    assert (polled.lag_bytes, polled.lag_seconds, polled.fresh_rows) == (0, 0.0, 2)
    assert polled.unknown_contracts == 1
    ingest.flush()
    flushed = ingest.status()
    assert (flushed.rows, flushed.fresh_rows, flushed.flushed_at) == (2, 0, 1_234.5)
    assert flushed.trouble is None


def test_a_manifest_that_cannot_be_written_leaves_no_file_behind(
    tmp_path: Path, writer: SegmentWriter
) -> None:
    ingest = Ingest(tmp_path, clock=lambda: AT / 1e6)
    for _ in range(8):
        writer.append(frame(make_record()))
        ingest.poll()
        ingest.flush()
    before = files_on_disk(tmp_path)
    obstacle = tmp_path / "predictions" / ".manifest.json.new"
    obstacle.mkdir()
    writer.append(frame(make_record()))
    ingest.poll()
    for attempt in (ingest.flush, ingest.compact):
        with pytest.raises(StoreUnavailable, match="cannot be written"):
            attempt()
        assert files_on_disk(tmp_path) == before
        assert Counter(visible(ingest).values()) == {1: 9}
    obstacle.rmdir()
    ingest.flush()
    ingest.compact()
    assert Counter(visible(ingest).values()) == {1: 9}


def test_a_corrupt_segment_is_put_aside_and_the_rest_ingested(tmp_path: Path, writer: SegmentWriter) -> None:
    writer.append(frame(make_record(request_id="before")))
    writer.append(b"\x00" * 32, frame(make_record()))
    writer.close()
    writer.append(frame(make_record(request_id="after")))
    ingest = Ingest(tmp_path)
    ingest.poll()
    ingest.flush()
    assert visible(ingest) == {"before": 1, "after": 1}
    assert ingest.status().corrupt == 1
    assert [path.suffix for path in sorted((tmp_path / "log" / "g0").iterdir())] == [".corrupt", ".seg"]


_FULL_DISK = """
import logging, os, resource, sys
from pathlib import Path
from fairlead.errors import StorageFull
from fairlead.predictions.ingest import Ingest
from fairlead.predictions.segments import SegmentWriter, frame
from tests.predictions.records import SCHEMA, make_record

def allow(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

logging.basicConfig(stream=sys.stdout, format="%(message)s")
data = Path(sys.argv[1])
writer = SegmentWriter(data / "log" / "g0")
writer.register_schema(SCHEMA)
writer.append(*[frame(make_record(model="churn")) for _ in range(10)])
incompressible = ['"' + os.urandom(50).hex() + '"' for _ in range(1_990)]
writer.append(*[frame(make_record(prediction=text)) for text in incompressible])
ingest = Ingest(data, flush_seconds=0.0)
ingest.poll()
for room in (0, 300, 30_000, 60_000):  # the last two have room for the file of one model
    allow(room)
    try:
        ingest.flush()
    except StorageFull as refused:
        print("refused", bool(refused.remedy))
    left = [path for path in (data / "predictions").rglob("*.*") if path.is_file()]
    left = [path for path in left if "bins" not in path.parts]
    assert {path.name for path in left} == {"manifest.json", ".lock"}, left
    assert ingest.status().fresh_rows == 2_000
ingest.maintain()
print("trouble", "Free space" in ingest.status().trouble)
allow(resource.RLIM_INFINITY)
ingest.flush()
print("stored", ingest.status().rows)
"""


def test_a_full_disk_refuses_the_flush_whole_and_the_next_one_succeeds(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert lines.count("refused True") == 4
    assert lines[-2:] == ["trouble True", "stored 2000"]
    assert any("No room" in line and "Trying again" in line for line in lines)


_KILLED = """
import os, random, signal, sys, time
from pathlib import Path
from fairlead.predictions.ingest import Ingest
from fairlead.predictions.segments import SegmentWriter, frame
from tests.predictions.records import SCHEMA, make_outcome, make_record

data, chance = Path(sys.argv[1]), random.Random(int(sys.argv[2]))

def write(incarnation):
    writer = SegmentWriter(data / "log" / "g0", segment_bytes=60_000)
    writer.register_schema(SCHEMA)
    acknowledged = os.open(data / "acknowledged", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    count = 0
    while True:
        names = [f"{incarnation}.{count + step}" for step in range(10)]
        count += 10
        writer.append(*[frame(make_record(request_id=name)) for name in names], frame(make_outcome()))
        os.write(acknowledged, "".join(name + chr(10) for name in names).encode())
        time.sleep(0.002)

def ingest():
    opened = Ingest(data, flush_seconds=0.0, flush_rows=1_000)
    while True:
        opened.poll()
        opened.maintain()

def start(work, *arguments):
    child = os.fork()
    if child == 0:
        try:
            work(*arguments)
        finally:
            os._exit(1)
    return child

def kill(child):
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it ended by itself"

writing = start(write, 0)
for number in range(25):
    reading = start(ingest)
    time.sleep(chance.uniform(0.0, 0.15))
    kill(reading)
    if number % 8 == 7:
        kill(writing)
        writing = start(write, number)
kill(writing)
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_kill_9_of_ingestion_and_writer_loses_and_doubles_nothing(tmp_path: Path, seed: int) -> None:
    subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path), str(seed)], check=True)
    acknowledged = (tmp_path / "acknowledged").read_text().split()
    ingest = Ingest(tmp_path)
    while ingest.poll():
        pass
    ingest.flush()
    seen = visible(ingest)
    assert len(acknowledged) > 500
    assert set(acknowledged) <= set(seen)
    assert Counter(seen.values()) == {1: len(seen)}
    # writers are killed between write and acknowledgement: at most one batch each more than acknowledged
    assert len(seen) - len(acknowledged) <= 4 * 10
    assert sum(stored(ingest, "windows").column("count").to_pylist()) == len(seen)
    profiles = stored(ingest, "profiles").to_pylist()
    assert sum(row["rows"] for row in profiles if row["slice"] == "") == len(seen)
    assert all(row["unread"] == 0 and len(row["counts"]) > 0 for row in profiles)
    assert stored(ingest, "outcomes").num_rows * 10 >= len(acknowledged)
    status = ingest.status()
    assert (status.corrupt, status.unreadable, status.unstorable) == (0, 0, 0)
    with ingest.snapshot() as snapshot:
        named = sorted(Path(path).name for file in snapshot.files for path in file.paths())
    assert files_on_disk(tmp_path) == named
    assert list((tmp_path / "log" / "g0").glob("*.seg")) == []
