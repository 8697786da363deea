"""Rows scored with a registered version, as its gateways would answer them, away from all gateways.

The model runs in a process of its own that is niced, bounded in time and memory, and dies with the thread
that started it; rows stream through it in small portions. So a version can be tried on a million rows while
others serve, and what crashes there harms nobody.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from fairlead.errors import (
    DeadlineExceeded,
    DigestMismatch,
    InvalidModelFile,
    MalformedRequest,
    RuntimeFailed,
    TrustRequired,
)
from fairlead.evaluation.scored import Failed, Ready, Row, Rows, Scored, Start, receive, send
from fairlead.registry import artifacts
from fairlead.registry.versions import Manifest, VersionSpec
from fairlead.runtimes.isolation import start_bound
from fairlead.runtimes.machine import peak_bytes, resident_bytes
from fairlead.serving.folder import DataFolder
from fairlead.stores.blobs import Blobs

__all__ = ["SCORING", "Limits", "Row", "Scored", "Scorer", "scoring"]

SCORING = "score-"
"""How names of folders begin into which files are fetched for scoring alone."""

_MAIN = "fairlead.evaluation.scoring_main"
_PORTION_ROWS = 64
_PORTION_BYTES = 1 << 20
_LOOK_SECONDS = 0.05
"""The process's memory is looked at so often."""
_GRACE_SECONDS = 1.0
_STUCK_SECONDS = 30.0
"""So long the process may take to go on reading or writing a message that it has begun."""
_LAST_MOMENT_SECONDS = 5.0
_POLL_SECONDS = 0.005


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a scoring may take: seconds altogether and for loading, and of the version's settings unless
    given: seconds for one run (`timeout_ms`), megabytes of resident memory (`memory_limit_mb`)."""

    seconds: float = 600.0
    load_seconds: float = 60.0
    run_seconds: float | None = None
    memory_mb: float | None = None


@contextlib.contextmanager
def scoring(
    spec: VersionSpec,
    blobs: Blobs,
    folder: DataFolder,
    *,
    trust_pickle: bool,
    limits: Limits | None = None,
    also_known: Iterable[str] = (),
) -> Iterator[Scorer]:
    """The version, loaded and ready to score; its process is gone when the block ends.

    Its files are those in the data folder, else fetched for this alone; either way they are what was
    registered. Use it in one thread: the process dies with the thread that started it. Features in
    `also_known` are dropped where the contract does not know them, as are those of other live versions.

    Raises `TrustRequired` for a pickle unless `trust_pickle`, `BlobNotFound`, `DigestMismatch` and
    `StoreUnavailable` when the files cannot be had, `InvalidModelFile` when they cannot be loaded.
    """
    if spec.runtime.kind == "python" and not trust_pickle:
        raise TrustRequired(
            f"Version {spec.version!r} of {spec.model!r} is a pickle and this server runs none.",
            remedy="Set trust_pickle = true in the server's settings if you trust its author.",
        )
    with (
        _files(spec, blobs, folder) as files,
        Scorer(spec, files, limits or Limits(), frozenset(also_known)) as made,
    ):
        yield made


@contextlib.contextmanager
def _files(spec: VersionSpec, blobs: Blobs, folder: DataFolder) -> Iterator[Path]:
    held = folder.versions / spec.manifest.digest
    if _is_right(held, spec.manifest):
        yield held
        return
    # Not among the others, which the agent sweeps away when no plan names them.
    place = Path(tempfile.mkdtemp(dir=folder.run, prefix=SCORING))
    try:
        yield artifacts.fetch(blobs, spec.manifest, place / "files")
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _is_right(held: Path, manifest: Manifest) -> bool:
    try:
        artifacts.verify(held, manifest)
    except DigestMismatch:
        return False
    return True


class Scorer:
    """A version in a process of its own; made by `scoring`.

    `runtime` says what computes there, as records have it, and `load_seconds` how long loading took. `ended`
    tells that the process is gone or was killed.
    """

    def __init__(self, spec: VersionSpec, files: Path, limits: Limits, also_known: frozenset[str]) -> None:
        self.spec = spec
        self._limits = limits
        settings = spec.settings
        self._run_seconds = limits.run_seconds or settings.timeout_ms / 1000
        self._most_bytes = int((limits.memory_mb or settings.memory_limit_mb) * 1_000_000)
        self._until = time.monotonic() + limits.seconds
        self._peak = 0
        self.ended = False
        self._stream, theirs = socket.socketpair()
        self._stream.settimeout(_STUCK_SECONDS)
        try:
            with theirs:
                self._process = start_bound(_MAIN, files.resolve(), theirs)
        except BaseException:
            self._stream.close()
            raise
        try:
            send(self._stream, Start(spec, str(files.resolve()), also_known))
            ready = self._loaded()
        except BaseException:
            self.close()
            raise
        self.runtime = ready.runtime
        self.load_seconds = ready.seconds

    def __enter__(self) -> Scorer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def peak_bytes(self) -> int:
        """The most resident memory that the process has had so far, its libraries included."""
        if self._process.returncode is None:
            self._peak = max(self._peak, peak_bytes(self._process.pid))
        return self._peak

    def score(self, rows: Iterable[Row], *, together: int = 1) -> Iterator[Scored]:
        """What the version makes of each row, in their order; so many of them in one run of the model.

        Rows that fail are answered as such. Raises `DeadlineExceeded` when a run or the whole takes too long,
        and `RuntimeFailed` when the process dies or takes too much memory: then nothing more can be scored.
        The rows before have been answered by then, so that the run that ended it begins with the next.
        """
        portion: list[msgspec.Raw] = []
        size = 0
        most = max(_PORTION_ROWS - _PORTION_ROWS % together, together)
        for number, row in enumerate(rows):
            raw = _encoded(row, number)
            if portion and (len(portion) == most or (size > _PORTION_BYTES and not len(portion) % together)):
                yield from self._exchange(portion, together)
                portion, size = [], 0
            portion.append(raw)
            size += len(bytes(raw))
        if portion:
            yield from self._exchange(portion, together)

    def close(self) -> None:
        """Ends the process and whatever it has started."""
        _ = self.peak_bytes
        self._stream.close()
        self._kill()
        self._process.wait()

    # --- talking to the process -----------------------------------------------------------------------------

    def _loaded(self) -> Ready:
        entry = self.spec.runtime.entry
        try:
            data = self._answer(self._limits.load_seconds, "loading it")
        except RuntimeFailed as error:
            raise InvalidModelFile(
                f"Model file {entry!r} crashed the process that loaded it: {error.message}",
                remedy="Export the model again; the file is damaged, or needs other libraries.",
            ) from error
        answer = msgspec.msgpack.decode(data, type=Ready | Failed)
        if isinstance(answer, Failed):
            raise InvalidModelFile(answer.message, remedy=answer.remedy)
        return answer

    def _exchange(self, portion: Sequence[msgspec.Raw], together: int) -> Iterator[Scored]:
        """All answers of a portion are read before the first is given on: whoever stops reading in between
        leaves nothing half said."""
        found: list[Scored] = []
        try:
            self._ask(portion, together, found)
        except (DeadlineExceeded, RuntimeFailed):
            yield from found
            raise
        yield from found

    def _ask(self, portion: Sequence[msgspec.Raw], together: int, found: list[Scored]) -> None:
        try:
            send(self._stream, Rows(list(portion), together))
        except OSError as error:
            raise self._dead("before it was asked") from error
        for index in range(len(portion)):
            seconds = self._run_seconds * (together if index % together == 0 else 1) + _GRACE_SECONDS
            found.append(_decode(self._answer(seconds, "one run")))

    def _answer(self, seconds: float, what: str) -> bytes:
        """The next message; kills the process when it takes too long or too much."""
        until = min(time.monotonic() + seconds, self._until)
        while not select.select([self._stream], [], [], _LOOK_SECONDS)[0]:
            if resident_bytes(self._process.pid) > self._most_bytes:
                self._kill()
                raise RuntimeFailed(
                    f"{self._named} took more than {self._most_bytes / 1e6:,.0f} MB of memory.",
                    remedy="Raise memory_limit_mb of the version, or make the model smaller.",
                )
            if time.monotonic() > until:
                self._kill()
                over = "the whole scoring" if until >= self._until else what
                limit = self._limits.seconds if until >= self._until else seconds
                raise DeadlineExceeded(
                    f"{self._named} took longer than {limit:g} s for {over}.",
                    remedy="Score fewer rows, raise timeout_ms of the version, or make the model faster.",
                )
        try:
            return receive(self._stream)
        except (EOFError, OSError) as error:
            raise self._dead(f"during {what}") from error

    @property
    def _named(self) -> str:
        return f"Version {self.spec.version!r} of {self.spec.model!r}"

    def _kill(self) -> None:
        self.ended = True
        # Its session is its own, so its number is the group's, and reserved until it is waited for.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _dead(self, when: str) -> RuntimeFailed:
        """How the process ended, in words; one that only hung up is ended."""
        until = time.monotonic() + _LAST_MOMENT_SECONDS
        ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while (found := os.waitid(os.P_PID, self._process.pid, ended)) is None and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)
        self._kill()
        if found is None:
            how = "hung up"
        elif found.si_code == os.CLD_EXITED:
            how = f"ended with status {found.si_status}"
        else:
            how = f"died of {signal.Signals(found.si_status).name}"
        return RuntimeFailed(
            f"The process of version {self.spec.version!r} of {self.spec.model!r} {how} {when}.",
            remedy="Look for the rows that the model does not bear.",
        )


_decode = msgspec.msgpack.Decoder(Scored).decode
_encode = msgspec.msgpack.Encoder().encode


def _encoded(row: Row, number: int) -> msgspec.Raw:
    try:
        return msgspec.Raw(_encode(row))
    except OverflowError:
        # MessagePack has no integer of more than 64 bits. No contract has, either: as floats they break the
        # same rules.
        return msgspec.Raw(_encode(_narrowed(row)))
    except (TypeError, ValueError) as error:
        raise MalformedRequest(
            f"Row {number} holds a value that cannot be sent: {error}.",
            remedy="Rows hold numbers, text, booleans, null and lists of numbers.",
        ) from error


def _narrowed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _narrowed(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_narrowed(part) for part in value]
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return value
