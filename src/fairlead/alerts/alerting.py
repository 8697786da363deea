"""From what is found to alerts and messages: hears of every look, and writes what it changes.

How an alert stands, its journal and the messages that wait for delivery are one transaction, in which the
lease of the loop is asked for, too: a control that has slept too long changes nothing.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import sqlalchemy as sa

from fairlead.alerts import ledger, silences
from fairlead.alerts.ledger import Alert
from fairlead.alerts.messages import About, Told, message_of
from fairlead.alerts.reading import Config
from fairlead.alerts.rules import Rule, matching
from fairlead.alerts.silences import Silence
from fairlead.alerts.states import due, reminds, step, tell
from fairlead.monitoring.findings import Finding
from fairlead.monitoring.loop import LEASE, Look
from fairlead.serving.firing import FiringAlert, write_firing
from fairlead.stores import leases
from fairlead.stores.database import Database

__all__ = ["Alerting"]

logger = logging.getLogger(__name__)

_REFRESH = timedelta(minutes=1)
"""So old the evidence of an alert that stands as it stood becomes before it is written anew."""


class _Change(NamedTuple):
    rule: Rule
    before: Alert | None
    after: Alert
    tells: Literal["firing", "resolved"] | None
    silenced: bool
    reminds: tuple[str, ...] = ()

    @property
    def worth_writing(self) -> bool:
        """Whether somebody is told, it stands otherwise, or what is known of it has become old."""
        if self.before is None or self.tells is not None or self.reminds:
            return True
        before, after = self.before.state, self.after.state
        if after.standing == "firing" and after.seen_at - before.seen_at >= _REFRESH:
            return True
        return msgspec.structs.replace(after, seen_at=before.seen_at) != before


class Alerting:
    """Makes alerts of looks. `queued` hears of messages that wait, after they are written; `shown` is the
    file that tells the machine's gateways which alerts fire."""

    def __init__(
        self,
        database: Database,
        config: Config,
        *,
        queued: Callable[[], None] = lambda: None,
        shown: Path | None = None,
    ) -> None:
        self._database = database
        self._config = config
        self._queued = queued
        self._shown = shown

    def follow(self, config: Config) -> None:
        """From the next look on, rules and channels are these."""
        self._config = config

    def __call__(self, look: Look, holder: str) -> None:
        """Writes what the look changes. Raises `StoreUnavailable`."""
        findings = (*look.findings, _of_the_look(look))
        with self._database.read() as connection:
            if not self._changes(connection, look, findings):
                return
        with self._database.write() as connection:
            if not leases.holds(connection, LEASE, holder, look.at):
                logger.warning("another control looks at models by now; what %s found is left", look.looker)
                return
            changes = self._changes(connection, look, findings)
            for change in changes:
                self._write(connection, change, look.at)
            told = self._queue(connection, changes, look.at)
            fires = ledger.firing(connection)
        if self._shown is not None:
            write_firing(
                self._shown, [FiringAlert(one.finding.model, one.rule, one.severity) for one in fires]
            )
        if told:
            self._queued()

    def _changes(self, connection: sa.Connection, look: Look, findings: Sequence[Finding]) -> list[_Change]:
        config = self._config
        known = ledger.of_looker(connection, look.looker)
        silent = silences.in_force(connection, look.at)
        found: list[_Change] = []
        seen = set()
        for rule, finding in matching(config.rules, findings):
            key = (rule.name, finding.key)
            if key in seen:
                continue  # a looker that finds the same thing twice is believed once
            seen.add(key)
            before = known.get(key)
            bad = rule.bad(finding, before is not None and before.state.standing == "firing")
            if before is None and not bad:
                continue
            found.append(self._change(rule, before, finding, bad, look, silent))
        by_name = {rule.name: rule for rule in config.rules}
        for key, before in known.items():
            if key not in seen:
                rule = by_name.get(before.rule) or _gone(before)
                found.append(self._change(rule, before, before.finding, None, look, silent))
        return [change for change in _reminded(found, config, look.at) if change.worth_writing]

    def _change(
        self,
        rule: Rule,
        before: Alert | None,
        finding: Finding,
        bad: bool | None,
        look: Look,
        silent: Sequence[Silence],
    ) -> _Change:
        """What a look makes of one alert."""
        gross = rule.is_gross(finding)
        state = step(None if before is None else before.state, bad, look.at, rule, gross=gross)
        silenced = any(one.covers(rule.name, finding) for one in silent)
        tells = tell(state, look.at, rule, silenced=silenced)
        if tells is not None:
            state = msgspec.structs.replace(state, told=tells, told_at=look.at)
        after = Alert(
            id=secrets.token_hex(4) if before is None else before.id,
            looker=look.looker,
            rule=rule.name,
            severity=rule.severity,
            state=state,
            # While it fires it shows what is wrong, also where the last look was a good one.
            finding=finding
            if before is None or bad or not (bad is None or state.standing == "firing")
            else before.finding,
            updated_at=look.at,
        )
        return _Change(rule, before, after, tells, silenced)

    def _write(self, connection: sa.Connection, change: _Change, now: datetime) -> None:
        if change.after.state.standing == "ok":
            ledger.remove(connection, change.after)
        else:
            ledger.put(connection, change.after, change.before, now)

    def _queue(self, connection: sa.Connection, changes: Sequence[_Change], now: datetime) -> bool:
        """One message to a channel for all that a rule says of a model at once; whether there are any."""
        groups: dict[tuple[str, str, Told, str], list[_Change]] = {}
        for change in changes:
            whose = (change.rule.name, change.after.finding.model)
            if change.tells is not None:
                for channel in self._config.channels_for(change.rule):
                    groups.setdefault((*whose, change.tells, channel), []).append(change)
            for channel in change.reminds:
                groups.setdefault((*whose, "reminder", channel), []).append(change)
        for (_, _, told, channel), group in groups.items():
            abouts = [
                About(id=one.after.id, since=one.after.state.since, finding=one.after.finding)
                for one in group
            ]
            ledger.queue(connection, channel, message_of(group[0].rule, told, abouts, now), now)
        return bool(groups)


def _reminded(changes: Sequence[_Change], config: Config, now: datetime) -> list[_Change]:
    """The same, with the channels that are to be told again: of all that fires on of a rule and a model, as
    soon as it is time for one of them."""
    late: dict[tuple[str, str], list[str]] = {}
    for change in changes:
        if change.tells is None and reminds(change.after.state, silenced=change.silenced):
            key = (change.rule.name, change.after.finding.model)
            late.setdefault(key, []).extend(
                channel for channel in config.channels_for(change.rule)
                if due(change.after.state, channel, config.channels[channel].repeat, now)
            )  # fmt: skip
    return [_with_reminders(change, late, now) for change in changes]


def _with_reminders(change: _Change, late: dict[tuple[str, str], list[str]], now: datetime) -> _Change:
    channels = tuple(dict.fromkeys(late.get((change.rule.name, change.after.finding.model), ())))
    if not channels or change.tells is not None or not reminds(change.after.state, silenced=change.silenced):
        return change
    state = change.after.state
    reminded = {**state.reminded, **dict.fromkeys(channels, now)}
    after = msgspec.structs.replace(change.after, state=msgspec.structs.replace(state, reminded=reminded))
    return change._replace(after=after, reminds=channels)


def _of_the_look(look: Look) -> Finding:
    """That it could be looked at, or why not."""
    return Finding(
        model="", kind="monitoring", subject=look.looker, start=look.at, end=look.at,
        status="ok" if look.error is None else "alarm",
        sentence=f"{look.looker} could be looked at." if look.error is None else look.error,
    )  # fmt: skip


def _gone(alert: Alert) -> Rule:
    """In place of a rule that is no more: its alert ends with the next look."""
    return Rule(
        name=alert.rule, title=alert.rule, kind=alert.finding.kind, severity=alert.severity, forget=1e-3
    )
