"""New records from the gateways' segments, each once, from remembered positions on.

A torn tail is awaited while a writer holds the segment, and final (skipped, counted) once nobody does. At a
corrupt frame the rest of that segment is given up and counted: what follows is never guessed, and the file
is kept as `<number>.corrupt` for a person to look at. Bytes under a living writer are only believed to be
corrupt when they still are at the next look, because a writer that could not finish a frame takes it back.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from fairlead.predictions.framing import MAGIC, MAX_PAYLOAD_BYTES, read_frames
from fairlead.predictions.record import Outcome, PredictionRecord, SchemaFrame
from fairlead.predictions.tables import TableRecord

__all__ = ["Entry", "SegmentTail"]

logger = logging.getLogger(__name__)

Entry = PredictionRecord | TableRecord | Outcome | SchemaFrame

_CHUNK_BYTES = 4 * 1024 * 1024
_decode = msgspec.msgpack.Decoder(Entry).decode


class SegmentTail:
    """Reads `log/<gateway>/<number>.seg`; a segment's name is `<gateway>/<number>`.

    `positions` tells how many bytes of each segment have been read. `torn`, `corrupt` and `unreadable` count
    segments that ended in a torn frame, segments given up at a corrupt one, and whole frames that hold no
    known record; all since this object was made. `caught_up` tells whether the last read took everything that
    had been written when it looked.
    """

    def __init__(self, log_folder: Path | str, positions: Mapping[str, int] | None = None) -> None:
        self.log_folder = Path(log_folder)
        self.torn = self.corrupt = self.unreadable = 0
        self.caught_up = False
        self._finished: set[str] = set()
        self._given_up: set[str] = set()
        self._suspected: dict[str, int] = {}
        existing = set(self._names())
        self.positions = {name: at for name, at in (positions or {}).items() if name in existing}

    def read(self, limit_bytes: int = 16 * 1024 * 1024) -> list[Entry]:
        """What was written since the last call, in order within each segment; [] when there is nothing new.

        Stops soon after `limit_bytes`; call again for the rest.
        """
        entries: list[Entry] = []
        taken = 0
        self.caught_up = True
        for name in self._names():
            if name not in self._finished:
                before = self.positions.get(name, 0)
                self._decode_into(entries, self._read_segment(name))
                taken += self.positions.get(name, 0) - before
                if taken >= limit_bytes:
                    self.caught_up = False
                    break
        return entries

    def lag_bytes(self) -> int:
        """How many bytes the gateways have written that have not been read."""
        lag = 0
        for name in self._names():
            if name not in self._finished:
                with contextlib.suppress(FileNotFoundError):
                    lag += max(0, self._path(name).stat().st_size - self.positions.get(name, 0))
        return lag

    def finished(self) -> list[str]:
        """Segments of which nothing more will be read: read to the end and let go, or given up."""
        return sorted(self._finished)

    def remove(self, names: Iterable[str]) -> None:
        """Deletes finished segments, puts those that were given up aside, and forgets their positions."""
        for name in names:
            if name not in self._finished:
                raise ValueError(f"Segment {name!r} is not finished.")
            path = self._path(name)
            if name in self._given_up:
                path.rename(path.with_suffix(".corrupt"))
            else:
                path.unlink(missing_ok=True)
            self._finished.discard(name)
            self._given_up.discard(name)
            self.positions.pop(name, None)

    def _names(self) -> Iterator[str]:
        try:
            gateways = sorted(entry.name for entry in os.scandir(self.log_folder) if entry.is_dir())
        except FileNotFoundError:
            return
        for gateway in gateways:
            found = [path.stem for path in (self.log_folder / gateway).glob("*.seg") if path.stem.isdecimal()]
            for number in sorted(found, key=int):
                yield f"{gateway}/{number}"

    def _path(self, name: str) -> Path:
        return self.log_folder / f"{name}.seg"

    def _decode_into(self, entries: list[Entry], payloads: Iterable[bytes]) -> None:
        for payload in payloads:
            try:
                entries.append(_decode(payload))
            except msgspec.MsgspecError:
                self.unreadable += 1

    def _read_segment(self, name: str) -> list[bytes]:
        """The payloads of the next whole frames; moves the segment's position behind them."""
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return []  # a person removed it this instant
        try:
            living = _is_held(descriptor)  # asked before reading: what nobody holds now will not grow later
            size = os.fstat(descriptor).st_size
            position = self.positions.get(name, 0)
            if position == 0:
                magic = os.pread(descriptor, len(MAGIC), 0)
                if magic == MAGIC:
                    position = len(MAGIC)
                else:
                    self._stop_at(name, 0, size, living, "torn" if MAGIC.startswith(magic) else "corrupt")
                    return []
            wanted = _CHUNK_BYTES
            while True:
                data = os.pread(descriptor, wanted, position)
                found = read_frames(data)
                if found.payloads or found.state != "torn" or len(data) < wanted:
                    break
                wanted = min(wanted * 4, MAX_PAYLOAD_BYTES + _CHUNK_BYTES)
        finally:
            os.close(descriptor)
        reached = position + found.end
        self.positions[name] = reached
        self.caught_up &= position + len(data) >= size
        if found.state == "corrupt" or position + len(data) >= size:
            self._stop_at(name, reached, size, living, found.state)
        return found.payloads

    def _stop_at(self, name: str, position: int, size: int, living: bool, state: str) -> None:
        """Decides what it means that reading stopped at `position` of `size` bytes."""
        if state == "corrupt":
            if living and self._suspected.get(name) != position:
                self._suspected[name] = position
                return
            self.corrupt += 1
            self._given_up.add(name)
            logger.error(
                "%s is corrupt at byte %d; the rest of it, %d bytes so far, is given up and kept as .corrupt",
                self._path(name),
                position,
                size - position,
            )
        elif living:
            return
        elif state == "torn" and position < size:
            self.torn += 1
            logger.info("%s ends in %d torn bytes: its writer was killed", self._path(name), size - position)
        self._suspected.pop(name, None)
        self.positions[name] = size
        self._finished.add(name)


def _is_held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
