"""Keeps a gateway's models in step with the plans folder: load and warm first, then swap, then report.

Everything slow (verifying, loading, warming) happens in threads beside the event loop; the loop only swaps a
reference. A model that cannot be loaded is reported and disturbs no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Set
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from fairlead.errors import FairleadError, NotReady
from fairlead.predictions.record import SchemaFrame
from fairlead.registry.versions import VersionSpec
from fairlead.serving.dataplane import DataPlane
from fairlead.serving.folder import (
    DataFolder,
    FolderWatch,
    GatewayReport,
    ModelPlans,
    ModelReport,
    Override,
    ServingPlan,
)
from fairlead.serving.live import CounterSource, LiveModel, LoadedVersion
from fairlead.serving.loading import Loader
from fairlead.serving.recent import RecentList
from fairlead.serving.residency import Rank
from fairlead.serving.residents import Residents

__all__ = ["Refresher"]

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.01
HEARTBEAT_SECONDS = 1.0
UNLOAD_SECONDS = 5.0
"""How long a version that nothing names any more stays, so that answers under way can end."""


class Refresher:
    """Follows the plans folder for one gateway worker. Use from its event loop."""

    def __init__(
        self,
        plane: DataPlane,
        folder: DataFolder,
        counters: CounterSource,
        *,
        slot: int,
        address: str,
        trust_pickle: bool,
        memory_budget: int = 0,
    ) -> None:
        self._plane = plane
        self._folder = folder
        self._counters = counters
        self._secret = folder.secret()
        self._watch = FolderWatch(folder.plans, folder.overrides)
        self._stamps: dict[str, tuple[int, ...]] = {}
        self._named: dict[str, frozenset[bytes]] = {}
        self._preparing: dict[str, list[LoadedVersion]] = {}
        self._loaded: dict[bytes, LoadedVersion] = {}
        self._unnamed_since: dict[bytes, float] = {}
        self._reports: dict[str, ModelReport] = {}
        self._report = GatewayReport(
            name=plane.gateway,
            host=socket.gethostname(),
            pid=os.getpid(),
            slot=slot,
            address=address,
            started_at=time.time(),
            at=time.time(),
        )
        self._following: dict[str, asyncio.Task[None]] = {}
        self._dirty: set[str] = set()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="load")
        self.residents = Residents(memory_budget, self._rank_of, plane.at_rest)
        self._loader = Loader(folder, self._threads, self.residents, trust_pickle=trust_pickle)
        self._recent = RecentList(folder, plane.gateway)
        self._report_due = False

    async def run(self) -> None:
        """Follows the folder until cancelled; writes a heartbeat every second."""
        remembering = asyncio.get_running_loop().create_task(self._remember())
        try:
            await self._run()
        finally:
            remembering.cancel()

    async def _run(self) -> None:
        while True:
            try:
                if self._watch.changed():
                    self._look()
                elif time.time() - self._report.at >= HEARTBEAT_SECONDS:
                    self._note_residents()
                    self._write_report()
                    await self._unload()
                    await self.residents.sweep(time.monotonic())
            except OSError as error:
                logger.error("plans folder cannot be read or written: %s", error)
                await asyncio.sleep(1.0)
            await asyncio.sleep(POLL_SECONDS)

    async def refresh(self) -> None:
        """Loads what the folder names, swaps to what it says is active, reports, and then returns."""
        self._look()
        while self._following:
            await asyncio.wait(self._following.values())
        self._write_report()

    def _look(self) -> None:
        """Sets a task off for each model that may have changed, so that one that takes long to load delays no
        other's rollback. What failed is tried again."""
        stamps = self._folder.stamps()
        for name, stamp in stamps.items():
            held = self._reports.get(name)
            if self._stamps.get(name) == stamp and held is not None and held.error is None:
                continue
            self._dirty.add(name)
            if name not in self._following:
                self._following[name] = asyncio.get_running_loop().create_task(self._catch_up(name))
        self._stamps = stamps
        gone = set(self._plane.models) - set(stamps)
        if gone:
            self._plane.models = {n: m for n, m in self._plane.models.items() if n not in gone}
            for name in gone:
                self._reports.pop(name, None)
        for name in set(self._named) - set(stamps):
            del self._named[name]
            self._preparing.pop(name, None)
        self._write_report()

    async def warm(self, spec: VersionSpec) -> None:
        """Loads and warms a version whose files lie here; raises what loading raises."""
        await self._loader.wake(await self._load(spec))

    async def close(self, *, draining: bool) -> None:
        """Reports the end and stops the engines."""
        for task in list(self._following.values()):
            task.cancel()
        with contextlib.suppress(OSError):
            self._recent.write(self.residents.resident())
        self._report = msgspec.structs.replace(self._report, draining=draining)
        self._write_report()
        await self._loader.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._folder.remove_report(self._report.name)

    # --- one model ------------------------------------------------------------------------------------------

    async def _catch_up(self, name: str) -> None:
        """Follows a model's file, again if it was replaced meanwhile."""
        try:
            while name in self._dirty:
                self._dirty.discard(name)
                try:
                    plans = self._folder.read_plans(name)
                    if plans is not None:
                        self._named[name] = _names(plans)
                        await self._follow(plans)
                except (FairleadError, OSError, msgspec.MsgspecError) as error:
                    logger.error("plans of %s cannot be followed: %s", name, error)
        finally:
            del self._following[name]

    async def _follow(self, plans: ModelPlans) -> None:
        held = self._reports.get(plans.model, ModelReport())
        report = held
        if plans.active is not None:
            report = await self._activate(plans.active, report)
        if plans.prepare is None:
            self._preparing.pop(plans.model, None)
        elif plans.prepare.plan.generation > report.prepared:
            report = await self._prepare(plans.prepare, report)
        if report != held or plans.model not in self._reports:
            self._reports[plans.model] = report
            self._report_soon()

    async def _prepare(self, serving: ServingPlan, report: ModelReport) -> ModelReport:
        plan = serving.plan
        generation = plan.generation
        if report.failed_generation == generation:
            return report
        try:
            await self._load_all(serving, {arm.version for arm in plan.arms})
            await self._wake_all(serving)
        except FairleadError as error:
            self._preparing.pop(plan.model, None)
            logger.warning("generation %d of %s cannot be prepared: %s", generation, plan.model, error)
            return msgspec.structs.replace(report, failed_generation=generation, error=str(error))
        return msgspec.structs.replace(
            report, prepared=generation, failed_generation=0, error=None, **self._memory(serving)
        )

    async def _activate(self, serving: ServingPlan, report: ModelReport) -> ModelReport:
        plan = serving.plan
        override = self._override(serving)
        wanted = None if override is None else override.version
        live = self._plane.models.get(plan.model)
        if live is not None and live.serving == serving and live.override == wanted:
            return msgspec.structs.replace(report, **self._memory(serving))
        try:
            # A shadow that was prepared and now does not load is no reason to serve less.
            await self._load_all(serving, {arm.version for arm in plan.arms if arm.role != "shadow"})
        except FairleadError as error:
            # What is served stays: a gateway that cannot follow says so, and goes on with what it has.
            logger.error("generation %d of %s cannot be served: %s", plan.generation, plan.model, error)
            return msgspec.structs.replace(report, failed_generation=plan.generation, error=str(error))
        # A rollback target or a shadow that could not be loaded is missing here, and no reason to serve less.
        found = {name: self._loaded.get(_key(spec)) for name, spec in serving.versions.items()}
        loaded = {name: version for name, version in found.items() if version is not None}
        for spec in serving.versions.values():
            self._plane.journal.know(_schema(spec))
        model = LiveModel(serving, loaded, self._counters, self._secret, wanted, gateway=self._plane.gateway)
        self._plane.models = {**self._plane.models, plan.model: model}
        logger.info(
            "serving generation %d of %s%s",
            plan.generation,
            plan.model,
            f" (override {wanted})" if wanted else "",
        )
        return msgspec.structs.replace(
            report,
            prepared=max(report.prepared, plan.generation),
            active=plan.generation,
            override=wanted,
            failed_generation=0,
            error=None,
            **self._memory(serving),
        )

    def _override(self, serving: ServingPlan) -> Override | None:
        """The local override in force: signed, not older than the plan, and naming a version we have."""
        override = self._folder.read_override(serving.plan.model)
        if override is None or override.base_generation < serving.plan.generation:
            return None
        if not override.verifies(self._secret):
            logger.error("override of %s ignored: its signature is wrong", serving.plan.model)
            return None
        if override.version not in serving.versions:
            logger.error(
                "override of %s ignored: %s is not loaded here", serving.plan.model, override.version
            )
            return None
        return override

    # --- loading --------------------------------------------------------------------------------------------

    async def _load_all(self, serving: ServingPlan, needed: Set[str]) -> None:
        """Loads what the plan names. Versions that are not `needed` are worth having, and no reason to
        refuse it."""
        wanted = {arm.version for arm in serving.plan.arms} | set(serving.keep)
        for name, spec in serving.versions.items():
            if name in needed:
                await self._load(spec)
        for name, spec in serving.versions.items():
            if name in wanted - needed:
                try:
                    await self._load(spec)
                except FairleadError as error:
                    logger.warning("version %s of %s cannot be loaded: %s", name, spec.model, error)

    async def _load(self, spec: VersionSpec) -> LoadedVersion:
        """The version; what may be cold need not be in memory."""
        key = _key(spec)
        if key not in self._loaded:
            self._loaded[key] = await self._loader.load(spec)
        return self._loaded[key]

    async def _wake_all(self, serving: ServingPlan) -> None:
        """What is about to get traffic is in memory when this returns, and stays there until it has it."""
        arms = {arm.version for arm in serving.plan.arms}
        wanted = [self._loaded[_key(spec)] for name, spec in serving.versions.items() if name in arms]
        self._preparing[serving.plan.model] = wanted
        for version in wanted:
            await self._loader.wake(version)

    def _rank_of(self, version: LoadedVersion) -> Rank:
        name = version.spec.model
        if any(one is version for one in self._preparing.get(name, ())):
            return Rank.PREPARED
        model = self._plane.models.get(name)
        return Rank.UNNAMED if model is None else model.rank_of(version)

    async def _remember(self) -> None:
        """Loads, one by one, what was in memory before this gateway was replaced, as far as it fits."""
        held = {(one.spec.model, one.spec.version): one for one in self._loaded.values() if not one.resident}
        for name in self._recent.read():
            version = held.get(name)
            if version is not None and not version.resident and self.residents.fits(version):
                try:
                    await self._loader.wake(version)
                except FairleadError as error:
                    logger.warning("%s %s cannot be loaded: %s", *name, error)

    async def _unload(self) -> None:
        # Of a plan that nobody can read, what it named before counts.
        named = {key for keys in self._named.values() for key in keys}
        models = self._plane.models.values()
        live = {id(arm.version) for model in models for arm in (*model.arms, *model.shadows)}
        now = time.monotonic()
        for key, version in list(self._loaded.items()):
            if key in named or id(version) in live:
                self._unnamed_since.pop(key, None)
            elif now - self._unnamed_since.setdefault(key, now) > UNLOAD_SECONDS:
                del self._loaded[key], self._unnamed_since[key]
                await self._loader.unload(version)
                logger.info("unloaded %s %s", version.spec.model, version.spec.version)

    # --- reporting ------------------------------------------------------------------------------------------

    def _memory(self, serving: ServingPlan) -> dict[str, Any]:
        """The report's `loaded` and `cold`."""
        found = {name: self._loaded.get(_key(spec)) for name, spec in serving.versions.items()}
        here = {name: version for name, version in found.items() if version is not None}
        return {
            "loaded": {name: one.engine.memory_bytes() for name, one in here.items() if one.resident},
            "cold": tuple(name for name, one in here.items() if not one.resident),
        }

    def _note_residents(self) -> None:
        """Brings into the reports what was loaded on demand or evicted since the last time."""
        changed = self.residents.take_changed()
        for name in changed:
            model, report = self._plane.models.get(name), self._reports.get(name)
            if model is not None and report is not None:
                self._reports[name] = msgspec.structs.replace(report, **self._memory(model.serving))
        if changed:
            self._recent.write(self.residents.resident())

    def _report_soon(self) -> None:
        """Writes the report at the end of this turn of the loop, once for all models that changed in it."""
        if not self._report_due:
            self._report_due = True
            asyncio.get_running_loop().call_soon(self._write_due)

    def _write_due(self) -> None:
        try:
            if self._report_due:
                self._write_report()
        except OSError as error:
            logger.error("the report cannot be written: %s", error)

    def _write_report(self) -> None:
        self._report_due = False
        self._report = msgspec.structs.replace(self._report, at=time.time(), models=dict(self._reports))
        self._folder.write_report(self._report)


def require_ready(plane: DataPlane) -> None:
    """Raises `NotReady` unless a warmed model can answer: a server with nothing loaded is not ready."""
    if plane.draining:
        raise NotReady("This gateway is shutting down.")
    if not plane.models:
        raise NotReady("No model is loaded.", remedy="Register a version and deploy it.")
    for model in plane.models.values():
        model.require_healthy()


def _names(plans: ModelPlans) -> frozenset[bytes]:
    """The keys of all versions that a model's plans name."""
    parts = [part for part in (plans.active, plans.prepare) if part is not None]
    return frozenset(_key(spec) for part in parts for spec in part.versions.values())


def _key(spec: VersionSpec) -> bytes:
    """What makes a loaded version another one: any change of files, contract or settings. How far its
    intervals or sets reach is the arm's, and may follow the labels."""
    return msgspec.msgpack.encode(msgspec.structs.replace(spec, uncertainty=None))


def _schema(spec: VersionSpec) -> SchemaFrame:
    fields = spec.contract.inputs
    return SchemaFrame(
        spec.contract.id,
        tuple(field.name for field in fields),
        tuple(f"list<{field.type}>" if field.shape else field.type for field in fields),
        tuple(field.sensitivity for field in fields),
    )
