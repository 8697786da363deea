"""Alerts: what fires and why, who is told, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from fastapi import APIRouter, Body
from msgspec import Meta

from fairlead.admin.callers import Who
from fairlead.admin.moments import in_utc
from fairlead.admin.problems import refusals
from fairlead.admin.wire import WIRE, StrictRoute
from fairlead.alerts import ledger, silences
from fairlead.alerts.delivery import Deliveries
from fairlead.alerts.following import Following, Source
from fairlead.alerts.ledger import Alert, Event
from fairlead.alerts.messages import runbook_of
from fairlead.alerts.rules import RUNBOOKS, Rule, Runbook
from fairlead.alerts.silences import Silence
from fairlead.alerts.states import Acknowledged
from fairlead.errors import AlertNotFound, DeliveryFailed, InvalidAlerts
from fairlead.monitoring.findings import Finding
from fairlead.stores.database import Database

__all__ = ["alert_routes"]


class AlertView(msgspec.Struct, frozen=True, kw_only=True):
    """One alert. `standing` is pending, firing or resolved, `since` when it began to stand so; `flapping`
    ones have fired often within the hour; of `silenced` ones nobody is told, and of `acknowledged` ones
    nobody is reminded. `finding` is the evidence."""

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
    finding: Finding


class AlertEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One transition, and what receivers were told with it: firing, reminder, resolved or nothing."""

    at: datetime
    from_standing: str
    to_standing: str
    told: str
    sentence: str
    finding: Finding


class AlertDetails(msgspec.Struct, frozen=True, kw_only=True):
    """An alert, what it means and what to do about it, and how it came to stand as it does, latest first."""

    alert: AlertView
    runbook: Runbook
    events: list[AlertEvent]


class RuleView(msgspec.Struct, frozen=True, kw_only=True):
    """A rule, those who are told by it, and its runbook."""

    rule: Rule
    channels: list[str]
    runbook: Runbook


class ChannelView(msgspec.Struct, frozen=True, kw_only=True):
    """A channel, and where it leads; never a secret. What fires on is told again every `repeat` seconds; 0 is
    never."""

    name: str
    type: str
    to: str
    repeat: float


class DeliveryView(msgspec.Struct, frozen=True, kw_only=True):
    """A message for a channel: waiting, delivered or given-up. Receivers know it by its `id`."""

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


class SilenceStart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which alerts nobody is told, until when and why. Patterns may hold `*`."""

    until: Annotated[datetime, Meta(tz=True)]
    why: Annotated[str, Meta(max_length=1_000)]
    model: Annotated[str, Meta(max_length=200)] = "*"
    rule: Annotated[str, Meta(max_length=200)] = "*"
    subject: Annotated[str, Meta(max_length=500)] = "*"


class AlertAck(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why nobody need be reminded of an alert."""

    why: Annotated[str, Meta(max_length=1_000)]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What was sent to a channel."""

    channel: str
    sent: str


def alert_routes(
    database: Database,
    deliveries: Deliveries,
    following: Following,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> APIRouter:
    """The routes below `/alerts`."""
    routes = APIRouter(prefix="/alerts", tags=["alerts"], route_class=StrictRoute)

    def in_force() -> dict[str, Rule]:
        return {rule.name: rule for rule in following.config.rules}

    @routes.get("", summary="The alerts")
    def list_alerts(model: str | None = None, ended: bool = False) -> list[Annotated[AlertView, WIRE]]:
        """Those that fire or may soon, latest first; of a model or all. `ended` adds those that are over."""
        with database.read() as connection:
            silent = silences.in_force(connection, clock())
            rules = in_force()
            return [_view(one, rules, silent) for one in ledger.every(connection, model, ended=ended)]

    @routes.get("/rules", summary="The rules of alerts")
    def list_rules() -> list[Annotated[RuleView, WIRE]]:
        """All rules with what `alerts.toml` has changed, who is told, and what to do."""
        return [
            RuleView(
                rule=rule, channels=list(following.config.channels_for(rule)),
                runbook=rule.runbook or RUNBOOKS[rule.kind],
            )
            for rule in in_force().values()
        ]  # fmt: skip

    @routes.get("/file", summary="Where the rules of alerts come from")
    def get_alerts_file() -> Annotated[Source, WIRE]:
        """The file that this control follows, since when its content is in force, and what is wrong with it
        as it is now, where something is: then what was in force before stays so."""
        return following.source

    @routes.get("/channels", summary="The channels of alerts")
    def list_channels() -> list[Annotated[ChannelView, WIRE]]:
        """All channels and where they lead."""
        return [
            ChannelView(
                name=name, type=str(channel.__struct_config__.tag), to=channel.shown, repeat=channel.repeat
            )
            for name, channel in following.config.channels.items()
        ]

    @routes.post(
        "/channels/{channel}/test",
        summary="Try a channel out",
        responses=refusals(AlertNotFound, DeliveryFailed),
    )
    def test_channel(channel: str) -> Annotated[Trial, WIRE]:
        """Sends a trial message at once, and answers when the receiver has it."""
        return Trial(channel=channel, sent=deliveries.try_out(channel))

    @routes.get("/deliveries", summary="The messages of alerts")
    def list_alert_deliveries() -> list[Annotated[DeliveryView, WIRE]]:
        """The latest hundred, latest first: what waits, for how long, and why."""
        with database.read() as connection:
            found = ledger.deliveries(connection)
        names = set(DeliveryView.__struct_fields__) - {"told", "rule", "model"}
        return [
            DeliveryView(
                told=one.message.told, rule=one.message.rule, model=one.message.model,
                **{name: getattr(one, name) for name in names},
            )
            for one in found
        ]  # fmt: skip

    @routes.get("/silences", summary="Silences")
    def list_silences(over: bool = False) -> list[Annotated[Silence, WIRE]]:
        """The silences in force, the first to end first; `over` adds those that are over."""
        with database.read() as connection:
            return silences.every(connection, clock(), over=over)

    @routes.post("/silences", summary="Silence alerts", responses=refusals(InvalidAlerts))
    def start_silence(body: Annotated[SilenceStart, WIRE, Body()], who: Who) -> Annotated[Silence, WIRE]:
        """Tells nobody of those alerts until then. They still fire, and are told of afterwards if they are
        still true."""
        fields = {**msgspec.structs.asdict(body), "until": in_utc(body.until)}
        with database.write() as connection:
            return silences.add(connection, who=who, now=clock(), **fields)

    @routes.delete("/silences/{silence}", summary="End a silence", responses=refusals(AlertNotFound))
    def end_silence(silence: str, who: Who) -> Annotated[Silence, WIRE]:
        """Ends a silence before its time."""
        with database.write() as connection:
            return silences.end(connection, silence, who=who, now=clock())

    @routes.get("/{alert}", summary="An alert", responses=refusals(AlertNotFound))
    def get_alert(alert: str) -> Annotated[AlertDetails, WIRE]:
        """The alert with its evidence, its runbook and its journal."""
        with database.read() as connection:
            found = ledger.get(connection, alert)
            silent = silences.in_force(connection, clock())
            journal = ledger.events(connection, alert)
        rules = in_force()
        rule = rules.get(found.rule) or Rule(name=found.rule, title=found.rule, kind=found.finding.kind)
        return AlertDetails(
            alert=_view(found, rules, silent),
            runbook=runbook_of(rule, found.finding),
            events=[_event(one) for one in journal],
        )

    @routes.post(
        "/{alert}/ack", summary="Acknowledge an alert", responses=refusals(AlertNotFound, InvalidAlerts)
    )
    def acknowledge_alert(
        alert: str, body: Annotated[AlertAck, WIRE, Body()], who: Who
    ) -> Annotated[AlertView, WIRE]:
        """Somebody attends to it: nobody is reminded of it as long as it fires. That it is over is told."""
        with database.write() as connection:
            found = ledger.acknowledge(connection, alert, who=who, why=body.why, now=clock())
            silent = silences.in_force(connection, clock())
        return _view(found, in_force(), silent)

    return routes


def _event(one: Event) -> AlertEvent:
    fields = {name: getattr(one, name) for name in Event.__struct_fields__}
    return AlertEvent(sentence=one.finding.sentence, **fields)


def _view(alert: Alert, rules: dict[str, Rule], silent: list[Silence]) -> AlertView:
    finding = alert.finding
    rule = rules.get(alert.rule)
    return AlertView(
        id=alert.id, rule=alert.rule, title=alert.rule if rule is None else rule.title,
        severity=alert.severity, model=finding.model, version=finding.version, subject=finding.subject,
        standing=alert.state.standing, since=alert.state.since, flapping=alert.state.flapping,
        silenced=any(one.covers(alert.rule, finding) for one in silent),
        acknowledged=alert.state.acknowledged, sentence=finding.sentence,
        finding=finding,
    )  # fmt: skip
