"""Real workers with real trouble: what goes wrong there is answered, cleared up, and stays there."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from fairlead.engine import keeper
from fairlead.engine.base import Engine
from fairlead.engine.frames import Terms
from fairlead.errors import (
    DeadlineExceeded,
    FairleadError,
    InvalidModelFile,
    NotReady,
    Overloaded,
    RuntimeFailed,
)

from .conftest import Place, ask, until

Run = Callable[[Any], Any]


on_both_loops = pytest.mark.parametrize("run", ["asyncio", "uvloop"], indirect=True)


_of_others: set[psutil.Process] = set()


@pytest.fixture(autouse=True)
def _know_others() -> None:
    """Other tests may have left something running for the session, a PostgreSQL or Python's own helpers."""
    _of_others.clear()
    _of_others.update(psutil.Process().children(recursive=True))


def children() -> list[psutil.Process]:
    """What this test has started and is still there, zombies included."""
    return [child for child in psutil.Process().children(recursive=True) if child not in _of_others]


def sockets() -> int:
    links = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return sum(link.startswith("socket:") for link in links)


async def value(
    engine: Engine, what: str, *numbers: float, timeout: float | None = None, **how: Any
) -> list[Any]:
    outputs = await engine.submit(ask(what, *numbers), len(numbers or (1,)), timeout, **how)
    found: list[Any] = outputs["value"].tolist()
    return found


async def trouble(engine: Engine, what: str, **how: Any) -> FairleadError:
    with pytest.raises(FairleadError) as caught:
        await value(engine, what, **how)
    return caught.value


async def busy(engine: Engine, seconds: float = 0.3) -> asyncio.Task[list[Any]]:
    """A run that keeps the model busy; returned once it is with the model."""
    task = asyncio.create_task(value(engine, f"sleep {seconds}"))
    await asyncio.sleep(0.05)
    return task


# --- what it is for -----------------------------------------------------------------------------------------


@on_both_loops
def test_a_hundred_megabytes_travel_there_and_back(place: Place, folder: Path, run: Run) -> None:
    numbers = np.arange(12_500_000.0)

    async def story() -> Any:
        async with place:
            large = place.engine(folder, timeout=30.0, memory_limit_mb=2_000)
            await large.start()
            feed = {"what": np.array(["echo"] * 1, dtype=object), "x": numbers.reshape(1, -1)}
            outputs = await large.submit(feed, 1, None)
            await large.stop()
            return outputs["value"]

    assert np.array_equal(run(story())[0], numbers * 2)


@on_both_loops
def test_concurrent_callers_each_get_their_own_answer(place: Place, folder: Path, run: Run) -> None:
    async def story() -> None:
        async with place:
            engine = place.engine(folder, timeout=10.0)
            await engine.start()
            found = await asyncio.gather(*(value(engine, "echo", float(n), n + 0.5) for n in range(100)))
            assert found == [[n * 2.0, n * 2 + 1.0] for n in range(100)]

    run(story())


def test_gateways_share_one_worker_and_what_waits_from_all_of_them_runs_at_once(
    place: Place, folder: Path, run: Run
) -> None:
    async def story() -> None:
        async with place:
            engines = [place.engine(folder, timeout=10.0) for _ in range(3)]
            await asyncio.gather(*(engine.start() for engine in engines))
            assert len(children()) == 1
            pids = [await value(engine, "pid") for engine in engines]
            assert pids[0] == pids[1] == pids[2] == [engines[0].pid]
            occupied = await busy(engines[0])
            waiting = [
                asyncio.create_task(value(engine, "count", float(n), float(n)))
                for n, engine in enumerate(engines * 2)
            ]
            await occupied
            assert await asyncio.gather(*waiting) == [[12.0, 12.0]] * 6

    run(story())


def test_rows_that_come_together_from_several_gateways_are_cut_apart_again(
    place: Place, folder: Path, run: Run
) -> None:
    async def story() -> None:
        async with place:
            engines = [place.engine(folder, timeout=10.0) for _ in range(3)]
            await asyncio.gather(*(engine.start() for engine in engines))
            occupied = await busy(engines[0])
            asked = [
                (engine, [float(n), n + 0.25, n + 0.5][: 1 + n % 3]) for n, engine in enumerate(engines * 9)
            ]
            answers = await asyncio.gather(*(value(engine, "echo", *xs) for engine, xs in asked))
            await occupied
            assert answers == [[2 * x for x in xs] for _, xs in asked]

    run(story())


def test_a_request_longer_than_a_run_may_be_is_run_in_parts(place: Place, folder: Path, run: Run) -> None:
    async def story() -> None:
        async with place:
            engine = place.engine(folder, terms=Terms(max_batch_rows=4))
            await engine.start()
            assert await value(engine, "count", *range(10)) == [4.0] * 8 + [2.0] * 2
            assert await value(engine, "echo", *range(10)) == [2.0 * n for n in range(10)]

    run(story())


def test_more_urgent_rows_go_first_and_those_without_a_priority_last(
    place: Place, folder: Path, run: Run
) -> None:
    async def story() -> None:
        async with place:
            engine = place.engine(folder, timeout=10.0, terms=Terms(max_batch_rows=1))
            await engine.start()
            occupied = await busy(engine)
            order: list[int] = []

            async def one(priority: int) -> None:
                await value(engine, "echo", priority=priority)
                order.append(priority)

            await asyncio.gather(*(one(priority) for priority in (0, 3, 1, 0, 2, 1)))
            await occupied
            assert order == [1, 1, 2, 3, 0, 0]

    run(story())


def test_a_bad_row_in_a_joined_run_fails_alone(place: Place, folder: Path, run: Run) -> None:
    async def story() -> None:
        async with place:
            engines = [place.engine(folder, timeout=10.0) for _ in range(2)]
            await asyncio.gather(*(engine.start() for engine in engines))
            for bad, says in (("raise", "no such thing"), ("short", "shape"), ("mixed", "mixed objects")):
                occupied = await busy(engines[0])
                good = [asyncio.create_task(value(engines[n % 2], "echo", float(n))) for n in range(6)]
                error = await trouble(engines[0], bad)
                assert isinstance(error, RuntimeFailed)
                assert says in str(error)
                assert await asyncio.gather(*good) == [[2.0 * n] for n in range(6)]
                await occupied

    run(story())


def test_with_a_delay_a_lone_row_waits_for_company_and_a_full_run_does_not(
    place: Place, folder: Path, run: Run
) -> None:
    async def story() -> None:
        async with place:
            terms = Terms(max_batch_rows=2, queue_delay=1_000.0)
            engine = place.engine(folder, timeout=100.0, terms=terms)
            await engine.start()
            first = asyncio.create_task(value(engine, "count"))
            await asyncio.sleep(0.01)
            assert not first.done()
            assert await value(engine, "count") == [2.0]
            assert await first == [2.0]
            engine.adapt(Terms(queue_delay=0.05), memory_limit_mb=300, timeout=100.0)
            assert await value(engine, "count") == [1.0]

    run(story())


def test_a_worker_of_an_onnx_file_answers_as_the_file_does_inline(
    place: Place, tmp_path: Path, run: Run
) -> None:
    from fairlead.runtimes.onnx import OnnxRuntime
    from tests.models import IRIS_RUNTIME, iris_onnx

    version = tmp_path / "iris"
    version.mkdir()
    (version / "model.onnx").write_bytes(iris_onnx())
    rows = np.random.default_rng(0).random((50, 4), np.float32) * 7
    inline = OnnxRuntime(version, IRIS_RUNTIME).run({"X": rows})

    async def story() -> None:
        async with place:
            engine = place.engine(version, IRIS_RUNTIME, instances=2)
            await engine.start()
            answers = await asyncio.gather(*(engine.submit({"X": row[None]}, 1, None) for row in rows))
            for name, expected in inline.items():
                assert np.concatenate([answer[name] for answer in answers]).tolist() == expected.tolist()

    run(story())


def test_it_says_what_it_is_and_writes_nothing_beside_the_model(place: Place, folder: Path, run: Run) -> None:
    async def story() -> None:
        async with place:
            engine = place.engine(folder)
            assert not engine.inline
            assert not engine.healthy
            assert engine.memory_bytes() == 0
            with pytest.raises(NotReady, match="has not been started"):
                await value(engine, "echo")
            await engine.start()
            await engine.start()
            assert len(children()) == 1
            assert engine.healthy
            assert engine.memory_bytes() > 5_000_000
            with pytest.raises(NotReady, match="in a worker"):
                engine.run_now(ask("echo"))

    run(story())
    assert sorted(path.name for path in folder.iterdir()) == ["behaviour.py", "model.pkl"]


# --- isolation ----------------------------------------------------------------------------------------------


def test_the_worker_sees_no_secret_and_has_a_session_of_its_own(
    place: Place, folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRLEAD_DATABASE_URL", "postgresql://secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")

    async def story() -> None:
        async with place:
            engine = place.engine(folder)
            await engine.start()
            outputs = await engine.submit(ask("environment"), 1, None)
            names = set(str(outputs["value"][0]).split())
            assert {"PATH", "LC_ALL", "OMP_NUM_THREADS", "GLIBC_TUNABLES"} <= names
            assert not any("FAIRLEAD" in name or "AWS" in name for name in names)
            assert await value(engine, "session") == await value(engine, "pid")
            assert await value(engine, "core") == [0]

    run(story())


def test_the_worker_imports_neither_onnxruntime_nor_the_gateway() -> None:
    code = (
        "import sys, fairlead.engine.worker_main\n"
        "heavy = {'onnxruntime', 'pandas', 'pyarrow', 'sqlalchemy', 'uvloop', 'fairlead.runtimes.onnx', "
        "'asyncio'}\n"
        "print(sorted(heavy & set(sys.modules)), "
        "sorted(name for name in sys.modules if name.startswith('fairlead.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] ")
    assert "fairlead.contracts" not in done.stdout


# --- trouble ------------------------------------------------------------------------------------------------


def test_what_the_model_raises_is_told_in_one_line_and_the_worker_lives_on(
    place: Place, folder: Path, run: Run
) -> None:
    async def story() -> None:
        async with place:
            engine = place.engine(folder)
            await engine.start()
            before = await value(engine, "pid")
            error = await trouble(engine, "raise")
            assert isinstance(error, RuntimeFailed)
            assert error.message == "The model raised ValueError: no such thing as this"
            for what, says in (
                ("sys.exit", "SystemExit: 3"),
                ("mixed", "mixed objects cannot be sent"),
                ("less", "without 'value'"),
            ):
                error = await trouble(engine, what)
                assert isinstance(error, RuntimeFailed)
                assert says in error.message
            assert await value(engine, "pid") == before

    run(story())


@pytest.mark.parametrize(
    ("what", "kind", "says"),
    [
        ("crash", RuntimeFailed, "died of SIGSEGV"),
        ("exit", RuntimeFailed, "ended with status 3"),
        ("close", RuntimeFailed, "closed its socket"),
        ("hang", DeadlineExceeded, "did not answer 1 rows within 1 s"),
        ("stop", DeadlineExceeded, "did not answer 1 rows within 1 s"),
        ("leak", RuntimeFailed, "MB of memory and 300 MB are allowed"),
        ("write 00000080", RuntimeFailed, "sent what is no answer"),
        ("write 0400000000000000c1c1c1c100000000", RuntimeFailed, "sent what is no answer"),
    ],
)
def test_a_worker_that_fails_is_replaced_and_only_its_requests_are_lost(
    what: str, kind: type[FairleadError], says: str, place: Place, folder: Path, tmp_path: Path, run: Run
) -> None:
    elsewhere = tmp_path / "other"
    shutil.copytree(folder, elsewhere)

    async def story() -> None:
        patient = 20.0 if what == "leak" else 1.0
        async with place:
            engine = place.engine(folder, timeout=patient)
            other = place.engine(elsewhere, timeout=20.0)
            await engine.start()
            await other.start()
            before, neighbour = await value(engine, "pid"), await value(other, "pid")
            error = await trouble(engine, what, timeout=patient)
            assert isinstance(error, kind)
            assert says in str(error)
            assert error.retryable

            async def is_back() -> bool:
                try:
                    return await value(engine, "pid", timeout=1.0) != before
                except (NotReady, RuntimeFailed, DeadlineExceeded):
                    return False

            patience = time.monotonic() + 20
            while not await is_back():
                assert time.monotonic() < patience
                assert await value(other, "echo", 1.0) == [2.0]
                await asyncio.sleep(0.01)
            assert await value(engine, "echo", 3.0) == [6.0]
            assert await value(other, "pid") == neighbour

    run(story())


def test_requests_to_a_worker_that_is_being_replaced_are_refused_at_once(
    place: Place, folder: Path, run: Run
) -> None:
    async def story() -> None:
        async with place:
            engine = place.engine(folder)
            await engine.start()
            running = asyncio.create_task(trouble(engine, "exit"))
            await until(lambda: not engine.healthy)
            assert isinstance(await trouble(engine, "echo"), NotReady)
            assert isinstance(await running, RuntimeFailed)
            await until(lambda: engine.healthy)

    run(story())


def test_a_caller_who_gives_up_gets_no_other_callers_answer_mixed_up(
    place: Place, folder: Path, run: Run
) -> None:
    async def story() -> None:
        async with place:
            engine = place.engine(folder, timeout=20.0)
            await engine.start()
            before = await value(engine, "pid")
            with pytest.raises(DeadlineExceeded, match=r"1 rows within 0\.05 s"):
                await value(engine, "sleep 0.4", 1.0, timeout=0.05)
            queued = asyncio.create_task(value(engine, "echo", 5.0))
            with pytest.raises(DeadlineExceeded):
                await value(engine, "echo", 7.0, timeout=0.05)
            assert await queued == [10.0]
            assert await value(engine, "echo", 6.0) == [12.0]
            assert await value(engine, "pid") == before

    run(story())


def test_what_is_late_or_given_up_is_never_run(place: Place, folder: Path, run: Run) -> None:
    async def story() -> None:
        async with place:
            engine = place.engine(folder, timeout=20.0)
            await engine.start()
            occupied = await busy(engine)
            given_up = asyncio.create_task(value(engine, "remember", 1.0))
            await asyncio.sleep(0.01)
            given_up.cancel()
            late = engine.submit(ask("remember", 2.0), 1, None, deadline=time.monotonic() + 0.05)
            with pytest.raises(DeadlineExceeded):
                await late
            await occupied
            assert await value(engine, "remembered", 3.0) == [0.0]

    run(story())


def test_more_than_may_wait_are_refused_at_once(place: Place, folder: Path, run: Run) -> None:
    async def story() -> None:
        async with place:
            engine = place.engine(folder, timeout=20.0, terms=Terms(max_queue_rows=8))
            await engine.start()
            occupied = await busy(engine)
            queued = [asyncio.create_task(value(engine, "echo", float(n))) for n in range(8)]
            await asyncio.sleep(0)
            with pytest.raises(Overloaded, match="8 rows wait"):
                await value(engine, "echo")
            assert not occupied.done()
            assert await occupied == [2.0]
            assert await asyncio.gather(*queued) == [[n * 2.0] for n in range(8)]
            engine.adapt(Terms(max_queue_bytes=1_000), memory_limit_mb=300, timeout=20.0)
            occupied = await busy(engine)
            queued = [asyncio.create_task(value(engine, "echo", *range(60)))]
            await asyncio.sleep(0)
            with pytest.raises(Overloaded):
                await value(engine, "echo", *range(100))
            assert len(await queued[0]) == 60
            await occupied

    run(story())


def test_a_model_that_no_longer_loads_is_tried_again_until_it_does(
    place: Place, folder: Path, run: Run
) -> None:
    async def story() -> None:
        async with place:
            engine = place.engine(folder)
            await engine.start()
            source = (folder / "behaviour.py").read_text()
            (folder / "behaviour.py").write_text("raise RuntimeError('not today')")
            await trouble(engine, "crash")
            last: list[str] = []

            async def fails() -> bool:
                last[:] = [str(await trouble(engine, "echo"))]
                return "not today" in last[0]

            patience = time.monotonic() + 20
            while not await fails():
                assert time.monotonic() < patience, last
                await asyncio.sleep(0.02)
            (folder / "behaviour.py").write_text(source)
            await until(lambda: engine.healthy)
            assert await value(engine, "echo", 2.0) == [4.0]

    run(story())


@pytest.mark.parametrize(
    ("pickled", "module", "says"),
    [
        (b"cnowhere\nmodel\n.", "", "ModuleNotFoundError: No module named 'nowhere'"),
        (b"cbehaviour\nabsent\n.", "", "AttributeError: .*absent"),
        (b"not a pickle", "", "UnpicklingError"),
        (b"", "", "EOFError"),
        (b"I3\n.", "", "int has no predict"),
        (b"cbehaviour\nbehave\n.", "raise SystemExit(4)", "SystemExit: 4"),
        (b"cbehaviour\nbehave\n.", "import os; os._exit(4)", "ended with status 4"),
        (b"cbehaviour\nbehave\n.", "import os; os.abort()", "died of SIGABRT"),
        (b"cbehaviour\nbehave\n.", "import time; time.sleep(60)", "longer than 2 s"),
        (
            b"cbehaviour\nbehave\n.",
            "held = bytearray(b'x' * 400_000_000); import time; time.sleep(60)",
            "MB of memory",
        ),
    ],
)
def test_a_pickle_that_cannot_be_loaded_says_why_and_leaves_nothing_behind(
    pickled: bytes, module: str, says: str, place: Place, folder: Path, run: Run
) -> None:
    (folder / "model.pkl").write_bytes(pickled)
    if module:
        (folder / "behaviour.py").write_text(module)
    load_timeout = 2.0 if says == "longer than 2 s" else 60.0
    before = sockets()

    async def story() -> None:
        async with place:
            engine = place.engine(folder, load_timeout=load_timeout)
            with pytest.raises(InvalidModelFile, match=rf"'model\.pkl' cannot be loaded: .*{says}") as caught:
                await engine.start()
            assert "Traceback" not in str(caught.value)
            assert not engine.healthy
            await engine.stop()
            await until(lambda: children() == [] and place.host.keepers == [])

    run(story())
    assert sockets() <= before


# --- the end ------------------------------------------------------------------------------------------------


@on_both_loops
def test_when_the_last_gateway_has_given_it_back_nothing_is_left(
    place: Place, folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "LINGER_SECONDS", 0.05)
    before = sockets()

    async def story() -> None:
        async with place:
            engine, other = place.engine(folder, timeout=100.0), place.engine(folder, timeout=100.0)
            await engine.start()
            await other.start()
            (grandchild,) = await value(engine, "fork")
            assert psutil.pid_exists(int(grandchild))
            running = asyncio.create_task(trouble(engine, "sleep 60"))
            waiting = asyncio.create_task(trouble(engine, "echo"))
            await asyncio.sleep(0.05)
            await engine.stop()
            assert isinstance(await running, NotReady)
            assert isinstance(await waiting, NotReady)
            assert isinstance(await trouble(engine, "echo"), NotReady)
            await engine.stop()
            assert other.healthy
            assert len(children()) == 2
            await other.stop()
            await until(lambda: children() == [] and place.host.keepers == [])
            await until(lambda: not _runs(int(grandchild)))
            assert list((place.run / "models").iterdir()) == []

    run(story())
    assert sockets() <= before


def test_a_gateway_that_comes_while_the_worker_is_being_ended_gets_one(
    place: Place, folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "LINGER_SECONDS", 0.0)

    async def story() -> None:
        async with place:
            gateway = place.gateway()
            for turns in range(12):
                engine = place.engine(folder, leases=gateway)
                await engine.start()
                assert await value(engine, "echo", 1.0) == [2.0]
                await engine.stop()
                for _ in range(turns):
                    await asyncio.sleep(0)
            await until(lambda: children() == [] and place.host.keepers == [])

    run(story())


def test_a_gateway_that_dies_while_the_model_loads_leaves_nothing_behind(
    place: Place, folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "LINGER_SECONDS", 0.05)
    (folder / "behaviour.py").write_text("import time; time.sleep(60)")

    async def story() -> None:
        async with place:
            gateway = place.gateway()
            starting = asyncio.create_task(place.engine(folder, leases=gateway).start())
            await until(lambda: bool(children()))
            starting.cancel()
            await asyncio.wait([starting])
            await gateway.close()
            await until(lambda: children() == [])

    run(story())


def test_what_a_crashed_worker_started_goes_with_it(place: Place, folder: Path, run: Run) -> None:
    async def story() -> None:
        async with place:
            engine = place.engine(folder)
            await engine.start()
            (grandchild,) = await value(engine, "fork")
            await trouble(engine, "exit")
            await until(lambda: not _runs(int(grandchild)))

    run(story())


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
