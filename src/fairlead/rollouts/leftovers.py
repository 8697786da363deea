"""Proposals that nobody waits for any more, since the control that made them was killed."""

from __future__ import annotations

import sqlalchemy as sa

from fairlead.rollouts import ledger
from fairlead.routing import plans
from fairlead.stores import tables

__all__ = ["end_leftovers"]


def end_leftovers(connection: sa.Connection) -> list[tuple[str, int]]:
    """Ends what waits to be activated; answers model and generation.

    Those of a rollout under way stay: another control may be waiting for them, and if none is, the rollout's
    next look takes their place.
    """
    c = tables.plans.c
    query = sa.select(c.model, c.generation, c.who).where(c.state == "preparing")
    found = [
        (model, generation)
        for model, generation, who in connection.execute(query).all()
        if who != _author(connection, model)
    ]
    for model, generation in found:
        plans.fail(connection, model, generation, "control stopped while it was being prepared.")
    return found


def _author(connection: sa.Connection, model: str) -> str | None:
    """Whose name the plans of the model's rollout under way bear."""
    entry = ledger.active(connection, model)
    return None if entry is None else ledger.author(entry.rollout)
