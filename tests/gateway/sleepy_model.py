"""A model that takes as long as it is told, and counts how often."""

import time
from typing import Any

import numpy as np


class Sleepy:
    """From 1000 on it sleeps for the seconds above 1000; 999 tells how often it slept; else it doubles.

    It writes into its `diary`, a file, what it is about to sleep for.
    """

    def __init__(self, diary: str = "/dev/null") -> None:
        self.slept = 0
        self.diary = diary

    def fit(self) -> "Sleepy":
        return self

    def predict(self, rows: Any) -> Any:
        values = np.asarray(rows, dtype=float).reshape(-1)
        for value in values[values >= 1000]:
            self.slept += 1
            with open(self.diary, "a") as lines:
                lines.write(f"{value}\n")
            time.sleep(value - 1000)
        return np.where(values == 999, self.slept, values * 2)
