"""The files of versions on this machine: fetched beside, several at a time, verified, swept away again."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import msgspec

from fairlead.registry import artifacts
from fairlead.registry.versions import VersionSpec
from fairlead.serving.folder import DataFolder
from fairlead.stores.blobs import Blobs

__all__ = ["VersionFiles"]

logger = logging.getLogger(__name__)

_AT_ONCE = 4
_RETRY_SECONDS = 5.0
_UNNAMED_SECONDS = 3600.0
"""How long a version's files stay after the last plan named them."""


class _Job(msgspec.Struct):
    """A fetch; `generation` 0 is one that no proposal waits for, and which is tried again when it failed."""

    model: str
    generation: int
    done: Future[None]
    ended_at: float = 0.0


class VersionFiles:
    """Asks for files never wait: they answer whether the files are here, and fetch them if not. Not safe for
    threads; `ended` is set whenever a fetch has ended and asking again makes sense."""

    def __init__(self, blobs: Blobs, folder: DataFolder) -> None:
        self._blobs = blobs
        self._folder = folder
        self._jobs: dict[tuple[str, int], _Job] = {}
        self._slots = threading.BoundedSemaphore(_AT_ONCE)
        self._unnamed_since: dict[Path, float] = {}
        self.ended = threading.Event()

    def here(self, spec: VersionSpec) -> bool:
        """Whether the files are here. Raises what the last fetch raised; it is repeated after a while."""
        if (self._folder.versions / spec.manifest.digest).is_dir():
            return True
        job = self._jobs.get((spec.manifest.digest, 0))
        failed = job is not None and job.done.done() and job.done.exception() is not None
        if job is not None and failed and time.monotonic() - job.ended_at > _RETRY_SECONDS:
            job = None
        return self._result(spec, 0, job)

    def verified_for(self, spec: VersionSpec, generation: int) -> bool:
        """Whether the files are here and were verified since that generation was proposed.

        What stood there before may be damaged, and may be why an earlier generation failed. Raises what the
        fetch raised, once and for all: a repeated command has a generation of its own.
        """
        return self._result(spec, generation, self._jobs.get((spec.manifest.digest, generation)))

    def forget(self, model: str, but: int) -> None:
        """Drops what was verified for the model's other generations."""
        self._jobs = {
            key: job
            for key, job in self._jobs.items()
            if job.model != model or job.generation in (0, but) or not job.done.done()
        }

    def sweep(self) -> None:
        """Removes the files of versions that no plan has named for an hour, and what was half fetched."""
        named = {digest for digest, _ in self._jobs if not self._jobs[digest, _].done.done()}
        for model in self._folder.models():
            held = self._folder.read_plans(model)
            for serving in (held.active, held.prepare) if held is not None else ():
                if serving is not None:
                    named |= {spec.manifest.digest for spec in serving.versions.values()}
        now = time.monotonic()
        found = [path for path in self._folder.versions.iterdir() if path.name not in named]
        self._unnamed_since = {path: self._unnamed_since.get(path, now) for path in found}
        for path, since in self._unnamed_since.items():
            if now - since > _UNNAMED_SECONDS:
                logger.info("removing the files of version %s", path.name)
                shutil.rmtree(path, ignore_errors=True)

    def _result(self, spec: VersionSpec, generation: int, job: _Job | None) -> bool:
        if job is None:
            job = _Job(model=spec.model, generation=generation, done=Future())
            self._jobs[spec.manifest.digest, generation] = job
            # Not one of a pool's threads, which would hold up the end of the process.
            threading.Thread(
                target=self._fetch, args=(spec, job), name=f"fetch {spec.version}", daemon=True
            ).start()
        if not job.done.done():
            return False
        job.done.result()
        return True

    def _fetch(self, spec: VersionSpec, job: _Job) -> None:
        error: Exception | None = None
        try:
            with self._slots:
                artifacts.fetch(self._blobs, spec.manifest, self._folder.versions / spec.manifest.digest)
        except Exception as raised:
            error = raised
        job.ended_at = time.monotonic()
        if error is None:
            job.done.set_result(None)
        else:
            job.done.set_exception(error)
        self.ended.set()
