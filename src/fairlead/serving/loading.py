"""From files on disk to a version that can answer: verify, place, load, warm up.

What is loaded and how it is wrapped are two things. A change of timeouts, bounds or cache makes another
wrapping around the same loaded model.
"""

from __future__ import annotations

import asyncio
import logging
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from fairlead.engine.base import Engine
from fairlead.engine.frames import Terms, WorkerSpec
from fairlead.engine.inline import InlineEngine
from fairlead.engine.leases import Leases
from fairlead.engine.worker import WorkerEngine
from fairlead.errors import DigestMismatch, TrustRequired
from fairlead.registry.artifacts import verify
from fairlead.registry.versions import Manifest, ModelSettings, VersionSpec
from fairlead.runtimes.binding import Binding
from fairlead.runtimes.label import runtime_label
from fairlead.runtimes.onnx import OnnxRuntime
from fairlead.runtimes.placement import MeasureTask, is_heavy, recall
from fairlead.runtimes.warmup import warm_row
from fairlead.serving.folder import DataFolder
from fairlead.serving.live import LoadedVersion
from fairlead.serving.ondemand import OnDemand
from fairlead.serving.residents import Entry, Residents

__all__ = ["Loader", "load_inline", "worker_spec"]

logger = logging.getLogger(__name__)

_WORKER_STARTS = 2
"""So many model workers are asked for at a time; what is loaded here is bounded by the threads."""

_T = TypeVar("_T")


class _Held:
    """A loaded model, or one that is loaded on demand, and the versions that are wrapped around it."""

    def __init__(self, engine: Engine, runtime: str) -> None:
        self.engine = engine
        self.runtime = runtime
        self.versions: list[LoadedVersion] = []


class Loader:
    """Loads versions for one gateway. Use from its event loop; what takes long happens in threads.

    What `residents` may evict is loaded when it is needed: see `may_be_cold`.
    """

    def __init__(
        self, folder: DataFolder, threads: ThreadPoolExecutor, residents: Residents, *, trust_pickle: bool
    ) -> None:
        self._folder = folder
        self._threads = threads
        self._residents = residents
        self._trust_pickle = trust_pickle
        self._leases = Leases(folder.models_socket)
        self._held: dict[bytes, _Held] = {}
        self._busy: dict[bytes, asyncio.Lock] = {}
        self._starting = asyncio.Semaphore(_WORKER_STARTS)
        self._verified: dict[str, tuple[object, ...]] = {}
        self._library_started = False

    def may_be_cold(self, spec: VersionSpec) -> bool:
        """Whether the version need not be in memory: it has an idle time, or falls under the memory budget,
        which is the gateway's own and says nothing about models in other processes."""
        if spec.settings.idle_unload_seconds > 0:
            return True
        if not self._residents.budget or spec.runtime.kind != "onnx":
            return False
        measured = recall(self._folder.measured, spec.manifest.digest)
        return measured is None or not is_heavy(measured) or not self._leases.reachable()

    async def load(self, spec: VersionSpec) -> LoadedVersion:
        """The version, its files verified against the manifest, its model loaded and warmed up.

        What may be cold is left so: its files are there; `wake` or the first request verifies and loads it.

        Raises `DigestMismatch`, `InvalidModelFile`, `InvalidContract`, `RuntimeFailed`, `TrustRequired`, and
        `NotReady` when it needs a model worker and none can be had.
        """
        self._require_trust(spec)
        binding = Binding(spec.contract, spec.runtime)
        key = _loaded_as(spec)
        async with self._busy.setdefault(key, asyncio.Lock()):
            if self.may_be_cold(spec):
                held, seconds = self._on_demand(key, spec), 0.0
            else:
                held, seconds = await self._now(key, spec, binding)
            version = LoadedVersion(spec, held.engine, binding, held.runtime)
            held.versions.append(version)
            if seconds:
                _count_load(version, seconds)
        return version

    async def wake(self, version: LoadedVersion) -> None:
        """Returns once the version is in memory and warm; raises what `load` raises."""
        engine = version.engine
        if isinstance(engine, OnDemand):
            version.holds += 1  # so that it is not evicted before it is warm
            try:
                await engine.wake()
                await self._warm_up(version.spec, version.binding, engine)
            finally:
                version.holds -= 1

    async def unload(self, version: LoadedVersion) -> None:
        """Gives a version back; its model goes with the last one that is wrapped around it."""
        key = _loaded_as(version.spec)
        held = self._held.get(key)
        if held is None or version not in held.versions:
            return
        held.versions.remove(version)
        if not held.versions:
            del self._held[key]
            self._residents.remove(key)
            await held.engine.stop()

    async def close(self) -> None:
        """Gives everything back."""
        for held in self._held.values():
            await held.engine.stop()
        self._held.clear()
        await self._leases.close()

    # --- now, or on demand ----------------------------------------------------------------------------------

    async def _now(self, key: bytes, spec: VersionSpec, binding: Binding) -> tuple[_Held, float]:
        """The model in memory, warmed up with a row of this version, and the seconds that loading it took."""
        held, seconds = self._held.get(key), 0.0
        if held is None:
            started = time.perf_counter()
            held = _Held(await self._open(key, spec), runtime_label(spec.runtime.kind))
            seconds = time.perf_counter() - started
        elif isinstance(held.engine, OnDemand):
            await held.engine.wake()
        try:
            await self._warm_up(spec, binding, held.engine)
        except BaseException:
            if not held.versions:
                await held.engine.stop()
            raise
        self._held[key] = held
        return held, seconds

    def _on_demand(self, key: bytes, spec: VersionSpec) -> _Held:
        held = self._held.get(key)
        if held is None:
            _require_files(self._folder.versions / spec.manifest.digest, spec.manifest)
            held = self._held[key] = _Held(self._sleeper(key, spec), runtime_label(spec.runtime.kind))
        elif not isinstance(held.engine, OnDemand):
            # Loaded for good until now, and a change of settings allows that it leaves memory.
            held.engine = self._sleeper(key, spec, held.engine)
        else:
            _adapt(held.engine, spec.settings)
            return held
        assert isinstance(held.engine, OnDemand)
        self._residents.add(Entry(key, held.engine, held.versions))
        if held.engine.resident:
            self._residents.came(key, _part_of_budget(held.engine))
        return held

    def _sleeper(self, key: bytes, spec: VersionSpec, inner: Engine | None = None) -> OnDemand:
        return OnDemand(f"Version {spec.version!r} of {spec.model!r}", partial(self._bring, key), inner)

    async def _bring(self, key: bytes) -> Engine:
        """Loads and warms up what is wanted now, for whichever version is wrapped around it last."""
        version = self._held[key].versions[-1]
        started = time.perf_counter()
        engine = await self._open(key, version.spec)
        try:
            await self._warm_up(version.spec, version.binding, engine)
        except BaseException:
            self._residents.failed(key)
            await engine.stop()
            raise
        held = self._held.get(key)
        for wrapped in () if held is None else held.versions:
            wrapped.breaker.succeeded()  # it opened while they waited, or before the model was loaded anew
        _count_load(version, time.perf_counter() - started)
        return engine

    # --- where and how --------------------------------------------------------------------------------------

    def _require_trust(self, spec: VersionSpec) -> None:
        if spec.runtime.kind == "python" and not self._trust_pickle:
            raise TrustRequired(
                f"Version {spec.version!r} of {spec.model!r} is a pickle and this server runs none.",
                remedy="Set trust_pickle = true in the server's settings if you trust its author.",
            )

    async def _open(self, key: bytes, spec: VersionSpec) -> Engine:
        """The model, loaded here or in a worker."""
        path = self._folder.versions / spec.manifest.digest
        await self._verify(path, spec)
        if spec.runtime.kind == "onnx" and not await self._belongs_in_a_worker(spec, path):
            async with self._residents.room(key):
                runtime = await self._in_thread(self._load_inline, spec, path)
                self._residents.came(key, runtime.memory_bytes)
            return InlineEngine(runtime)
        engine = WorkerEngine(
            self._leases,
            worker_spec(spec, path),
            memory_limit_mb=spec.settings.memory_limit_mb,
            timeout=spec.settings.timeout_ms / 1000,
            terms=terms_of(spec.settings),
        )
        try:
            async with self._starting:
                await engine.start()
        except BaseException:
            await engine.stop()
            raise
        self._residents.came(key, 0)
        return engine

    async def _verify(self, path: Path, spec: VersionSpec) -> None:
        """Compares the digests, unless that was done with these very files before."""
        identity = await self._in_thread(_identity, path, spec.manifest)
        if identity is None or self._verified.get(spec.manifest.digest) != identity:
            await self._in_thread(verify, path, spec.manifest)
            if identity is not None:
                self._verified[spec.manifest.digest] = identity

    def _load_inline(self, spec: VersionSpec, path: Path) -> OnnxRuntime:
        if self._residents.budget and not self._library_started:
            # What the library takes for itself, once, is no part of the model that happens to be the first.
            load_inline(spec, path).close()
        self._library_started = True
        return load_inline(spec, path)

    async def _in_thread(self, call: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    async def _belongs_in_a_worker(self, spec: VersionSpec, path: Path) -> bool:
        """Whether it was measured to be heavy; where nobody has measured it yet, the model host does."""
        measured = recall(self._folder.measured, spec.manifest.digest)
        if not self._leases.reachable():
            if measured is not None and is_heavy(measured):
                logger.warning(
                    "%s %s is heavy and there is no model host: it holds up this gateway",
                    spec.model,
                    spec.version,
                )
            return False
        if measured is None:
            task = MeasureTask(
                digest=spec.manifest.digest, folder=str(path), runtime=spec.runtime, contract=spec.contract
            )
            measured = await self._leases.measure(task)
        return is_heavy(measured)

    async def _warm_up(self, spec: VersionSpec, binding: Binding, engine: Engine) -> None:
        """Asks a row that the contract allows; a pickle, whose code may refuse rows, is not asked."""
        _adapt(engine, spec.settings)
        if spec.runtime.kind == "python":
            return
        feed = binding.encode([warm_row(spec.contract)])
        if engine.inline:
            # In a thread: the first run of a model that just loaded may be a slow one.
            outputs = await self._in_thread(engine.run_now, feed)
        else:
            outputs = await engine.submit(feed, 1, None)
        binding.decode(outputs, 1)


def load_inline(spec: VersionSpec, folder: Path) -> OnnxRuntime:
    """The version's model in this process. Blocking."""
    return OnnxRuntime(folder, spec.runtime)


def terms_of(settings: ModelSettings) -> Terms:
    """A model's settings as its worker needs them."""
    return Terms(
        settings.max_batch_rows,
        settings.max_queue_delay_ms / 1000,
        settings.max_queue_rows,
        settings.max_queue_bytes,
    )


def worker_spec(spec: VersionSpec, path: Path) -> WorkerSpec:
    """The version as the process that runs its model needs it; its files lie in the folder `path`."""
    parts = {part: getattr(spec.runtime.outputs, part) for part in spec.runtime.outputs.__struct_fields__}
    return WorkerSpec(
        digest=spec.manifest.digest,
        kind=spec.runtime.kind,
        folder=str(path.resolve()),
        entry=spec.runtime.entry,
        outputs={part: name for part, name in parts.items() if name is not None},
        names=spec.contract.names,
        instances=spec.settings.instances,
    )


def _loaded_as(spec: VersionSpec) -> bytes:
    """What makes a loaded model another one; all else is only wrapped around it."""
    return msgspec.msgpack.encode(
        (spec.manifest.digest, spec.runtime, spec.contract.names, spec.settings.instances)
    )


def _count_load(version: LoadedVersion, seconds: float) -> None:
    version.count("loads")
    version.count("load_ns", int(1e9 * seconds))
    logger.info("loaded %s %s in %.0f ms", version.spec.model, version.spec.version, 1000 * seconds)


def _part_of_budget(engine: OnDemand) -> int:
    return engine.memory_bytes() if engine.inline else 0


def _adapt(engine: Engine, settings: ModelSettings) -> None:
    """Gives a worker the bounds of the version that was wrapped around it last."""
    if isinstance(engine, OnDemand):
        if engine.inner is not None:
            _adapt(engine.inner, settings)
    elif isinstance(engine, WorkerEngine):
        timeout = settings.timeout_ms / 1000
        engine.adapt(terms_of(settings), memory_limit_mb=settings.memory_limit_mb, timeout=timeout)


def _require_files(path: Path, manifest: Manifest) -> None:
    """Raises `DigestMismatch` when a file is not there, or not as long as it was: a look, and no reading."""
    for file in manifest.files:
        try:
            about = (path / file.path).lstat()
        except OSError:
            about = None
        if about is None or not stat.S_ISREG(about.st_mode) or about.st_size != file.size:
            raise DigestMismatch(
                f"File {file.path!r} in {path} is not the one that was registered, or missing.",
                remedy="Delete the folder: it is fetched again from the artifact store.",
                path=file.path,
            )


def _identity(path: Path, manifest: Manifest) -> tuple[object, ...] | None:
    """What changes when a file is replaced or written to, or another comes; None when one is missing."""
    try:
        found = [(path / name).lstat() for name in ("", *(file.path for file in manifest.files))]
    except OSError:
        return None
    return tuple((a.st_dev, a.st_ino, a.st_size, a.st_mtime_ns, a.st_ctime_ns) for a in found)
