"""Findings of a version's performance, estimates, calibration and fairness: what is beyond chance, and large
enough to matter. Pure."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import msgspec

from fairlead.experiments.fixed import gap
from fairlead.monitoring.answered import (
    LEAST_REFERENCE,
    calibration_of,
    fairness_of,
    lost,
    performance_of,
)
from fairlead.monitoring.drift import level
from fairlead.monitoring.fairness import ALARM_ROWS, REPORT_ROWS, Disparity
from fairlead.monitoring.findings import Finding, Kind, Status
from fairlead.monitoring.measured import Performance, Seen
from fairlead.predictions.labelled_counts import sure_together

__all__ = ["Rules", "alpha_of", "findings_of"]


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What is too much. `tolerance`: a risk that is higher by no more is no alarm. `steps`: one false alarm
    of the risk in so many hours, or fewer. `miscalibrated`: a calibration error beyond chance that matters.
    `rise`: by how much of itself the mean error may rise. `gap`: a gap between groups that matters. `alpha`:
    the chance of a false alarm that one look may have at all slices, and as much at calibration, and at
    fairness: see `alpha_of`."""

    tolerance: float = 0.05
    steps: float = 24.0 * 30
    miscalibrated: float = 0.02
    rise: float = 0.2
    gap: float = 0.1
    alpha: float = 1.0 / (3.0 * 30.0 * 144.0)


def alpha_of(days: float, looks_a_day: float) -> float:
    """What a look may spend on each of slices, calibration and fairness, so that they ring falsely once in so
    many days together, on average. Averages add, so this holds although looks overlap."""
    return level(days, looks_a_day) / _KINDS


_KINDS = 3


def findings_of(seen: Seen, rules: Rules) -> list[Finding]:
    """Everything that is looked at, healthy or not, in a fixed order."""
    say = _Say(seen)
    found = performance_of(seen, tolerance=rules.tolerance, needed=rules.steps)
    return [
        _risk(say, seen, found, rules),
        *_detected(say, seen, found),
        _labels(say, seen, found),
        *_slices(say, seen, rules),
        *_estimate(say, seen, found, rules),
        *_calibration(say, seen, rules),
        *_coverage(say, seen, found),
        *_fairness(say, seen, rules),
    ]


class _Say:
    """Makes findings of one version in one window."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def __call__(self, kind: Kind, subject: str, status: Status, sentence: str, **numbers: Any) -> Finding:
        seen = self._seen
        finite: dict[str, Any] = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in numbers.items()
        }
        return Finding(
            model=seen.model,
            version=seen.version,
            kind=kind,
            subject=subject,
            status=status,
            sentence=sentence,
            start=seen.start,
            end=seen.end,
            **finite,
        )


def _risk(say: _Say, seen: Seen, found: Performance, rules: Rules) -> Finding:
    against = "training" if seen.stated is not None and seen.output.kind == "class" else "before"
    common: dict[str, Any] = {"measure": "e-detector", "against": against}
    risk = found.risk
    if risk is None:
        sentence = (
            f"Fewer than {LEAST_REFERENCE:,} labels of {seen.version} have come: there is no reference."
        )
        return say("performance", "risk", "insufficient", sentence, n=seen.window.labelled, **common)
    if not risk.n or risk.mean is None:
        sentence = f"No label has come since the reference of {seen.version}."
        return say("performance", "risk", "insufficient", sentence, threshold=risk.limit, **common)
    share = f"{risk.mean:.1%} {found.loss} in {risk.n:,} labelled answers, {risk.limit:.1%} may be"
    numbers = {"n": risk.n, "value": risk.mean, "threshold": risk.limit}
    if not risk.rings:
        return say("performance", "risk", "ok", f"{share}: no rise is shown.", **numbers, **common)
    since = None if risk.since is None else seen.steps[risk.since].start
    when = "" if since is None else f" since {since:%Y-%m-%d %H:%M} UTC"
    sentence = f"{seen.version} has become worse{when}: {share}."
    return say("performance", "risk", "alarm", sentence, **numbers, **common)


def _detected(say: _Say, seen: Seen, found: Performance) -> list[Finding]:
    """What the detector says that the model has beside the risk."""
    held = seen.followed
    if held is None:
        return []
    if isinstance(held, str):
        return [say("performance", "risk", "error", held, measure="detector", against="before")]
    common: dict[str, Any] = {"measure": held.detector, "against": "before", "threshold": held.limit}
    if held.since is None or held.mean is None:
        return [say("performance", "risk", "ok", f"{held.detector} has found no rise that lasts.", **common)]
    when = f"{seen.steps[held.since].start:%Y-%m-%d %H:%M} UTC"
    share = f"{held.mean:.1%} {found.loss} in {held.n:,} labelled answers since {when}"
    sentence = f"{held.detector} has found a rise: {share}, {held.limit:.1%} may be."
    status: Status = "alarm" if held.rings else "ok"
    return [say("performance", "risk", status, sentence, n=held.n, value=held.mean, **common)]


def _labels(say: _Say, seen: Seen, found: Performance) -> Finding:
    ripe = [group for group in seen.moments if group.start + seen.step <= seen.mature]
    answers = sum(group.answers for group in ripe)
    rate = found.join_rate
    before = seen.reference
    expected = before.labelled / before.answers if before is not None and before.answers else None
    if rate is None or answers < REPORT_ROWS or expected is None:
        sentence = f"{found.labelled:,} of {found.answers:,} answers have a label so far."
        return say("performance", "label join rate", "insufficient", sentence, n=answers, value=rate)
    status: Status = "alarm" if answers >= ALARM_ROWS and rate < 0.5 * expected else "ok"
    sentence = f"{rate:.1%} of the answers whose labels are due have one; it was {expected:.1%}."
    return say(
        "performance",
        "label join rate",
        status,
        sentence,
        n=answers,
        value=rate,
        expected=expected,
        threshold=0.5 * expected,
        against="before",
    )


def _slices(say: _Say, seen: Seen, rules: Rules) -> list[Finding]:
    """A part whose loss has risen, when all together may look well."""
    before = {(part.feature, part.part): part for part in seen.reference_parts}
    found = []
    for part in seen.parts:
        name = f"{part.feature}={part.part}"
        now = lost(seen, part)
        then = before.get((part.feature, part.part))
        reference = None if then is None else lost(seen, then)
        common: dict[str, Any] = {"slice": name, "measure": "window", "against": "before", "n": now.n}
        if reference is None or min(now.n, reference.n) < REPORT_ROWS:
            sentence = f"{name} has {now.n:,} labels: too small to tell."
            found.append(say("performance", "risk", "insufficient", sentence, value=now.mean, **common))
            continue
        rise = gap(now, reference, alpha=min(2.0 * rules.alpha / len(seen.parts), 0.49))
        large = min(now.n, reference.n) >= ALARM_ROWS
        status: Status = "alarm" if large and rise.low > rules.tolerance else "ok"
        sentence = f"{name}: {now.mean or 0.0:.1%} against {reference.mean or 0.0:.1%} before."
        found.append(
            say(
                "performance",
                "risk",
                status,
                sentence,
                value=now.mean,
                expected=reference.mean,
                low=(reference.mean or 0.0) + rise.low,
                threshold=(reference.mean or 0.0) + rules.tolerance,
                **common,
            )
        )
    return found


def _estimate(say: _Say, seen: Seen, found: Performance, rules: Rules) -> list[Finding]:
    if found.validity is None:
        return []
    of_numbers = seen.output.kind == "number"
    subject = "mae" if of_numbers else "accuracy"
    common: dict[str, Any] = {"measure": "direct-loss" if of_numbers else "cbpe", "against": "before"}
    guess = next((one for one in found.estimates if one.name == subject), None)
    was = next((one.value for one in found.reference if one.name == subject), None)
    if not found.validity.valid or guess is None or was is None:
        reason = found.validity.reason or "no answer has a score"
        sentence = f"Without labels nothing is estimated: {reason}."
        return [say("estimate", subject, "insufficient", sentence, n=seen.window.answers, **common)]
    if of_numbers:
        threshold = was * (1.0 + rules.rise)
        worse = guess.low is not None and guess.low > threshold
        sentence = (
            f"Errors are estimated to be {guess.value:.4g} on average without labels; it was {was:.4g}."
        )
    else:
        threshold = was - rules.tolerance
        worse = guess.high is not None and guess.high < threshold
        sentence = f"Accuracy is estimated to be {guess.value:.1%} without labels; it was {was:.1%}."
    return [
        say(
            "estimate",
            subject,
            "alarm" if worse else "ok",
            sentence,
            n=guess.n,
            value=guess.value,
            expected=was,
            low=guess.low,
            high=guess.high,
            threshold=threshold,
            **common,
        )
    ]


_LEAST_CALIBRATION = 1_000


def _calibration(say: _Say, seen: Seen, rules: Rules) -> list[Finding]:
    if seen.output.kind != "class":
        return []
    found = calibration_of(seen, alpha=rules.alpha / 2.0)
    if found is None:
        return [say("calibration", "scores", "insufficient", "No answer with a score has a label.")]
    if found.n < _LEAST_CALIBRATION:
        sentence = f"{found.n:,} labels are too few to tell; {_LEAST_CALIBRATION:,} would do."
        return [say("calibration", "scores", "insufficient", sentence, n=found.n, value=found.ece_mass)]
    beyond = found.excess > max(found.limit, rules.miscalibrated)
    # Half of what may be spent is for the bins, half for all of them together, on either side.
    surely = NormalDist().inv_cdf(1.0 - rules.alpha / 4.0)
    off = abs(found.z) > surely and abs(found.shift) > rules.miscalibrated
    return [
        say(
            "calibration",
            "scores",
            "alarm" if beyond else "ok",
            f"Scores are off by {found.ece_mass:.1%} on average, {found.floor:.1%} of it by chance.",
            n=found.n,
            value=found.ece_mass,
            expected=found.floor,
            measure="ece-10-equal-mass",
            threshold=found.floor + max(found.limit, rules.miscalibrated),
        ),
        say(
            "calibration",
            "scores in the large",
            "alarm" if off else "ok",
            f"What happened lies {100 * found.shift:+.1f} points from what the scores said.",
            n=found.n,
            value=found.shift,
            expected=0.0,
            measure="mean-label-minus-mean-score",
            threshold=rules.miscalibrated,
            p=math.erfc(abs(found.z) / math.sqrt(2.0)),
        ),
    ]


def _coverage(say: _Say, seen: Seen, found: Performance) -> list[Finding]:
    held = found.uncertainty
    if held is None:
        return []
    what = "intervals" if held.kind == "interval" else "sets of classes"
    common: dict[str, Any] = {"measure": "e-detector", "against": "calibration", "expected": held.promised}
    risk, observed = held.risk, held.observed
    if risk is None or risk.n < REPORT_ROWS:
        n = 0 if risk is None else risk.n
        sentence = f"{n:,} labels of hours that are settled are too few to tell whether {what} hold."
        return [say("calibration", "coverage", "insufficient", sentence, n=n, **common)]
    numbers: dict[str, Any] = {"n": risk.n, "threshold": 1.0 - risk.limit}
    if observed is not None and held.z is not None:
        numbers |= {"n": observed.n, "value": observed.value, "low": observed.low, "high": observed.high}
        numbers["p"] = 0.5 * math.erfc(held.z / math.sqrt(2.0))
    if not risk.rings:
        within = 1.0 - (risk.mean or 0.0)
        sentence = (
            f"{within:.1%} of {risk.n:,} labels lay within the {what}; {held.promised:.0%} was promised."
        )
        return [say("calibration", "coverage", "ok", sentence, **numbers, **common)]
    since = seen.hours[risk.since or 0 :]
    late = sure_together(hour.sure for hour in since)
    share = f"{late.covered / max(late.labelled, 1):.1%} of {late.labelled:,} labels"
    sentence = (
        f"Since {since[0].start:%Y-%m-%d %H:%M} UTC only {share} lay within the {what} of {seen.version}; "
        f"{held.promised:.0%} was promised."
    )
    return [say("calibration", "coverage", "alarm", sentence, **numbers, **common)]


def _fairness(say: _Say, seen: Seen, rules: Rules) -> list[Finding]:
    found = []
    measures = 2 * len({part.feature for part in seen.parts})
    for slice_ in fairness_of(seen, alpha=rules.alpha / max(measures, 1)):
        for subject, one in (
            ("demographic parity", slice_.demographic_parity),
            ("equalized odds", slice_.equalized_odds),
        ):
            found.append(_gap(say, slice_.feature, subject, one, rules))
    return found


def _gap(say: _Say, feature: str, subject: str, one: Disparity, rules: Rules) -> Finding:
    common: dict[str, Any] = {"slice": feature, "measure": "difference", "n": one.rows}
    if one.difference is None:
        sentence = f"Fewer than two parts of {feature} have {REPORT_ROWS} rows: too small to tell."
        return say("fairness", subject, "insufficient", sentence, **common)
    status: Status = "alarm" if one.alarms(rules.gap) else "ok"
    sentence = (
        f"{subject.capitalize()} over {feature}: {one.highest} lies {100 * one.difference:.1f} points above "
        f"{one.lowest}"
    )
    if one.rows < ALARM_ROWS:
        sentence += f", in {one.rows:,} rows, which is too small for an alarm"
    return say(
        "fairness",
        subject,
        status,
        sentence + ".",
        value=one.difference,
        low=one.low,
        high=one.high,
        threshold=rules.gap,
        expected=0.0,
        **common,
    )
