"""Rules: which findings make an alert, when it fires and ends, and what to do about it. Pure.

The rules here need no set-up; `alerts.toml` changes them and adds others (`reading.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from fairlead.errors import InvalidAlerts
from fairlead.monitoring.findings import Finding, Kind

__all__ = ["DEFAULTS", "RUNBOOKS", "Rule", "Runbook", "Severity", "matching"]

Severity = Literal["page", "warning", "info"]
"""`page`: somebody should look now. `warning`: today. `info`: it is good to know."""

_MINUTE, _HOUR, _DAY = 60.0, 3_600.0, 86_400.0


class Runbook(msgspec.Struct, frozen=True, kw_only=True):
    """What an alert means, commands that show more, and what to do. In commands `{model}`, `{version}` and
    `{subject}` stand for those of the finding."""

    means: str
    look: tuple[str, ...] = ()
    do: str = ""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule, for findings of `kind` whose `model`, `version`, `subject`, `slice`, `measure` and `against`
    match the patterns (`*` is anything).

    A finding counts as bad by its own status; with `above` or `below` by its value instead, and then it
    counts as well again only beyond `release`. The alert fires when `fire` of the last `of` looks were bad,
    or one was whose value is `gross` or more, and ends after `clear` good ones in a row that took
    `clear_seconds`. For `cooldown` seconds after a message nobody is told that it fires again. What is not
    looked at any more ends after `forget` seconds.

    It goes to the `channels` of these names, or to all without any. `of` is 64 at most.
    """

    name: str
    title: str
    kind: Kind
    severity: Severity = "warning"
    model: str = "*"
    version: str = "*"
    subject: str = "*"
    slice: str = "*"
    measure: str = "*"
    against: str = "*"
    above: float | None = None
    below: float | None = None
    release: float | None = None
    gross: float | None = None
    fire: int = 1
    of: int = 1
    clear: int = 2
    clear_seconds: float = 0.0
    cooldown: float = 10 * _MINUTE
    forget: float = 2 * _DAY
    channels: tuple[str, ...] = ()
    runbook: Runbook | None = None

    def verify(self) -> Rule:
        """The rule itself; raises `InvalidAlerts` for one that could never fire, or never end."""
        wrong = self._wrong()
        if wrong is not None:
            raise InvalidAlerts(f"Rule {self.name!r}: {wrong[0]}", remedy=wrong[1])
        return self

    def _wrong(self) -> tuple[str, str] | None:
        times = (self.clear_seconds, self.cooldown, self.forget)
        bounds = [one for one in (self.above, self.below, self.release, self.gross) if one is not None]
        if not 1 <= self.fire <= self.of <= 64:
            return (
                f"it fires when {self.fire} of {self.of} looks are bad.",
                "Write 'k of n' with k at least 1, at most n, and n at most 64.",
            )
        if self.clear < 1:
            return (f"it ends after {self.clear} good looks.", "Let `clear` be 1 or more.")
        if not all(math.isfinite(one) and one >= 0 for one in times) or not self.forget:
            return (
                "a time is no span.",
                "`clear_seconds` and `cooldown` are 0 or more, `forget` is more.",
            )
        if not all(map(math.isfinite, bounds)):
            return ("a bound is no finite number.", "Write a number.")
        if self.above is not None and self.below is not None:
            return ("it has `above` and `below`.", "Write two rules.")
        if self.release is not None:
            if self.above is None and self.below is None:
                return ("it has `release` without a bound.", "Add `above` or `below`.")
            outside = (self.above is not None and self.release > self.above) or (
                self.below is not None and self.release < self.below
            )
            if outside:
                return (
                    f"it would end at {self.release:g} while it is still bad.",
                    "Let `release` be on the good side of the bound.",
                )
        return None

    def matches(self, finding: Finding) -> bool:
        """Whether it reads that finding."""
        return self.kind == finding.kind and all(
            fnmatchcase(value, pattern)
            for value, pattern in (
                (finding.model, self.model),
                (finding.version or "", self.version),
                (finding.subject, self.subject),
                (finding.slice, self.slice),
                (finding.measure, self.measure),
                (finding.against, self.against),
            )
        )

    def bad(self, finding: Finding, firing: bool) -> bool | None:
        """Whether the finding is bad to an alert that fires or does not; None where it tells nothing."""
        if finding.status in ("insufficient", "error"):
            return None
        if self.above is None and self.below is None:
            return finding.status == "alarm"
        value = finding.value
        if value is None or math.isnan(value):
            return None
        if self.above is not None:
            return value > (self.above if not firing or self.release is None else self.release)
        bound = self.below if not firing or self.release is None else self.release
        return bound is not None and value < bound

    def is_gross(self, finding: Finding) -> bool:
        """Whether one such finding is enough, where it is bad."""
        value = finding.value
        return self.gross is not None and value is not None and value >= self.gross


def matching(rules: Iterable[Rule], findings: Sequence[Finding]) -> list[tuple[Rule, Finding]]:
    """Which rules read which findings."""
    of_kind: dict[str, list[Rule]] = {}
    for rule in rules:
        of_kind.setdefault(rule.kind, []).append(rule)
    return [
        (rule, finding)
        for finding in findings
        for rule in of_kind.get(finding.kind, ())
        if rule.matches(finding)
    ]


_STATUS = "fairlead status {model}"
_ROLLBACK = "`fairlead rollback {model}` brings back the version before at once."

RUNBOOKS: dict[str, Runbook] = {
    "errors": Runbook(
        means="The version fails on requests that its contract accepts: callers get errors, or a fallback.",
        look=(
            _STATUS,
            'fairlead predictions {model} --sql "SELECT error_code, count(*) FROM predictions GROUP BY ALL"',
            "fairlead audit {model}",
        ),
        do=f"If it began with a deployment: {_ROLLBACK} Else look for what the failing requests share.",
    ),
    "latency": Runbook(
        means="One answer in a hundred or more is slower than the limit, or than is usual for this version.",
        look=(_STATUS, "fairlead metrics {model} {version}", "fairlead doctor"),
        do="Compare the rate of requests with before: if it has grown, add gateway workers or machines. If "
        f"it has not, look for a busy neighbour on the machine, or a deployment: {_ROLLBACK}",
    ),
    "traffic": Runbook(
        means="Requests do not come any more where they were usual, or find no room.",
        look=(_STATUS, "fairlead doctor"),
        do="Ask a model yourself with `fairlead predict`: if that works, look at the callers and what lies "
        "between. If requests are refused, add gateway workers, or look for what made answers slow.",
    ),
    "rejections": Runbook(
        means="More requests than usual break the data contract: a caller sends something else than before.",
        look=(
            'fairlead predictions {model} --sql "SELECT violations, count(*) FROM predictions '
            "WHERE status = 'rejected' GROUP BY ALL\"",
            "fairlead contract {model}",
        ),
        do="Tell whoever sends them which field and which rule. If the new values are right, register a "
        "version whose contract takes them.",
    ),
    "quality": Runbook(
        means="What callers send has gaps, values out of range or new categories, more than the reference "
        "has.",
        look=("fairlead drift {model}", "fairlead contract {model}"),
        do="Find where the feature is made: a broken join or a changed unit is mended there, not by a new "
        "model.",
    ),
    "drift": Runbook(
        means="A feature or the output is distributed otherwise than in the reference, beyond chance and "
        "far enough to matter. By itself that does not say that predictions are worse.",
        look=("fairlead drift {model}", "fairlead report {model}"),
        do="Look at the performance on labels, or its estimate, first. If it holds, watch; if it falls, "
        "retrain on data from after the change.",
    ),
    "performance": Runbook(
        means="On labels that have come, the model is worse than its reference, beyond chance.",
        look=("fairlead report {model}", "fairlead drift {model}"),
        do=f"If it began with a deployment: {_ROLLBACK} Else find which slices lose, and retrain.",
    ),
    "estimate": Runbook(
        means="Without labels, the model's own probabilities say that it has become worse.",
        look=("fairlead report {model}", "fairlead drift {model}"),
        do="Get labels for a sample of the last days to confirm it, then retrain.",
    ),
    "calibration": Runbook(
        means="Probabilities, or intervals, do not come true as often as they say.",
        look=("fairlead report {model}",),
        do="Decisions by a threshold are off until it is mended: recalibrate on recent labels, or retrain.",
    ),
    "fairness": Runbook(
        means="Groups are treated further apart than the limit, beyond chance.",
        look=("fairlead report {model}",),
        do="See which group and which rate; decide with whoever owns the policy before traffic is widened.",
    ),
    "importance": Runbook(
        means="The model leans on other features than it did on its reference.",
        look=("fairlead importance {model}", "fairlead drift {model}"),
        do="Look at the features that have gained: a leak or a broken feature shows here first.",
    ),
    "rollout": Runbook(
        means="A rollout was paused or rolled back, or was ended without success.",
        look=("fairlead rollouts {model}", "fairlead rollouts {model} {subject}"),
        do="Its journal says why. Resume it, or abort it and mend the version.",
    ),
    "gate": Runbook(
        means="A version has failed its gate, or the gate could not be run.",
        look=("fairlead gates {model}",),
        do="The report names each check; mend the version, or override with a reason that is recorded.",
    ),
    "retraining": Runbook(
        means="A retraining has failed, or has used up its budget.",
        look=("fairlead alerts {model}",),
        do="The log of the job says where it ended; what serves is not touched by it.",
    ),
    "ingest": Runbook(
        means="The prediction log is not read as fast as it is written, or the disk fills.",
        look=("fairlead doctor", "fairlead status"),
        do="Free space on the disk, and see that `ingest` runs; records wait in the log and none is lost.",
    ),
    "gateways": Runbook(
        means="A gateway has not been heard of for longer than it should.",
        look=("fairlead status", "fairlead doctor"),
        do="On its machine see whether `fairlead` runs; one that is gone for good is forgotten in an hour.",
    ),
    "monitoring": Runbook(
        means="Something that should be looked at could not be: alerts of it cannot fire.",
        look=("fairlead status", "fairlead doctor"),
        do="The sentence says what failed. Until it is mended, look yourself.",
    ),
}  # fmt: skip
"""By the kind of what was found."""


COVERAGE = Runbook(
    means="Fewer labels lie within the version's intervals, or sets of classes, than it promises: rows have "
    "come that are not like those it was calibrated on, or it was calibrated on rows that it had learnt.",
    look=("fairlead report {model}", "fairlead show {model} {version}", "fairlead drift {model}"),
    do="Register the model as a new version with recent labelled rows as `--calibration`: it need not be "
    "trained anew. Or let its intervals follow the labels: `fairlead configure {model} "
    "adaptive_coverage=0.005`. Until then take them for too narrow.",
)  # fmt: skip
"""Of a version whose intervals or sets do not hold."""


def _quick(name: str, title: str, kind: Kind, severity: Severity, subject: str = "*", fire: int = 2) -> Rule:
    """A rule for what is looked at every second."""
    return Rule(
        name=name, title=title, kind=kind, severity=severity, subject=subject, fire=fire, of=fire + 1,
        clear=15, clear_seconds=30.0, cooldown=5 * _MINUTE, forget=15 * _MINUTE,
    )  # fmt: skip


DEFAULTS: tuple[Rule, ...] = (
    _quick("errors", "Predictions fail", "errors", "page", "failed answers"),
    _quick("fallbacks", "A version does not answer itself", "errors", "warning", "answers by a fallback"),
    _quick("latency", "Answers are slow", "latency", "page"),
    _quick("no-traffic", "Requests have stopped", "traffic", "warning", "silence"),
    _quick("refusals", "Requests find no room", "traffic", "page", "refused requests"),
    _quick("rejections", "Requests break the contract", "rejections", "warning"),
    _quick("gateway-down", "A gateway is gone", "gateways", "page", fire=1),
    _quick("ingest", "The prediction log lags, or its disk fills", "ingest", "warning"),
    _quick("blind", "Something could not be looked at", "monitoring", "warning"),
    _quick("rollout", "A rollout did not go on", "rollout", "warning", fire=1),
    _quick("gate", "A version failed its gate", "gate", "info", fire=1),
    _quick("retraining", "A retraining failed", "retraining", "warning", fire=1),
    Rule(name="quality", title="Bad data", kind="quality", fire=2, of=3, cooldown=_HOUR),
    Rule(
        name="drift", title="Drift", kind="drift", severity="info", fire=2, of=3, cooldown=6 * _HOUR,
        gross=0.2,  # of all rows hold something else: nobody need look twice
    ),
    Rule(name="performance", title="The model has become worse", kind="performance", cooldown=_HOUR),
    Rule(
        name="estimate", title="The model seems to have become worse", kind="estimate", fire=2, of=3,
        cooldown=6 * _HOUR,
    ),
    Rule(
        name="calibration", title="Probabilities are off", kind="calibration", subject="scores*", fire=2,
        of=3, cooldown=6 * _HOUR,
    ),
    # It rings by evidence that may be looked at as often as one likes: one look is enough.
    Rule(
        name="coverage", title="Intervals do not hold what they promise", kind="calibration",
        subject="coverage", cooldown=6 * _HOUR, runbook=COVERAGE,
    ),
    Rule(
        name="adaptation", title="Intervals cannot follow their labels", kind="calibration",
        subject="adaptation", cooldown=6 * _HOUR, runbook=COVERAGE,
    ),
    Rule(
        name="fairness", title="Groups are treated apart", kind="fairness", fire=2, of=3, cooldown=6 * _HOUR,
    ),
    Rule(
        name="importance", title="The model leans on other features", kind="importance", severity="info",
        clear=1, cooldown=6 * _HOUR,  # it is looked at once a day
    ),
)  # fmt: skip
