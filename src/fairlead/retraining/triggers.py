"""Whether a model is to be retrained now, and why or why not. Pure: the same past and findings decide the
same again.

An alarm causes one retraining, not one at each look: findings of the same thing are one cause while they
last, and those of a kind that the last retraining answered count again only for what came after it began.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from fairlead.monitoring.findings import Finding
from fairlead.retraining.policy import Policy

__all__ = ["BUDGET_SPAN", "Cause", "Decision", "History", "allowed", "decide"]

BUDGET_SPAN = timedelta(days=30)

Kind = Literal["schedule", "alarm", "hand"]


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Why a model is retrained: by the clock, by an alarm, or because somebody asked. `since` is when what is
    to be learnt began; None where that is not known. `findings` are those of the alarm."""

    kind: Kind
    sentence: str
    since: datetime | None = None
    findings: tuple[Finding, ...] = ()


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What has been before: the times at which the model's retrainings began, and when the last one ended.

    `busy` says what holds it: a retraining or rollout that is under way. `since` is when the version in
    production came there: a schedule without a past begins then.
    """

    begun: tuple[datetime, ...] = ()
    ended: datetime | None = None
    busy: str | None = None
    since: datetime | None = None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """`cause` is given when the model is to be retrained now. `sentence` says why, or what it waits for, and
    `until` when that is over, where it ends by the clock."""

    sentence: str
    cause: Cause | None = None
    until: datetime | None = None


def decide(policy: Policy, history: History, findings: Sequence[Finding], now: datetime) -> Decision:
    """What is to be done at that moment. `findings` are the model's of the last looks, in any order; those
    that are no alarm, or of a kind that the policy does not name, cause nothing."""
    cause = _alarm(policy, history, findings) or _schedule(policy, history, now)
    if cause is None:
        return _nothing(policy, history)
    return allowed(policy, history, cause, now)


def allowed(policy: Policy, history: History, cause: Cause, now: datetime) -> Decision:
    """Whether that cause may begin a retraining now: nothing is under way, the cooldown is over and the
    budget is not spent."""
    if history.busy is not None:
        return Decision(sentence=f"{cause.sentence} It waits: {history.busy}")
    if history.ended is not None:
        over = history.ended + timedelta(seconds=policy.cooldown)
        if now < over:
            return Decision(
                sentence=f"{cause.sentence} The cooldown lasts until {over:%Y-%m-%d %H:%M} UTC.", until=over
            )
    recent = sorted(at for at in history.begun if at > now - BUDGET_SPAN)
    if len(recent) >= policy.budget:
        free = recent[-policy.budget] + BUDGET_SPAN if policy.budget else None
        return Decision(
            sentence=f"{cause.sentence} The budget of {policy.budget} in 30 days is spent.", until=free
        )
    return Decision(sentence=cause.sentence, cause=cause)


def _alarm(policy: Policy, history: History, findings: Sequence[Finding]) -> Cause | None:
    """The alarms that the latest look at their subject raised, each for as many looks as `confirm` asks."""
    last = max(history.begun, default=None)
    looks: dict[tuple[str, ...], list[Finding]] = {}
    for finding in sorted(findings, key=lambda one: one.end):
        if finding.model == policy.model and finding.kind in policy.on:
            looks.setdefault(finding.key, []).append(finding)
    raised: list[Finding] = []
    since: list[datetime] = []
    for held in looks.values():
        run: list[Finding] = []
        for finding in reversed(held):
            if finding.status != "alarm" or (last is not None and finding.end <= last):
                break
            run.append(finding)
        if len({one.end for one in run}) >= policy.confirm:
            raised.append(run[0])
            since.append(run[-1].start)
    if not raised:
        return None
    raised.sort(key=lambda one: (one.kind, one.subject, one.slice))
    more = f" And {len(raised) - 1} more." if len(raised) > 1 else ""
    return Cause(
        kind="alarm", sentence=f"{raised[0].sentence}{more}", since=min(since), findings=tuple(raised)
    )


def _schedule(policy: Policy, history: History, now: datetime) -> Cause | None:
    if policy.every is None:
        return None
    due = _due(policy.every, history)
    if due is None or now < due:
        return None
    return Cause(kind="schedule", sentence=f"It is due since {due:%Y-%m-%d %H:%M} UTC.")


def _due(every: float, history: History) -> datetime | None:
    last = max((*history.begun, *((history.since,) if history.since else ())), default=None)
    return None if last is None else last + timedelta(seconds=every)


def _nothing(policy: Policy, history: History) -> Decision:
    if policy.every is not None:
        due = _due(policy.every, history)
        if due is not None:
            return Decision(sentence=f"It is due at {due:%Y-%m-%d %H:%M} UTC.", until=due)
    return Decision(sentence="Nothing asks for it.")
