"""What a sync is: outcomes that are read from somebody else's database, again and again."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from fairlead.errors import InvalidSync
from fairlead.registry.versions import verify_name

__all__ = ["Sync", "SyncState"]

_SHORTEST, _LONGEST = 10.0, 7 * 86_400.0
_MOST_SQL = 100_000


class Sync(msgspec.Struct, frozen=True, kw_only=True):
    """A query, where it is sent, and how often.

    The database's URL is never kept: it lies in control's environment under the name `url_env`, or in the
    file `url_file` on control's machine. `overlap` seconds before the latest row are read again each time,
    for rows that are committed late.
    """

    name: str
    model: str
    sql: str
    every: float = 900.0
    url_env: str | None = None
    url_file: str | None = None
    overlap: float = 600.0

    def verify(self) -> Sync:
        """This sync, or `InvalidSync` or `InvalidName` saying which rule it breaks."""
        verify_name("sync", self.name)
        if (self.url_env is None) == (self.url_file is None):
            raise InvalidSync(
                f"Sync {self.name!r} has {'no' if self.url_env is None else 'two'} places for its URL.",
                remedy="Name an environment variable of control, or a file on its machine.",
            )
        if not 0 < len(self.sql.strip()) <= _MOST_SQL:
            raise InvalidSync(
                f"The query of sync {self.name!r} is empty or too long.", remedy="Give one SELECT."
            )
        if not _SHORTEST <= self.every <= _LONGEST:
            raise InvalidSync(
                f"Sync {self.name!r} runs every {self.every:g} s.",
                remedy=f"Give {_SHORTEST:g} s to {_LONGEST / 86_400:g} days.",
            )
        if not 0 <= self.overlap <= _LONGEST:
            raise InvalidSync(
                f"Sync {self.name!r} overlaps by {self.overlap:g} s.", remedy="Give 0 s to 7 days."
            )
        return self


class SyncState(msgspec.Struct, frozen=True, kw_only=True):
    """A sync and how it fares. `watermark` is the time of the latest row read; `accepted` rows became
    outcomes in all, `refused` ones broke a rule (`problem` says which, of the last run). After `failures` in
    a row it is tried again at `next_at`, later and later; `error` is the last one's."""

    sync: Sync
    state: Literal["waiting", "failing"]
    watermark: datetime | None
    next_at: datetime
    last_run_at: datetime | None
    last_ok_at: datetime | None
    accepted: int
    refused: int
    failures: int
    problem: str | None
    error: str | None
    created_at: datetime
    who: str
