"""What a run of a model costs by its rows, learnt from its runs: seconds ≈ a·rows + b.

Pure. Least squares over all runs so far, each new run weighing more than those before (0.95 per run), so that
a machine that becomes slow is noticed within some tens of runs.
"""

from __future__ import annotations

import math

__all__ = ["RunCosts"]

_FORGETTING = 0.95
_ENOUGH = 2
_SLOWEST = 4.0


class RunCosts:
    """The line through what was observed. `a` seconds per row and `b` per run are never negative; `slip` is
    how many times longer rows have waited of late than the line said, and at least 1."""

    __slots__ = ("_count", "_n", "_nn", "_ny", "_w", "_y", "a", "b", "slip")

    def __init__(self) -> None:
        self.a = 0.0
        self.b = 0.0
        self.slip = 1.0
        self._count = 0
        self._w = self._n = self._nn = self._y = self._ny = 0.0

    @property
    def known(self) -> bool:
        """Whether enough runs were observed to believe it."""
        return self._count >= _ENOUGH

    def observe(self, rows: int, seconds: float) -> None:
        """Learns from one run."""
        self._count += 1
        keep = _FORGETTING
        self._w = keep * self._w + 1.0
        self._n = keep * self._n + rows
        self._nn = keep * self._nn + rows * rows
        self._y = keep * self._y + seconds
        self._ny = keep * self._ny + rows * seconds
        mean, level = self._n / self._w, self._y / self._w
        spread = self._nn / self._w - mean * mean
        if spread > 1e-6 * mean * mean:
            slope = (self._ny / self._w - mean * level) / spread
        else:
            # Runs of one size tell nothing of the two parts: half each, until another size comes.
            slope = level / (2.0 * mean)
        self.a = min(max(slope, 0.0), level / mean)
        self.b = max(level - self.a * mean, 0.0)

    def waited(self, expected: float, seconds: float) -> None:
        """Learns from how long rows waited that were expected to wait so long."""
        ratio = min(max(seconds / expected, 1.0), _SLOWEST)
        self.slip += (1.0 - _FORGETTING) * (ratio - self.slip)

    def seconds(self, rows: int, per_run: int) -> float:
        """How long so many rows take, in runs of at most `per_run`, one after the other."""
        return self.a * rows + self.b * math.ceil(rows / per_run)

    def rows_within(self, seconds: float, most: int) -> int:
        """The most rows, from 1 to `most`, whose run takes no longer."""
        if self.a <= 0.0:
            return most
        return max(1, min(most, int((seconds - self.b) / self.a)))
