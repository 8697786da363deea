"""The commands for what comes before a split: targeting rules and holdouts.

They work beside a rollout as well: its next phase begins with the plan that they make. Every one of them is
audited, and a new generation that is prepared and activated as any other.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa

from fairlead.errors import FairleadError, InvalidPlan
from fairlead.registry import aliases
from fairlead.rollouts import moves
from fairlead.rollouts.confirmation import Confirmation
from fairlead.rollouts.traffic import Order, Traffic
from fairlead.routing.plan import Holdout, Plan
from fairlead.routing.targeting import Rule
from fairlead.stores.database import Database
from fairlead.stores.tables import plan_heads

__all__ = ["due_holdouts", "end_holdout", "hold_out", "set_rules"]

logger = logging.getLogger(__name__)


def set_rules(traffic: Traffic, model: str, rules: Sequence[Rule], order: Order) -> Confirmation:
    """These rules instead of those that the model has; none takes them away.

    Raises what every command of traffic raises: `InvalidPlan` for a rule that says nothing clear,
    `VersionNotFound` for one that serves what is not there.
    """

    def move(connection: sa.Connection, present: Plan | None) -> Plan:
        named = [
            rule
            if rule.version is None
            else msgspec.structs.replace(rule, version=aliases.resolve(connection, model, rule.version))
            for rule in rules
        ]
        return moves.target(_required(model, present), named)

    detail = msgspec.json.encode(rules).decode()
    return traffic.carry_out(model, "targeting", move, order, detail=detail, beside=True)


def hold_out(
    traffic: Traffic, model: str, percent: float, order: Order, *, until: datetime | None, now: datetime
) -> Confirmation:
    """`percent` of the units get no candidate until then; 0 ends it.

    A holdout that is there is widened or narrowed and keeps its start and its units; one that begins takes
    units of its own. Raises what every command of traffic raises.
    """
    if until is not None and (percent == 0 or until <= now):
        raise InvalidPlan(
            "A holdout that ends at once is none." if percent else "A holdout that is ended has no end.",
            remedy="Give a moment to come as its end, or none.",
        )

    def move(connection: sa.Connection, present: Plan | None) -> Plan:
        plan = _required(model, present)
        if percent:
            held = plan.holdout or Holdout(percent=percent, salt=secrets.token_hex(8), since=now.timestamp())
            end = None if until is None else until.timestamp()
            return moves.hold_out(plan, msgspec.structs.replace(held, percent=percent, until=end))
        if plan.holdout is None:
            raise InvalidPlan(f"{model!r} holds out nobody.", remedy="There is nothing to end.")
        return moves.hold_out(plan, None)

    detail = f"{percent} {until}"
    return traffic.carry_out(model, "holdout", move, order, detail=detail, beside=True)


def due_holdouts(database: Database, now: datetime) -> list[str]:
    """The models whose holdout's time is over."""
    c = plan_heads.c
    with database.read() as connection:
        return list(connection.scalars(sa.select(c.model).where(c.holdout_until <= now)))


def end_holdout(traffic: Traffic, model: str, now: datetime) -> None:
    """Ends a holdout whose time is over. What keeps it from that is logged; the next look tries again."""
    order = Order(who="holdout", why="Its time is over.")
    try:
        hold_out(traffic, model, 0, order, until=None, now=now)
    except FairleadError as error:
        logger.info("the holdout of %s cannot be ended yet: %s", model, error)


def _required(model: str, present: Plan | None) -> Plan:
    if present is None:
        raise InvalidPlan(f"{model!r} has no traffic yet.", remedy="Deploy a version directly first.")
    return present
