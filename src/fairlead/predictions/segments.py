"""The prediction log as a gateway writes it: append-only segments of frames, one folder per gateway.

    log/<gateway>/<number>.seg = MAGIC, the schema frames of the contracts in use, then records and outcomes

`write()` has returned before the answer leaves, so a record survives `kill -9`. Three rules keep readers
right:

- A segment appears whole: its start is written under another name and then linked.
- A writer holds a lock (flock) on its segment for as long as it may append. A segment that nobody holds is
  finished, and a torn tail in it is final.
- A writer never appends to a segment that it found, for a killed predecessor may have left a torn tail.
  Numbers are milliseconds of Unix time, or one more than the highest found, so that none is used twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from fairlead.errors import Overloaded
from fairlead.predictions import framing
from fairlead.predictions.record import Outcome, PredictionRecord, SchemaFrame

if TYPE_CHECKING:
    from fairlead.predictions.tables import TableRecord  # numpy comes with it, and clients write outcomes

__all__ = ["Fsync", "SegmentWriter", "frame"]

Fsync = Literal["never", "interval", "always"]

_encode = msgspec.msgpack.Encoder().encode


def frame(record: PredictionRecord | TableRecord | Outcome | SchemaFrame) -> bytes:
    """The bytes of one record as they lie in a segment, ready for `SegmentWriter.append`."""
    return framing.frame(_encode(record))


class SegmentWriter:
    """Appends frames to the newest segment of one gateway; not for use by two threads at once.

    A segment is closed and the next begun at `segment_bytes` or after `segment_seconds`. `fsync` chooses what
    survives a power cut: `never` nothing in particular, `interval` what is older than `fsync_seconds`,
    `always` each append. `clock` tells Unix seconds.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        segment_bytes: int = 64 * 1024 * 1024,
        segment_seconds: float = 600.0,
        fsync: Fsync = "never",
        fsync_seconds: float = 1.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = Path(folder)
        self._segment_bytes = segment_bytes
        self._segment_seconds = segment_seconds
        self._fsync = fsync
        self._clock = clock
        self._schemas: dict[str, bytes] = {}
        self._descriptor = -1
        self._empty_size = self._size = 0
        self._roll_at = 0.0  # no segment is open: the first append begins one
        self._syncer = _Syncer(fsync_seconds) if fsync == "interval" else None
        self.folder.mkdir(parents=True, exist_ok=True)

    def register_schema(self, schema: SchemaFrame) -> None:
        """Puts the contract's names and types in front of its first record, in this and each later segment.

        Raises `Overloaded` when the disk refuses; the contract then counts as unknown and may be given again.
        """
        if schema.contract_id in self._schemas:
            return
        described = frame(schema)
        if self._descriptor >= 0:
            self.append(described)
        self._schemas[schema.contract_id] = described

    def append(self, *frames: bytes) -> None:
        """Writes the frames in one go; they survive the process once this returns.

        Raises `Overloaded` when the disk is full or fails. Then no frame is torn: the log ends with the last
        frame that was written whole (`written` in the error's details counts them), and the next append may
        succeed.
        """
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        if time.monotonic() >= self._roll_at or (
            self._size + len(data) > self._segment_bytes and self._size > self._empty_size
        ):
            self._roll()
        try:
            written = os.write(self._descriptor, data)
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except OSError as error:
            whole = self._cut(frames)
            raise self._refusal(error, whole) from error
        self._size += written
        if self._fsync == "always":
            self._sync()

    def close(self) -> None:
        """Ends the segment, so that readers need not wait for more; a later append begins another."""
        self._retire()
        if self._syncer is not None:
            self._syncer.stop()

    def _roll(self) -> None:
        self._retire()
        try:
            self._descriptor, self._size = self._begin()
        except OSError as error:
            raise self._refusal(error) from error
        self._empty_size = self._size
        self._roll_at = time.monotonic() + self._segment_seconds
        if self._syncer is not None:
            self._syncer.watch(self._descriptor)

    def _begin(self) -> tuple[int, int]:
        """Descriptor and size of a new segment that holds its magic and the known schemas."""
        start = framing.MAGIC + b"".join(self._schemas.values())
        hidden = self.folder / f".new-{os.getpid()}"
        descriptor = os.open(
            hidden, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o640
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            written = 0
            while written < len(start):
                written += os.write(descriptor, start[written:])
            self._publish(hidden)
        except BaseException:
            os.close(descriptor)
            raise
        finally:
            hidden.unlink(missing_ok=True)
        return descriptor, len(start)

    def _publish(self, hidden: Path) -> None:
        taken = [int(path.stem) for path in self.folder.glob("*.seg") if path.stem.isdecimal()]
        number = max(int(self._clock() * 1000), max(taken, default=0) + 1)
        while True:
            try:
                os.link(hidden, self.folder / f"{number:016d}.seg")
            except FileExistsError:
                number += 1  # a predecessor that is shutting down took it this instant
            else:
                break
        if self._fsync != "never":
            folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _cut(self, frames: tuple[bytes, ...]) -> int:
        """Removes the torn tail; returns how many whole frames stay: a reader may have taken them already."""
        whole = 0
        try:
            reached = os.fstat(self._descriptor).st_size
            ends = [end for end in accumulate(map(len, frames), initial=self._size) if end <= reached]
            whole = len(ends) - 1
            self._size = ends[-1]
            os.ftruncate(self._descriptor, self._size)
        except (OSError, IndexError):
            self._retire()  # leave it behind, torn, and begin another
        return whole

    def _sync(self) -> None:
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._retire()  # after a failed fsync the kernel forgets what it did not write
            raise self._refusal(error) from error

    def _retire(self) -> None:
        descriptor, self._descriptor, self._roll_at = self._descriptor, -1, 0.0
        if descriptor < 0:
            return
        if self._syncer is not None:
            self._syncer.retire(descriptor)
            return
        if self._fsync == "always":
            with contextlib.suppress(OSError):
                os.fdatasync(descriptor)
        os.close(descriptor)

    def _refusal(self, error: OSError, written: int = 0) -> Overloaded:
        return Overloaded(
            f"The prediction log in {self.folder} cannot be written: {error.strerror or error}.",
            remedy="Free space on that disk or repair it; predictions are refused until the log takes them.",
            folder=str(self.folder),
            written=written,
        )


class _Syncer:
    """Brings the written part of a segment to the disk at intervals, in a thread of its own."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._current = -1
        self._retired: list[int] = []
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, descriptor: int) -> None:
        with self._lock:
            self._current = descriptor
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="log-fsync", daemon=True)
            self._thread.start()

    def retire(self, descriptor: int) -> None:
        """Takes the descriptor over: synchronises it once more and closes it."""
        with self._lock:
            self._retired.append(descriptor)
            self._current = -1

    def stop(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping.set()
            thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            self._sync_once()
        self._sync_once()

    def _sync_once(self) -> None:
        with self._lock:
            retired, self._retired = self._retired, []
            if self._current >= 0:
                retired.append(os.dup(self._current))
        for descriptor in retired:
            with contextlib.suppress(OSError):
                os.fdatasync(descriptor)
            os.close(descriptor)
