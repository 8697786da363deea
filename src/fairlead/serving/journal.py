"""The gateway's pen: writes records and outcomes to the prediction log before an answer leaves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from fairlead.errors import Overloaded
from fairlead.predictions.record import Outcome, PredictionRecord, SchemaFrame
from fairlead.predictions.segments import SegmentWriter, frame

__all__ = ["Journal"]


class Journal:
    """Appends to this gateway's log segment.

    When the log cannot be written, `shed` refuses the request (`Overloaded`), `serve` answers without a
    record and says how many rows went unlogged.
    """

    def __init__(self, writer: SegmentWriter, on_full: Literal["shed", "serve"]) -> None:
        self._writer = writer
        self._on_full = on_full

    def know(self, schema: SchemaFrame) -> None:
        """Makes a contract's column names known, to be written before its first record."""
        self._writer.register_schema(schema)

    def predictions(self, records: Sequence[PredictionRecord]) -> int:
        """Writes the records in one call; returns how many had to go unlogged."""
        try:
            self._writer.append(*[frame(record) for record in records])
        except Overloaded:
            if self._on_full == "shed":
                raise
            return len(records)
        return 0

    def outcomes(self, outcomes: Iterable[Outcome]) -> None:
        """Writes outcomes; raises `Overloaded` when they cannot be kept, whatever the setting."""
        frames = [frame(outcome) for outcome in outcomes]
        if frames:
            self._writer.append(*frames)

    def close(self) -> None:
        """Closes the segment."""
        self._writer.close()
