"""What is known of how one version's answers met their labels, and what is measured of it: data."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from fairlead.contracts.contract import Output, class_name
from fairlead.contracts.uncertainty import Uncertainty
from fairlead.monitoring.covering import Coverage
from fairlead.monitoring.detectors import Followed
from fairlead.monitoring.estimates import Estimate, Validity
from fairlead.monitoring.performance import Figure
from fairlead.monitoring.risk import Risk
from fairlead.predictions.labelled_counts import Delays, Labelled

__all__ = ["BackTest", "Moment", "Performance", "Seen", "SlicePerformance"]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the log says of one version from `start` to `end`, arms together.

    `window` is all of it with bins of the score, `moments` the same in steps of `step`, `parts` that of each
    part of a slice and `arms` of each arm. Labels of what was answered before `mature` have come as far as
    they will. `reference` are the version's first labelled answers, or None while they are too few;
    `reference_parts` the same by slice. `steps` are hours from the reference's end on, without bins, up to
    `mature`, with the empty ones. `stated` is the accuracy that the version was registered with.
    Of a model of numbers `expected_loss` is the size of errors to expect of the window. `unseen` is the
    largest share of rows with a value of a feature where the reference has none. `uncertainty` is what the
    version says of its answers; `hours` are all up to `mature`, those of the reference, too. `followed` is
    what a detector says that the model has beside the risk, or why there is none.
    """

    model: str
    version: str
    output: Output
    start: datetime
    end: datetime
    mature: datetime
    step: timedelta
    window: Labelled
    moments: tuple[Labelled, ...] = ()
    parts: tuple[Labelled, ...] = ()
    arms: tuple[Labelled, ...] = ()
    reference: Labelled | None = None
    reference_parts: tuple[Labelled, ...] = ()
    steps: tuple[Labelled, ...] = ()
    stated: float | None = None
    delays: Delays | None = None
    coverage: int | None = None
    expected_loss: Estimate | None = None
    unseen: float = 0.0
    uncertainty: Uncertainty | None = None
    hours: tuple[Labelled, ...] = ()
    followed: Followed | str | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the contract's order."""
        return tuple(class_name(one) for one in self.output.classes)

    @property
    def positive(self) -> str | None:
        """The name of the second of two classes; None of a model that has others."""
        return self.classes[1] if len(self.classes) == 2 else None


class BackTest(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate of rows whose labels have come since, beside what they showed."""

    name: str
    estimated: float
    realised: float
    off: float
    n: int


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """A step of time: what its labels show so far (`mature`: for good) and what is estimated without."""

    start: datetime
    answers: int
    labelled: int
    mature: bool
    figures: tuple[Figure, ...] = ()
    estimates: tuple[Estimate, ...] = ()


class SlicePerformance(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a slice. `n` in each figure says how much to make of it."""

    feature: str
    part: str
    answers: int
    labelled: int
    figures: tuple[Figure, ...] = ()
    before: tuple[Figure, ...] = ()


class Performance(msgspec.Struct, frozen=True, kw_only=True):
    """How well a version does. `figures` are of all labels in the window, `reference` those of its first
    labels. `join_rate` is the share of answers before `mature` that have a label. `risk` is the state of the
    alarm, with the `loss` that it watches. Estimates are of all answers in the window. `uncertainty` is how
    often labels lay within what was said of answers, and `clicks` where in rankings the right item stood."""

    model: str
    version: str
    start: datetime
    end: datetime
    mature: datetime
    answers: int
    labelled: int
    join_rate: float | None
    delays: Delays | None = None
    figures: tuple[Figure, ...] = ()
    reference: tuple[Figure, ...] = ()
    stated: float | None = None
    loss: str = ""
    risk: Risk | None = None
    estimates: tuple[Estimate, ...] = ()
    validity: Validity | None = None
    back_test: tuple[BackTest, ...] = ()
    moments: tuple[Moment, ...] = ()
    slices: tuple[SlicePerformance, ...] = ()
    arms: dict[str, tuple[Figure, ...]] = {}
    coverage: int | None = None
    uncertainty: Coverage | None = None
    clicks: tuple[Figure, ...] = ()
