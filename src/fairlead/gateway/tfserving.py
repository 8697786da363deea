"""TensorFlow Serving's predict: rows (`instances`) or columns (`inputs`) in JSON."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from fairlead.errors import MalformedRequest
from fairlead.gateway.asking import asked_by, untyped_ask
from fairlead.gateway.protocol import Request, response
from fairlead.gateway.routes import Match
from fairlead.gateway.values import Array, columns_of_records, object_of, tensor_of
from fairlead.serving.dataplane import DataPlane
from fairlead.serving.envelope import encode
from fairlead.serving.live import LiveModel
from fairlead.serving.tables import infer_table

__all__ = ["TensorFlowRest", "named_tensors"]

_MEMBERS = ("signature_name", "instances", "inputs")
_DEFAULT_SIGNATURE = "serving_default"


class TensorFlowRest:
    """Answers `:predict`."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self.handlers = {"tf_predict": self._predict}

    async def _predict(self, request: Request, match: Match) -> bytes:
        model = self._plane.model(match[1])
        asked = asked_by(request.text, request.received)
        self._plane.admit(model, asked.received, asked.deadline)
        body = object_of(request.body, _MEMBERS)
        if body.get("signature_name", _DEFAULT_SIGNATURE) not in (_DEFAULT_SIGNATURE, ""):
            raise MalformedRequest(
                "The model has no such signature.",
                remedy=f"Leave signature_name out, or send {_DEFAULT_SIGNATURE!r}.",
            )
        if ("instances" in body) == ("inputs" in body):
            raise MalformedRequest("The body has not exactly one of 'instances' and 'inputs'.")
        by_row = "instances" in body
        tensors = rows_of(model, body["instances"]) if by_row else named_tensors(model, body["inputs"])
        ask = untyped_ask(model, tensors, asked, match[2])
        answer = await infer_table(self._plane, model, ask)
        lines = b"x-request-id: %b\r\n%b" % (ask.request_id.encode(), answer.arm.headers)
        content = _by_row(answer.outputs) if by_row else _by_column(answer.outputs)
        return response(200, encode(content), lines)


def rows_of(model: LiveModel, instances: Any) -> dict[str, Array]:
    """The tensors of a list of rows: objects by input name, or the bare values of the model's one input."""
    if not isinstance(instances, list) or not instances:
        raise MalformedRequest("'instances' is no list of rows.", remedy="Send at least one row.")
    if all(isinstance(row, dict) and set(row) != {"b64"} for row in instances):
        rows = [{name: _plain(value) for name, value in row.items()} for row in instances]
        names = dict.fromkeys(name for row in rows for name in row)
        if all(isinstance(row.get(name), list) for row in rows for name in names):
            return {name: tensor_of(name, [row[name] for row in rows]) for name in names}
        return columns_of_records(rows)
    if any(isinstance(row, dict) and set(row) != {"b64"} for row in instances):
        raise MalformedRequest("Some of 'instances' are objects and some are not.")
    return named_tensors(model, instances)


def named_tensors(model: LiveModel, inputs: Any) -> dict[str, Array]:
    """The tensors of columns: by input name, or of the model's one input without a name."""
    if isinstance(inputs, dict) and set(inputs) != {"b64"}:
        return {name: tensor_of(name, _plain(values)) for name, values in inputs.items()}
    spec = model.pinned(model.stable_version()).version.spec.runtime
    if len(spec.inputs) != 1:
        raise MalformedRequest(
            f"The model has {len(spec.inputs)} inputs, and the values have no name.",
            remedy=f"Name them: {', '.join(tensor.name for tensor in spec.inputs[:20])}.",
        )
    return {spec.inputs[0].name: tensor_of("inputs", _plain(inputs))}


def _plain(value: Any) -> Any:
    """The value with its `{"b64": …}` parts as texts."""
    if isinstance(value, list):
        return (
            [_plain(part) for part in value]
            if any(isinstance(part, list | dict) for part in value)
            else value
        )
    if isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str):
        try:
            return base64.b64decode(value["b64"], validate=True).decode()
        except (binascii.Error, UnicodeError, ValueError) as error:
            raise MalformedRequest(
                "A value in 'b64' is no base64 of a text in UTF-8.", remedy="Send texts as they are."
            ) from error
    return value


def _by_row(outputs: Mapping[str, Array]) -> dict[str, Any]:
    if len(outputs) == 1:
        return {"predictions": next(iter(outputs.values())).tolist()}
    columns = [array.tolist() for array in outputs.values()]
    return {"predictions": [dict(zip(outputs, row, strict=True)) for row in zip(*columns, strict=True)]}


def _by_column(outputs: Mapping[str, Array]) -> dict[str, Any]:
    if len(outputs) == 1:
        return {"outputs": next(iter(outputs.values())).tolist()}
    return {"outputs": {name: array.tolist() for name, array in outputs.items()}}
