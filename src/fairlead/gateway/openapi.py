"""OpenAPI 3.1 documents of the data plane, made from the route table: of the whole, and of one model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from fairlead import __version__
from fairlead.contracts.document import json_schema
from fairlead.gateway.openapi_faces import FACE_SCHEMAS
from fairlead.gateway.routes import Route
from fairlead.serving.envelope import BatchEnvelope, Envelope
from fairlead.serving.live import LiveModel

__all__ = ["data_plane_document", "model_document"]

_REQUEST_ID = {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"}
_UNIT = {"type": ["string", "integer", "null"], "description": "User or entity that traffic is split by."}
_EVENT: dict[str, Any] = {
    "metric": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,100}$"},
    "value": {"type": "number", "minimum": -1e307, "maximum": 1e307},
    "at": {"type": "string", "format": "date-time"},
    "outcome_id": {"type": "string", "minLength": 1, "maxLength": 200},
    "mode": {"enum": ["set", "add"]},
}
_ID = {"type": "string", "minLength": 1, "maxLength": 200}
_ROW = {"type": "integer", "minimum": 0, "maximum": 1_000_000, "description": "Row of a batch; 0 by default."}

_LABEL: dict[str, Any] = {
    **{name: schema for name, schema in _EVENT.items() if name != "mode"},
    "value": {"type": "string", "maxLength": 1000, "description": "A label in words replaces earlier ones."},
}

_PREDICTION_ID = {
    "name": "request_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    "description": "The id of the request; of a row of a batch with `#` and its number behind, as `%23`.",
}
_UNDER_WAY: dict[str, Any] = {
    "description": "It is being found out: ask again at `location`, after `retry-after` seconds.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["request_id", "status", "location"],
                "properties": {
                    "request_id": {"type": "string"},
                    "status": {"const": "working"},
                    "location": {"type": "string"},
                },
            }
        }
    },
}
_NUMBER = {"type": "number"}
_EXPLANATION: dict[str, Any] = {
    "type": "object",
    "required": [
        "request_id",
        "row",
        "model",
        "version",
        "explains",
        "value",
        "base",
        "features",
        "sentence",
    ],
    "properties": {
        "request_id": {"type": "string"},
        "row": {"type": "integer"},
        "model": {"type": "string"},
        "version": {"type": "string"},
        "explains": {"type": "string", "description": "The number that is explained."},
        "value": {**_NUMBER, "description": "That number, of this row."},
        "base": {**_NUMBER, "description": "Its mean over the rows that this one was compared with."},
        "features": {
            "type": "array",
            "description": "How far each moved the number, the largest first; these add up to value - base",
            "items": {
                "type": "object",
                "required": ["feature", "contribution", "low", "high"],
                "properties": {
                    "feature": {"type": "string"},
                    "contribution": _NUMBER,
                    "low": _NUMBER,
                    "high": _NUMBER,
                },
            },
        },
        "sentence": {"type": "string"},
    },
}

_LEADING: dict[str, Any] = {
    "type": ["object", "null"],
    "description": "What the explanations in its answers are measured in, or why there are none.",
    "properties": {
        "scale": {"enum": ["number", "probability", "log_odds", None]},
        "base": {"type": ["number", "object", "null"]},
        "reason": {"type": ["string", "null"]},
    },
}

_OUTCOME_SCHEMAS: dict[str, Any] = {
    "OutcomeOfRequest": {
        "type": "object",
        "required": ["request_id", "metric", "value"],
        "additionalProperties": False,
        "properties": {"request_id": _ID, "row": _ROW, **_EVENT},
    },
    "OutcomeOfUnit": {
        "type": "object",
        "required": ["unit", "metric", "value"],
        "additionalProperties": False,
        "properties": {"unit": _ID, **_EVENT},
    },
    "LabelOfRequest": {
        "type": "object",
        "required": ["request_id", "metric", "value"],
        "additionalProperties": False,
        "properties": {"request_id": _ID, "row": _ROW, **_LABEL},
    },
    "LabelOfUnit": {
        "type": "object",
        "required": ["unit", "metric", "value"],
        "additionalProperties": False,
        "properties": {"unit": _ID, **_LABEL},
    },
    "Outcome": {
        "oneOf": [
            {"$ref": "#/components/schemas/OutcomeOfRequest"},
            {"$ref": "#/components/schemas/OutcomeOfUnit"},
            {"$ref": "#/components/schemas/LabelOfRequest"},
            {"$ref": "#/components/schemas/LabelOfUnit"},
        ]
    },
    "Outcomes": {
        "oneOf": [
            {"$ref": "#/components/schemas/Outcome"},
            {"type": "array", "items": {"$ref": "#/components/schemas/Outcome"}, "minItems": 1},
        ]
    },
}


def data_plane_document(routes: Sequence[Route], models: Sequence[str]) -> dict[str, Any]:
    """Every route, with `{model}` as a parameter and features of any shape."""
    features = {"type": "object", "description": "See the model's own document for its contract."}
    paths: dict[str, Any] = {}
    for route in routes:
        parameters = []
        if "{model}" in route.template:
            schema: dict[str, Any] = {"type": "string"}
            if models:
                schema["examples"] = list(models)
            parameters.append({"name": "model", "in": "path", "required": True, "schema": schema})
        if "{version}" in route.template:
            parameters.append(
                {"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}
            )
        operation = _operation(route)
        if parameters:
            operation["parameters"] = parameters
        paths.setdefault(route.template, {})[route.method.lower()] = operation
    return _document("Fairlead data plane", paths, features)


def model_document(routes: Sequence[Route], model: LiveModel) -> dict[str, Any]:
    """The routes of one model with its name filled in and its contract as the type of `features`."""
    versions = sorted(model.pins)
    paths: dict[str, Any] = {}
    for route in routes:
        if "{model}" not in route.template or route.face != "fairlead":
            continue
        path = route.template.replace("{model}", model.name)
        operation = _operation(route)
        if "{version}" in path:
            schema = {"type": "string", "enum": versions}
            operation["parameters"] = [{"name": "version", "in": "path", "required": True, "schema": schema}]
        paths.setdefault(path, {})[route.method.lower()] = operation
    features = json_schema(model.reader.contract)
    features.pop("$schema", None)
    return _document(f"{model.name} on Fairlead", paths, features)


def _document(title: str, paths: dict[str, Any], features: dict[str, Any]) -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__},
        "paths": paths,
        "components": {"schemas": _schemas(features)},
    }


def _operation(route: Route) -> dict[str, Any]:
    kind = route.media_type.partition(";")[0]
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{route.template.strip('/').replace('/', '_') or 'root'}",
        "summary": route.summary,
        "responses": {
            "200": {
                "description": "Done.",
                "content": {kind: {"schema": {"$ref": f"#/components/schemas/{route.answer}"}}},
            },
            "default": _refused(route),
        },
    }
    if route.handler == "explanation":
        operation["parameters"] = [_PREDICTION_ID]
        operation["responses"]["202"] = _UNDER_WAY
    operation["operationId"] = operation["operationId"].replace("{", "").replace("}", "").replace(".", "_")
    operation["operationId"] = operation["operationId"].replace(":", "_")
    if route.handler == "contract":
        content = operation["responses"]["200"]["content"]
        content["application/schema+json"] = content.pop(kind)
    if route.request is not None:
        schema = {"$ref": f"#/components/schemas/{route.request}"}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _refused(route: Route) -> dict[str, Any]:
    if route.face in ("v2", "tensorflow"):
        schema = {"$ref": "#/components/schemas/PlainError"}
        return {"description": "Refused or failed.", "content": {"application/json": {"schema": schema}}}
    return {
        "description": "Refused or failed: a problem document with a stable `code`.",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _schemas(features: dict[str, Any]) -> dict[str, Any]:
    _, answers = msgspec.json.schema_components(
        [Envelope, BatchEnvelope], ref_template="#/components/schemas/{name}"
    )
    instance = {
        "type": "object",
        "required": ["features"],
        "additionalProperties": False,
        "properties": {"features": {"$ref": "#/components/schemas/Features"}, "unit": _UNIT, "entity": _UNIT},
    }
    predict = {
        "type": "object",
        "required": ["features"],
        "additionalProperties": False,
        "properties": {
            "features": {"$ref": "#/components/schemas/Features"},
            "unit": _UNIT,
            "entity": _UNIT,
            "request_id": _REQUEST_ID,
            "return_probabilities": {"type": "boolean"},
            "explain": {"enum": ["top", None]},
        },
    }
    batch = {
        "type": "object",
        "required": ["instances"],
        "additionalProperties": False,
        "properties": {
            "instances": {"type": "array", "items": instance, "minItems": 1, "maxItems": 1000},
            "request_id": _REQUEST_ID,
            "return_probabilities": {"type": "boolean"},
        },
    }
    arm = {
        "type": "object",
        "required": ["name", "version", "role", "stage", "share", "contract_id", "resident"],
        "properties": {
            "name": {"type": "string"},
            "version": {"type": "string"},
            "role": {"enum": ["stable", "control", "canary", "variant", "shadow"]},
            "stage": {"type": "string"},
            "share": {"type": "number", "minimum": 0, "maximum": 1},
            "resident": {"type": "boolean"},
            "contract_id": {"type": "string"},
        },
    }
    model = {
        "type": "object",
        "required": ["model", "generation", "arms"],
        "properties": {
            "model": {"type": "string"},
            "generation": {"type": "integer"},
            "experiment": {"type": ["string", "null"]},
            "override": {"type": ["string", "null"]},
            "arms": {"type": "array", "items": arm},
        },
    }
    violation = {
        "type": "object",
        "required": ["field", "rule", "value", "expected"],
        "properties": {
            "row": {"type": "integer"},
            "field": {"type": "string"},
            "rule": {"type": "string"},
            "value": {},
            "expected": {"type": "string"},
        },
    }
    problem = {
        "type": "object",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "code": {"type": "string"},
            "detail": {"type": "string"},
            "remedy": {"type": ["string", "null"]},
            "retryable": {"type": "boolean"},
            "request_id": {"type": ["string", "null"]},
            "violations": {"type": "array", "items": violation},
        },
    }
    return {
        **answers,
        "Features": features,
        "PredictRequest": predict,
        "BatchRequest": batch,
        **_OUTCOME_SCHEMAS,
        **FACE_SCHEMAS,
        "Accepted": _object(accepted={"type": "integer", "minimum": 1}),
        "Models": _object(models={"type": "array", "items": model}),
        "Model": model,
        "Version": _object(
            model={"type": "string"},
            version={"type": "string"},
            digest={"type": "string"},
            contract_id={"type": "string"},
            leading_features=_LEADING,
        ),
        "Explanation": _EXPLANATION,
        "Live": _object(live={"const": True}),
        "Ready": _object(ready={"const": True}),
        "Health": _object(status={"type": "string"}, models={"type": "object"}),
        "Object": {"type": "object"},
        "Text": {"type": "string"},
        "Problem": problem,
    }


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}
