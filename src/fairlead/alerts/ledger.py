"""Alerts in the database: how they stand, their journal, and the messages that wait to be delivered.

A transition, its row in the journal and the messages that it makes are written in one transaction, so that
a crash loses none and makes none twice. All functions work within the caller's transaction; those that write
need a writing one.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa

from fairlead.alerts.messages import Message
from fairlead.alerts.rules import Severity
from fairlead.alerts.states import Acknowledged, State
from fairlead.errors import AlertNotFound, InvalidAlerts
from fairlead.monitoring.findings import Finding
from fairlead.registry import audit
from fairlead.stores.alert_tables import alert_deliveries, alert_events, alerts

__all__ = [
    "Alert",
    "Delivery",
    "Event",
    "acknowledge",
    "claim",
    "delivered",
    "deliveries",
    "events",
    "every",
    "failed",
    "firing",
    "get",
    "of_looker",
    "put",
    "queue",
    "remove",
    "tidy",
    "waits",
]  # fmt: skip

_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 900.0
_GIVE_UP, _KEPT = timedelta(days=1), timedelta(days=30)


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert: which rule says it of what, how it stands, and the latest finding that told something."""

    id: str
    looker: str
    rule: str
    severity: Severity
    state: State
    finding: Finding
    updated_at: datetime


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One transition of an alert, or a message about it (`told`: firing, reminder, resolved or nothing), and
    the finding that caused it."""

    at: datetime
    from_standing: str
    to_standing: str
    told: str
    finding: Finding


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One message for one channel; `id` is the key by which a receiver knows it again."""

    id: str
    channel: str
    message: Message
    state: str
    attempts: int
    next_at: datetime
    error: str | None
    created_at: datetime
    ended_at: datetime | None


# --- alerts -------------------------------------------------------------------------------------------------


def of_looker(connection: sa.Connection, looker: str) -> dict[tuple[str, tuple[str, ...]], Alert]:
    """All alerts that came of what that looker finds, by rule and key of the finding."""
    query = sa.select(alerts).where(alerts.c.looker == looker)
    found = map(_alert, connection.execute(query))
    return {(one.rule, one.finding.key): one for one in found}


def every(connection: sa.Connection, model: str | None = None, *, ended: bool = False) -> list[Alert]:
    """The alerts that fire or may soon, latest first; of a model or all. `ended` adds those that are over."""
    query = sa.select(alerts).order_by(alerts.c.since.desc(), alerts.c.id)
    if model is not None:
        query = query.where(alerts.c.model == model)
    if not ended:
        query = query.where(alerts.c.standing != "resolved")
    return [_alert(row) for row in connection.execute(query.limit(1_000))]


def firing(connection: sa.Connection, model: str | None = None) -> list[Alert]:
    """The alerts that fire, latest first; of a model or all."""
    return [one for one in every(connection, model) if one.state.standing == "firing"]


def get(connection: sa.Connection, identifier: str) -> Alert:
    """The alert; raises `AlertNotFound`."""
    row = connection.execute(sa.select(alerts).where(alerts.c.id == identifier)).one_or_none()
    if row is None:
        raise AlertNotFound(
            f"There is no alert {identifier!r}.", remedy="`fairlead alerts --all` lists them."
        )
    return _alert(row)


def events(connection: sa.Connection, identifier: str, limit: int = 200) -> list[Event]:
    """The alert's journal, latest first."""
    c = alert_events.c
    query = sa.select(alert_events).where(c.alert == identifier).order_by(c.id.desc()).limit(limit)
    return [
        Event(
            at=row.at, from_standing=row.from_standing, to_standing=row.to_standing, told=row.told,
            finding=msgspec.json.decode(row.finding, type=Finding),
        )
        for row in connection.execute(query)
    ]  # fmt: skip


def put(connection: sa.Connection, alert: Alert, before: Alert | None, now: datetime) -> None:
    """Writes how the alert stands, and into its journal what has changed since `before`."""
    state = alert.state
    values: dict[str, Any] = {
        "looker": alert.looker, "severity": alert.severity, "standing": state.standing, "state": _json(state),
        "finding": _json(alert.finding), "since": state.since, "updated_at": now,
    }  # fmt: skip
    if before is None:
        named = {"rule": alert.rule, "key": _json(alert.finding.key), "model": alert.finding.model}
        connection.execute(alerts.insert().values(id=alert.id, **named, **values))
    else:
        connection.execute(alerts.update().where(alerts.c.id == alert.id).values(**values))
    was = "ok" if before is None else before.state.standing
    told: str = state.told if before is None or before.state.told_at != state.told_at else ""
    if before is not None and state.reminded and before.state.reminded != state.reminded:
        told = "reminder"
    if was != state.standing or told:
        connection.execute(
            alert_events.insert().values(
                alert=alert.id, at=now, from_standing=was, to_standing=state.standing, told=told,
                finding=_json(alert.finding),
            )
        )  # fmt: skip


def acknowledge(connection: sa.Connection, identifier: str, *, who: str, why: str, now: datetime) -> Alert:
    """Somebody attends to an alert: receivers are not reminded of it as long as it fires. Once more replaces
    what was said before. Raises `AlertNotFound`, and `InvalidAlerts` without a reason, or for one that does
    not fire."""
    if not why.strip():
        raise InvalidAlerts("The acknowledgement says nothing.", remedy="Say why, or what you do about it.")
    alert = get(connection, identifier)
    if alert.state.standing != "firing":
        raise InvalidAlerts(
            f"Alert {identifier} does not fire: it is {alert.state.standing}.",
            remedy="Nobody is reminded of it.",
        )
    held = Acknowledged(by=who, at=now, why=why.strip())
    after = msgspec.structs.replace(alert, state=msgspec.structs.replace(alert.state, acknowledged=held))
    put(connection, after, alert, now)
    details = {"alert": alert.id, "rule": alert.rule, "subject": alert.finding.subject}
    model = alert.finding.model or None
    audit.append(
        connection, at=now, who=who, action="acknowledge", model=model, why=held.why, details=details
    )
    return after


def remove(connection: sa.Connection, alert: Alert) -> None:
    """Forgets an alert that never fired."""
    connection.execute(alert_events.delete().where(alert_events.c.alert == alert.id))
    connection.execute(alerts.delete().where(alerts.c.id == alert.id))


def _alert(row: sa.Row[Any]) -> Alert:
    return Alert(
        id=row.id, looker=row.looker, rule=row.rule, severity=row.severity,
        state=msgspec.json.decode(row.state, type=State),
        finding=msgspec.json.decode(row.finding, type=Finding), updated_at=row.updated_at,
    )  # fmt: skip


# --- messages -----------------------------------------------------------------------------------------------


def queue(connection: sa.Connection, channel: str, message: Message, now: datetime) -> str:
    """Lets a message wait for its delivery; its id."""
    identifier = secrets.token_hex(16)
    connection.execute(
        alert_deliveries.insert().values(
            id=identifier, channel=channel, message=_json(message), state="waiting", attempts=0, next_at=now,
            created_at=now,
        )
    )  # fmt: skip
    return identifier


def claim(
    connection: sa.Connection, channel: str, holder: str, *, now: datetime, until: datetime
) -> Delivery | None:
    """Takes the channel's message that has waited longest, of those whose time has come; nobody else takes it
    before `until`."""
    c = alert_deliveries.c
    free = sa.or_(c.holder.is_(None), c.held_until <= now)
    query = (
        sa.select(alert_deliveries)
        .where(c.state == "waiting", c.channel == channel, c.next_at <= now, free)
        .order_by(c.next_at, c.created_at, c.id)
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    connection.execute(
        alert_deliveries.update().where(c.id == row.id).values(holder=holder, held_until=until)
    )
    return _delivery(row)


def waits(connection: sa.Connection, channel: str, now: datetime) -> bool:
    """Whether `claim` would find one: asked first, by a reading transaction."""
    c = alert_deliveries.c
    free = sa.or_(c.holder.is_(None), c.held_until <= now)
    query = sa.select(c.id).where(c.state == "waiting", c.channel == channel, c.next_at <= now, free)
    return connection.execute(query.limit(1)).first() is not None


def delivered(connection: sa.Connection, delivery: Delivery, now: datetime) -> None:
    """The receiver has it."""
    connection.execute(
        alert_deliveries.update()
        .where(alert_deliveries.c.id == delivery.id)
        .values(
            state="delivered", attempts=delivery.attempts + 1, error=None, ended_at=now, holder=None,
            held_until=None,
        )
    )  # fmt: skip


def failed(connection: sa.Connection, delivery: Delivery, error: str, now: datetime) -> None:
    """The receiver does not have it: it is tried again after a pause that doubles each time, up to a quarter
    of an hour."""
    pause = min(_FIRST_PAUSE * 2.0 ** min(delivery.attempts, 10), _LONGEST_PAUSE)
    connection.execute(
        alert_deliveries.update()
        .where(alert_deliveries.c.id == delivery.id)
        .values(
            attempts=delivery.attempts + 1, error=error, next_at=now + timedelta(seconds=pause), holder=None,
            held_until=None,
        )
    )  # fmt: skip


def tidy(connection: sa.Connection, now: datetime) -> list[Delivery]:
    """Gives up what could not be delivered for a day, and forgets messages that ended a month ago. Answers
    what was given up."""
    c = alert_deliveries.c
    connection.execute(alert_deliveries.delete().where(c.ended_at <= now - _KEPT))
    late = (c.state == "waiting", c.created_at <= now - _GIVE_UP)
    found = [_delivery(row) for row in connection.execute(sa.select(alert_deliveries).where(*late))]
    if found:
        connection.execute(alert_deliveries.update().where(*late).values(state="given-up", ended_at=now))
    return found


def deliveries(connection: sa.Connection, limit: int = 100) -> list[Delivery]:
    """The messages, latest first."""
    query = sa.select(alert_deliveries).order_by(alert_deliveries.c.created_at.desc(), alert_deliveries.c.id)
    return [_delivery(row) for row in connection.execute(query.limit(limit))]


def _delivery(row: sa.Row[Any]) -> Delivery:
    return Delivery(
        id=row.id, channel=row.channel, message=msgspec.json.decode(row.message, type=Message),
        state=row.state, attempts=row.attempts, next_at=row.next_at, error=row.error,
        created_at=row.created_at, ended_at=row.ended_at,
    )  # fmt: skip


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
