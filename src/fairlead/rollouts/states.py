"""Where a rollout stands, and every step that it may take from there. Pure: a function per transition.

Each answers the next `Rollout` or raises `WrongRolloutState`. What a state asks for is made so until it is: a
rollout whose `generation` is None has not moved its traffic yet, whoever crashed meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal, get_args

import msgspec

from fairlead.errors import WrongRolloutState
from fairlead.rollouts.spec import RolloutSpec, Step

__all__ = [
    "COMMANDS",
    "JUDGED",
    "LEGAL",
    "TERMINAL",
    "Command",
    "PauseReason",
    "Rollout",
    "State",
    "abort",
    "advance",
    "approve",
    "bake",
    "begin",
    "command",
    "enter",
    "moved",
    "pause",
    "promote",
    "rephase",
    "resume",
    "rolled_back",
    "succeed",
    "supersede",
    "widen",
]

State = Literal[
    "pending", "preflight", "shadow", "canary", "promoting", "baking", "paused", "aborting", "rolled_back",
    "succeeded", "superseded",
]  # fmt: skip
PauseReason = Literal[
    "step", "inconclusive", "manual", "sample-ratio", "signal", "no-data", "errors", "approval"
]
Command = Literal["pause", "resume", "approve", "promote", "widen", "abort"]

TERMINAL: frozenset[State] = frozenset({"rolled_back", "succeeded", "superseded"})
"""States that nothing leaves."""

JUDGED: frozenset[State] = frozenset({"shadow", "canary", "promoting", "baking"})
"""States in which the candidate sees traffic, so that it can fail."""

LEGAL: Mapping[State, frozenset[State]] = {
    "pending": frozenset({"preflight", "paused", "aborting", "superseded"}),
    "preflight": frozenset({"shadow", "canary", "promoting", "paused", "aborting", "superseded"}),
    "shadow": frozenset({"shadow", "canary", "promoting", "succeeded", "paused", "aborting", "superseded"}),
    "canary": frozenset({"canary", "promoting", "paused", "aborting", "superseded"}),
    "promoting": frozenset({"baking", "aborting", "superseded"}),
    "baking": frozenset({"baking", "succeeded", "paused", "aborting", "superseded"}),
    "paused": frozenset(
        {
            "paused",
            "pending",
            "preflight",
            "shadow",
            "canary",
            "promoting",
            "baking",
            "aborting",
            "superseded",
        }
    ),
    "aborting": frozenset({"rolled_back"}),
    "rolled_back": frozenset(),
    "succeeded": frozenset(),
    "superseded": frozenset(),
}
"""From each state to those that may follow it: an abort from everywhere, and after it nothing but its end."""


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """One rollout of a candidate beside the stable version, as it is stored.

    `step` is the index in the spec's steps. `entered_at` is when the present state or step began; what a
    pause took does not count. `generation` is the plan that the present state and step have made, None until
    they have. `unfrozen`: a person has said that freeze windows do not hold it. `note` says how it differs
    from what was asked for. `overrides` are the reasons to pause that a person has waved through in this
    step. `errors`, `no_data` and `inconclusive` count looks in a row that ended so.
    """

    id: str
    model: str
    stable: str | None
    candidate: str
    spec: RolloutSpec
    started_at: datetime
    entered_at: datetime
    state: State = "pending"
    step: int = 0
    paused_because: PauseReason | None = None
    paused_at: datetime | None = None
    held_from: State | None = None
    overrides: tuple[PauseReason, ...] = ()
    errors: int = 0
    no_data: int = 0
    inconclusive: int = 0
    generation: int | None = None
    unfrozen: bool = False
    note: str | None = None

    @property
    def phase(self) -> State:
        """The state; of a paused rollout, the one that it returns to."""
        return self.held_from or self.state

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in TERMINAL

    @property
    def present_step(self) -> Step | None:
        """The step whose traffic it wants; None before the first and after the last."""
        return self.spec.steps[self.step] if self.phase in ("shadow", "canary") else None

    @property
    def next_step(self) -> Step | None:
        """The step after the present one; None when that is the promotion, or the end of a shadow."""
        following = self.step + 1
        return self.spec.judged[following] if following < len(self.spec.judged) else None


# --- what the controller does -------------------------------------------------------------------------------


def begin(rollout: Rollout, now: datetime) -> Rollout:
    """Its preflight: whether the candidate loads and may be served at all."""
    _require(rollout, "begin", "pending")
    return _to(rollout, "preflight", now)


def enter(rollout: Rollout, now: datetime) -> Rollout:
    """What comes after a preflight that held: the first step, or the promotion where there are no steps."""
    _require(rollout, "enter", "preflight")
    return _to(rollout, _state_of(rollout.spec.judged[0]) if rollout.spec.judged else "promoting", now)


def moved(rollout: Rollout, generation: int, now: datetime) -> Rollout:
    """The plan that the present state asks for is active: its clock begins. Said again it changes nothing."""
    _require(rollout, "move", "shadow", "canary", "promoting", "baking", "paused", "aborting")
    if rollout.generation is not None:
        return rollout
    return msgspec.structs.replace(
        rollout,
        generation=generation,
        entered_at=now,
        paused_at=None if rollout.paused_at is None else now,
    )


def rephase(rollout: Rollout, generation: int, now: datetime) -> Rollout:
    """The same step in a new phase, since rules or a holdout have changed who is in it, by that generation.

    What was seen before does not count any more: its clock and its counts begin anew.
    """
    _require(rollout, "begin a new phase", "shadow", "canary", "baking", "paused")
    return msgspec.structs.replace(
        rollout,
        generation=generation,
        entered_at=now,
        paused_at=None if rollout.paused_at is None else now,
        errors=0,
        no_data=0,
        inconclusive=0,
    )


def advance(rollout: Rollout, now: datetime) -> Rollout:
    """The next step. Where none is left it refuses: that is `promote`, or `succeed` for a shadow."""
    _require(rollout, "advance", "shadow", "canary")
    following = rollout.next_step
    if following is None:
        raise _refusal(rollout, "advance", "It is at its last step.", "Promote it.")
    return _to(rollout, _state_of(following), now, step=rollout.step + 1)


def bake(rollout: Rollout, now: datetime) -> Rollout:
    """The candidate has everything and is watched. The plan stays, and so does its generation."""
    _require(rollout, "bake", "promoting")
    if rollout.generation is None:
        raise _refusal(rollout, "bake", "Its traffic has not moved yet.", "Wait until it has.")
    return _to(rollout, "baking", now, generation=rollout.generation)


def succeed(rollout: Rollout, now: datetime) -> Rollout:
    """The end that was hoped for: after the bake, or after a shadow's last step, which promotes nothing."""
    _require(rollout, "succeed", "baking", "shadow")
    if rollout.state == "shadow" and (rollout.spec.strategy != "shadow" or rollout.next_step is not None):
        raise _refusal(rollout, "succeed", "Its steps are not over.", "Advance it.")
    return _to(rollout, "succeeded", now, generation=rollout.generation)


def rolled_back(rollout: Rollout, generation: int | None, now: datetime) -> Rollout:
    """Stable has everything again, by that generation; None when no traffic had moved."""
    _require(rollout, "end", "aborting")
    return _to(rollout, "rolled_back", now, generation=generation)


def supersede(rollout: Rollout, now: datetime) -> Rollout:
    """Another rollout takes over. One that is being aborted is let come to its end first."""
    if rollout.state in TERMINAL or rollout.state == "aborting":
        raise _refusal(rollout, "supersede", "It ends already.", "Start the next one after it.")
    return _to(rollout, "superseded", now, generation=rollout.generation)


# --- what a person or the policy says -----------------------------------------------------------------------


def pause(rollout: Rollout, now: datetime, because: PauseReason = "manual") -> Rollout:
    """It stays as it is until somebody resumes it; what is paused stays paused for its first reason.

    The traffic stays, too, and failing still rolls it back.
    """
    if rollout.state == "paused":
        return rollout
    _require(rollout, "pause", "pending", "preflight", "shadow", "canary", "baking")
    return msgspec.structs.replace(
        rollout, state="paused", held_from=rollout.state, paused_because=because, paused_at=now
    )


def resume(rollout: Rollout, now: datetime) -> Rollout:
    """Back to where it was held. What it was paused for does not pause it again in this step."""
    _require(rollout, "resume", "paused")
    if rollout.paused_because == "approval":
        raise _refusal(rollout, "resume", "It waits for an approval.", "Approve it.")
    return _released(rollout, now)


def approve(rollout: Rollout, now: datetime) -> Rollout:
    """This step may be left, once its verdict allows it; a rollout that waited for that goes on."""
    _require(rollout, "approve", "shadow", "canary", "paused")
    if rollout.phase not in ("shadow", "canary"):
        raise _refusal(rollout, "approve", "No step of it waits for an approval.", "Resume it.")
    if rollout.paused_because == "approval":
        return _released(rollout, now)
    return msgspec.structs.replace(rollout, overrides=_with(rollout.overrides, "approval"))


def promote(rollout: Rollout, now: datetime) -> Rollout:
    """Everything to the candidate, whatever the verdict; refused before it has seen any traffic."""
    if rollout.phase not in ("shadow", "canary"):
        raise _refusal(
            rollout,
            "promote",
            f"It is {rollout.state}{f' in {rollout.held_from}' if rollout.held_from else ''}.",
            "Only a candidate that sees traffic and does not have all of it can be promoted.",
        )
    return _to(rollout, "promoting", now)


def widen(rollout: Rollout, now: datetime) -> Rollout:
    """The next step now, whatever the verdict; also of a rollout that is paused."""
    _require(rollout, "widen", "shadow", "canary", "paused")
    following = rollout.next_step
    if rollout.phase not in ("shadow", "canary") or following is None:
        raise _refusal(rollout, "widen", "There is no wider step.", "Promote it, if it stands before that.")
    return _to(rollout, _state_of(following), now, step=rollout.step + 1)


def abort(rollout: Rollout, now: datetime) -> Rollout:
    """Back to stable, from wherever it is. It wins over all else, also over a promotion under way."""
    if rollout.state == "aborting":
        return rollout
    if rollout.over:
        raise _refusal(rollout, "abort", f"It is {rollout.state}.", "Roll the model back instead.")
    return _to(rollout, "aborting", now)


COMMANDS: Mapping[Command, Callable[[Rollout, datetime], Rollout]] = {
    "pause": pause,
    "resume": resume,
    "approve": approve,
    "promote": promote,
    "widen": widen,
    "abort": abort,
}
"""What a person may command, by name."""
assert set(COMMANDS) == set(get_args(Command))


def command(rollout: Rollout, name: Command, now: datetime) -> Rollout:
    """The rollout after that command, or `WrongRolloutState`."""
    return COMMANDS[name](rollout, now)


# --- the parts ----------------------------------------------------------------------------------------------


def _to(rollout: Rollout, state: State, now: datetime, **changes: Any) -> Rollout:
    """The rollout in another state or step: a clean sheet."""
    if state not in LEGAL[rollout.state]:
        raise _refusal(rollout, f"become {state}", f"It is {rollout.state}.", "Look at what it waits for.")
    fresh: dict[str, Any] = {
        "state": state,
        "entered_at": now,
        "paused_because": None,
        "paused_at": None,
        "held_from": None,
        "overrides": (),
        "errors": 0,
        "no_data": 0,
        "inconclusive": 0,
        "generation": None,
    }
    return msgspec.structs.replace(rollout, **{**fresh, **changes})


def _released(rollout: Rollout, now: datetime) -> Rollout:
    """Where it was held, with its clock put forward by what the pause took."""
    assert rollout.held_from is not None
    assert rollout.paused_at is not None
    assert rollout.paused_because is not None
    return msgspec.structs.replace(
        rollout,
        state=rollout.held_from,
        held_from=None,
        paused_because=None,
        paused_at=None,
        entered_at=rollout.entered_at + (now - rollout.paused_at),
        overrides=_with(rollout.overrides, rollout.paused_because),
        errors=0,
        no_data=0,
        inconclusive=0,
    )


def _with(overrides: tuple[PauseReason, ...], because: PauseReason) -> tuple[PauseReason, ...]:
    return overrides if because in overrides else (*overrides, because)


def _state_of(step: Step) -> State:
    return "shadow" if step.mirror else "canary"


def _require(rollout: Rollout, verb: str, *states: State) -> None:
    if rollout.state not in states:
        paused = rollout.state == "paused" and f"It is paused ({rollout.paused_because})."
        raise _refusal(
            rollout,
            verb,
            paused or f"It is {rollout.state}.",
            f"That is for a rollout that is {_or(states)}.",
        )


def _or(states: tuple[State, ...]) -> str:
    *first, last = states
    return f"{', '.join(first)} or {last}" if first else last


def _refusal(rollout: Rollout, verb: str, why: str, remedy: str) -> WrongRolloutState:
    return WrongRolloutState(
        f"Rollout {rollout.id} of {rollout.model!r} cannot {verb}. {why}",
        remedy=remedy,
        rollout=rollout.id,
        state=rollout.state,
    )
