"""Trying a model in a process of its own: whatever happens there comes back as a sentence."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import onnx
import psutil
import pytest
from onnx import helper

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.errors import InvalidModelFile
from fairlead.runtimes.base import OutputNames, RuntimeSpec, Tensor
from fairlead.runtimes.onnx import spec_from_onnx
from fairlead.runtimes.probe import probe

from .conftest import BOOL, DOUBLE, INT64, STRING, Save, graph_model, passed_through, row_sums


def endless() -> onnx.ModelProto:
    """A model that counts to a number that no machine reaches."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still_going"]),
            helper.make_node("Identity", ["held"], ["held_on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", INT64, []),
            helper.make_tensor_value_info("going", BOOL, []),
            helper.make_tensor_value_info("held", DOUBLE, [None, 1]),
        ],
        [
            helper.make_tensor_value_info("still_going", BOOL, []),
            helper.make_tensor_value_info("held_on", DOUBLE, [None, 1]),
        ],
    )
    many = helper.make_tensor("many", INT64, [], [2**62])
    yes = helper.make_tensor("yes", BOOL, [], [True])
    loop = helper.make_node("Loop", ["many", "yes", "X"], ["variable"], body=body)
    return graph_model([loop], [("X", DOUBLE, [None, 1])], [("variable", DOUBLE, [None, 1])], [many, yes])


def probed(path: Path, contract: Contract | None = None, timeout: float = 60.0) -> dict[str, Any]:
    spec, draft = spec_from_onnx(path, path.name)
    return probe(path.parent, spec, contract or draft, timeout)


def test_it_says_what_the_model_takes_and_what_it_costs(save: Save) -> None:
    path = save(row_sums(3))
    found = probed(path)
    assert found["inputs"] == [{"name": "X", "dtype": "float64", "shape": [-1, 3]}]
    assert found["outputs"] == [{"name": "variable", "dtype": "float64", "shape": [-1, 1]}]
    assert found["memory_bytes"] >= path.stat().st_size
    assert found["load_seconds"] > 0
    assert found["run_microseconds"] > 0
    assert found["library"].startswith("onnxruntime ")


def test_it_runs_from_the_command_line_on_a_folder_alone(save: Save) -> None:
    folder = save(row_sums(2)).parent
    command = [sys.executable, "-m", "fairlead.runtimes.probe", str(folder)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert json.loads(done.stdout)["inputs"][0]["name"] == "X"
    save(row_sums(2), "other.onnx")
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 3
    assert "2 .onnx files" in json.loads(done.stdout)["message"]


def test_a_row_that_the_contract_allows_is_asked(save: Save) -> None:
    path = save(passed_through(("s", STRING, [None, 1]), ("x", DOUBLE, [None, 1])))
    contract = Contract(
        inputs=(
            Field(name="s", type="string", categories=("yes",)),
            Field(name="x", type="float", minimum=5),
        ),
        output=Output(kind="number", minimum=5.0),
    )
    assert probed(path, contract)["run_microseconds"] > 0


def test_an_answer_that_the_contract_forbids_is_refused(save: Save) -> None:
    path = save(row_sums(1))
    contract = Contract(inputs=(Field(name="X", type="float"),), output=Output(kind="number", minimum=1.0))
    with pytest.raises(InvalidModelFile, match=r"answered 0\.0, outside of 1\.0"):
        probed(path, contract)


def test_a_damaged_file_is_refused_with_the_reason(save: Save) -> None:
    path = save(row_sums(3))
    spec, contract = spec_from_onnx(path, path.name)
    save(path.read_bytes()[:40])
    with pytest.raises(InvalidModelFile, match=r"'model\.onnx' cannot be loaded: .") as caught:
        probe(path.parent, spec, contract)
    assert "Export the model again" in caught.value.remedy
    path.unlink()
    with pytest.raises(InvalidModelFile, match="no model file"):
        probe(path.parent, spec, contract)


def test_a_model_that_needs_more_memory_than_there_is_is_refused(save: Save) -> None:
    shape = helper.make_tensor("shape", INT64, [2], [1, 2**50])
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("Cast", ["huge"], ["wide"], to=DOUBLE),
        helper.make_node("Add", ["X", "wide"], ["variable"]),
    ]
    model = graph_model(nodes, [("X", DOUBLE, [None, 1])], [("variable", DOUBLE, [None, None])], [shape])
    path = save(model)
    spec = RuntimeSpec(
        kind="onnx",
        entry=path.name,
        binding="columns",
        inputs=(Tensor(name="X", dtype="float64", shape=(-1, 1)),),
        outputs=OutputNames(value="variable"),
    )
    contract = Contract(inputs=(Field(name="X", type="float"),), output=Output(kind="vector"))
    with pytest.raises(InvalidModelFile):
        probe(path.parent, spec, contract)


def test_a_model_that_never_answers_is_given_up_and_its_process_is_gone(save: Save) -> None:
    path = save(endless())
    with pytest.raises(InvalidModelFile, match="did not load and answer within 2 s"):
        probed(path, timeout=2.0)
    assert probes() == []


def probes() -> list[psutil.Process]:
    """The probes that this process has started; other tests' children are none of ours."""
    children = psutil.Process().children()
    return [child for child in children if "fairlead.runtimes.probe" in child.cmdline()]


def test_a_crash_is_told_by_its_signal_and_the_process_saw_no_setting_of_the_server(
    save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRLEAD_DATABASE_URL", "postgresql://secret")
    path = save(endless())
    seen: dict[str, str] = {}

    def kill() -> None:
        patience = time.monotonic() + 20
        while not (found := probes()):
            assert time.monotonic() < patience
            time.sleep(0.01)
        seen.update(found[0].environ())
        found[0].send_signal(signal.SIGSEGV)

    assassin = threading.Thread(target=kill)
    assassin.start()
    with pytest.raises(InvalidModelFile, match=r"'model\.onnx' crashed the process .* \(SIGSEGV\)"):
        probed(path)
    assassin.join()
    assert "PATH" in seen
    assert "FAIRLEAD_DATABASE_URL" not in seen
