"""From files on disk to a version that can answer: verify, place, load, warm up.

What is loaded and how it is wrapped are two things. A change of timeouts, bounds or cache makes another
wrapping around the same loaded model.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from fairlead.engine.base import Engine
from fairlead.engine.frames import Terms, WorkerSpec
from fairlead.engine.inline import InlineEngine
from fairlead.engine.leases import Leases
from fairlead.engine.worker import WorkerEngine
from fairlead.errors import TrustRequired
from fairlead.registry.artifacts import verify
from fairlead.registry.versions import ModelSettings, VersionSpec
from fairlead.runtimes.binding import Binding
from fairlead.runtimes.onnx import OnnxRuntime
from fairlead.runtimes.placement import MeasureTask, is_heavy, recall
from fairlead.runtimes.warmup import warm_row
from fairlead.serving.folder import DataFolder
from fairlead.serving.live import LoadedVersion

__all__ = ["Loader", "load_inline"]

logger = logging.getLogger(__name__)


class _Held:
    """A loaded model, and how many versions are wrapped around it."""

    def __init__(self, engine: Engine, runtime: str) -> None:
        self.engine = engine
        self.runtime = runtime
        self.users = 0


class Loader:
    """Loads versions for one gateway. Use from its event loop; what takes long happens in threads."""

    def __init__(self, folder: DataFolder, threads: ThreadPoolExecutor, *, trust_pickle: bool) -> None:
        self._folder = folder
        self._threads = threads
        self._trust_pickle = trust_pickle
        self._leases = Leases(folder.models_socket)
        self._held: dict[bytes, _Held] = {}
        self._busy: dict[bytes, asyncio.Lock] = {}

    async def load(self, spec: VersionSpec) -> LoadedVersion:
        """The version, its files verified against the manifest, its model loaded and warmed up.

        Raises `DigestMismatch`, `InvalidModelFile`, `InvalidContract`, `RuntimeFailed`, `TrustRequired`, and
        `NotReady` when it needs a model worker and none can be had.
        """
        binding = Binding(spec.contract, spec.runtime)
        key = _loaded_as(spec)
        async with self._busy.setdefault(key, asyncio.Lock()):
            held = self._held.get(key)
            if held is None:
                held = await self._load(spec)
            try:
                await _warm_up(spec, binding, held.engine)
            except BaseException:
                if not held.users:
                    self._held.pop(key, None)
                    await held.engine.stop()
                raise
            self._held[key] = held
            held.users += 1
        version = LoadedVersion(spec, held.engine, binding, held.runtime)
        version.memory_bytes = held.engine.memory_bytes()
        return version

    async def unload(self, version: LoadedVersion) -> None:
        """Gives a version back; its model goes with the last one that is wrapped around it."""
        key = _loaded_as(version.spec)
        held = self._held.get(key)
        if held is None:
            return
        held.users -= 1
        if not held.users:
            del self._held[key]
            await held.engine.stop()

    async def close(self) -> None:
        """Gives everything back."""
        for held in self._held.values():
            await held.engine.stop()
        self._held.clear()
        await self._leases.close()

    # --- where and how --------------------------------------------------------------------------------------

    async def _load(self, spec: VersionSpec) -> _Held:
        if spec.runtime.kind == "python" and not self._trust_pickle:
            raise TrustRequired(
                f"Version {spec.version!r} of {spec.model!r} is a pickle and this server runs none.",
                remedy="Set trust_pickle = true in the server's settings if you trust its author.",
            )
        path = self._folder.versions / spec.manifest.digest
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads, verify, path, spec.manifest)
        if spec.runtime.kind == "onnx" and not await self._belongs_in_a_worker(spec, path):
            runtime = await loop.run_in_executor(self._threads, load_inline, spec, path)
            return _Held(InlineEngine(runtime), _label())
        engine = WorkerEngine(
            self._leases,
            _worker_spec(spec, path),
            memory_limit_mb=spec.settings.memory_limit_mb,
            timeout=spec.settings.timeout_ms / 1000,
            terms=terms_of(spec.settings),
        )
        try:
            await engine.start()
        except BaseException:
            await engine.stop()
            raise
        return _Held(engine, "python" if spec.runtime.kind == "python" else _label())

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


async def _warm_up(spec: VersionSpec, binding: Binding, engine: Engine) -> None:
    """Asks a row that the contract allows; a pickle, whose code may refuse rows as it likes, is not asked."""
    if isinstance(engine, WorkerEngine):
        settings = spec.settings
        timeout = settings.timeout_ms / 1000
        engine.adapt(terms_of(settings), memory_limit_mb=settings.memory_limit_mb, timeout=timeout)
        if spec.runtime.kind == "python":
            return
    feed = binding.encode([warm_row(spec.contract)])
    if engine.inline:
        # In a thread: the first run of a model that just loaded may be a slow one.
        outputs = await asyncio.to_thread(engine.run_now, feed)
    else:
        outputs = await engine.submit(feed, 1, None)
    binding.decode(outputs, 1)


def _worker_spec(spec: VersionSpec, path: Path) -> WorkerSpec:
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


def _label() -> str:
    return f"onnxruntime {OnnxRuntime.library_version} {OnnxRuntime.cpu}"
