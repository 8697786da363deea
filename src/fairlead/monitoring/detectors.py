"""Streaming detectors over the losses of labelled answers, as river has them: an option beside `risk.py`.

    adwin           a window that is cut where its two halves differ (Bifet & Gavaldà, SDM 2007)
    page-hinkley    sums of what is above the mean so far, up and down (Page, Biometrika 41, 1954)

Both with river's own parameters. What they find is a change; it is an alarm while it is for the worse, and
the mean loss since the step in which it was found is above the limit that holds for the risk. How often they
ring without cause is not known beforehand: `bench/simulated_performance.py` shows it.

Losses are known as counts of steps of time. Within a step their order is drawn, the same at every look.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import msgspec
import numpy as np

from fairlead.errors import MissingExtra
from fairlead.monitoring.risk import Step
from fairlead.registry.versions import DetectorName

__all__ = ["Followed", "Follower", "follow"]


class Followed(msgspec.Struct, frozen=True, kw_only=True):
    """What a detector says after all steps. `since` is the step (counted from 0) in which it last found a
    rise, unless it has found a fall after it; `n` rows since then have the mean loss `mean`."""

    detector: DetectorName
    limit: float
    rings: bool
    since: int | None = None
    n: int = 0
    mean: float | None = None


class _Detector(Protocol):
    def changed(self, loss: float) -> int:
        """1 when the loss completes a rise, -1 a fall, 0 otherwise."""


class Follower:
    """Follows steps, one after the other. Raises `MissingExtra` without river."""

    def __init__(self, detector: DetectorName, limit: float) -> None:
        self._name = detector
        self._detector = _made(detector)
        self._limit = limit
        self._steps = 0
        self._since: int | None = None
        self._n, self._total = 0, 0.0

    def add(self, step: Step) -> None:
        """The next step: of its `n` rows `total` have a loss of 1, the others of 0."""
        losses = np.zeros(step.n)
        losses[: round(step.total)] = 1.0
        np.random.default_rng(self._steps).shuffle(losses)
        for loss in losses.tolist():
            change = self._detector.changed(loss)
            if change:
                self._since = self._steps if change > 0 else None
                self._n, self._total = 0, 0.0
        if self._since is not None:
            self._n += step.n
            self._total += step.total
        self._steps += 1

    @property
    def now(self) -> Followed:
        """What is known after the last step."""
        mean = self._total / self._n if self._n else None
        return Followed(
            detector=self._name,
            limit=self._limit,
            rings=mean is not None and mean > self._limit,
            since=self._since,
            n=self._n,
            mean=mean,
        )


def follow(detector: DetectorName, steps: Iterable[Step], limit: float) -> Followed:
    """What the detector says after these steps. Raises `MissingExtra` without river."""
    follower = Follower(detector, limit)
    for step in steps:
        follower.add(step)
    return follower.now


def _made(name: DetectorName) -> _Detector:
    try:
        from river import drift
    except ImportError as error:
        raise MissingExtra(
            f"The detector {name!r} needs river.", remedy="Run `pip install 'fairlead[river]'`."
        ) from error
    kinds: Any = drift  # it has no types of its own
    return _Adwin(kinds.ADWIN()) if name == "adwin" else _PageHinkley(kinds.PageHinkley)


class _Adwin:
    def __init__(self, window: Any) -> None:
        self._window = window

    def changed(self, loss: float) -> int:
        before = self._window.estimation
        self._window.update(loss)
        if not self._window.drift_detected:
            return 0
        return 1 if self._window.estimation > before else -1


class _PageHinkley:
    """One for each direction: river's for both does not say which it was."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._up, self._down = kind(mode="up"), kind(mode="down")

    def changed(self, loss: float) -> int:
        self._up.update(loss)
        self._down.update(loss)
        found = int(self._up.drift_detected) - int(self._down.drift_detected)
        if found:
            self._up, self._down = self._kind(mode="up"), self._kind(mode="down")
        return found
