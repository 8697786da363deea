"""How one version's answers met their labels in a window, beside its own beginnings: what is measured of it.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

import msgspec

from fairlead.experiments.aggregates import Proportion
from fairlead.monitoring.calibration import Calibration, calibration
from fairlead.monitoring.covering import Coverage, coverage_figures, coverage_of
from fairlead.monitoring.estimates import (
    MOST_UNSEEN,
    Calibrator,
    Estimate,
    Validity,
    calibrator_of,
    estimated,
    validity,
)
from fairlead.monitoring.fairness import Fairness, fairness
from fairlead.monitoring.measured import BackTest, Moment, Performance, Seen, SlicePerformance
from fairlead.monitoring.performance import Figure, clicks_of, confusion_of, of_classes, of_errors, of_places
from fairlead.monitoring.risk import Risk, Step, limit_of, watch
from fairlead.monitoring.scored import scored_cells
from fairlead.predictions.labelled_counts import Labelled, size_of, sure_together

__all__ = [
    "calibration_of",
    "fairness_of",
    "figures_of",
    "joined",
    "loss_of",
    "performance_of",
    "risk_limit",
    "risk_steps",
]

LEAST_REFERENCE = 1_000
"""So many first labels of a version say how good it was."""
STEP = timedelta(hours=1)
"""How often the risk is looked at."""


def performance_of(seen: Seen, *, tolerance: float, needed: float) -> Performance:
    """All figures of it. Whatever cannot be told is empty or None."""
    calibrator = _calibrator(seen)
    ripe = [group for group in seen.moments if group.start + seen.step <= seen.mature]
    answers = sum(group.answers for group in ripe)
    risk = risk_of(seen, tolerance=tolerance, needed=needed)
    tested = _back_test(seen, ripe, calibrator)
    estimates = _estimates(seen, seen.window, calibrator)
    if seen.expected_loss is not None:
        estimates = (seen.expected_loss,)
    before = {(part.feature, part.part): part for part in seen.reference_parts}
    return Performance(
        model=seen.model,
        version=seen.version,
        start=seen.start,
        end=seen.end,
        mature=seen.mature,
        answers=seen.window.answers,
        labelled=seen.window.labelled,
        join_rate=sum(group.labelled for group in ripe) / answers if answers else None,
        delays=seen.delays,
        figures=figures_of(seen, seen.window),
        reference=figures_of(seen, seen.reference),
        stated=seen.stated,
        loss=loss_of(seen)[0],
        risk=risk,
        estimates=estimates,
        validity=_validity(seen, calibrator, risk, tested),
        back_test=tested,
        moments=tuple(
            Moment(
                start=group.start,
                answers=group.answers,
                labelled=group.labelled,
                mature=group.start + seen.step <= seen.mature,
                figures=figures_of(seen, group),
                estimates=_estimates(seen, group, calibrator),
            )
            for group in seen.moments
        ),
        slices=tuple(
            SlicePerformance(
                feature=part.feature,
                part=part.part,
                answers=part.answers,
                labelled=part.labelled,
                figures=figures_of(seen, part),
                before=figures_of(seen, before.get((part.feature, part.part))),
            )
            for part in seen.parts
        ),
        arms={group.arm or "": figures_of(seen, group) for group in seen.arms},
        coverage=seen.coverage,
        uncertainty=covered_of(seen, tolerance=tolerance, needed=needed),
        clicks=tuple(clicks_of(seen.window.places)),
    )


def covered_of(seen: Seen, *, tolerance: float, needed: float) -> Coverage | None:
    """How often labels lay within what was said of answers; None where the version says nothing."""
    hours = (hour.sure for hour in seen.hours)
    return coverage_of(seen.uncertainty, seen.window.sure, hours, tolerance=tolerance, needed=needed)


def calibration_of(seen: Seen, *, alpha: float = 0.001) -> Calibration | None:
    """How the probabilities of the window stand: of the positive class of two, else of the class that was
    answered. None without labels or probabilities. `alpha` is that of `calibration`."""
    return calibration(scored_cells(seen.window.classes, seen.positive), alpha=alpha)


def fairness_of(seen: Seen, *, alpha: float = 0.05) -> list[Fairness]:
    """Each slice of the window; none where there is no positive class to be chosen for. A gap lies within its
    limits but for a chance of `alpha`."""
    positive = seen.positive
    if positive is None:
        return []
    found = []
    for feature in dict.fromkeys(part.feature for part in seen.parts):
        parts = {part.part: part for part in seen.parts if part.feature == feature}
        selected = {
            name: Proportion(
                part.answers, sum(cell.n for cell in part.classes if cell.answered == positive)
            )
            for name, part in parts.items()
        }  # fmt: skip
        labelled = {name: confusion_of(part.classes, positive) for name, part in parts.items()}
        found.append(fairness(feature, selected, labelled, alpha=alpha))
    return found


def figures_of(seen: Seen, group: Labelled | None) -> tuple[Figure, ...]:
    """The figures of a group by what the model answers; none without labels."""
    if group is None:
        return ()
    sure = coverage_figures(seen.uncertainty, group.sure)
    match seen.output.kind:
        case "class":
            return (*of_classes(group.classes, seen.classes), *sure)
        case "number":
            return (*of_errors(group.errors), *sure)
        case "ranking":
            return tuple(of_places(group.places))
        case _:
            return ()


def loss_of(seen: Seen) -> tuple[str, int]:
    """The loss that is watched, 0 or 1 for each row, in words; of numbers also the bucket beyond which an
    error is a large one, that of the largest tenth in the reference."""
    match seen.output.kind:
        case "class":
            return "wrong answers", 0
        case "ranking":
            return "choices that were not among the first ten", 0
        case _:
            bucket = _largest_tenth(seen.reference)
            return f"errors of more than {size_of(bucket):.3g}", bucket


def risk_of(seen: Seen, *, tolerance: float, needed: float) -> Risk | None:
    """The state of the primary alarm; None without a reference."""
    limit = risk_limit(seen, tolerance=tolerance)
    return None if limit is None else watch(risk_steps(seen), limit, needed=needed)


def risk_limit(seen: Seen, *, tolerance: float) -> float | None:
    """The risk above which is too much; None without a reference, and where no risk could be higher."""
    limit: float | None = None
    if seen.stated is not None and seen.output.kind == "class":
        limit = 1.0 - seen.stated + tolerance
    elif seen.reference is not None:
        limit = limit_of(lost(seen, seen.reference), tolerance=tolerance)
    return limit if limit is not None and 0.0 < limit < 1.0 else None


def risk_steps(seen: Seen) -> list[Step]:
    """The losses of each hour since the reference."""
    held = [lost(seen, group) for group in seen.steps]
    return [Step(n=one.n, total=one.successes) for one in held]


def lost(seen: Seen, group: Labelled) -> Proportion:
    """Of the labelled rows, those with the loss."""
    match seen.output.kind:
        case "class":
            wrong = sum(cell.n for cell in group.classes if cell.label not in (None, cell.answered))
            return Proportion(group.labelled, wrong)
        case "ranking":
            missed = sum(
                cell.n for cell in group.places if cell.place is not None and not 1 <= cell.place <= _FIRST
            )
            return Proportion(group.labelled, missed)
        case _:
            bound = loss_of(seen)[1]
            known = [cell for cell in group.errors if cell.bucket is not None]
            large = sum(cell.n for cell in known if (cell.bucket or 0) > bound)
            return Proportion(sum(cell.n for cell in known), large)


_FIRST = 10


def joined(groups: Iterable[Labelled], first: Labelled) -> Labelled:
    """The counts of all groups as one, called as the first is."""
    held = list(groups)
    return msgspec.structs.replace(
        first,
        answers=sum(group.answers for group in held),
        labelled=sum(group.labelled for group in held),
        classes=tuple(cell for group in held for cell in group.classes),
        errors=tuple(cell for group in held for cell in group.errors),
        places=tuple(cell for group in held for cell in group.places),
        sure=sure_together(group.sure for group in held),
    )


def _largest_tenth(reference: Labelled | None) -> int:
    cells = [] if reference is None else [cell for cell in reference.errors if cell.bucket is not None]
    total = sum(cell.n for cell in cells)
    reached = 0
    for cell in sorted(cells, key=lambda cell: cell.bucket or 0):
        reached += cell.n
        if reached >= 0.9 * total:
            return cell.bucket or 0
    return 0


def _calibrator(seen: Seen) -> Calibrator | None:
    if seen.reference is None or seen.output.kind != "class":
        return None
    return calibrator_of(scored_cells(seen.reference.classes, seen.positive))


def _estimates(seen: Seen, group: Labelled, calibrator: Calibrator | None) -> tuple[Estimate, ...]:
    if calibrator is None:
        return ()
    found = estimated(scored_cells(group.classes, seen.positive), calibrator)
    # Of many classes only whether the answer is right is estimated.
    return tuple(one for one in found if seen.positive is not None or one.name == "accuracy")


def _back_test(seen: Seen, ripe: Sequence[Labelled], calibrator: Calibrator | None) -> tuple[BackTest, ...]:
    """Estimates of the rows that have labels by now, beside what the labels say; of numbers what is expected
    of the whole window, beside its settled part."""
    if not ripe:
        return ()
    real = {one.name: one for one in figures_of(seen, joined(ripe, ripe[0]))}
    guesses: tuple[Estimate, ...] = () if seen.expected_loss is None else (seen.expected_loss,)
    if calibrator is not None:
        cells = scored_cells((cell for group in ripe for cell in group.classes), seen.positive)
        guesses = tuple(estimated(cells._replace(unknown=cells.unknown * 0.0), calibrator))
    return tuple(
        BackTest(
            name=guess.name,
            estimated=guess.value,
            realised=real[guess.name].value,
            off=abs(guess.value - real[guess.name].value),
            n=real[guess.name].n,
        )
        for guess in guesses
        if guess.name in real
    )


_FAR, _FAR_LOSS = 0.03, 0.1
"""An estimate that was off by so much more than chance explains is not believed again: in points of a share,
and in parts of an error's size."""


def _validity(
    seen: Seen, calibrator: Calibrator | None, risk: Risk | None, tested: Sequence[BackTest]
) -> Validity | None:
    if seen.output.kind == "number":
        return _validity_of_loss(seen, risk, tested)
    if seen.output.kind != "class":
        return None
    if calibrator is None:
        return Validity(
            valid=False, reason=f"fewer than {LEAST_REFERENCE:,} labels are known to learn from, or no scores"
        )
    concept = ""
    if risk is not None and risk.rings:
        concept = "labels show more wrong answers than before: what the scores mean has changed"
    for one in tested:
        chance = 3.0 * (max(one.realised * (1.0 - one.realised), 0.0) / max(one.n, 1)) ** 0.5
        if one.name == "accuracy" and one.off > _FAR + chance:
            concept = (
                f"of {one.n:,} rows whose labels have come, {one.estimated:.1%} was estimated and "
                f"{one.realised:.1%} was true"
            )
    cells = scored_cells(seen.window.classes, seen.positive)
    return validity(cells, calibrator, unseen=seen.unseen, concept=concept)


def _validity_of_loss(seen: Seen, risk: Risk | None, tested: Sequence[BackTest]) -> Validity:
    if seen.expected_loss is None:
        return Validity(valid=False, reason="too few labels are known to learn from")
    if risk is not None and risk.rings:
        return Validity(valid=False, reason="labels show more large errors than before")
    if seen.unseen > MOST_UNSEEN:
        share = f"{seen.unseen:.1%} of the rows have a value of a feature where the reference has none"
        return Validity(valid=False, reason=share)
    for one in tested:
        if one.n >= LEAST_REFERENCE and one.off > _FAR_LOSS * one.realised:
            said = f"{one.estimated:.4g} was estimated and {one.realised:.4g} was true"
            return Validity(valid=False, reason=f"of {one.n:,} rows whose labels have come, {said}")
    return Validity(valid=True)
