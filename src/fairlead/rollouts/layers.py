"""Layers: rollouts of several models that shall not meet on the same unit.

A layer has 10,000 slots of its own. A rollout takes a part of them when it begins, in the transaction that
begins it. The part is free again when the rollout has ended and, besides, no gateway goes on splitting by it:
until then a rollout that takes it over would meet the same units on a gateway that is late.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
import sqlalchemy as sa
import xxhash

from fairlead.errors import InvalidRollout
from fairlead.rollouts.fleet import LIVE
from fairlead.routing.plan import SLOTS, Layer, Plan
from fairlead.stores.tables import gateway_plans, gateways, layer_shares, layers, plans

__all__ = ["LayerShare", "LayerState", "free_ranges", "layer_of", "listed", "release", "take"]

Ranges = tuple[tuple[int, int], ...]
"""Slots in order, as first, and last plus 1."""


class LayerShare(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a layer, in percent of all units, that a rollout has. One that has `ended` keeps it as long
    as its plan is the model's or a live gateway serves it."""

    rollout: str
    model: str
    percent: float
    ended: bool = False


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
    owned = _owned(taken)
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

    What an ended rollout of the same model leaves behind does not stand in its way: no unit has two versions
    of one model. `InvalidRollout` when there is not so much room.
    """
    salt = _locked_salt(connection, name, now)
    others = [part for part in _parts(connection, name, now) if part.model != model]
    taken = [span for part in others for span in part.ranges]
    count = max(1, round(percent * SLOTS / 100))
    found = free_ranges(taken, count, xxhash.xxh64_intdigest(rollout.encode()) % SLOTS)
    if found is None:
        holders = ", ".join(sorted({part.model for part in others}))
        raise InvalidRollout(
            f"Layer {name!r} has room for {_free(taken):g} % of the units, and {percent:g} % are asked for"
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
    return Layer(name=row.layer, salt=row.salt, ranges=_spans(row.ranges))


def release(connection: sa.Connection, rollout: str) -> None:
    """Gives back what the rollout has, if it has anything; what gateways serve of it stays taken until they
    serve another plan."""
    connection.execute(layer_shares.delete().where(layer_shares.c.rollout == rollout))


def listed(connection: sa.Connection, now: datetime) -> list[LayerState]:
    """All layers by name, with who has parts of them."""
    found = []
    for name in connection.scalars(sa.select(layers.c.name).order_by(layers.c.name)):
        parts = _parts(connection, name, now)
        shares = [
            LayerShare(
                rollout=part.rollout, model=part.model, percent=_percent(part.ranges), ended=part.ended
            )
            for part in parts
        ]
        taken = [span for part in parts for span in part.ranges]
        found.append(LayerState(name=name, shares=shares, free=round(_free(taken), 6)))
    return found


class _Part(NamedTuple):
    """What a rollout has of a layer, or has had and gateways go on serving."""

    rollout: str
    model: str
    ranges: Ranges
    ended: bool


def _parts(connection: sa.Connection, name: str, now: datetime) -> list[_Part]:
    """Everything of the layer that is taken: by rollouts under way, and by plans that split by it although
    their rollouts have ended."""
    rows = connection.execute(
        sa.select(layer_shares).where(layer_shares.c.layer == name).order_by(layer_shares.c.at)
    )
    found = [_Part(row.rollout, row.model, _spans(row.ranges), ended=False) for row in rows]
    known = {part.rollout for part in found}
    for plan in _served(connection, name, now):
        if plan.layer is not None and plan.experiment is not None and plan.experiment not in known:
            known.add(plan.experiment)
            found.append(_Part(plan.experiment, plan.model, plan.layer.ranges, ended=True))
    return found


def _served(connection: sa.Connection, name: str, now: datetime) -> list[Plan]:
    """The plans that split by the layer, and are active or may be served by a live gateway: it reports after
    it has gone on to another, so it may be at any plan from the one that it has reported."""
    c, late = plans.c, gateway_plans.c
    behind = (
        sa.select(late.model)
        .join(gateways, gateways.c.name == late.gateway)
        .where(
            late.model == c.model,
            late.active_generation <= c.generation,
            gateways.c.heartbeat_at > now - LIVE,
        )
    )
    layer = f'"layer":{{"name":{msgspec.json.encode(name).decode()},'
    query = (
        sa.select(c.body)
        .where(sa.or_(c.state == "active", sa.and_(c.activated_at.is_not(None), behind.exists())))
        .where(c.body.contains(layer, autoescape=True))
        .order_by(c.model, c.generation)
    )
    return [msgspec.json.decode(body, type=Plan) for body in connection.scalars(query)]


def _locked_salt(connection: sa.Connection, name: str, now: datetime) -> str:
    """The layer's salt; until the transaction ends nobody else takes a part of it."""
    taken = connection.execute(layers.update().where(layers.c.name == name).values(at=now))
    if not taken.rowcount:
        connection.execute(layers.insert().values(name=name, salt=secrets.token_hex(8), at=now))
    salt: str = connection.execute(sa.select(layers.c.salt).where(layers.c.name == name)).scalar_one()
    return salt


def _spans(ranges: Sequence[Sequence[int]]) -> Ranges:
    return tuple((start, stop) for start, stop in ranges)


def _percent(ranges: Ranges) -> float:
    return sum(stop - start for start, stop in ranges) * 100 / SLOTS


def _free(taken: Sequence[tuple[int, int]]) -> float:
    """Percent of the units that nobody has; the parts of one model's rollouts may overlap."""
    return (SLOTS - sum(_owned(taken))) * 100 / SLOTS


def _owned(taken: Sequence[tuple[int, int]]) -> bytearray:
    """1 for each slot that somebody has."""
    owned = bytearray(SLOTS)
    for start, stop in taken:
        owned[start:stop] = b"\x01" * (stop - start)
    return owned
