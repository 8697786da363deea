"""Every operation of the data plane, written once: what is sent, and how the answer is read.

The first argument of each is the client's memory of recent requests; `http.py` makes a blocking and an
asynchronous method of each function.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime
from threading import Lock
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from fairlead.client.answers import BatchPrediction, Health, Prediction, ServedModel
from fairlead.client.session import Call, reading
from fairlead.client.values import plain_features, plain_value, rows_of
from fairlead.errors import MalformedRequest

__all__ = [
    "RecentRequests",
    "contract",
    "health",
    "models",
    "outcome",
    "outcomes",
    "predict",
    "predict_batch",
]

_REMEMBERED = 10_000


class RecentRequests:
    """Which model answered which of the latest 10,000 requests, so that an outcome need not name it."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, str] = OrderedDict()
        self._lock = Lock()

    def note(self, request_id: str, model: str) -> None:
        """Remembers a request, and forgets the oldest when there are too many."""
        with self._lock:
            self._models[request_id] = model
            if len(self._models) > _REMEMBERED:
                self._models.popitem(last=False)

    def model_of(self, request_id: str) -> str | None:
        """The model that answered that request, if this client asked for it lately."""
        return self._models.get(request_id)


def predict(
    recent: RecentRequests,
    model: str,
    features: Mapping[str, Any],
    *,
    unit: str | int | None = None,
    entity: str | int | None = None,
    request_id: str | None = None,
    return_probabilities: bool = False,
    explain: Literal["top"] | None = None,
    version: str | None = None,
    use_case: str | None = None,
) -> Call[Prediction]:
    """One prediction with its whole envelope.

    `features` may hold numpy scalars; NaN is sent as null. `unit` is the user or entity that traffic is split
    by. `version` pins the answer to one live version, for testing. `use_case` is noted in the prediction log.

    Raises `DataContractViolation` with `violations`, `ModelNotFound`, `VersionNotFound`, `RuntimeFailed`,
    `Overloaded`, `DeadlineExceeded`, and `AdminUnreachable` when no server answers.
    """
    body = {
        "features": plain_features(features),
        "unit": _unit(unit),
        "entity": _unit(entity),
        "request_id": request_id,
        "return_probabilities": return_probabilities or None,
        "explain": explain,
    }

    def read(answer: bytes) -> Prediction:
        prediction = _PREDICTION(answer)
        recent.note(prediction.request_id, prediction.model)
        return prediction

    return Call(
        method="POST",
        path=f"/v1/models/{quote(model, safe='')}/predict",
        body=_encoded(body),
        headers=_headers(version, use_case),
        read=read,
    )


def predict_batch(
    recent: RecentRequests,
    model: str,
    rows: Any,
    *,
    units: Sequence[str | int | None] | None = None,
    request_id: str | None = None,
    return_probabilities: bool = False,
    version: str | None = None,
    use_case: str | None = None,
) -> Call[BatchPrediction]:
    """Predictions for many rows in one request; a bad row fails alone and has `error`.

    `rows` is a list of mappings, a pandas or Polars frame, or a pyarrow table; `units` has one unit per row.
    Rows of one unit meet the same version; a batch without units meets one version as a whole.
    """
    listed = rows_of(rows)
    if units is None:
        instances: list[dict[str, Any]] = [{"features": row} for row in listed]
    else:
        given = [_unit(unit) for unit in units]
        if len(given) != len(listed):
            raise MalformedRequest(
                f"{len(given)} units were given for {len(listed)} rows.", remedy="Give one unit per row."
            )
        instances = [{"features": row, "unit": unit} for row, unit in zip(listed, given, strict=True)]
    body = {
        "instances": instances,
        "request_id": request_id,
        "return_probabilities": return_probabilities or None,
    }

    def read(answer: bytes) -> BatchPrediction:
        batch = _BATCH(answer)
        recent.note(batch.request_id, batch.model)
        return batch

    return Call(
        method="POST",
        path=f"/v1/models/{quote(model, safe='')}/predict/batch",
        body=_encoded(body),
        headers=_headers(version, use_case),
        read=read,
    )


def outcome(
    recent: RecentRequests,
    request_id: str | None,
    metric: str,
    value: float | str,
    *,
    row: int | None = None,
    at: datetime | float | None = None,
    outcome_id: str | None = None,
    mode: Literal["set", "add"] = "set",
    model: str | None = None,
    unit: str | None = None,
) -> Call[int]:
    """Reports what became of a prediction: a business event, or the true answer under the metric `label`.

    `model` may be left out for a request that this client made lately. Instead of a request, `unit` names
    the user or entity that it happened to. `set` corrects what was reported before, `add` accumulates;
    events with the same `outcome_id` count once. `at` is a time with a zone, or Unix seconds; else now.
    """
    about = model or (recent.model_of(request_id) if request_id is not None else None)
    if about is None:
        raise MalformedRequest(
            f"Which model does the outcome belong to? This client does not remember request {request_id!r}.",
            remedy="Name the model: outcome(…, model=…).",
        )
    event = {
        "request_id": request_id,
        "unit": unit,
        "row": row,
        "metric": metric,
        "value": value,
        "at": at,
        "outcome_id": outcome_id,
        "mode": mode,
    }
    return outcomes(recent, about, [event])


def outcomes(recent: RecentRequests, model: str, events: Sequence[Mapping[str, Any]]) -> Call[int]:
    """Reports many outcomes of one model in one request, all or none; answers how many were accepted.

    Each event is a mapping with the arguments of `outcome`: `request_id` or `unit`, `metric`, `value`, and
    if wanted `row`, `at`, `outcome_id`, `mode`.
    """
    return Call(
        method="POST",
        path=f"/v1/models/{quote(model, safe='')}/outcomes",
        body=msgspec.json.encode([_event(event) for event in events]),
        read=_accepted,
    )


def models(recent: RecentRequests) -> Call[tuple[ServedModel, ...]]:
    """The models that take traffic, with the arms of each."""
    return Call(method="GET", path="/v1/models", read=lambda answer: _MODELS(answer).models)


def contract(recent: RecentRequests, model: str) -> Call[dict[str, Any]]:
    """The JSON Schema of the features that the model takes."""
    return Call(method="GET", path=f"/v1/models/{quote(model, safe='')}/contract", read=_OBJECT)


def health(recent: RecentRequests) -> Call[Health]:
    """The state of the gateway that answers; `ready` tells whether it can predict."""
    return Call(method="GET", path="/health", read=reading(Health))


# --- small things -------------------------------------------------------------------------------------------


class _Models(msgspec.Struct):
    models: tuple[ServedModel, ...]


class _Accepted(msgspec.Struct):
    accepted: int


_PREDICTION = reading(Prediction)
_BATCH = reading(BatchPrediction)
_MODELS = reading(_Models)
_OBJECT = reading(dict[str, Any])
_ACCEPTED = reading(_Accepted)


def _accepted(answer: bytes) -> int:
    return _ACCEPTED(answer).accepted


def _encoded(body: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode({name: value for name, value in body.items() if value is not None})


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in event.items() if value is not None}
    return {
        name: _instant(value) if name == "at" else plain_value(value, name) for name, value in given.items()
    }


def _headers(version: str | None, use_case: str | None) -> dict[str, str]:
    headers = {"x-model-version": version, "x-use-case": use_case}
    for name, text in headers.items():
        if text is not None and not (text.isascii() and text.isprintable()):
            raise MalformedRequest(
                f"{text!r} cannot stand in the header {name}.", remedy="Use visible ASCII characters."
            )
    return {name: text for name, text in headers.items() if text is not None}


def _unit(unit: Any) -> Any:
    return plain_value(unit, "unit")


def _instant(at: Any) -> Any:
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise MalformedRequest(
                f"{at} has no time zone.", remedy="Use datetime.now(timezone.utc), or Unix seconds."
            )
        return at.isoformat()
    return at
