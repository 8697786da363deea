"""The alerts of the admin API, for its Python client."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from fairlead.client.paths import json_body, path_of
from fairlead.client.session import Call, Session, reading

__all__ = [
    "Acknowledged", "Alert", "AlertCalls", "AlertChannel", "AlertDelivery", "AlertDetails", "AlertEvent",
    "AlertRule", "AlertsFile", "FiringAlert", "Runbook", "Silence", "Trial",
]  # fmt: skip


class Acknowledged(msgspec.Struct, frozen=True, kw_only=True):
    """Who attends to an alert, since when, and what they say."""

    by: str
    at: datetime
    why: str


class AlertsFile(msgspec.Struct, frozen=True, kw_only=True):
    """Where the rules in force come from, since when, and what is wrong with that file as it is now."""

    path: str
    taken_at: datetime
    problem: str | None


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert: pending, firing or resolved, since when, and what was found. `model` is empty where it is
    about the server."""

    id: str
    rule: str
    title: str
    severity: str
    model: str
    version: str | None
    subject: str
    standing: str
    since: datetime
    flapping: bool
    silenced: bool
    acknowledged: Acknowledged | None
    sentence: str
    finding: dict[str, Any]


class FiringAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that fires, at a glance; `model` is empty where it is about the server."""

    id: str
    rule: str
    severity: str
    model: str
    sentence: str
    since: datetime


class Runbook(msgspec.Struct, frozen=True, kw_only=True):
    """What an alert means, commands that show more, and what to do."""

    means: str
    look: tuple[str, ...] = ()
    do: str = ""


class AlertEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One transition of an alert, and what receivers were told with it."""

    at: datetime
    from_standing: str
    to_standing: str
    told: str
    sentence: str
    finding: dict[str, Any]


class AlertDetails(msgspec.Struct, frozen=True, kw_only=True):
    """An alert with its runbook and its journal, latest first."""

    alert: Alert
    runbook: Runbook
    events: tuple[AlertEvent, ...]


class AlertRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule with all its fields, those who are told by it, and its runbook."""

    rule: dict[str, Any]
    channels: tuple[str, ...]
    runbook: Runbook


class AlertChannel(msgspec.Struct, frozen=True, kw_only=True):
    """A channel and where it leads; it tells again of what fires on every `repeat` seconds, 0 is never."""

    name: str
    type: str
    to: str
    repeat: float


class AlertDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """A message for a channel: waiting, delivered or given-up."""

    id: str
    channel: str
    told: str
    rule: str
    model: str
    state: str
    attempts: int
    error: str | None
    created_at: datetime
    next_at: datetime
    ended_at: datetime | None


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """Until when nobody is told of which alerts, who said so and why."""

    id: str
    model: str
    rule: str
    subject: str
    until: datetime
    why: str
    who: str
    created_at: datetime
    ended_at: datetime | None = None
    ended_by: str | None = None


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What was sent to a channel to try it out."""

    channel: str
    sent: str


class AlertCalls(Session):
    """Looks at alerts, silences them, and tries channels out."""

    def alerts(self, model: str | None = None, *, ended: bool = False) -> tuple[Alert, ...]:
        """The alerts that fire or may soon, latest first; `ended` adds those that are over."""
        query = {"ended": "true" if ended else "false", **({} if model is None else {"model": model})}
        read = reading(tuple[Alert, ...])
        return self.send(Call(method="GET", path=path_of("alerts"), query=query, read=read))

    def alert(self, alert: str) -> AlertDetails:
        """One alert with its evidence, its runbook and its journal."""
        return self.send(Call(method="GET", path=path_of("alerts", alert), read=reading(AlertDetails)))

    def acknowledge(self, alert: str, why: str) -> Alert:
        """Says that somebody attends to an alert: nobody is reminded of it as long as it fires."""
        path = path_of("alerts", alert, "ack")
        return self.send(Call(method="POST", path=path, body=json_body({"why": why}), read=reading(Alert)))

    def alerts_file(self) -> AlertsFile:
        """Where the rules in force come from, and whether that file is followed."""
        return self.send(Call(method="GET", path=path_of("alerts", "file"), read=reading(AlertsFile)))

    def alert_rules(self) -> tuple[AlertRule, ...]:
        """All rules, who is told by them, and what to do."""
        path = path_of("alerts", "rules")
        return self.send(Call(method="GET", path=path, read=reading(tuple[AlertRule, ...])))

    def alert_channels(self) -> tuple[AlertChannel, ...]:
        """All channels and where they lead."""
        path = path_of("alerts", "channels")
        return self.send(Call(method="GET", path=path, read=reading(tuple[AlertChannel, ...])))

    def alert_deliveries(self) -> tuple[AlertDelivery, ...]:
        """The latest messages, latest first."""
        path = path_of("alerts", "deliveries")
        return self.send(Call(method="GET", path=path, read=reading(tuple[AlertDelivery, ...])))

    def test_channel(self, channel: str) -> Trial:
        """Sends a trial message; returns when the receiver has it."""
        path = path_of("alerts", "channels", channel, "test")
        return self.send(Call(method="POST", path=path, read=reading(Trial)))

    def silences(self, *, over: bool = False) -> tuple[Silence, ...]:
        """The silences in force; `over` adds those that are over."""
        query = {"over": "true" if over else "false"}
        read = reading(tuple[Silence, ...])
        return self.send(Call(method="GET", path=path_of("alerts", "silences"), query=query, read=read))

    def silence(
        self, until: datetime, why: str, *, model: str = "*", rule: str = "*", subject: str = "*"
    ) -> Silence:
        """Tells nobody of alerts that match these patterns until then. The time needs its zone."""
        body = {"until": until, "why": why, "model": model, "rule": rule, "subject": subject}
        path = path_of("alerts", "silences")
        return self.send(Call(method="POST", path=path, body=json_body(body), read=reading(Silence)))

    def unsilence(self, silence: str) -> Silence:
        """Ends a silence before its time."""
        path = path_of("alerts", "silences", silence)
        return self.send(Call(method="DELETE", path=path, read=reading(Silence)))
