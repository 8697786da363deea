"""The way back: which earlier production versions a rollback may go to, from the history of plans."""

from __future__ import annotations

from datetime import datetime

import msgspec
import sqlalchemy as sa

from fairlead.routing.plan import Arm
from fairlead.stores.tables import plans

__all__ = ["fallbacks", "previous_production"]

_LOOK_BACK = 200
"""How many changes of traffic the search goes back."""


class _Step(msgspec.Struct):
    """What the search for a way back needs of a plan's body; the slots are skipped."""

    arms: tuple[Arm, ...]


def fallbacks(connection: sa.Connection, model: str) -> list[tuple[str, datetime]]:
    """Earlier production versions that a rollback may go to, best first, each with the time it was replaced.

    A version that a rollback took traffic from is none, nor is what a rollback went past, until a command
    puts it into production again; so repeating a rollback goes further back or nowhere, and never toggles.
    """
    query = (
        sa.select(plans.c.body, plans.c.command, plans.c.activated_at)
        .where(plans.c.model == model, plans.c.activated_at.is_not(None))
        .order_by(plans.c.generation.desc())
        .limit(_LOOK_BACK)
    )
    line: list[str] = []  # production versions, oldest first, the last is in production
    ended: dict[str, datetime] = {}
    before: set[str] = set()
    for row in reversed(connection.execute(query).all()):
        arms = msgspec.json.decode(row.body, type=_Step).arms
        stable = next(arm.version for arm in arms if arm.role == "stable")
        if line and line[-1] != stable:
            ended[line[-1]] = row.activated_at
        if row.command == "rollback":
            if stable in line:
                del line[len(line) - line[::-1].index(stable) :]
            given_up = before - {arm.version for arm in arms}
            line = [version for version in line if version not in given_up]
        if not line or line[-1] != stable:
            line.append(stable)
        before = {arm.version for arm in arms if arm.role != "shadow"}
    found = dict.fromkeys(version for version in reversed(line[:-1]) if version != line[-1])
    return [(version, ended[version]) for version in found]


def previous_production(connection: sa.Connection, model: str) -> str | None:
    """The production version that a rollback goes to while one version has all traffic."""
    found = fallbacks(connection, model)
    return found[0][0] if found else None
