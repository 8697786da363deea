"""Files that ingest writes for others, as whoever asks for them knows them."""

from __future__ import annotations

import msgspec

__all__ = ["EXPORTS", "LabelledRows"]

EXPORTS = "retraining"
"""The folder of the data folder below which such files are written."""


class LabelledRows(msgspec.Struct, frozen=True, kw_only=True):
    """What was written: `rows` of `answered`, whose labels have come; the newest where there were more."""

    rows: int
    answered: int
