"""How each server is asked and how its answer is read: pure functions between rows and JSON documents."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.peers.models import Model, Row, features

__all__ = ["DIALECTS", "Dialect", "is_right"]

_V2_TYPES = {"float32": "FP32", "int64": "INT64"}


class Dialect:
    """One server's own JSON. `path` has `{model}` where a name stands."""

    def __init__(
        self,
        path: str,
        ask: Callable[[Model, Row, int], Any],
        read: Callable[[Model, Any], list[float]],
        version: Callable[[Any], str] = lambda document: "v1",
    ) -> None:
        self.path = path
        self._ask, self._read, self._version = ask, read, version

    def body(self, model: Model, row: Row, index: int) -> str:
        """The request body of the row with that index."""
        return json.dumps(self._ask(model, row, index), separators=(",", ":"))

    def answer(self, model: Model, raw: bytes) -> tuple[str, list[float]] | None:
        """The version that answered, and the numbers of its output tensors in order; None when it is no such
        answer."""
        try:
            document = json.loads(raw)
            return self._version(document), [float(number) for number in self._read(model, document)]
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return None


def is_right(answer: tuple[str, list[float]] | None, wanted: Mapping[str, Sequence[float]]) -> bool:
    """Whether the numbers are those of the version that answered, to three digits."""
    if answer is None or answer[0] not in wanted:
        return False
    numbers = wanted[answer[0]]
    return len(answer[1]) == len(numbers) and all(
        math.isclose(given, right, rel_tol=1e-3, abs_tol=1e-4)
        for given, right in zip(answer[1], numbers, strict=True)
    )


def _named(model: Model, row: Row, index: int) -> Any:
    return {"features": features(model, row)}


def _named_with_unit(model: Model, row: Row, index: int) -> Any:
    body: dict[str, Any] = {"features": features(model, row), "unit": f"user-{index}"}
    # The others answer the probabilities unasked.
    return body | {"return_probabilities": True} if model.name == "forest" else body


def _v2(model: Model, row: Row, index: int) -> Any:
    kind = _V2_TYPES[model.dtype]
    return {"inputs": [{"name": model.input, "shape": [1, model.width], "datatype": kind, "data": row}]}


def _rows(model: Model, row: Row, index: int) -> Any:
    return {"rows": [row]}


def _tensors(model: Model, row: Row, index: int) -> Any:
    return {"inputs": {model.input: row if model.name == "recommender" else [row]}}


def _read_envelope(model: Model, document: Any) -> list[float]:
    if model.name == "forest":
        return list(document["probabilities"].values())
    prediction = document["prediction"]
    if model.name == "recommender":
        return [item["id"] for item in prediction] + [item["score"] for item in prediction]
    return list(prediction)


def _read_named(model: Model, document: Any) -> list[float]:
    return [number for name in model.outputs for number in document[name]]


def _read_v2(model: Model, document: Any) -> list[float]:
    held = {output["name"]: output["data"] for output in document["outputs"]}
    return [number for name in model.outputs for number in held[name]]


def _read_first(model: Model, document: Any) -> list[float]:
    first = document[0]
    return _read_named(model, first) if isinstance(first, dict) else list(first)


def _read_predictions(model: Model, document: Any) -> list[float]:
    predictions = document["predictions"]
    return [number for name in model.outputs for number in predictions[name][0]]


DIALECTS = {
    "fairlead": Dialect(
        "/v1/models/{model}/predict",
        _named_with_unit,
        _read_envelope,
        lambda found: str(found["model_version"]),
    ),
    "named": Dialect("/predict", _named, _read_named),
    "v2": Dialect("/v2/models/{model}/infer", _v2, _read_v2),
    "rows": Dialect("/predict", _rows, _read_first),
    "mlflow": Dialect("/invocations", _tensors, _read_predictions),
}
