"""A model that does not convert: plain Python with a predict method. Some inputs make it misbehave."""

import os
import time
from typing import Any

import numpy as np


class Moody:
    """Doubles its one feature; 666 kills its process, 777 hangs, 888 eats memory."""

    def fit(self) -> "Moody":
        return self

    def predict(self, rows: Any) -> Any:
        values = np.asarray(rows, dtype=float).reshape(-1)
        if 666 in values:
            os._exit(3)
        if 777 in values:
            time.sleep(3600)
        if 888 in values:
            self.hoard = [np.ones(10_000_000) for _ in range(100)]
        return values * 2
