"""Two control processes over one PostgreSQL: the one that leads a rollout is killed, the other finishes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

import fairlead
from fairlead.client.admin import Admin
from fairlead.client.registered import Rollout
from fairlead.client.rollouts import RolloutCommand
from fairlead.errors import FairleadError
from fairlead.rollouts import ledger
from fairlead.rollouts.states import LEGAL
from fairlead.routing import plans
from tests.drills import LONG
from tests.drills.load import Load
from tests.drills.two_controls import Control, Machine
from tests.models import SAMPLE, iris_contract, iris_onnx
from tests.waiting import wait_until

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900)]

KILLS = 24
LENIENT = [
    {"name": "error_rate", "margin": 0.9},
    {"name": "p50", "kind": "dry-run"},
    {"name": "p99", "kind": "dry-run"},
    {"name": "output_shift", "kind": "dry-run"},
]
T = TypeVar("T")
MODELS = ("shop", "news")
PLAN: dict[str, Any] = {
    "steps": [
        {"weight": weight, "minimum": 0, "events": 100, "approval": weight == 30} for weight in (30, 40, 50)
    ],
    "limits": {"error_rate": None, "p99_ms": None},
    "metrics": LENIENT,
    "bake": 0,
}
"""Its first step waits for a person; from then on it goes by itself, as soon as there are answers."""


@pytest.fixture
def machine(tmp_path: Path, postgres_url: str) -> Iterator[Machine]:
    with Machine(tmp_path / "data", postgres_url) as running:
        yield running


def register(control: Control, model: str) -> None:
    for seed, version in enumerate(("v1", "v2")):
        fairlead.register(
            iris_onnx(seed), model, version, contract=iris_contract(), set_production=seed == 0,
            admin_url=control.admin.url,
        )  # fmt: skip


def command(control: Control, model: str, name: RolloutCommand) -> Rollout:
    with Admin(control.admin.url) as admin:
        return admin.command_rollout(model, name)


def pending(machine: Machine, model: str) -> bool:
    with machine.database.read() as connection:
        return plans.pending(connection, model) is not None


def blocked(connection: sa.Connection) -> bool:
    """Whether a transaction waits for this one to write a journal: it has moved the traffic, unsaid."""
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'rollout_events'::regclass"
    return bool(connection.exec_driver_sql(query).scalar())


def ask(machine: Machine, call: Callable[[Admin], T]) -> T:
    """What a control answers, whichever lives."""

    def answer() -> list[T]:
        for control in machine.controls:
            try:
                with Admin(control.admin.url) as admin:
                    return [call(admin)]
            except FairleadError as error:
                refused.append(str(error))
        return []

    refused: list[str] = []
    found: list[T] = wait_until(answer, 60)
    return found[0]


def over(control: Control, model: str, name: str) -> Rollout | None:
    try:
        found = control.admin.rollout(model, name)
    except FairleadError:
        return None
    return found if found.over else None


def versions(machine: Machine, model: str) -> set[str | None]:
    """The versions that answer."""
    with fairlead.Client(f"http://127.0.0.1:{machine.port}") as client:
        return {client.predict(model, SAMPLE, unit=f"u{n}").model_version for n in range(50)}


def check(machine: Machine, found: Rollout) -> None:
    """The journal has each transition once, in a legal order, and each plan that the rollout made once; the
    last of them is what the gateways serve."""
    journal = found.journal
    assert [event.revision for event in journal] == list(range(1, len(journal) + 1))
    states = ["pending", *(event.to_state for event in journal)]
    for event, before in zip(journal, states, strict=False):
        assert event.from_state == before
        moved = event.generation is not None and event.from_state == event.to_state
        assert moved or event.to_state in LEGAL[event.from_state]  # type: ignore[index,operator]
    steps = [event.step for event in journal if event.to_state in ("canary", "promoting")]
    assert steps == sorted(steps)
    told = list(dict.fromkeys(event.generation for event in journal if event.generation is not None))
    with machine.database.read() as connection:
        made = [row for row in plans.history(connection, found.model) if row.who == f"rollout {found.id}"]
        head = plans.head(connection, found.model)
    assert told == sorted(row.plan.generation for row in made if row.activated_at is not None)
    assert head is not None
    assert head.active == told[-1] == found.generation
    wait_until(
        lambda: all(
            report.models[found.model].active == head.active for report in machine.folder.read_reports()
        )
    )


def test_what_a_control_was_in_the_middle_of_when_it_was_killed_the_other_finishes(machine: Machine) -> None:
    first, second = machine.controls
    for model in MODELS:
        register(second, model)
    begun = {model: second.admin.start_rollout(model, "v2", plan=PLAN).id for model in MODELS}
    killed = machine.holder(begun["shop"])
    assert killed is not None
    other = second if killed is first else first
    with ThreadPoolExecutor(2) as aside, machine.deaf() as hear:
        widened = [aside.submit(command, other, model, "widen") for model in MODELS]
        wait_until(lambda: all(pending(machine, model) for model in MODELS), 30)
        # One of the two rollouts is killed with its plan activated and its journal unwritten, the other one
        # with a plan that the gateways have still to load, or have loaded.
        with machine.unwritable() as journal:
            hear()
            wait_until(lambda: blocked(journal), 30)
            killed.kill()
        assert [answer.result().step for answer in widened] == [1, 1]
    for model, name in begun.items():
        command(other, model, "promote")
        found = wait_until(lambda name=name, model=model: over(other, model, name), 60)
        assert (found.state, found.weights) == ("succeeded", {"v2": 100.0})
        check(machine, found)
        assert versions(machine, model) == {"v2"}


def lead(machine: Machine, name: str, chance: random.Random, *, abort: bool) -> int:
    """Kills whoever leads the rollout at random moments until it is over; how often."""
    kills = 0
    with ThreadPoolExecutor(1) as aside:
        while not ask(machine, lambda admin: admin.rollout("shop", name)).over:
            time.sleep(chance.uniform(0.0, 1.5))
            victim = machine.holder(name)
            if victim is not None:
                victim.kill()
                victim.start()
                kills += 1
            if abort:
                abort = False
                aside.submit(ask, machine, lambda admin: admin.command_rollout("shop", "abort", rollout=name))
            wait_until(lambda: machine.holder(name) is not None or ended(machine, name), 60)
    return kills


def ended(machine: Machine, name: str) -> bool:
    with machine.database.read() as connection:
        return ledger.get(connection, name).rollout.over


if LONG:

    def test_no_transition_is_lost_or_doubled_however_often_controls_are_killed(machine: Machine) -> None:
        register(machine.controls[0], "shop")
        by_itself = {**PLAN, "steps": [{**step, "approval": False} for step in PLAN["steps"]]}
        chance, kills, number = random.Random(20261121), 0, 0
        with Load(machine.port, "/v1/models/shop/predict", SAMPLE, 1) as load:
            while kills < KILLS:
                number += 1
                stable = ask(machine, lambda admin: admin.production_at("shop"))
                candidate, abort = "v2" if stable == "v1" else "v1", number % 3 == 0
                name = ask(machine, lambda admin: admin.start_rollout("shop", candidate, plan=by_itself)).id
                kills += lead(machine, name, chance, abort=abort)
                found = ask(machine, lambda admin: admin.rollout("shop", name))
                assert found.state in (("succeeded", "rolled_back") if abort else ("succeeded",))
                served = candidate if found.state == "succeeded" else stable
                assert found.weights == {served: 100.0}
                check(machine, found)
                assert versions(machine, "shop") == {served}
        assert load.failed == []
