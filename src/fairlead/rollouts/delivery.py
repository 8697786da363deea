"""From the database to the data folder: what the gateways of this machine shall serve and prepare.

A plan is put down once all files that its arms need lie on this machine; until then the one before stays. A
version that is large, or cannot be had, delays no other model.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import sqlalchemy as sa

from fairlead.errors import FairleadError
from fairlead.registry import levels
from fairlead.registry.registry import Registry
from fairlead.registry.versions import VersionSpec
from fairlead.rollouts.contract_notes import ContractNotes
from fairlead.rollouts.files import VersionFiles
from fairlead.routing import plans
from fairlead.routing.plan import Plan
from fairlead.runtimes.placement import note, recall
from fairlead.serving.folder import DataFolder, ModelPlans, ServingPlan
from fairlead.settings import Settings
from fairlead.stores.tables import settings_events

__all__ = ["Delivery", "Failure"]

logger = logging.getLogger(__name__)

_LOOK_AGAIN_SECONDS = 5.0
"""What comes with time alone, a rollback window's end or another try to fetch, is this late at most."""


class Failure(msgspec.Struct, frozen=True):
    """Why the files of a generation cannot be had on this machine."""

    generation: int
    reason: str


class Delivery:
    """Keeps the plans folder in step with the database. Call `deliver` whenever something may have changed;
    `failures` tells, per model, what could not be fetched."""

    def __init__(
        self,
        registry: Registry,
        folder: DataFolder,
        settings: Settings,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._registry = registry
        self._folder = folder
        self._keep = timedelta(hours=settings.rollback_hours)
        self._clock = clock
        self.files = VersionFiles(registry.blobs, folder)
        self._contracts = ContractNotes(registry, folder)
        self.failures: dict[str, Failure] = {}
        self._seen: dict[str, object] = {}
        self._written: dict[str, ModelPlans] = {}
        self._specs: dict[tuple[str, str], VersionSpec] = {}
        self._incomplete: set[str] = set()
        self._noted: set[str] = set()
        self._next_look = 0.0

    @property
    def due(self) -> bool:
        """Whether `deliver` has something to do though the database has not changed."""
        return self.files.ended.is_set() or time.monotonic() >= self._next_look

    def deliver(self) -> None:
        """Writes the file of every model whose plans, settings or files have changed.

        Raises `StoreUnavailable` when the database does not answer, OSError when the folder takes no file;
        the next call goes on where this one stopped.
        """
        fetched = self.files.ended.is_set()
        self.files.ended.clear()
        timed = time.monotonic() >= self._next_look
        with self._registry.database.read() as connection:
            stamps = plans.stamps(connection)
            revisions = _revisions(connection)
        for model, stamp in stamps.items():
            now = (stamp, revisions.get(model))
            changed = self._seen.get(model) != now
            if changed:
                self._specs = {key: spec for key, spec in self._specs.items() if key[0] != model}
            if changed or timed or (fetched and model in self._incomplete):
                self._deliver(model)
                self._seen[model] = now
        if timed:
            self._next_look = time.monotonic() + _LOOK_AGAIN_SECONDS

    # --- one model ------------------------------------------------------------------------------------------

    def _deliver(self, model: str) -> None:
        with self._registry.database.read() as connection:
            wanted = plans.serving(connection, model, self._clock() - self._keep)
        held = self._written.get(model) or self._on_disk(model)
        self.failures.pop(model, None)
        self._incomplete.discard(model)
        active, prepare = held.active, None
        if wanted.active is not None:
            active = self._serving(wanted.active, wanted.keep, self.files.here) or held.active
        if wanted.preparing is not None:
            generation = wanted.preparing.generation
            self.files.forget(model, but=generation)
            prepare = self._serving(
                wanted.preparing, wanted.keep, lambda spec: self.files.verified_for(spec, generation)
            )
        after = ModelPlans(model=model, active=active, prepare=prepare)
        if self._written.get(model) != after:
            self._folder.write_plans(after)
            self._written[model] = after
            _log(held, after)

    def _serving(
        self, plan: Plan, keep: tuple[str, ...], ready: Callable[[VersionSpec], bool]
    ) -> ServingPlan | None:
        """The plan with its versions once their files are ready; those of `keep` as far as they are here."""
        arms = {arm.version for arm in plan.arms}
        specs = {name: self._spec(plan.model, name) for name in sorted(arms)}
        try:
            missing = [spec for spec in specs.values() if not ready(spec)]
        except (FairleadError, OSError) as error:
            failure = Failure(plan.generation, str(error))
            if self.failures.get(plan.model) != failure:
                logger.error("generation %d of %s: %s", plan.generation, plan.model, error)
            self.failures[plan.model] = failure
            return None
        if missing:
            self._incomplete.add(plan.model)
            return None
        kept = tuple(name for name in keep if name not in arms and self._is_here(plan.model, name))
        specs |= {name: self._spec(plan.model, name) for name in kept}
        for spec in specs.values():
            self._note_cost(spec)
            self._contracts.note(spec)
        return ServingPlan(plan=plan, versions=specs, keep=kept)

    def _is_here(self, model: str, version: str) -> bool:
        """For what is worth having, but no reason to refuse a plan."""
        try:
            if self.files.here(self._spec(model, version)):
                return True
            self._incomplete.add(model)
        except (FairleadError, OSError) as error:
            logger.warning("rollback target %s of %s cannot be kept: %s", version, model, error)
        return False

    def _note_cost(self, spec: VersionSpec) -> None:
        """Puts down what registration measured, if that was on this kind of processor: then no gateway has to
        ask the model host to measure it again."""
        if spec.runtime.kind != "onnx" or spec.manifest.digest in self._noted:
            return
        self._noted.add(spec.manifest.digest)
        if recall(self._folder.measured, spec.manifest.digest) is None:
            probe = self._registry.version(spec.model, spec.version).probe
            if probe is not None:
                note(self._folder.measured, spec.manifest.digest, probe)

    def _spec(self, model: str, version: str) -> VersionSpec:
        found = self._specs.get((model, version))
        if found is None:
            found = self._specs[model, version] = self._registry.spec(model, version)
        return found

    def _on_disk(self, model: str) -> ModelPlans:
        try:
            return self._folder.read_plans(model) or ModelPlans(model=model)
        except msgspec.MsgspecError as error:
            logger.error("the plans file of %s is damaged and is written anew: %s", model, error)
            return ModelPlans(model=model)


def _revisions(connection: sa.Connection) -> dict[str, tuple[int, int]]:
    """Per model the last change of serving settings, and how often levels of its versions have moved."""
    events = settings_events.c
    query = sa.select(events.model, sa.func.max(events.id)).group_by(events.model)
    set_at, moved = dict(connection.execute(query).all()), levels.revisions(connection)
    return {model: (set_at.get(model, 0), moved.get(model, 0)) for model in {*set_at, *moved}}


def _log(before: ModelPlans, after: ModelPlans) -> None:
    for what, old, new in (
        ("active", before.active, after.active),
        ("to be prepared", before.prepare, after.prepare),
    ):
        if new is not None and (old is None or old.plan.generation != new.plan.generation):
            logger.info("generation %d of %s is %s", new.plan.generation, after.model, what)
