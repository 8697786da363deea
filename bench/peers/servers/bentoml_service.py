"""The service that `bentoml serve` runs: one worker, adaptive batching when it is asked for."""

from __future__ import annotations

from typing import Any

import bentoml
import numpy as np
from onnx_model import BATCH, BATCH_ROWS, NAME, OnnxModel, named

batching: dict[str, Any] = (
    {"batchable": True, "max_batch_size": BATCH_ROWS, "max_latency_ms": 1000} if BATCH else {}
)


@bentoml.service(workers=1, traffic={"timeout": 30}, logging={"access": {"enabled": False}})
class Model:
    def __init__(self) -> None:
        self.model = OnnxModel()

    if NAME == "recommender":

        @bentoml.api(route="/predict", **batching)
        def predict(self, rows: list[list[int]]) -> list[dict[str, list[float]]]:
            outputs = self.model.run(rows)
            return [named(outputs, index) for index in range(len(rows))]

    else:

        @bentoml.api(route="/predict", **batching)
        def predict(self, rows: np.ndarray) -> np.ndarray:
            return self.model.run(rows)[0]
