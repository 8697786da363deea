"""`fairlead init`: what it writes is what the real readers take, and what the commands understand."""

from __future__ import annotations

import json
import shlex
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from fairlead.cli.documents import read_document
from fairlead.cli.main import fairlead as cli
from fairlead.cli.shell import Shell
from fairlead.contracts.document import read_contract
from fairlead.gate.reading import read_gate
from fairlead.gate.spec import Replay
from fairlead.rollouts.reading import read_spec

FILES = ["contract.toml", "gate.toml", "rollout.yaml", ".github/workflows/shop.yml"]


def run(*arguments: str, status: int = 0) -> Result:
    done = CliRunner().invoke(cli, ["init", *arguments])
    assert done.exit_code == status, done.output
    return done


def test_every_file_is_read_by_its_own_reader(tmp_path: Path) -> None:
    written = json.loads(run(str(tmp_path / "new"), "--model", "shop", "--json").stdout)["files"]
    assert written == [str(tmp_path / "new" / name) for name in FILES]
    contract = read_contract(tmp_path / "new/contract.toml")
    gate = read_gate(read_document(tmp_path / "new/gate.toml"))
    assert {test.kind for test in gate.tests} == {"invariance", "direction", "minimum", "exact"}
    for test in gate.tests:
        assert {*test.change, *test.add, *(name for row in test.rows for name in row)} <= {*contract.names}
    commented = (tmp_path / "new/gate.toml").read_text().partition("# [replay]")[2].partition("\n\n")[0]
    replay = tomllib.loads("[replay]" + commented.replace("\n# ", "\n"))
    assert read_gate(replay).replay == Replay(since=86_400.0, changed=0.1, least=100)
    plan = read_spec(read_document(tmp_path / "new/rollout.yaml"))
    assert [step.weight for step in plan.steps] == [0, 1, 10, 50, 100]


def test_the_workflow_is_yaml_whose_commands_exist_with_their_options(tmp_path: Path) -> None:
    run(str(tmp_path), "--model", "shop")
    run_in = Path.cwd()
    workflow = read_document(tmp_path / FILES[3])
    assert workflow["name"] == "shop"
    (script,) = [
        step["run"] for step in workflow["jobs"]["release"]["steps"] if "fairlead gate" in step.get("run", "")
    ]
    commands = [shlex.split(line) for line in script.replace("$VERSION", "v1").split("&&")]
    assert [words[1] for words in commands] == ["register", "gate", "deploy"]
    (tmp_path / "model.onnx").touch()
    context = click.Context(cli, obj=Shell())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        for words in commands:
            command = cli.get_command(context, words[1])
            assert command is not None
            command.make_context(words[1], words[2:], parent=context)
    assert Path.cwd() == run_in


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_overwritten_and_then_nothing_is_written(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    assert f"{name} is there already" in " ".join(
        run(str(tmp_path), "--model", "shop", status=2).stderr.split()
    )
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("model", ["../shop", "a b", "", "x: y"])
def test_a_name_that_no_model_may_have_writes_nothing(tmp_path: Path, model: str) -> None:
    assert "not allowed" in run(str(tmp_path), "--model", model, status=1).stderr
    assert list(tmp_path.iterdir()) == []
