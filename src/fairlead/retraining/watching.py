"""The alarms that may cause a retraining, in the database: how many looks in a row have raised each.

So a count goes on where it was when control ends, or another one looks. All functions work within the
caller's transaction; `note` needs a writing one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
import sqlalchemy as sa

from fairlead.monitoring.findings import Finding
from fairlead.retraining.policy import Policy
from fairlead.stores.retraining_tables import retraining_alarms

__all__ = ["alarms_of", "changed", "note"]

_FORGOTTEN = timedelta(days=2)
"""An alarm that no look has raised for so long is none any more: nobody looks at it."""
_READ = msgspec.json.Decoder(tuple[Finding, ...])

_Key = tuple[str, str]
_Run = tuple[Finding, ...]


def alarms_of(connection: sa.Connection, model: str, now: datetime) -> list[Finding]:
    """The findings of the looks in a row that have raised the model's alarms, as many of each as `confirm`
    asks for at most."""
    c = retraining_alarms.c
    query = sa.select(c.findings).where(c.model == model, c.updated_at > now - _FORGOTTEN)
    return [finding for text in connection.scalars(query) for finding in _READ.decode(text)]


def changed(
    connection: sa.Connection, policies: Mapping[str, Policy], findings: Sequence[Finding]
) -> dict[_Key, _Run]:
    """What those findings of one look change: by model and key, the looks in a row that raise that alarm now;
    none where it is over. Findings of kinds that a model's policy does not name change nothing."""
    watched = [one for one in findings if one.model in policies and one.kind in policies[one.model].on]
    if not watched:
        return {}
    c = retraining_alarms.c
    query = sa.select(c.model, c.key, c.findings).where(c.model.in_({one.model for one in watched}))
    held = {(row.model, row.key): _READ.decode(row.findings) for row in connection.execute(query)}
    found: dict[_Key, _Run] = {}
    for one in watched:
        key = (one.model, _text(one.key))
        before = held.get(key, ())
        if before and one.end < before[-1].end:
            continue  # a look of before, told late
        if one.status != "alarm":
            if before:
                found[key] = ()
        elif not before or one.end > before[-1].end:
            found[key] = (*before, one)[-policies[one.model].confirm :]
    return found


def note(connection: sa.Connection, changes: Mapping[_Key, _Run], now: datetime) -> None:
    """Writes what `changed` has told."""
    c = retraining_alarms.c
    connection.execute(retraining_alarms.delete().where(c.updated_at <= now - _FORGOTTEN))
    for (model, key), run in changes.items():
        connection.execute(retraining_alarms.delete().where(c.model == model, c.key == key))
        if run:
            values = {"model": model, "key": key, "findings": _text(run), "updated_at": now}
            connection.execute(retraining_alarms.insert().values(**values))


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
