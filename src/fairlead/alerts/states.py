"""How an alert stands after a look, and whether somebody is to be told. Pure: it is told the time.

ok → pending → firing → resolved, and from there again. What receivers were told last is kept beside how it
is: whatever kept a message back (a silence, a cooldown) lets it go out later if it is still true, and of what
they never heard they need not hear that it is over.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

import msgspec

from fairlead.alerts.rules import Rule

__all__ = ["Acknowledged", "Standing", "State", "due", "reminds", "step", "tell"]

Standing = Literal["ok", "pending", "firing", "resolved"]

_FLAPPING = 4
_FLAPPING_WITHIN = timedelta(hours=1)
_FLAPPING_CLEAR = timedelta(minutes=15)


class Acknowledged(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody attends to an alert: who, since when, and what they say."""

    by: str
    at: datetime
    why: str


class State(msgspec.Struct, frozen=True, kw_only=True):
    """How one alert stands since `since`.

    `recent` are its last looks, oldest first: `1` bad, `0` good. `fired` are the times within the hour at
    which it fired; with four it flaps: then it ends only after a quarter of an hour that was good, so that
    nobody is told again and again. `seen_at` is when it was last looked at with a result, `well_since` since
    when it has been good, `told` and `told_at` what receivers heard last, `reminded` when each channel was
    told again that it fires on. `acknowledged` holds as long as it fires.
    """

    standing: Standing = "ok"
    since: datetime
    seen_at: datetime
    recent: str = ""
    well_since: datetime | None = None
    fired: tuple[datetime, ...] = ()
    told: Literal["", "firing", "resolved"] = ""
    told_at: datetime | None = None
    reminded: dict[str, datetime] = {}
    acknowledged: Acknowledged | None = None

    @property
    def flapping(self) -> bool:
        """Whether it has fired too often to be believed each time."""
        return len(self.fired) >= _FLAPPING


def step(before: State | None, bad: bool | None, at: datetime, rule: Rule, *, gross: bool = False) -> State:
    """How it stands after a look that found it bad or good, or told nothing (None); so bad that one look is
    enough where it is `gross`."""
    state = before or State(since=at, seen_at=at)
    if bad is None:
        if state.standing in ("pending", "firing") and at - state.seen_at > timedelta(seconds=rule.forget):
            return _into(state, "resolved" if state.standing == "firing" else _rest(state), at)
        return state
    recent = (state.recent + ("1" if bad else "0"))[-max(rule.of, rule.clear) :]
    state = msgspec.structs.replace(
        state, recent=recent, seen_at=at, well_since=None if bad else state.well_since or at
    )
    if state.standing == "firing":
        return _into(state, "resolved", at) if _over(state, at, rule) else state
    fires = gross or recent[-rule.of :].count("1") >= rule.fire
    if fires and bad:
        fired = (*(one for one in state.fired if at - one < _FLAPPING_WITHIN), at)[-_FLAPPING:]
        return msgspec.structs.replace(_into(state, "firing", at), fired=fired)
    if "1" in recent[-rule.of :]:
        return state if state.standing == "pending" else _into(state, "pending", at)
    return _into(state, _rest(state), at) if state.standing == "pending" else state


def tell(state: State, at: datetime, rule: Rule, *, silenced: bool) -> Literal["firing", "resolved"] | None:
    """What receivers are to be told now, if anything."""
    if silenced:
        return None
    if state.standing == "firing" and state.told != "firing":
        cooled = state.told_at is None or at - state.told_at >= timedelta(seconds=rule.cooldown)
        return "firing" if cooled else None
    if state.standing == "resolved" and state.told == "firing":
        return "resolved"
    return None


def reminds(state: State, *, silenced: bool) -> bool:
    """Whether receivers may be told again that it fires on: they know of it, and nobody attends to it."""
    told = state.standing == "firing" and state.told == "firing"
    return told and state.acknowledged is None and not silenced


def due(state: State, channel: str, repeat: float, at: datetime) -> bool:
    """Whether it is `repeat` seconds since that channel heard that it fires; with 0 it never is."""
    last = state.reminded.get(channel, state.told_at)
    return repeat > 0.0 and last is not None and at - last >= timedelta(seconds=repeat)


def _over(state: State, at: datetime, rule: Rule) -> bool:
    good = len(state.recent) - len(state.recent.rstrip("0"))
    needed = timedelta(seconds=rule.clear_seconds)
    if state.flapping:
        needed = max(needed, _FLAPPING_CLEAR)
    return good >= rule.clear and state.well_since is not None and at - state.well_since >= needed


def _into(state: State, standing: Standing, at: datetime) -> State:
    return msgspec.structs.replace(state, standing=standing, since=at, reminded={}, acknowledged=None)


def _rest(state: State) -> Standing:
    """Where one goes back to that was pending only."""
    return "resolved" if state.fired else "ok"
