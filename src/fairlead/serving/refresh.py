"""Keeps a gateway's models in step with the plans folder: load and warm first, then swap, then report.

Everything slow (verifying, loading, warming) happens in threads beside the event loop; the loop only swaps a
reference. A model that cannot be loaded is reported and disturbs no other.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor

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
    ) -> None:
        self._plane = plane
        self._folder = folder
        self._counters = counters
        self._secret = folder.secret()
        self._watch = FolderWatch(folder.plans, folder.overrides)
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
        self._loader = Loader(folder, self._threads, trust_pickle=trust_pickle)

    async def run(self) -> None:
        """Follows the folder until cancelled; writes a heartbeat every second."""
        while True:
            try:
                if self._watch.changed():
                    self._look()
                elif time.time() - self._report.at >= HEARTBEAT_SECONDS:
                    self._write_report()
                    await self._unload()
            except OSError as error:
                logger.error("plans folder cannot be read or written: %s", error)
                await asyncio.sleep(1.0)
            await asyncio.sleep(POLL_SECONDS)

    async def refresh(self) -> None:
        """Loads what the folder names, swaps to what it says is active, reports, and then returns."""
        self._look()
        while self._following:
            await asyncio.wait(self._following.values())

    def _look(self) -> None:
        """Sets a task off for each model, so that one that takes long to load delays no other's rollback."""
        names = self._folder.models()
        for name in names:
            self._dirty.add(name)
            if name not in self._following:
                self._following[name] = asyncio.get_running_loop().create_task(self._catch_up(name))
        gone = set(self._plane.models) - set(names)
        if gone:
            self._plane.models = {n: m for n, m in self._plane.models.items() if n not in gone}
            for name in gone:
                self._reports.pop(name, None)
        self._write_report()

    async def warm(self, spec: VersionSpec) -> None:
        """Loads and warms a version whose files lie here; raises what loading raises."""
        await self._load(spec)

    async def close(self, *, draining: bool) -> None:
        """Reports the end and stops the engines."""
        for task in list(self._following.values()):
            task.cancel()
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
        if plans.prepare is not None and plans.prepare.plan.generation > report.prepared:
            report = await self._prepare(plans.prepare, report)
        if report != held:
            self._reports[plans.model] = report
            self._write_report()

    async def _prepare(self, serving: ServingPlan, report: ModelReport) -> ModelReport:
        generation = serving.plan.generation
        if report.failed_generation == generation:
            return report
        try:
            await self._load_all(serving)
        except FairleadError as error:
            logger.warning(
                "generation %d of %s cannot be prepared: %s", generation, serving.plan.model, error
            )
            return msgspec.structs.replace(report, failed_generation=generation, error=str(error))
        return msgspec.structs.replace(
            report, prepared=generation, failed_generation=0, error=None, loaded=self._memory(serving)
        )

    async def _activate(self, serving: ServingPlan, report: ModelReport) -> ModelReport:
        plan = serving.plan
        override = self._override(serving)
        wanted = None if override is None else override.version
        live = self._plane.models.get(plan.model)
        if live is not None and live.serving == serving and live.override == wanted:
            return msgspec.structs.replace(report, loaded=self._memory(serving))
        try:
            await self._load_all(serving)
        except FairleadError as error:
            # What is served stays: a gateway that cannot follow says so, and goes on with what it has.
            logger.error("generation %d of %s cannot be served: %s", plan.generation, plan.model, error)
            return msgspec.structs.replace(report, failed_generation=plan.generation, error=str(error))
        # A rollback target that could not be loaded is missing here, and no reason to serve less.
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
            loaded=self._memory(serving),
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

    async def _load_all(self, serving: ServingPlan) -> None:
        needed = {arm.version for arm in serving.plan.arms}
        for name, spec in serving.versions.items():
            if name in needed:
                await self._load(spec)
        await self._load_kept(serving)

    async def _load_kept(self, serving: ServingPlan) -> None:
        """Rollback targets: worth having, but no reason to refuse a plan."""
        for name in serving.keep:
            spec = serving.versions.get(name)
            if spec is not None and _key(spec) not in self._loaded:
                try:
                    await self._load(spec)
                except FairleadError as error:
                    logger.warning("rollback target %s of %s cannot be loaded: %s", name, spec.model, error)

    async def _load(self, spec: VersionSpec) -> None:
        key = _key(spec)
        if key in self._loaded:
            return
        started = time.perf_counter()
        version = await self._loader.load(spec)
        self._loaded[key] = version
        logger.info(
            "loaded %s %s in %.0f ms", spec.model, spec.version, 1000 * (time.perf_counter() - started)
        )

    async def _unload(self) -> None:
        try:
            named = {
                _key(spec)
                for plans in map(self._folder.read_plans, self._folder.models())
                if plans is not None
                for serving in (plans.active, plans.prepare)
                if serving is not None
                for spec in serving.versions.values()
            }
        except msgspec.MsgspecError:
            return  # a plan that nobody can read names we do not know what: keep everything
        live = {id(arm.version) for model in self._plane.models.values() for arm in model.arms}
        now = time.monotonic()
        for key, version in list(self._loaded.items()):
            if key in named or id(version) in live:
                self._unnamed_since.pop(key, None)
            elif now - self._unnamed_since.setdefault(key, now) > UNLOAD_SECONDS:
                del self._loaded[key], self._unnamed_since[key]
                await self._loader.unload(version)
                logger.info("unloaded %s %s", version.spec.model, version.spec.version)

    # --- reporting ------------------------------------------------------------------------------------------

    def _memory(self, serving: ServingPlan) -> dict[str, int]:
        found = {name: self._loaded.get(_key(spec)) for name, spec in serving.versions.items()}
        return {name: version.memory_bytes for name, version in found.items() if version is not None}

    def _write_report(self) -> None:
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


def _key(spec: VersionSpec) -> bytes:
    """What makes a loaded version another one: any change of files, contract or settings."""
    return msgspec.msgpack.encode(spec)


def _schema(spec: VersionSpec) -> SchemaFrame:
    fields = spec.contract.inputs
    return SchemaFrame(
        spec.contract.id,
        tuple(field.name for field in fields),
        tuple(f"list<{field.type}>" if field.shape else field.type for field in fields),
        tuple(field.sensitivity for field in fields),
    )
