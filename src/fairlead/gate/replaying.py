"""The checks that logged traffic comes to when the candidate answers it again. Pure.

These are counts of what was asked, not samples of something larger: shares are compared with their limits as
they are, and spend nothing of alpha.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from fairlead.evaluation.change_report import ChangeReport, Example, Kind
from fairlead.gate.report import Check, Status
from fairlead.gate.spec import GateSpec, Replay
from fairlead.registry.versions import VersionSpec

__all__ = ["Replaying", "replay_checks", "without_production"]

_NAMES = ("changed", "errors", "violations")
_EXAMPLES = 5
_KINDS: dict[str, Kind] = {"changed": "changed", "errors": "failed", "violations": "rejected"}
_SAID = {
    "changed": "would be answered otherwise",
    "errors": "would end in an error",
    "violations": "would break the candidate's contract",
}


class Replaying(Protocol):
    """Asks a version again what another has answered."""

    def __call__(self, candidate: VersionSpec, against: VersionSpec, replay: Replay, /) -> ChangeReport: ...


def without_production() -> list[Check]:
    """The checks where no version is in production, so that nothing was answered."""
    text = "No version is in production, so there is no traffic to replay."
    return [Check(group="replay", name=name, status="skipped", text=text) for name in _NAMES]


def replay_checks(spec: GateSpec, replay: Replay, against: str, found: ChangeReport) -> list[Check]:
    """How many of the answers of `against` change, and how many are lost to errors and violations."""
    errors, violations = sum(found.failed.values()), found.rejected_rows
    answered = found.compared + errors + violations
    counts = {"changed": found.changed, "errors": errors, "violations": violations}
    return [_check(spec, replay, against, found, name, counts[name], answered) for name in _NAMES]


def _check(
    spec: GateSpec, replay: Replay, against: str, found: ChangeReport, name: str, count: int, answered: int
) -> Check:
    limit = getattr(replay, name)
    status: Status = "passed"
    # Where the rows are too few, those that lack are taken to be harmless: what is too much even so has been
    # seen, and is not made unseen by asking for more.
    if count > limit * max(answered, replay.least) + 1e-9:
        status = "failed"
    elif answered < replay.least:
        status = "inconclusive"
    text = _said(replay, against, found, answered) if status == "inconclusive" else ""
    if not text:
        reasons = {"errors": found.failed, "violations": found.rejected}.get(name, {})
        why = "".join(f", {reason} {rows:,}" for reason, rows in sorted(reasons.items())[:5])
        share = f"{100 * count / answered:.4g} %" if answered else "0 %"
        text = (
            f"Of {answered:,} logged answers of {against}, {count:,} {_SAID[name]} ({share}{why}); at most"
            f" {100 * limit:.4g} % may."
        )
    return Check(
        group="replay",
        name=name,
        status=status,
        closes=status == "failed" or (status == "inconclusive" and spec.inconclusive == "fail"),
        text=text,
        numbers={
            name: count,
            "answered": answered,
            "share": count / answered if answered else None,
            "limit": limit,
            "least": replay.least,
            "not replayable": sum(found.not_replayable.values()),
        },
        examples=[_example(one) for one in found.examples if one.kind == _KINDS[name]][:_EXAMPLES],
    )


def _said(replay: Replay, against: str, found: ChangeReport, answered: int) -> str:
    held = "".join(f", {reason} {rows:,}" for reason, rows in sorted(found.not_replayable.items()))
    why = f" ({sum(found.not_replayable.values()):,} cannot be replayed{held})" if held else ""
    return f"Only {answered:,} logged answers of {against} are there to compare{why}; {replay.least:,} tell."


def _example(one: Example) -> dict[str, Any]:
    """Which request, and both answers. Features are none of it, and values that break a rule neither."""
    shown: dict[str, Any] = {"request_id": one.request_id, "row": one.row, "logged": one.logged}
    if one.kind == "changed":
        return {**shown, "replayed": msgspec.to_builtins(one.replayed)}
    if one.kind == "failed":
        return {**shown, "why": one.error or one.error_code}
    return {**shown, "why": ", ".join(f"{each['field']}: {each['rule']}" for each in one.violations)}
