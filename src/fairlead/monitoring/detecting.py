"""Detectors of versions from look to look: what a detector has seen it need not see again."""

from __future__ import annotations

import threading
from typing import NamedTuple

from fairlead.errors import MissingExtra
from fairlead.monitoring.answered import risk_limit, risk_steps
from fairlead.monitoring.detectors import Followed, Follower
from fairlead.monitoring.measured import Seen
from fairlead.monitoring.risk import Step
from fairlead.registry.versions import DetectorName

__all__ = ["Followers"]

_MOST = 256


class Followers:
    """One for each version; any thread may ask. A detector begins anew where an hour that it has seen is not
    what it was, as after a label that was corrected."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str], _Held] = {}

    def followed(self, seen: Seen, name: DetectorName, tolerance: float) -> Followed | str | None:
        """What the detector says of a version; why it says nothing, where its library is missing, and None
        where there is no reference."""
        limit = risk_limit(seen, tolerance=tolerance)
        if limit is None:
            return None
        steps = risk_steps(seen)
        place = (seen.model, seen.version)
        with self._lock:
            held = self._held.get(place)
            if held is None or not held.goes_on(name, limit, steps):
                try:
                    held = _Held(name, limit, [], Follower(name, limit))
                except MissingExtra as error:
                    return str(error)
                while len(self._held) >= _MOST:
                    self._held.pop(next(iter(self._held)))
                self._held[place] = held
            for step in steps[len(held.steps) :]:
                held.follower.add(step)
                held.steps.append(step)
            return held.follower.now


class _Held(NamedTuple):
    name: DetectorName
    limit: float
    steps: list[Step]
    follower: Follower

    def goes_on(self, name: DetectorName, limit: float, steps: list[Step]) -> bool:
        """Whether these steps begin with those that were followed."""
        same = (self.name, self.limit) == (name, limit)
        return same and steps[: len(self.steps)] == self.steps
