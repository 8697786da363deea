"""Layers: rollouts of several models that shall not meet on the same unit.

A layer has 10,000 slots of its own. A rollout takes a part of them when it begins, in the transaction that
begins it, and gives it back in the one that ends it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa
import xxhash

from fairlead.errors import InvalidRollout
from fairlead.routing.plan import SLOTS, Layer
from fairlead.stores.tables import layer_shares, layers

__all__ = ["LayerShare", "LayerState", "free_ranges", "layer_of", "listed", "release", "take"]


class LayerShare(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a layer, in percent of all units, that a rollout has."""

    rollout: str
    model: str
    percent: float


class LayerState(msgspec.Struct, frozen=True, kw_only=True):
    """A layer, who has parts of it, and the percent that is free."""

    name: str
    shares: list[LayerShare]
    free: float


def free_ranges(taken: Sequence[tuple[int, int]], count: int, begin: int) -> list[tuple[int, int]] | None:
    """`count` slots that nobody has taken, as ranges in order; None when there are not so many.

    They are the first from slot `begin` on, going on at slot 0 after the last. Rollouts begin at different
    places, so that not always the same units are in experiments.
    """
    owned = bytearray(SLOTS)
    for start, stop in taken:
        owned[start:stop] = b"\x01" * (stop - start)
    order = (*range(begin, SLOTS), *range(begin))
    chosen = sorted([slot for slot in order if not owned[slot]][:count])
    if len(chosen) < count:
        return None
    ranges: list[tuple[int, int]] = []
    for slot in chosen:
        if ranges and ranges[-1][1] == slot:
            ranges[-1] = (ranges[-1][0], slot + 1)
        else:
            ranges.append((slot, slot + 1))
    return ranges


def take(
    connection: sa.Connection, name: str, percent: float, *, rollout: str, model: str, now: datetime
) -> Layer:
    """The rollout's part of the layer, which is made when nobody has named it before.

    `InvalidRollout` when there is not so much room in it.
    """
    salt = _locked_salt(connection, name, now)
    rows = connection.execute(sa.select(layer_shares).where(layer_shares.c.layer == name)).all()
    taken = [(start, stop) for row in rows for start, stop in row.ranges]
    count = max(1, round(percent * SLOTS / 100))
    found = free_ranges(taken, count, xxhash.xxh64_intdigest(rollout.encode()) % SLOTS)
    if found is None:
        free = (SLOTS - sum(stop - start for start, stop in taken)) * 100 / SLOTS
        holders = ", ".join(sorted({row.model for row in rows}))
        raise InvalidRollout(
            f"Layer {name!r} has room for {free:g} % of the units, and {percent:g} % are asked for"
            f"{f'; the rest is with {holders}' if holders else ''}.",
            remedy="Ask for a smaller traffic share, or wait until one of them has ended.",
            layer=name,
        )
    connection.execute(
        layer_shares.insert().values(rollout=rollout, layer=name, model=model, ranges=found, at=now)
    )
    return Layer(name=name, salt=salt, ranges=tuple(found))


def layer_of(connection: sa.Connection, rollout: str) -> Layer | None:
    """The part of a layer that the rollout has, if any."""
    query = sa.select(layer_shares.c.layer, layer_shares.c.ranges, layers.c.salt)
    query = query.join(layers, layers.c.name == layer_shares.c.layer)
    row = connection.execute(query.where(layer_shares.c.rollout == rollout)).one_or_none()
    if row is None:
        return None
    return Layer(name=row.layer, salt=row.salt, ranges=tuple((start, stop) for start, stop in row.ranges))


def release(connection: sa.Connection, rollout: str) -> None:
    """Gives back what the rollout has, if it has anything."""
    connection.execute(layer_shares.delete().where(layer_shares.c.rollout == rollout))


def listed(connection: sa.Connection) -> list[LayerState]:
    """All layers by name, with who has parts of them."""
    rows = connection.execute(sa.select(layer_shares).order_by(layer_shares.c.at)).all()
    found = []
    for name in connection.scalars(sa.select(layers.c.name).order_by(layers.c.name)):
        shares = [
            LayerShare(rollout=row.rollout, model=row.model, percent=_percent(row.ranges))
            for row in rows
            if row.layer == name
        ]
        free = 100 - sum(share.percent for share in shares)
        found.append(LayerState(name=name, shares=shares, free=round(free, 6)))
    return found


def _locked_salt(connection: sa.Connection, name: str, now: datetime) -> str:
    """The layer's salt; until the transaction ends nobody else takes a part of it."""
    taken = connection.execute(layers.update().where(layers.c.name == name).values(at=now))
    if not taken.rowcount:
        connection.execute(layers.insert().values(name=name, salt=secrets.token_hex(8), at=now))
    salt: str = connection.execute(sa.select(layers.c.salt).where(layers.c.name == name)).scalar_one()
    return salt


def _percent(ranges: Sequence[Sequence[int]]) -> float:
    return sum(stop - start for start, stop in ranges) * 100 / SLOTS
