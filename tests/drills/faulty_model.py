"""A model that does what a production model should not, when its input says so."""

import ctypes
import os
import time
from typing import Any

import numpy as np


class Faulty:
    """Doubles its one feature; numbers from 901 on make it fail, each in a way of its own."""

    def fit(self) -> "Faulty":
        return self

    def predict(self, rows: Any) -> Any:
        values = np.asarray(rows, dtype=float).reshape(-1)
        for value in values:
            match value:
                case 901:
                    raise ValueError("no")
                case 902:
                    return values[:-1]
                case 903:
                    values = values * np.nan
                case 904:
                    ctypes.string_at(0)
                case 905:
                    os.abort()
                case 906:
                    time.sleep(3600)
                case 907:
                    self.hoard = [np.ones(10_000_000) for _ in range(100)]
                case 908:
                    while True:
                        pass
        return values * 2
