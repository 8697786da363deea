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
from fairlead.alerts.messages import About, message_of
from fairlead.alerts.reading import Config
from fairlead.alerts.rules import Rule, matching
from fairlead.alerts.silences import Silence
from fairlead.alerts.states import State, step, tell
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
        self._by_name = {rule.name: rule for rule in config.rules}

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
        known = ledger.of_looker(connection, look.looker)
        silent = silences.in_force(connection, look.at)
        found: list[_Change] = []
        seen = set()
        for rule, finding in matching(self._config.rules, findings):
            key = (rule.name, finding.key)
            if key in seen:
                continue  # a looker that finds the same thing twice is believed once
            seen.add(key)
            before = known.get(key)
            bad = rule.bad(finding, before is not None and before.state.standing == "firing")
            if before is None and not bad:
                continue
            found += self._change(rule, before, finding, bad, look, silent)
        for key, before in known.items():
            if key not in seen:
                rule = self._by_name.get(before.rule) or _gone(before)
                found += self._change(rule, before, before.finding, None, look, silent)
        return found

    def _change(
        self,
        rule: Rule,
        before: Alert | None,
        finding: Finding,
        bad: bool | None,
        look: Look,
        silent: Sequence[Silence],
    ) -> list[_Change]:
        """What a look changes about one alert, if anything."""
        state = step(None if before is None else before.state, bad, look.at, rule)
        tells = tell(state, look.at, rule, silenced=any(one.covers(rule.name, finding) for one in silent))
        if tells is not None:
            state = msgspec.structs.replace(state, told=tells, told_at=look.at)
        if before is not None and tells is None and not _worth_writing(before.state, state):
            return []
        after = Alert(
            id=secrets.token_hex(4) if before is None else before.id,
            looker=look.looker,
            rule=rule.name,
            severity=rule.severity,
            state=state,
            finding=finding if bad is not None or before is None else before.finding,
            updated_at=look.at,
        )
        return [_Change(rule, before, after, tells)]

    def _write(self, connection: sa.Connection, change: _Change, now: datetime) -> None:
        if change.after.state.standing == "ok":
            ledger.remove(connection, change.after)
        else:
            ledger.put(connection, change.after, change.before, now)

    def _queue(self, connection: sa.Connection, changes: Sequence[_Change], now: datetime) -> bool:
        """One message for all that a rule says of a model at once; whether there are any."""
        groups: dict[tuple[str, str, str], list[_Change]] = {}
        for change in changes:
            if change.tells is not None:
                key = (change.rule.name, change.after.finding.model, change.tells)
                groups.setdefault(key, []).append(change)
        for group in groups.values():
            abouts = [
                About(id=one.after.id, since=one.after.state.since, finding=one.after.finding)
                for one in group
            ]
            rule, tells = group[0].rule, group[0].tells or "firing"
            message = message_of(rule, tells, abouts, now)
            for channel in self._config.channels_for(rule):
                ledger.queue(connection, channel, message, now)
        return bool(groups)


def _worth_writing(before: State, after: State) -> bool:
    """Whether an alert stands otherwise, or what is known of it has become old."""
    if after.standing == "firing" and after.seen_at - before.seen_at >= _REFRESH:
        return True
    return msgspec.structs.replace(after, seen_at=before.seen_at) != before


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
