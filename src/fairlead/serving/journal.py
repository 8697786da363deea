"""The gateway's pen: records and outcomes are in the prediction log before an answer leaves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from fairlead.errors import Overloaded
from fairlead.predictions.record import Outcome, SchemaFrame
from fairlead.predictions.segments import SegmentWriter, frame

__all__ = ["Commit", "Journal"]


class Commit:
    """One write of the records that came together. `error` says why the log took only `written` of them."""

    __slots__ = ("error", "written")

    def __init__(self) -> None:
        self.error: Overloaded | None = None
        self.written = 0


class Journal:
    """Appends to this gateway's log segment.

    When the log cannot be written, `shed` refuses the request (`Overloaded`), `serve` answers without a
    record and says how many rows went unlogged.
    """

    def __init__(self, writer: SegmentWriter, on_full: Literal["shed", "serve"]) -> None:
        self._writer = writer
        self.sheds = on_full == "shed"
        self._waiting: list[bytes] = []
        self._commit = Commit()

    def know(self, schema: SchemaFrame) -> None:
        """Makes a contract's column names known, to be written before its first record."""
        self._writer.register_schema(schema)

    def add(self, framed: bytes) -> tuple[Commit, int]:
        """Takes a record for the next `write`; answers that write and the record's place in it."""
        waiting = self._waiting
        waiting.append(framed)
        return self._commit, len(waiting)

    def write(self) -> None:
        """Writes what was added in one call; never raises: each record's `Commit` tells."""
        waiting = self._waiting
        if waiting:
            commit, self._commit, self._waiting = self._commit, Commit(), []
            commit.written = self._append(waiting, commit)

    def write_now(self, frames: Sequence[bytes]) -> int:
        """Writes the records in one call; returns how many had to go unlogged."""
        commit = Commit()
        written = self._append(frames, commit)
        if commit.error is not None and self.sheds:
            raise commit.error
        return len(frames) - written

    def outcomes(self, outcomes: Iterable[Outcome]) -> None:
        """Writes outcomes; raises `Overloaded` when they cannot be kept, whatever the setting."""
        frames = [frame(outcome) for outcome in outcomes]
        if frames:
            self._writer.append(*frames)

    def close(self) -> None:
        """Closes the segment."""
        self.write()
        self._writer.close()

    def _append(self, frames: Sequence[bytes], commit: Commit) -> int:
        try:
            self._writer.append(*frames)
        except Overloaded as error:
            commit.error = error
            return int(error.details.get("written", 0))
        return len(frames)
