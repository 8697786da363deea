"""A model with seeded mistakes: for which inputs it raises, how long it takes, which unit it reckons in."""

import time
from typing import Any

import numpy as np


class Seeded:
    """Doubles its one feature, taken in `unit`; raises for a share of them, and sleeps for a while in each
    run."""

    def __init__(self, errors: float = 0.0, seconds: float = 0.0, unit: float = 1.0) -> None:
        self.unit = unit
        self.errors = errors
        self.seconds = seconds

    def fit(self) -> "Seeded":
        """What scikit-learn expects of a model."""
        return self

    def predict(self, rows: Any) -> Any:
        """Twice the feature."""
        if self.seconds:
            time.sleep(self.seconds)
        values = np.asarray(rows, dtype=float).reshape(-1)
        if np.any(values % 100 < 100 * self.errors):
            raise ValueError("seeded")
        return values * 2 * self.unit
