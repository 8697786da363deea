"""What receivers are told: one message for all that a rule says of a model at a moment. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from fairlead.alerts.rules import RUNBOOKS, Rule, Runbook, Severity
from fairlead.monitoring.findings import Finding

__all__ = ["About", "Message", "Told", "as_text", "headline", "message_of", "runbook_of", "trial"]

Told = Literal["firing", "reminder", "resolved", "test"]
_LISTED, _SHOWN = 50, 10
_LONGEST = 300


class About(msgspec.Struct, frozen=True, kw_only=True):
    """One alert in a message: its id, under which `fairlead alerts show` finds it, and what was found."""

    id: str
    since: datetime
    finding: Finding


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What a receiver gets: that alerts of one rule about one model fire, fire on, or are over. `model` is
    empty where it is about the server; `more` alerts are not listed."""

    told: Told
    at: datetime
    rule: str
    title: str
    severity: Severity
    model: str
    alerts: tuple[About, ...]
    runbook: Runbook
    more: int = 0


def message_of(rule: Rule, told: Told, alerts: Sequence[About], at: datetime) -> Message:
    """The message about these alerts of one rule and one model, one at least."""
    first = alerts[0].finding
    return Message(
        told=told, at=at, rule=rule.name, title=rule.title, severity=rule.severity, model=first.model,
        alerts=tuple(alerts[:_LISTED]), runbook=runbook_of(rule, first), more=max(0, len(alerts) - _LISTED),
    )  # fmt: skip


def trial(channel: str, at: datetime) -> Message:
    """A message that says that a channel works."""
    means = "Somebody has asked for a trial of this channel; nothing is wrong."
    return Message(
        told="test", at=at, rule="test", title=f"A trial of channel {channel}", severity="info", model="",
        alerts=(), runbook=Runbook(means=means),
    )  # fmt: skip


def runbook_of(rule: Rule, finding: Finding) -> Runbook:
    """The rule's runbook with the finding's own names in its commands, quoted for a shell."""
    book = rule.runbook or RUNBOOKS[rule.kind]

    names = {"model": finding.model, "version": finding.version or "", "subject": finding.subject}

    def quoted(found: re.Match[str]) -> str:
        value = names[found[1]]
        return shlex.quote(value) if value else ""

    def filled(text: str) -> str:
        # In one pass: a name that looks like another placeholder stays a name.
        return re.sub(r"\{(model|version|subject)\}", quoted, text).strip()

    return Runbook(means=book.means, look=tuple(map(filled, book.look)), do=filled(book.do))


def headline(message: Message) -> str:
    """One line without line breaks: how it stands, whom it is about, what it is."""
    whose = f"{message.model}: " if message.model else ""
    number = len(message.alerts) + message.more
    many = f" ({number} things)" if number > 1 else ""
    severity = message.severity.upper()
    states = {"firing": severity, "reminder": f"STILL {severity}", "resolved": "RESOLVED", "test": "TEST"}
    return _line(f"[{states[message.told]}] {whose}{message.title}{many}")


def as_text(message: Message) -> str:
    """The whole message for a person to read: what was found, what it means, what to look at, what to do."""
    lines = []
    for about in message.alerts[:_SHOWN]:
        finding = about.finding
        place = [finding.version, finding.subject, finding.slice]
        named = " · ".join(part for part in place if part)
        ending = " It is over." if message.told == "resolved" else ""
        lines.append(f"- {_line(named)}: {_line(finding.sentence)}{ending}")
        lines.append(f"  since {about.since:%Y-%m-%d %H:%M:%S} UTC; fairlead alerts show {about.id}")
    rest = len(message.alerts) + message.more - _SHOWN
    if rest > 0:
        whose = shlex.quote(message.model) if message.model else "--all"
        lines.append(f"- and {rest} more: fairlead alerts {whose}")
    if message.told == "resolved":
        return "\n".join(lines)
    book = message.runbook
    lines += ["", book.means]
    if book.look:
        lines += ["", "Look:", *(f"  {one}" for one in book.look)]
    if book.do:
        lines += ["", book.do]
    return "\n".join(lines).strip()


def _line(text: str) -> str:
    """The text as one line: names and sentences hold what callers have sent."""
    plain = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return plain if len(plain) <= _LONGEST else plain[: _LONGEST - 1] + "…"
