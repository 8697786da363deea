"""The model as every peer loads it: one ONNX Runtime session with one thread, told by the environment which.

Runs in each peer's environment, so it needs nothing but NumPy and ONNX Runtime.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import onnxruntime as ort

FACTS: dict[str, Any] = json.loads(os.environ["BENCH_FACTS"])
NAME: str = FACTS["name"]
INPUT: str = FACTS["input"]
COLUMNS: list[str] = FACTS["columns"]
OUTPUTS: list[str] = FACTS["outputs"]
WIDTH: int = FACTS["width"]
DTYPE = np.dtype(FACTS["dtype"])
FILE = os.environ["BENCH_MODEL_FILE"]
PORT = int(os.environ["BENCH_PORT"])
BATCH = os.environ["BENCH_BATCH"] == "1"
"""Whether the server is to join waiting rows; each takes up to `BATCH_ROWS` and waits up to 1 ms for them."""
BATCH_ROWS = 32


class OnnxModel:
    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(FILE, options, providers=["CPUExecutionProvider"])

    def run(self, rows: Any) -> list[Any]:
        """The output tensors for rows as a matrix, or as anything that NumPy makes one of."""
        array = np.asarray(rows, DTYPE)
        if NAME == "recommender":
            array = array.reshape(-1)
        return list(self._session.run(OUTPUTS, {INPUT: array}))


def row_of(features: dict[str, Any]) -> list[float]:
    """Named features as one row of the matrix."""
    return [features[name] for name in COLUMNS] if COLUMNS else features[INPUT]


def named(outputs: list[Any], index: int = 0) -> dict[str, list[float]]:
    """One row's answer as JSON."""
    return {name: tensor[index].tolist() for name, tensor in zip(OUTPUTS, outputs, strict=True)}
