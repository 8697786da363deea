"""Experiments: rollouts that split the traffic, looked at for what they have found out."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
import sqlalchemy as sa

from fairlead.errors import ExperimentNotFound, MalformedRequest, Overloaded
from fairlead.experiments.question import Question, Seen
from fairlead.experiments.report import ExperimentReport, report
from fairlead.registry.lookup import require_model
from fairlead.rollouts import ledger
from fairlead.rollouts.assignments import AssignmentAudit, audit
from fairlead.rollouts.exposed import Came, Exposed, evidence_of, exposed
from fairlead.rollouts.ledger import Entry
from fairlead.rollouts.logged import known_outcomes
from fairlead.rollouts.moves import CANARY, CONTROL, STABLE, is_split
from fairlead.rollouts.outcome_sums import Ask, quoted
from fairlead.rollouts.spec import BUILT_IN, RolloutSpec
from fairlead.rollouts.states import Rollout
from fairlead.routing import plans
from fairlead.routing.plan import Plan
from fairlead.routing.plans import PlanRow
from fairlead.stores.database import Database

__all__ = ["Audited", "Experiment", "ExperimentPhase", "Experiments", "Found", "split_share"]

_MOST_METRICS = 20
_LONGEST = 200
_PORTION = 100_000
"""So many records, about, are asked for at once."""


class ExperimentPhase(msgspec.Struct, frozen=True, kw_only=True):
    """The time during which one plan held: percent of the units per arm, and the units that had their first
    exposure in it."""

    generation: int
    since: datetime | None
    weights: dict[str, float]
    control_units: int = 0
    treated_units: int = 0


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout that splits the traffic between a candidate and what it is compared with."""

    id: str
    model: str
    candidate: str
    stable: str | None
    strategy: str
    state: str
    started_at: datetime
    goal: str | None
    phases: list[ExperimentPhase] = []


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment and what it has found out so far."""

    experiment: Experiment
    at: datetime
    report: ExperimentReport


class Audited(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment and the audit of its exposures."""

    experiment: Experiment
    at: datetime
    audit: AssignmentAudit


class Log(Protocol):
    """The prediction log as ingest answers for it (`predictions/ask.py`)."""

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """The rows that answer a query."""

    def call(self, op: str, **args: Any) -> Any:
        """The answer to an operation."""


class Experiments:
    """Looks at experiments. Safe for threads.

    `log` is asked for the prediction log, by one report or audit at a time, so that others find it free; who
    has waited `patience` seconds for that is refused (`Overloaded`).
    """

    def __init__(
        self,
        database: Database,
        log: Log,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        patience: float = 20.0,
    ) -> None:
        self._database = database
        self._log = log
        self._ask: Ask = log.rows
        self._clock = clock
        self._turn = threading.Lock()
        self._patience = patience

    def of_model(self, model: str, limit: int = 20) -> list[Experiment]:
        """The model's experiments, newest first, without their phases; raises `ModelNotFound`."""
        with self._database.read() as connection:
            require_model(connection, model)
            entries = ledger.of_model(connection, model, limit)
            return [_experiment(entry, []) for entry in entries if _phases(connection, entry)]

    def report(self, model: str, experiment: str | None, also: Sequence[Question] = ()) -> Found:
        """What the experiment has found out: by the metrics of its rollout, and those that are asked beside
        them. Without a name it is the latest.

        Raises `ExperimentNotFound`, `MalformedRequest` for metrics that cannot be asked, `StoreUnavailable`
        without the log, `Overloaded` while others are looked at.
        """
        entry, rows = self.find(model, experiment)
        rollout = entry.rollout
        questions = _questions(rollout.spec, also)
        if also:
            _verify_known(also, known_outcomes(self._ask, model))
        by_generation = _by_generation(rows)
        with self._alone():
            seen, met, now = self._seen(rollout, questions, by_generation)
        phases = []
        for row in rows:
            counts = [units for came, units in met.units.items() if came[0] == row.plan.generation]
            control, treated = sum(a for a, _ in counts), sum(b for _, b in counts)
            phases.append(
                ExperimentPhase(
                    generation=row.plan.generation,
                    since=row.activated_at,
                    weights={name: 100 * share for name, share in row.plan.shares().items() if share},
                    control_units=control,
                    treated_units=treated,
                )
            )
        return Found(
            experiment=_experiment(entry, phases), at=now, report=report(seen, alpha=rollout.spec.alpha)
        )

    def _seen(
        self, rollout: Rollout, questions: Sequence[Question], by_generation: dict[int, Plan]
    ) -> tuple[Seen, Exposed, datetime]:
        """What the log tells of the experiment, with the units by stratum, and when it was asked."""
        met = exposed(self._ask, rollout.model, rollout.id)
        now = self._clock()

        def share(came: Came) -> float:
            return split_share(by_generation, came)

        seen = Seen(
            control=rollout.stable or CONTROL,
            treated=rollout.candidate,
            split=tuple(
                (*units, share(came)) for came, units in met.units.items() if came[0] in by_generation
            ),
            days=met.days,
            switched=met.switched,
            evidence=tuple(
                evidence_of(self._ask, rollout.model, rollout.id, question, share, now)
                for question in questions
            ),
        )
        return seen, met, now

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=self._patience):
            raise Overloaded(
                f"Other experiments have been looked at for {self._patience:g} s.",
                remedy="Ask again in a minute.",
            )
        try:
            yield
        finally:
            self._turn.release()

    def audit(self, model: str, experiment: str | None) -> Audited:
        """Every record of the experiment held against the assignment that its plan gives. Raises as
        `report`."""
        entry, rows = self.find(model, experiment)
        portions = self._portions("assignments", model, entry.rollout.id)
        with self._alone():
            found = audit((row for portion in portions for row in portion), _by_generation(rows))
        return Audited(experiment=_experiment(entry, []), at=self._clock(), audit=found)

    def exposures(self, model: str, experiment: str | None) -> Iterator[list[dict[str, Any]]]:
        """The experiment's exposures in portions: the rows of the table `exposures`. Raises as `report`."""
        entry, _ = self.find(model, experiment)
        return self._portions("exposures", model, entry.rollout.id)

    def _portions(self, operation: str, model: str, experiment: str) -> Iterator[list[dict[str, Any]]]:
        count = self._log.rows(
            f"SELECT count(*) AS n FROM predictions WHERE model = {quoted(model)} "
            f"AND experiment = {quoted(experiment)}"
        )[0]["n"]
        parts = 1 + count // _PORTION
        for part in range(parts):
            yield self._log.call(operation, model=model, experiment=experiment, part=part, parts=parts)

    def find(self, model: str, experiment: str | None) -> tuple[Entry, list[PlanRow]]:
        """The experiment of that name or the latest, and the plans of its phases, oldest first."""
        with self._database.read() as connection:
            require_model(connection, model)
            if experiment is None:
                entries = ledger.of_model(connection, model)
            else:
                found = ledger.find(connection, experiment)
                entries = [found] if found is not None and found.rollout.model == model else []
            for entry in entries:
                phases = _phases(connection, entry)
                if phases:
                    return entry, phases
            plan = plans.active(connection, model)
        if experiment is None:
            if plan is not None and plan.experiment is None and is_split(plan):
                raise ExperimentNotFound(
                    f"The traffic of {model!r} is split by hand, which is no experiment: it has no name, and "
                    "no beginning to count from.",
                    remedy=f"Compare two versions with `fairlead deploy {model} VERSION --strategy ab`.",
                )
            raise ExperimentNotFound(
                f"No rollout of {model!r} has split its traffic yet.",
                remedy=f"Start one with `fairlead deploy {model} VERSION --strategy ab`.",
            )
        raise ExperimentNotFound(
            f"{model!r} has no experiment {experiment!r}.",
            remedy=f"`fairlead experiments {model} --list` lists them; a shadow is none.",
        )


def split_share(by_generation: dict[int, Plan], came: Came) -> float:
    """The candidate's part of the slots from which a stratum's units were drawn: those that control and
    candidate have, and of units that came as one of the rest, those that the rest had then."""
    plan, before = by_generation.get(came[0]), by_generation.get(came[1])
    if plan is None:
        return 0.5
    shares = _drawn(plan, before)
    if before is not None and not sum(shares):  # seen by a gateway that was late: drawn as everybody
        shares = _drawn(plan, None)
    return shares[1] / sum(shares)


def _drawn(plan: Plan, before: Plan | None) -> tuple[int, int]:
    """How many slots control and candidate have, of those that the rest had before."""
    names = [arm.name for arm in plan.arms]
    owners: Sequence[str] = [names[index] for index in plan.slots]
    if before is not None:
        rest = [index for index, arm in enumerate(before.arms) if arm.name == STABLE]
        owners = [owner for owner, held in zip(owners, before.slots, strict=True) if held in rest]
    return owners.count(CONTROL), owners.count(CANARY)


def _phases(connection: sa.Connection, entry: Entry) -> list[PlanRow]:
    return plans.of_experiment(connection, entry.rollout.model, entry.rollout.id)


def _by_generation(rows: Sequence[PlanRow]) -> dict[int, Plan]:
    return {row.plan.generation: row.plan for row in rows}


def _experiment(entry: Entry, phases: list[ExperimentPhase]) -> Experiment:
    rollout = entry.rollout
    goals = [metric.name for metric in rollout.spec.metrics if metric.kind == "goal"]
    return Experiment(
        id=rollout.id,
        model=rollout.model,
        candidate=rollout.candidate,
        stable=rollout.stable,
        strategy=rollout.spec.strategy,
        state=rollout.state,
        started_at=rollout.started_at,
        goal=goals[0] if goals else None,
        phases=phases,
    )


def _verify_known(asked: Sequence[Question], known: Collection[str]) -> None:
    """Refuses names that no outcome of the model has ever had: they would be compared as if nobody did."""
    for name in dict.fromkeys(part for question in asked for part in question.name.split("/")):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            meant = f"Did you mean {near[0]!r}? " if near else ""
            listed = ", ".join(sorted(known))
            raise MalformedRequest(
                f"Nothing measures {name!r}.",
                remedy=f"{meant}Known: {listed}. An outcome is known once the model had one.",
            )


def _questions(spec: RolloutSpec, also: Sequence[Question]) -> list[Question]:
    """The rollout's own questions and those beside them, each name once; goals first."""
    own = [
        Question(
            name=metric.name,
            kind=metric.kind,
            margin=metric.margin,
            margin_is=metric.margin_is,
            higher_is=metric.higher_is,
            window=metric.window,
        )
        for metric in sorted(spec.metrics, key=lambda metric: metric.kind != "goal")
        if metric.name not in BUILT_IN
    ]
    named = {question.name for question in own}
    for question in also:
        if not 0 < len(question.name) <= _LONGEST or question.name.startswith("/"):
            raise MalformedRequest(
                f"{question.name!r} is no metric.", remedy="Name an outcome, or two as in revenue/orders."
            )
        if question.name in BUILT_IN:
            raise MalformedRequest(
                f"{question.name!r} is counted by the gateways and judged by the rollout.",
                remedy="See `fairlead rollouts`; an experiment compares outcomes.",
            )
        if question.name not in named:
            named.add(question.name)
            own.append(question)
    if len(own) > _MOST_METRICS:
        raise MalformedRequest(
            f"{len(own)} metrics are more than {_MOST_METRICS}.", remedy="Ask for fewer at once."
        )
    return own
