"""`POST /invocations` and `GET /ping` for the default model, as MLflow and SageMaker call a container.

JSON has one of `dataframe_split`, `dataframe_records`, `instances` and `inputs`; CSV has a header with the
names of features, or else the features in contract order. The answer is `{"predictions": […]}`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

from fairlead.contracts.contract import Contract, Field
from fairlead.errors import MalformedRequest
from fairlead.gateway.asking import asked_by, untyped_ask
from fairlead.gateway.inference.infer import require_version_ready
from fairlead.gateway.protocol import Request, response
from fairlead.gateway.routes import Match
from fairlead.gateway.tfserving import named_tensors, rows_of
from fairlead.gateway.values import Array, column_of, columns_of_records, object_of
from fairlead.runtimes.tables import Answers
from fairlead.serving.dataplane import DataPlane
from fairlead.serving.envelope import encode
from fairlead.serving.live import LiveModel
from fairlead.serving.tables import infer_table

__all__ = ["InvocationsRest"]

_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")


class InvocationsRest:
    """Answers for the one default model."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self.handlers = {"invocations": self._invoke, "ping": self._ping}

    async def _ping(self, request: Request, match: Match) -> bytes:
        model = self._plane.model(match[1])
        require_version_ready(model.pinned(model.stable_version()))
        return response(200, b'{"ready":true}')

    async def _invoke(self, request: Request, match: Match) -> bytes:
        model = self._plane.model(match[1])
        asked = asked_by(request.text, request.received)
        self._plane.admit(model, asked.received, asked.deadline)
        kind = (request.header(b"content-type") or "application/json").lower()
        form = kind.partition(";")[0].strip()
        if form == "text/csv":
            tensors = _of_csv(model.reader.contract, request.body, kind)
        elif form in ("application/json", "application/json-numpy-split"):
            tensors = _of_json(model, request.body)
        else:
            raise MalformedRequest(
                f"Content-Type {form[:60]!r} is not taken.", remedy="Send application/json or text/csv."
            )
        ask = untyped_ask(model, tensors, asked)
        answer = await infer_table(self._plane, model, ask)
        lines = b"x-request-id: %b\r\n%b" % (ask.request_id.encode(), answer.arm.headers)
        return response(200, encode({"predictions": _predictions(answer.answers)}), lines)


def _predictions(answers: Answers) -> list[Any]:
    values: list[Any] = answers.values.tolist()
    if answers.scores is None:
        return values
    return [
        [{"id": key, "score": score} for key, score in zip(ids, scores, strict=True)]
        for ids, scores in zip(values, answers.scores.tolist(), strict=True)
    ]


def _of_json(model: LiveModel, body: bytes) -> dict[str, Array]:
    found = object_of(body, (*_FORMS, "params", "signature_name"))
    given = [name for name in _FORMS if name in found]
    if len(given) != 1:
        raise MalformedRequest(
            "The body has not exactly one of " + ", ".join(map(repr, _FORMS)) + ".",
            remedy="Send one of them.",
        )
    value = found[given[0]]
    match given[0]:
        case "dataframe_split":
            return _of_split(value)
        case "dataframe_records":
            if not isinstance(value, list) or not value or not all(isinstance(row, dict) for row in value):
                raise MalformedRequest("'dataframe_records' is no list of objects.")
            return columns_of_records(value)
        case "instances":
            return rows_of(model, value)
        case _:
            return named_tensors(model, value)


def _of_split(value: Any) -> dict[str, Array]:
    columns = value.get("columns") if isinstance(value, dict) else None
    data = value.get("data") if isinstance(value, dict) else None
    if not isinstance(columns, list) or not isinstance(data, list) or not data:
        raise MalformedRequest(
            "'dataframe_split' has no lists 'columns' and 'data'.",
            remedy='Send {"columns": [names], "data": [[values], …]}.',
        )
    if not all(isinstance(name, str) for name in columns) or len(set(columns)) != len(columns):
        raise MalformedRequest("'columns' does not hold different names.")
    return _named(columns, data)


def _named(names: Sequence[str], rows: Sequence[Any]) -> dict[str, Array]:
    for index, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            raise MalformedRequest(f"Row {index} does not have {len(names)} values.")
    return {name: column_of([row[place] for row in rows]) for place, name in enumerate(names)}


# --- CSV ----------------------------------------------------------------------------------------------------


def _of_csv(contract: Contract, body: bytes, kind: str) -> dict[str, Array]:
    try:
        rows = [row for row in csv.reader(io.StringIO(body.decode("utf-8-sig")), strict=True) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise MalformedRequest(f"The body is no CSV in UTF-8: {error}.") from error
    if not rows:
        raise MalformedRequest("The CSV has no rows.", remedy="Send at least one.")
    names = [name.strip() for name in rows[0]]
    fields = {field.name: field for field in contract.inputs}
    if set(names) & set(fields) or "header=present" in kind.replace(" ", ""):
        rows = rows[1:]
    else:
        names = list(contract.names)
    if not rows or len(set(names)) != len(names):
        raise MalformedRequest("The CSV has a header without rows, or names twice.")
    parsers = [_parser(fields.get(name)) for name in names]
    return _named(
        names,
        [
            [parse(cell) for parse, cell in zip(parsers, row, strict=False)] + row[len(names) :]
            for row in rows
        ],
    )


def _parser(field: Field | None) -> Callable[[str], Any]:
    """How a cell becomes a value; what is none of the field's stays text, which the contract then refuses."""
    match None if field is None or field.shape else field.type:
        case "float":
            return lambda cell: _number(cell, float)
        case "int":
            return lambda cell: _number(cell, int, float)
        case "bool":
            return lambda cell: {"": None, "true": True, "false": False}.get(cell.strip().lower(), cell)
        case _:
            return lambda cell: cell or None


def _number(cell: str, *kinds: Callable[[str], Any]) -> Any:
    if not cell.strip():
        return None
    for kind in kinds:
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell
