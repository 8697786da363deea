"""The reference is made from the code: nothing may be missing from it, and nothing in it out of date."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import click
import pytest

from fairlead.cli.main import COMMANDS, fairlead
from fairlead.errors import every_error
from fairlead.gateway.routes import ROUTES
from fairlead.settings import describe
from fairlead.telemetry.metrics import METRICS

DOCS = Path(__file__).parent.parent / "docs"
REFERENCE = DOCS / "reference"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """`docs/generate.py`, which is a script and no part of the package."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written(name: str) -> str:
    return (REFERENCE / name).read_text("utf-8")


def test_making_it_again_changes_nothing(generator: ModuleType) -> None:
    for name, text in generator.pages().items():
        assert written(name) == text, f"docs/reference/{name} is out of date: run `make docs`"


def test_every_setting_is_there() -> None:
    page = written("settings.md")
    for name, _, _, meaning in describe():
        assert f"| `{name}` | `FAIRLEAD_{name.upper()}` |" in page
        assert meaning, f"the setting {name} has no description"


def test_every_metric_is_there() -> None:
    for metric in METRICS:
        assert f"| `{metric.name}` | {metric.kind} |" in written("metrics.md")


def test_every_error_code_is_there_with_its_status_and_meaning(generator: ModuleType) -> None:
    for error in every_error():
        row = next(
            line for line in written("errors.md").splitlines() if line.startswith(f"| `{error.code}` |")
        )
        assert f"`{error.__name__}`" in row
        assert re.search(r"\| [1-5]\d\d \|", row)
        assert row.rstrip("| ").endswith("."), f"{error.__name__} has no docstring that says what it means"


def test_every_command_is_there_with_every_option() -> None:
    page = written("cli.md")
    context = click.Context(fairlead, info_name="fairlead")

    def visit(command: click.Command, path: str) -> None:
        section = page.partition(f"\n### {path}\n")[2].partition("\n### ")[0]
        assert section, f"{path} is not in the reference"
        assert command.help
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert option.help, f"{path} {option.opts[0]} has no help"
                assert option.opts[0] in section or f"| `{option.opts[0]}" in page.partition("\n## ")[0]
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                assert child is not None
                visit(child, f"{path} {name}")

    for section in COMMANDS.values():
        for name in section:
            command = fairlead.get_command(context, name)
            assert command is not None
            visit(command, f"fairlead {name}")


def test_every_route_is_there() -> None:
    for route in ROUTES:
        assert f"| `{route.method}` | `{route.template}` |" in written("http.md")
    assert "| `POST` | `/api/v1/models/{model}/rollback` |" in written("http.md")


def test_assignment_is_written_by_hand_and_left_alone(generator: ModuleType) -> None:
    assert "assignment.md" not in generator.pages()
