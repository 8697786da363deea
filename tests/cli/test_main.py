"""The command as a whole: its help, its exit statuses, and how it says what is wrong."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fairlead import __version__
from fairlead.cli.main import COMMANDS, fairlead
from fairlead.cli.shell import Shell


def run(*arguments: str, **options: object) -> click.testing.Result:
    return CliRunner(env={"NO_COLOR": "1"}).invoke(fairlead, arguments, **options)  # type: ignore[arg-type]


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("FAIRLEAD_URL", "FAIRLEAD_ADMIN_URL", "FAIRLEAD_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def every_command() -> list[tuple[str, str]]:
    return [(section, name) for section, entries in COMMANDS.items() for name in entries]


@pytest.mark.parametrize(("section", "name"), every_command())
def test_every_command_of_the_table_exists_and_says_of_itself_what_the_table_says(
    section: str, name: str
) -> None:
    command = fairlead.get_command(click.Context(fairlead), name)
    assert command is not None
    assert command.name == name
    assert inspect.cleandoc(command.help or "").partition("\n")[0] == COMMANDS[section][name].help


def examples() -> list[tuple[str, str]]:
    """Every command by its words, with the examples in its help."""
    found = []

    def walk(command: click.Command, words: str) -> None:
        text = re.sub(r"\\\n\s*", "", inspect.cleandoc(command.help or ""))
        lines = [line.strip() for line in text.splitlines()]
        given = [line for line in lines if line.startswith("fairlead ")]
        found.extend((words, line) for line in given or [""])
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                below = command.get_command(context, name)
                assert below is not None
                walk(below, f"{words} {name}")

    for _, name in every_command():
        command = fairlead.get_command(click.Context(fairlead), name)
        assert command is not None
        walk(command, f"fairlead {name}")
    return found


@pytest.mark.parametrize(("words", "example"), examples())
def test_every_command_has_examples_that_it_understands(
    words: str, example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert example, f"{words} --help has no example"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gate.toml").touch()
    arguments = shlex.split(example.split(" > ")[0], comments=True)[1:]
    for argument in arguments:
        if re.fullmatch(r"[\w-]+\.(onnx|csv|jsonl|parquet|toml|ya?ml|sql)", argument):
            (tmp_path / argument).touch()
    command: click.Command = fairlead
    context = click.Context(fairlead, obj=Shell())
    while isinstance(command, click.Group):
        below = command.get_command(context, arguments[0])
        if below is None:
            break
        command, context = below, click.Context(below, parent=context)
        arguments = arguments[1:]
    with command.make_context(words, list(arguments), parent=context) as parsed:
        assert parsed.command is command


def test_the_help_lists_every_command_and_loads_none() -> None:
    code = (
        "import sys\n"
        "from fairlead.cli.main import fairlead\n"
        "try: fairlead.main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print('LOADED', *sorted(sys.modules))\n"
    )
    text, _, loaded = python(code).partition("LOADED")
    assert all(f"\n  {name} " in text for _, name in every_command())
    heavy = {"rich", "httpx2", "msgspec", "numpy", "fairlead.settings", "fairlead.cli.server"}
    assert heavy.isdisjoint(loaded.split())


def test_importing_fairlead_loads_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import fairlead; print(*sorted(set(sys.modules) - before))"
    assert python(code).split() == ["fairlead"]


def test_the_package_offers_its_names_and_no_others() -> None:
    code = (
        "import fairlead\n"
        "print(fairlead.Client.__module__, fairlead.AsyncClient.__module__, fairlead.FairleadError.code)\n"
        "print(set(fairlead.__all__) <= set(dir(fairlead)), hasattr(fairlead, 'nothing'))\n"
    )
    assert python(code).split() == [
        "fairlead.client.http", "fairlead.client.http", "internal", "True", "False",
    ]  # fmt: skip


def test_version_answers_a_person_and_a_program() -> None:
    assert run("version").stdout == f"fairlead {__version__}\n"
    assert json.loads(run("version", "--json").stdout) == {"fairlead": __version__}
    assert json.loads(run("--json", "version").stdout) == {"fairlead": __version__}


# --- exit statuses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuch"],
        ["version", "--nosuch"],
        ["promote"],
        ["traffic", "shop"],
        ["traffic", "shop", "v1"],
        ["traffic", "shop", "v1=x"],
        ["traffic", "shop", "v1=nan"],
        ["traffic", "shop", "=5"],
        ["traffic", "shop", "v1=50", "v1=50"],
        ["show", "@v1"],
        ["show", "shop@"],
        ["card", "shop"],
        ["production", "shop", "--at", "yesterday"],
        ["metrics", "shop", "v1", "--window", "a while"],
        ["configure", "shop", "cache_seconds"],
        ["predict", "shop"],
        ["predict", "shop", "--json", "{"],
        ["predict", "shop", "--json", "[1]"],
        ["predict", "shop", "--json", '{"a": NaN}'],
        ["rollback", "shop", "--data", "x"],
        ["deploy", "shop", "v1", "--strategy", "hope"],
        ["up", "--port", "x"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_says_nothing_on_standard_output(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_a_mistyped_command_names_the_nearest() -> None:
    assert "'status'" in run("statsu").stderr


def test_wrong_usage_is_json_for_a_program() -> None:
    result = run("promote", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stderr)["code"] == "usage"
    assert "promote --help" in json.loads(result.stderr)["remedy"]


def test_a_server_that_is_away_ends_with_1_and_two_lines(free_port: int) -> None:
    url = f"http://127.0.0.1:{free_port}"
    result = run("promote", "shop", "--admin-url", url)
    assert result.exit_code == 1
    assert result.stdout == ""
    what, remedy = result.stderr.splitlines()
    assert url in what
    assert "fairlead up" in remedy
    assert "FAIRLEAD_ADMIN_URL" in remedy


def test_the_address_may_stand_before_the_command_or_in_the_environment(free_port: int) -> None:
    url = f"http://127.0.0.1:{free_port}"
    assert url in run("--admin-url", url, "promote", "shop").stderr
    assert url in run("promote", "shop", env={"FAIRLEAD_ADMIN_URL": url}).stderr
    assert url in run("predict", "shop", "--json", "{}", "--url", url).stderr


def test_a_refusal_is_a_problem_document_for_a_program(free_port: int) -> None:
    result = run("models", "--json", "--admin-url", f"http://127.0.0.1:{free_port}")
    assert result.exit_code == 1
    assert result.stdout == ""
    document = json.loads(result.stderr)
    assert (document["code"], document["retryable"]) == ("unreachable", True)


def test_what_fails_unexpectedly_is_told_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("fairlead.settings.load_settings", fail)
    result = run("migrate")
    assert result.exit_code == 1
    assert "boom" in result.stderr
    assert "Traceback" not in result.stderr
    assert "--traceback" in result.stderr
    assert isinstance(run("migrate", "--traceback").exception, RuntimeError)


def test_output_that_nobody_reads_is_no_failure() -> None:
    command = f"{sys.executable} -c 'from fairlead.cli.main import main; main()' --help | head -c 10"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr


# --- settings -----------------------------------------------------------------------------------------------


def test_an_unknown_setting_names_the_nearest_and_where_it_stands(tmp_path: Path) -> None:
    result = run("up", env={"FAIRLEAD_PROT": "1"})
    assert result.exit_code == 1
    assert "'prot' (from FAIRLEAD_PROT)" in result.stderr
    assert "'port'" in result.stderr
    (tmp_path / "fairlead.toml").write_text("[log]\nfsnyc = 'always'\n")
    result = run("up", "--json")
    assert json.loads(result.stderr)["nearest"] == "log_fsync"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "fairlead.toml",
            '[trainers.shop]\ncommand = ["true"]\n[retraining.shop]\ntrainer = "shop"\n'
            'plan = { strategy = "direct" }\n',
            "a candidate is watched",
        ),
        ("alerts.toml", "[rules.errrors]\nfor = 3\n", "errrors"),
    ],
)
@pytest.mark.parametrize("command", ["up", "control", "doctor"])
def test_what_control_would_refuse_is_refused_before_it_is_started(
    tmp_path: Path, name: str, text: str, words: str, command: str
) -> None:
    (tmp_path / name).write_text(text)
    result = run(command)
    assert result.exit_code == 1
    assert words in " ".join((result.stderr + result.stdout).split())
    assert not (tmp_path / "fairlead-data").exists()


def test_a_value_that_breaks_its_rule_is_refused_by_name() -> None:
    result = run("up", "--port", "70000")
    assert result.exit_code == 1
    assert "'port'" in result.stderr
    assert "70000" in result.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--strategy", "shadow"), "--strategy is 'shadow', and rollout.yaml says 'canary'"),
        (("--no-shadow",), "--no-shadow does not go with --plan"),
    ],
)
def test_a_flag_that_says_something_else_than_the_plan_is_wrong_usage_and_not_passed_over(
    flags: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    (tmp_path / "rollout.yaml").write_text("steps: [{weight: 5}]\n", "utf-8")
    refused = run("deploy", "shop", "v2", "--plan", "rollout.yaml", *flags)
    assert refused.exit_code == 2
    assert words in refused.output
