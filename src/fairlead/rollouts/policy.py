"""What to do about a rollout, from what was judged: a decision as a value, with its reason and its evidence.

Pure, so that a decision can be taken again from what is stored. The rules stand in order of priority: an
abort, a failure, a split that is not the plan's, a pause, then errors, missing data, regressed signals, and
what could not be told in time. What moves a candidate forward comes last.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from fairlead.rollouts import states
from fairlead.rollouts.judge import Judgement
from fairlead.rollouts.observation import Observation
from fairlead.rollouts.states import JUDGED, PauseReason, Rollout

__all__ = [
    "MOST_ERRORS",
    "RULES",
    "Advance",
    "Decision",
    "Hold",
    "Pause",
    "Promote",
    "Rollback",
    "Succeed",
    "apply",
    "decide",
]

MOST_ERRORS = 4
"""So many looks in a row that could not be measured pause a rollout."""

_UNDER_WAY = ("shadow", "canary", "baking")
"""States that wait for a verdict: only these are left for a better one, or paused."""


class _Decision(msgspec.Struct, frozen=True, kw_only=True, tag_field="decision"):
    """`reason` is a sentence for people, `evidence` the judgement that it rests on, None if on none."""

    reason: str
    evidence: Judgement | None = None


class Hold(_Decision, frozen=True, kw_only=True, tag="hold"):
    """Everything stays as it is until the next look."""


class Advance(_Decision, frozen=True, kw_only=True, tag="advance"):
    """The next step, by its index."""

    to: int


class Promote(_Decision, frozen=True, kw_only=True, tag="promote"):
    """Everything to the candidate."""


class Rollback(_Decision, frozen=True, kw_only=True, tag="rollback"):
    """Everything back to stable."""


class Pause(_Decision, frozen=True, kw_only=True, tag="pause"):
    """A person has to look at it."""

    because: PauseReason


class Succeed(_Decision, frozen=True, kw_only=True, tag="succeed"):
    """The rollout is over, as was hoped for."""


Decision = Hold | Advance | Promote | Rollback | Pause | Succeed


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule looks at."""

    rollout: Rollout
    judgement: Judgement
    observation: Observation
    now: datetime
    held: str | None = None

    @property
    def late(self) -> bool:
        """Whether the step has had its time; the bake has when it is over."""
        step = self.rollout.present_step
        allowed = self.rollout.spec.bake if step is None else step.deadline
        return (self.now - self.rollout.entered_at).total_seconds() >= allowed

    def waved(self, because: PauseReason) -> bool:
        """Whether a person has said that this shall not pause the step again."""
        return because in self.rollout.overrides

    def hold(self, reason: str) -> Hold:
        return Hold(reason=reason, evidence=self.judgement)

    def pause(self, because: PauseReason, reason: str) -> Decision:
        """A pause; where there is nothing to pause, or that was waved through, it holds."""
        if self.rollout.state not in _UNDER_WAY or self.waved(because):
            return self.hold(reason)
        return Pause(because=because, reason=reason, evidence=self.judgement)


Rule = Callable[[Situation], Decision | None]


def decide(
    rollout: Rollout,
    judgement: Judgement,
    observation: Observation,
    now: datetime,
    held: str | None = None,
) -> Decision:
    """What is to be done now: what the first rule says that has something to say. `held` is why the candidate
    may not get more traffic at the moment."""
    situation = Situation(rollout=rollout, judgement=judgement, observation=observation, now=now, held=held)
    for rule in RULES:
        decision = rule(situation)
        if decision is not None:
            return decision
    raise AssertionError("the last rule always has something to say")


def apply(rollout: Rollout, decision: Decision, now: datetime) -> Rollout:
    """The rollout after the decision, with its look counted; equal to the one before if nothing changed."""
    match decision:
        case Advance():
            return states.advance(rollout, now)
        case Promote():
            return states.promote(rollout, now)
        case Rollback():
            return states.abort(rollout, now)
        case Succeed():
            return states.succeed(rollout, now)
        case Pause():
            return states.pause(_counted(rollout, decision), now, decision.because)
        case Hold():
            return _counted(rollout, decision)


# --- the rules, in order of priority ------------------------------------------------------------------------


def _aborted(s: Situation) -> Decision | None:
    if s.rollout.state == "aborting":
        return Rollback(reason="It was aborted.")
    return None


def _unseen(s: Situation) -> Decision | None:
    """Nothing can be said of traffic that has not moved, nor from what was seen of other traffic."""
    rollout, seen = s.rollout, s.observation
    if rollout.phase not in JUDGED:
        return Hold(reason=f"It is {rollout.state}: there is nothing to judge.")
    if rollout.generation is None:
        return Hold(reason="Its traffic has not moved yet.")
    if seen.generation != rollout.generation:
        return Hold(
            reason=f"What was seen is of generation {seen.generation}, and it is at {rollout.generation}."
        )
    return None


def _failed(s: Situation) -> Decision | None:
    if s.judgement.result == "fail":
        return Rollback(reason=s.judgement.sentence, evidence=s.judgement)
    return None


def _mismatched(s: Situation) -> Decision | None:
    if s.judgement.mismatch is None or s.waved("sample-ratio"):
        return None
    return s.pause("sample-ratio", s.judgement.mismatch)


def _paused(s: Situation) -> Decision | None:
    if s.rollout.state == "paused":
        return s.hold(f"It is paused ({s.rollout.paused_because}).")
    if s.rollout.state == "promoting":
        return s.hold("The candidate is getting everything.")
    return None


def _unmeasured(s: Situation) -> Decision | None:
    if s.judgement.result != "error":
        return None
    if s.rollout.errors + 1 < MOST_ERRORS:
        return s.hold(s.judgement.sentence)
    return s.pause("errors", f"{s.judgement.sentence} So it was {MOST_ERRORS} times in a row.")


def _unasked(s: Situation) -> Decision | None:
    """Without data nothing goes forward, whatever the step says of what cannot be told; but copies that did
    not come have harmed nobody, and where the step says so the canary follows."""
    if s.judgement.result != "no-data":
        return None
    if s.rollout.state == "baking" and s.late and (not s.rollout.spec.bake or s.waved("no-data")):
        return Succeed(reason="It was watched for as long as was asked for.", evidence=s.judgement)
    if not s.late:
        return s.hold(s.judgement.sentence)
    step = s.rollout.present_step
    if step is not None and step.mirror and step.inconclusive == "advance":
        return _forward(s, f"In {step.deadline:g} s no copies could be judged: {s.judgement.sentence}")
    return s.pause("no-data", s.judgement.sentence)


def _regressed(s: Situation) -> Decision | None:
    """A signal that fails holds, and lets go when it recovers."""
    if not s.judgement.regressed or s.waved("signal"):
        return None
    reason = f"{', '.join(s.judgement.regressed)} got worse than is borne."
    return s.pause("signal", reason) if s.late else s.hold(reason)


def _untold(s: Situation) -> Decision | None:
    if s.judgement.result != "inconclusive":
        return None
    reason, step = s.judgement.sentence, s.rollout.present_step
    if not s.late or step is None:
        return s.hold(reason)
    told = f"In {step.deadline:g} s it could not be told: {reason}"
    if step.inconclusive == "rollback":
        return Rollback(reason=told, evidence=s.judgement)
    if step.inconclusive == "advance" and not s.judgement.waiting:
        return _forward(s, told)
    return s.pause("inconclusive", told)


def _passed(s: Situation) -> Decision:
    if s.judgement.result != "pass":
        return s.hold(s.judgement.sentence)
    return _forward(s, s.judgement.sentence)


RULES: tuple[Rule, ...] = (
    _aborted, _unseen, _failed, _mismatched, _paused, _unmeasured, _unasked, _regressed, _untold, _passed,
)  # fmt: skip
"""What is asked, in this order."""


# --- the parts ----------------------------------------------------------------------------------------------


def _forward(s: Situation, reason: str) -> Decision:
    """Onwards from a step that may be left, once every gateway serves it and whoever has to has agreed."""
    rollout, step = s.rollout, s.rollout.present_step
    if rollout.state not in _UNDER_WAY:
        return s.hold(f"It is {rollout.state}.")
    if not s.observation.confirmed:
        return s.hold(f"Not every gateway serves generation {rollout.generation} yet.")
    if step is None:
        if not s.late:
            return s.hold("It is still being watched.")
        return Succeed(reason=reason, evidence=s.judgement)
    if step.approval and not s.waved("approval"):
        return s.pause("approval", f"{reason} A person has to approve before it goes on.")
    if s.held is not None and not _ends(rollout):
        return s.hold(s.held)
    if rollout.next_step is not None:
        return Advance(to=rollout.step + 1, reason=reason, evidence=s.judgement)
    if _ends(rollout):
        return Succeed(reason=reason, evidence=s.judgement)
    return Promote(reason=reason, evidence=s.judgement)


def _ends(rollout: Rollout) -> bool:
    """Whether a shadow is at its last step, which promotes nothing."""
    return rollout.next_step is None and rollout.spec.strategy == "shadow"


def _counted(rollout: Rollout, decision: Decision) -> Rollout:
    """The rollout with the look counted: each kind of look that says nothing has its own row."""
    if decision.evidence is None or rollout.state not in JUDGED:
        return rollout
    result = decision.evidence.result
    counts: dict[str, Any] = {
        "errors": rollout.errors + 1 if result == "error" else 0,
        "no_data": rollout.no_data + 1 if result == "no-data" else 0,
        "inconclusive": rollout.inconclusive + 1 if result == "inconclusive" else 0,
    }
    return msgspec.structs.replace(rollout, **counts)
