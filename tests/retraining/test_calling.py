"""What a callable may answer, and what becomes of it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from fairlead.client.lineage import JOB_VARIABLE
from fairlead.retraining import calling
from fairlead.retraining.task import Task, write_task

T0 = datetime(2026, 11, 1, tzinfo=UTC)


def named(task: Task) -> str:
    return f"größe-of-{task.id}"


def nothing(task: Task) -> None:
    return


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    made = Task(
        id="3f9c", model="shop", version="retrained-1", champion="v1", cause="x", since=T0, until=T0, rows=9,
        features=("age", "größe"), target="label", folder=str(tmp_path), contract=str(tmp_path / "c.json"),
    )  # fmt: skip
    monkeypatch.setenv(JOB_VARIABLE, str(write_task(made, tmp_path)))
    return made


@pytest.mark.parametrize(("function", "version"), [("named", "größe-of-3f9c"), ("nothing", "retrained-1")])
def test_a_name_or_nothing_is_written_down_as_the_version(
    task: Task, monkeypatch: pytest.MonkeyPatch, function: str, version: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["calling", f"{__name__}:{function}"])
    assert calling.main() == 0
    assert Path(task.folder, "version").read_text("utf-8") == version


@pytest.mark.parametrize(
    ("names", "contract"), [(["age", "größe"], True), (["größe", "age"], False), (["age"], False)]
)
def test_a_model_of_the_same_features_keeps_the_champions_contract(
    task: Task, monkeypatch: pytest.MonkeyPatch, names: list[str], contract: bool
) -> None:
    asked = {}

    def register(model: object, *_: object, **options: object) -> SimpleNamespace:
        asked.update(options)
        return SimpleNamespace(version="v2")

    monkeypatch.setattr(calling, "register", register)
    monkeypatch.setattr(Task, "table", lambda _: "rows")
    model = SimpleNamespace(feature_names_in_=names)
    assert calling._registered(task, model) == "v2"
    assert (asked["contract"] is not None) == contract
    assert (asked["reference"], asked["target"]) == ("rows", "label")
    assert calling._registered(task, object()) == "v2"
    assert asked["contract"] is not None, "one that does not say is taken to be the same"
