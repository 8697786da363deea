"""Leases by name: of several processes that could do a thing, one does.

All functions work within the caller's transaction; `take` and `give_back` need a writing one. Whoever acts on
a lease asks `holds` in the transaction that it acts in: a holder that slept too long is then refused.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from fairlead.stores.tables import leases

__all__ = ["give_back", "holds", "is_free", "take"]


def take(connection: sa.Connection, name: str, holder: str, *, now: datetime, until: datetime) -> bool:
    """Takes the lease, or prolongs it; False while another holds it."""
    c = leases.c
    free = sa.or_(c.holder == holder, c.held_until <= now)
    taken = connection.execute(
        leases.update().where(c.name == name, free).values(holder=holder, held_until=until)
    )
    if taken.rowcount:
        return True
    if connection.execute(sa.select(c.name).where(c.name == name)).first() is not None:
        return False
    connection.execute(leases.insert().values(name=name, holder=holder, held_until=until))
    return True


def is_free(connection: sa.Connection, name: str, holder: str, now: datetime) -> bool:
    """Whether `take` would succeed: asked first, by a reading transaction, by those who wait."""
    c = leases.c
    query = sa.select(c.name).where(c.name == name, c.holder != holder, c.held_until > now)
    return connection.execute(query).first() is None


def holds(connection: sa.Connection, name: str, holder: str, now: datetime) -> bool:
    """Whether that holder has the lease at the moment."""
    c = leases.c
    query = sa.select(c.name).where(c.name == name, c.holder == holder, c.held_until > now)
    return connection.execute(query).first() is not None


def give_back(connection: sa.Connection, name: str, holder: str) -> None:
    """Ends the holder's lease before its time, so that nobody waits for it."""
    connection.execute(leases.delete().where(leases.c.name == name, leases.c.holder == holder))
