"""Real workers with real trouble: what goes wrong there is answered, cleared up, and stays there."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.contracts.infer import infer_contract
from fairlead.contracts.table import read_table
from fairlead.engine.base import Engine
from fairlead.engine.worker import WorkerEngine
from fairlead.errors import (
    DeadlineExceeded,
    FairleadError,
    InvalidModelFile,
    NotReady,
    Overloaded,
    RuntimeFailed,
)
from fairlead.runtimes.binding import Binding, Prediction
from fairlead.runtimes.python import python_spec

from .conftest import CONTRACT, SPEC, ask, until

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


async def value(engine: Engine, what: str, *numbers: float, timeout: float | None = None) -> list[Any]:
    outputs = await engine.submit(ask(what, *numbers), len(numbers or (1,)), timeout)
    found: list[Any] = outputs["value"].tolist()
    return found


async def trouble(engine: Engine, what: str) -> FairleadError:
    with pytest.raises(FairleadError) as caught:
        await value(engine, what)
    return caught.value


# --- what it is for -----------------------------------------------------------------------------------------


def served(contract: Contract, sample: Any, folder: Path, run: Run) -> list[Prediction]:
    spec = python_spec(contract, "model.pkl")
    binding = Binding(contract, spec)
    rows = read_table(sample, columns=contract.names).records()

    async def story() -> list[Prediction]:
        engine = WorkerEngine(folder, spec, feature_names=contract.names)
        await engine.start()
        try:
            return binding.decode(await engine.submit(binding.encode(rows), len(rows), 10.0), len(rows))
        finally:
            await engine.stop()

    predictions: list[Prediction] = run(story())
    return predictions


def test_an_estimator_with_names_gets_a_frame_in_its_own_order(tmp_path: Path, run: Run) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"b": rng.random(50), "a": rng.integers(0, 9, 50), "t": rng.random(50) < 0.5})
    target = np.array(["no", "yes"])[(frame.a > 4).astype(int)]
    model = RandomForestClassifier(5, random_state=0).fit(frame, target)
    contract = infer_contract(frame[["t", "a", "b"]], target=target)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    predictions = served(contract, frame, tmp_path, run)
    assert [prediction.value for prediction in predictions] == model.predict(frame).tolist()
    assert [prediction.probabilities for prediction in predictions] == model.predict_proba(frame).tolist()


PLAIN = """
import numpy as np


class Estimator:
    coefficients = np.array([1.0, 10.0, 100.0])

    def predict(self, rows):
        assert type(rows) is np.ndarray and rows.dtype == np.float64
        return rows @ self.coefficients
"""


def test_nulls_are_what_the_model_was_fitted_with(tmp_path: Path, run: Run) -> None:
    frame = pd.DataFrame({"land": ["DE", None, "FR", "DE"] * 9, "n": [1.0, 2.0, None, 4.0] * 9})
    target = frame.land.isna()
    texts = make_pipeline(SimpleImputer(strategy="constant", fill_value="?"), OneHotEncoder())
    parts = ColumnTransformer([("t", texts, ["land"]), ("n", SimpleImputer(), ["n"])])
    model = make_pipeline(parts, RandomForestClassifier(5, random_state=0)).fit(frame, target)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    predictions = served(infer_contract(frame, target=target), frame, tmp_path, run)
    assert [prediction.value for prediction in predictions] == target.tolist()


def test_an_estimator_without_names_gets_a_matrix(folder: Path, run: Run) -> None:
    (folder / "plain.py").write_text(PLAIN)
    (folder / "model.pkl").write_bytes(b"cplain\nEstimator\n(tR.")
    fields = tuple(
        Field(name=name, type=kind) for name, kind in [("c", "float"), ("a", "int"), ("b", "bool")]
    )
    contract = Contract(inputs=fields, output=Output(kind="number"))
    predictions = served(contract, {"a": [2, 3], "b": [True, False], "c": [0.5, 1.5]}, folder, run)
    assert [prediction.value for prediction in predictions] == [120.5, 31.5]


def test_a_callable_gets_columns_and_answers_a_ranking(folder: Path, run: Run) -> None:
    (folder / "ranker.py").write_text(
        "import numpy as np\n"
        "def rank(columns):\n"
        "    user = columns['user'].reshape(-1, 1)\n"
        "    return {'ids': user + [[1, 2]], 'scores': np.array([[0.75, 0.25]] * len(user))}\n"
    )
    (folder / "model.pkl").write_bytes(b"cranker\nrank\n.")
    contract = Contract(inputs=(Field(name="user", type="int"),), output=Output(kind="ranking"))
    spec = python_spec(contract, "model.pkl")
    binding = Binding(contract, spec)

    async def story() -> list[Prediction]:
        engine = WorkerEngine(folder, spec)
        await engine.start()
        outputs = await engine.submit(binding.encode([(10,), (20,)]), 2, None)
        await engine.stop()
        return binding.decode(outputs, 2)

    first, second = run(story())
    assert first.value == [{"id": 11, "score": 0.75}, {"id": 12, "score": 0.25}]
    assert second.value[0]["id"] == 21


@on_both_loops
def test_a_hundred_megabytes_travel_there_and_back(engine: WorkerEngine, folder: Path, run: Run) -> None:
    numbers = np.arange(12_500_000.0)

    async def story() -> Any:
        large = WorkerEngine(folder, SPEC, timeout=30.0)
        await large.start()
        feed = {"what": np.array(["echo"], dtype=object), "x": numbers}
        outputs = await large.submit(feed, 1, None)
        await large.stop()
        return outputs["value"]

    assert np.array_equal(run(story()), numbers * 2)


@on_both_loops
def test_concurrent_callers_each_get_their_own_answer(folder: Path, run: Run) -> None:
    async def story() -> None:
        engine = WorkerEngine(folder, SPEC, max_waiting=100)
        await engine.start()
        found = await asyncio.gather(*(value(engine, "echo", float(n), n + 0.5) for n in range(100)))
        await engine.stop()
        assert found == [[n * 2.0, n * 2 + 1.0] for n in range(100)]

    run(story())


def test_it_says_what_it_is_and_writes_nothing_beside_the_model(
    engine: WorkerEngine, folder: Path, run: Run
) -> None:
    async def story() -> None:
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
        await engine.stop()

    run(story())
    assert sorted(path.name for path in folder.iterdir()) == ["behaviour.py", "model.pkl"]


# --- isolation ----------------------------------------------------------------------------------------------


def test_the_worker_sees_no_secret_and_has_a_session_of_its_own(
    engine: WorkerEngine, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRLEAD_DATABASE_URL", "postgresql://secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")

    async def story() -> None:
        await engine.start()
        names = set(await value(engine, "environment"))
        assert {"PATH", "LC_ALL", "OMP_NUM_THREADS"} <= names
        assert not any("FAIRLEAD" in name or "AWS" in name for name in names)
        assert await value(engine, "session") == await value(engine, "pid")
        assert await value(engine, "core") == [0]
        await engine.stop()

    run(story())


def test_the_worker_imports_neither_onnxruntime_nor_the_gateway() -> None:
    code = (
        "import sys, fairlead.engine.worker_main\n"
        "heavy = {'onnxruntime', 'pandas', 'pyarrow', 'sqlalchemy', 'uvloop', 'fairlead.runtimes.onnx'}\n"
        "print(sorted(heavy & set(sys.modules)), "
        "sorted(name for name in sys.modules if name.startswith('fairlead.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] ")
    assert "fairlead.contracts" not in done.stdout


def test_a_worker_does_not_outlive_its_gateway(folder: Path, run: Run) -> None:
    code = (
        "import asyncio, os, signal, sys\n"
        "from fairlead.engine.worker import WorkerEngine\n"
        "from tests.engine.conftest import SPEC\n"
        "async def story():\n"
        "    engine = WorkerEngine(sys.argv[1], SPEC)\n"
        "    await engine.start()\n"
        "    print(engine._child.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(story())\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False, cwd=root
    )
    assert done.returncode == -signal.SIGKILL
    worker = int(done.stdout)
    patience = time.monotonic() + 20
    while psutil.pid_exists(worker) and psutil.Process(worker).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < patience
        time.sleep(0.01)


# --- trouble ------------------------------------------------------------------------------------------------


def test_what_the_model_raises_is_told_in_one_line_and_the_worker_lives_on(
    engine: WorkerEngine, run: Run
) -> None:
    async def story() -> None:
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
        await engine.stop()

    run(story())


@pytest.mark.parametrize(
    ("what", "kind", "says"),
    [
        ("crash", RuntimeFailed, "died of SIGSEGV"),
        ("exit", RuntimeFailed, "ended with status 3"),
        ("close", RuntimeFailed, "closed its socket"),
        ("hang", DeadlineExceeded, "did not answer within 1 s"),
        ("leak", RuntimeFailed, "MB of memory and 300 MB are allowed"),
        ("write ffffffff", RuntimeFailed, "sent what is no answer"),
        ("write 0400000093c3c2c0", RuntimeFailed, "sent what is no answer"),
    ],
)
def test_a_worker_that_fails_is_replaced_and_only_its_request_is_lost(
    what: str, kind: type[FairleadError], says: str, folder: Path, run: Run
) -> None:
    async def story() -> None:
        patient = 20.0 if what == "leak" else 1.0
        engine = WorkerEngine(folder, SPEC, timeout=patient, memory_limit_mb=300)
        other = WorkerEngine(folder, SPEC)
        await engine.start()
        await other.start()
        before, neighbour = await value(engine, "pid"), await value(other, "pid")
        running = asyncio.create_task(trouble(engine, what))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(trouble(engine, "echo"))
        error = await running
        assert isinstance(error, kind)
        assert says in str(error)
        assert error.retryable
        assert isinstance(await waiting, NotReady)
        assert not engine.healthy
        assert isinstance(await trouble(engine, "echo"), NotReady)
        await until(lambda: engine.healthy)
        assert await value(engine, "echo", 3.0) == [6.0]
        assert await value(engine, "pid") != before
        assert await value(other, "pid") == neighbour
        await engine.stop()
        await other.stop()

    run(story())


def test_a_caller_who_gives_up_gets_no_other_callers_answer_mixed_up(folder: Path, run: Run) -> None:
    async def story() -> None:
        engine = WorkerEngine(folder, SPEC, timeout=20.0)
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
        await engine.stop()

    run(story())


def test_a_caller_who_is_cancelled_leaves_the_queue(folder: Path, run: Run) -> None:
    async def story() -> None:
        engine = WorkerEngine(folder, SPEC, max_waiting=1, timeout=20.0)
        await engine.start()
        slow = asyncio.create_task(value(engine, "sleep 0.3"))
        await asyncio.sleep(0)
        first = asyncio.create_task(value(engine, "echo"))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await value(engine, "echo")
        first.cancel()
        await asyncio.wait([first])
        second = asyncio.create_task(value(engine, "echo", 4.0))
        assert await second == [8.0]
        assert await slow == [2.0]
        await engine.stop()

    run(story())


def test_more_than_may_wait_are_refused_at_once(engine: WorkerEngine, run: Run) -> None:
    async def story() -> None:
        await engine.start()
        slow = asyncio.create_task(value(engine, "sleep 0.3"))
        await asyncio.sleep(0)
        queued = [asyncio.create_task(value(engine, "echo", float(n))) for n in range(8)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="8 requests wait"):
            await value(engine, "echo")
        assert await slow == [2.0]
        assert await asyncio.gather(*queued) == [[n * 2.0] for n in range(8)]
        await engine.stop()

    run(story())


def test_a_model_that_no_longer_loads_is_tried_again_until_it_does(folder: Path, run: Run) -> None:
    async def story() -> None:
        engine = WorkerEngine(folder, SPEC)
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
        await engine.stop()

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
    pickled: bytes, module: str, says: str, folder: Path, run: Run
) -> None:
    (folder / "model.pkl").write_bytes(pickled)
    if module:
        (folder / "behaviour.py").write_text(module)
    load_timeout = 2.0 if "sleep" in module else 60.0
    before = sockets()

    async def story() -> None:
        engine = WorkerEngine(folder, SPEC, memory_limit_mb=300, load_timeout=load_timeout)
        with pytest.raises(InvalidModelFile, match=rf"'model\.pkl' cannot be loaded: .*{says}") as caught:
            await engine.start()
        assert "Traceback" not in str(caught.value)
        assert not engine.healthy
        await engine.stop()

    run(story())
    assert children() == []
    assert sockets() <= before


def test_an_estimator_that_lacks_what_the_contract_wants_is_refused_at_the_start(
    folder: Path, run: Run
) -> None:
    (folder / "plain.py").write_text(PLAIN)
    (folder / "model.pkl").write_bytes(b"cplain\nEstimator\n(tR.")
    contract = Contract(inputs=CONTRACT.inputs, output=Output(kind="class", classes=(0, 1)))

    async def story() -> None:
        with pytest.raises(InvalidModelFile, match=r"the Estimator has no predict_proba\(\)"):
            await WorkerEngine(folder, python_spec(contract, "model.pkl")).start()

    run(story())


# --- the end ------------------------------------------------------------------------------------------------


@on_both_loops
def test_stopping_leaves_no_process_no_zombie_and_no_socket(engine: WorkerEngine, run: Run) -> None:
    before = sockets()

    async def story() -> None:
        await engine.start()
        (grandchild,) = await value(engine, "fork")
        assert psutil.pid_exists(int(grandchild))
        running = asyncio.create_task(trouble(engine, "sleep 60"))
        waiting = asyncio.create_task(trouble(engine, "echo"))
        await asyncio.sleep(0.05)
        await engine.stop()
        assert isinstance(await running, NotReady)
        assert isinstance(await waiting, NotReady)
        assert isinstance(await trouble(engine, "echo"), NotReady)
        assert children() == []
        await engine.stop()
        await until(lambda: not _runs(int(grandchild)))

    run(story())
    assert sockets() <= before


def test_a_start_that_is_given_up_leaves_nothing_behind(folder: Path, run: Run) -> None:
    (folder / "behaviour.py").write_text("import time; time.sleep(60)")

    async def story() -> None:
        starting = asyncio.create_task(WorkerEngine(folder, SPEC).start())
        await until(lambda: bool(children()))
        starting.cancel()
        await asyncio.wait([starting])
        assert children() == []

    run(story())


def test_what_a_crashed_worker_started_goes_with_it(folder: Path, run: Run) -> None:
    async def story() -> None:
        engine = WorkerEngine(folder, SPEC)
        await engine.start()
        (grandchild,) = await value(engine, "fork")
        await trouble(engine, "exit")
        await until(lambda: not _runs(int(grandchild)))
        await engine.stop()

    run(story())


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
