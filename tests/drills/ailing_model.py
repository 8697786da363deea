"""A model that is well until a file says otherwise."""

import time
from pathlib import Path
from typing import Any

import numpy as np


class Ailing:
    """Answers zeros; while the file holds `fail` it raises, while it holds a number it takes such seconds."""

    def __init__(self, path: str) -> None:
        self.path = path

    def fit(self) -> "Ailing":
        return self

    def predict(self, rows: Any) -> Any:
        told = Path(self.path).read_text() if Path(self.path).exists() else ""
        if told == "fail":
            raise ValueError("no")
        if told:
            time.sleep(float(told))
        return np.zeros(len(rows))
