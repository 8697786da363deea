"""Rows scored away from all gateways: the same answers, and nothing that a model does there matters here."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import psutil
import pytest

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.errors import (
    BlobNotFound,
    DeadlineExceeded,
    InvalidModelFile,
    MalformedRequest,
    RuntimeFailed,
    TrustRequired,
)
from fairlead.evaluation.scoring import Limits, scoring
from fairlead.registry.versions import ModelSettings, VersionSpec
from fairlead.runtimes.binding import Binding
from fairlead.runtimes.onnx import OnnxRuntime
from fairlead.serving.folder import DataFolder
from fairlead.stores.blobs import Blobs
from tests.evaluation.made import pickled, stored
from tests.models import IRIS_RUNTIME, SAMPLE, faulty_onnx, iris_contract, iris_onnx
from tests.waiting import wait_until

NUMBER = Contract(inputs=(Field(name="x", type="float"),), output=Output(kind="number"))
BEHAVIOUR = """
import os, signal, subprocess, sys, time
import numpy as np

def model(columns):
    x = columns["x"]
    if x[0] == 1: signal.raise_signal(signal.SIGSEGV)
    if x[0] == 2: sys.exit(3)
    if x[0] == 3: time.sleep(60)
    if x[0] == 4: raise ValueError("no such thing")
    if x[0] == 5: model.held = np.ones(100_000_000); time.sleep(60)
    if x[0] == 6: subprocess.Popen(["sleep", "600"])
    if x[0] == 7: return {"value": np.array([os.getpid()], float)}
    if x[0] == 8: return {"value": np.array([os.nice(0)], float)}
    if x[0] == 9: print("printed"); os.write(1, b"written")
    return {"value": x * 2}
"""


@pytest.fixture(scope="module")
def onnx() -> bytes:
    return iris_onnx()


def rows_of_iris() -> list[list[float]]:
    from sklearn.datasets import load_iris

    return load_iris().data.tolist()  # type: ignore[no-any-return]


def test_rows_are_answered_as_a_gateway_answers_them(
    onnx: bytes, blobs: Blobs, folder: DataFolder, tmp_path: Path
) -> None:
    spec = stored(blobs, onnx)
    (tmp_path / "model.onnx").write_bytes(onnx)
    binding = Binding(spec.contract, spec.runtime)
    runtime = OnnxRuntime(tmp_path, IRIS_RUNTIME)
    rows = rows_of_iris()
    expected = [binding.decode(runtime.run(binding.encode([tuple(row)])), 1)[0] for row in rows]
    with scoring(spec, blobs, folder, trust_pickle=False) as scorer:
        alone = list(scorer.score(rows))
        together = list(scorer.score(rows, together=70))
        named = list(scorer.score(dict(zip(spec.contract.names, row, strict=True)) for row in rows))
    for found in (alone, together, named):
        assert [scored.prediction for scored in found] == [each.value for each in expected]
        assert [scored.probabilities for scored in found] == [
            binding.probabilities(each) for each in expected
        ]
        assert {scored.status for scored in found} == {"ok"}
        assert all(scored.seconds > 0 for scored in found)
    assert scorer.runtime == f"onnxruntime {OnnxRuntime.library_version} {OnnxRuntime.cpu}"
    assert scorer.load_seconds > 0
    assert scorer.peak_bytes > 10_000_000


def test_named_rows_meet_the_contract_and_checked_ones_pass(
    onnx: bytes, blobs: Blobs, folder: DataFolder
) -> None:
    spec = stored(blobs, onnx, contract=iris_contract(on_range="flag"))
    flagged = SAMPLE | {"sepal_width": 11.0}
    wrong = SAMPLE | {"petal_width": "wide"}
    huge = SAMPLE | {"petal_width": 2**70}
    endless = SAMPLE | {"petal_width": 10**400}
    nothing: dict[str, float] = {}
    with scoring(spec, blobs, folder, trust_pickle=False, also_known=["colour"]) as scorer:
        rows = [SAMPLE, flagged, wrong, huge, endless, nothing, SAMPLE | {"colour": 1}, SAMPLE | {"color": 1}]
        found = list(scorer.score(rows, together=3))
        (checked,) = scorer.score([[5.1, 11.0, 1.4, 0.2]])
    assert [scored.status for scored in found] == ["ok"] * 2 + ["rejected", "ok"] + ["rejected"] * 2 + [
        "ok", "rejected",
    ]  # fmt: skip
    assert found[1].flags == [{"field": "sepal_width", "rule": "range", "value": 11.0}]
    assert found[2].error_code == "data_contract_violation"
    assert [(v["field"], v["rule"]) for v in found[2].violations] == [("petal_width", "type")]
    assert found[4].violations[0]["rule"] == "not_finite"
    assert {violation["rule"] for violation in found[5].violations} == {"missing"}
    assert found[7].violations[0]["rule"] == "unknown"
    assert (checked.prediction, checked.probabilities) == (found[1].prediction, found[1].probabilities)
    assert not checked.flags


def test_a_bad_row_fails_alone_also_in_company(blobs: Blobs, folder: DataFolder) -> None:
    spec = stored(blobs, faulty_onnx())
    rows = [[value, 0.0, 0.0, 0.0] for value in (1.0, 9.0, 2.0, 8.0, 3.0)]
    with scoring(spec, blobs, folder, trust_pickle=False) as scorer:
        found = list(scorer.score(rows, together=5))
    assert [scored.status for scored in found] == ["ok", "failed", "ok", "failed", "ok"]
    assert {scored.error_code for scored in found} == {None, "runtime_failed"}
    assert "not finite" in str(found[3].error)


def test_rows_stream_through_and_who_stops_reading_may_ask_again(
    onnx: bytes, blobs: Blobs, folder: DataFolder
) -> None:
    drawn = 0

    def endless_rows():
        nonlocal drawn
        while True:
            drawn += 1
            yield [5.0, 3.0, drawn % 7, 0.2]

    with scoring(stored(blobs, onnx), blobs, folder, trust_pickle=False) as scorer:
        first = [scored for scored, _ in zip(scorer.score(endless_rows()), range(200), strict=False)]
        assert 200 <= drawn <= 400
        (after,) = scorer.score([[5.0, 3.0, 1.0, 0.2]])
        assert list(scorer.score([])) == []
    assert (after.prediction, after.probabilities) == (first[0].prediction, first[0].probabilities)


def test_rows_too_long_for_one_portion_all_come_through(blobs: Blobs, folder: DataFolder) -> None:
    contract = Contract(inputs=(Field(name="x", type="float", shape=(-1,)),), output=Output(kind="number"))
    source = "import numpy as np\ndef model(columns):\n    return {'value': columns['x'].sum(axis=1)}\n"
    spec = pickled(blobs, source, contract)
    with scoring(spec, blobs, folder, trust_pickle=True) as scorer:
        found = list(scorer.score([[[float(n)] * 100_000] for n in range(5)]))
    assert [scored.prediction for scored in found] == [n * 1e5 for n in range(5)]


def test_a_pickle_is_run_where_it_is_trusted_and_nowhere_else(blobs: Blobs, folder: DataFolder) -> None:
    spec = pickled(blobs, BEHAVIOUR, NUMBER)
    with pytest.raises(TrustRequired), scoring(spec, blobs, folder, trust_pickle=False):
        pytest.fail("it was loaded")
    with scoring(spec, blobs, folder, trust_pickle=True) as scorer:
        found = list(scorer.score([{"x": 21}, [4.0], [7.0], [8.0], [9.0]]))
    assert [scored.prediction for scored in found[:2]] == [42.0, None]
    assert found[1].error_code == "runtime_failed"
    assert "no such thing" in str(found[1].error)
    assert found[2].prediction != os.getpid()
    assert found[3].prediction >= 10
    assert found[4].prediction == 18.0
    assert scorer.runtime.startswith(f"python {sys.version.split()[0]} numpy {np.__version__} ")
    assert not list(folder.run.glob("score-*"))


@pytest.mark.parametrize(
    ("row", "settings", "error", "said"),
    [
        (1.0, ModelSettings(), RuntimeFailed, "died of SIGSEGV"),
        (2.0, ModelSettings(), RuntimeFailed, "ended with status 3"),
        (3.0, ModelSettings(timeout_ms=100), DeadlineExceeded, "for one run"),
        (5.0, ModelSettings(memory_limit_mb=400), RuntimeFailed, "more than 400 MB"),
    ],
)
def test_what_a_model_does_to_its_process_comes_back_as_a_sentence(
    row: float, settings: ModelSettings, error: type[Exception], said: str, blobs: Blobs, folder: DataFolder
) -> None:
    spec = pickled(blobs, BEHAVIOUR, NUMBER, settings=settings)
    with scoring(spec, blobs, folder, trust_pickle=True) as scorer:
        assert next(iter(scorer.score([[7.0]]))).status == "ok"
        with pytest.raises(error, match=said):
            list(scorer.score([[0.0], [row]]))


def test_the_whole_is_bounded_in_time(blobs: Blobs, folder: DataFolder) -> None:
    spec = pickled(blobs, BEHAVIOUR, NUMBER)
    with (
        scoring(spec, blobs, folder, trust_pickle=True, limits=Limits(seconds=2.5)) as scorer,
        pytest.raises(DeadlineExceeded, match="whole scoring"),
    ):
        list(scorer.score([3.0] for _ in range(9)))


def test_nothing_that_a_model_started_outlives_it(blobs: Blobs, folder: DataFolder) -> None:
    spec = pickled(blobs, BEHAVIOUR, NUMBER)
    with scoring(spec, blobs, folder, trust_pickle=True) as scorer:
        answers = list(scorer.score([[6.0], [7.0]]))
        process = psutil.Process(int(answers[1].prediction))
        started = process.children()
        assert len(started) == 1
    wait_until(lambda: not any(one.is_running() and one.status() != "zombie" for one in [process, *started]))


def test_it_dies_with_whoever_asked(blobs: Blobs, folder: DataFolder, tmp_path: Path) -> None:
    spec = pickled(blobs, BEHAVIOUR, NUMBER)
    (tmp_path / "spec").write_bytes(_packed(spec))
    script = textwrap.dedent(f"""
        import msgspec, os, sys
        from pathlib import Path
        from fairlead.evaluation.scoring import scoring
        from fairlead.registry.versions import VersionSpec
        from fairlead.serving.folder import DataFolder
        from fairlead.stores.blobs import Blobs
        spec = msgspec.msgpack.decode(Path({str(tmp_path / "spec")!r}).read_bytes(), type=VersionSpec)
        blobs = Blobs("file://{tmp_path}/artifacts")
        with scoring(spec, blobs, DataFolder(Path({str(folder.root)!r})), trust_pickle=True) as scorer:
            print(int(next(scorer.score([[7.0]])).prediction), flush=True)
            list(scorer.score([[3.0]]))
    """)
    asker = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert asker.stdout is not None
    process = psutil.Process(int(asker.stdout.readline()))
    asker.kill()
    asker.wait()
    asker.stdout.close()
    wait_until(lambda: not process.is_running() or process.status() == "zombie")


def test_a_file_that_is_no_model_or_missing_or_damaged_is_told(
    onnx: bytes, blobs: Blobs, folder: DataFolder, tmp_path: Path
) -> None:
    with (
        pytest.raises(InvalidModelFile, match="cannot be loaded"),
        scoring(stored(blobs, b"no model"), blobs, folder, trust_pickle=False),
    ):
        pytest.fail("it was loaded")
    ending = pickled(blobs, "import sys\nsys.exit(9)\n", NUMBER)
    with (
        pytest.raises(InvalidModelFile, match="SystemExit"),
        scoring(ending, blobs, folder, trust_pickle=True),
    ):
        pytest.fail("it was loaded")
    crashing = pickled(blobs, "import os\nos._exit(9)\n", NUMBER)
    with (
        pytest.raises(InvalidModelFile, match="ended with status 9"),
        scoring(crashing, blobs, folder, trust_pickle=True),
    ):
        pytest.fail("it was loaded")
    spec = stored(blobs, onnx)
    damaged = folder.versions / spec.manifest.digest
    damaged.mkdir()
    (damaged / "model.onnx").write_bytes(b"damaged")
    with scoring(spec, blobs, folder, trust_pickle=False) as scorer:  # fetched beside it
        assert next(scorer.score([SAMPLE])).status == "ok"
    assert not list(folder.run.glob("score-*"))
    (tmp_path / "empty").mkdir()
    empty = Blobs(f"file://{tmp_path}/empty")
    with pytest.raises(BlobNotFound), scoring(spec, empty, folder, trust_pickle=False):
        pytest.fail("it was loaded")
    assert not list(folder.run.glob("score-*"))


def test_a_value_that_no_row_can_hold_is_named(onnx: bytes, blobs: Blobs, folder: DataFolder) -> None:
    with scoring(stored(blobs, onnx), blobs, folder, trust_pickle=False) as scorer:
        with pytest.raises(MalformedRequest, match="Row 1"):
            list(scorer.score([SAMPLE, SAMPLE | {"petal_width": object()}]))
        (nan,) = scorer.score([SAMPLE | {"petal_width": math.nan}])
    assert nan.violations[0]["rule"] == "not_finite"


def _packed(spec: VersionSpec) -> bytes:
    import msgspec

    return msgspec.msgpack.encode(spec)
