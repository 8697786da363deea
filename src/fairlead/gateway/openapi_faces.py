"""Schemas of what the protocols of others take and answer."""

from __future__ import annotations

from typing import Any

__all__ = ["FACE_SCHEMAS"]

_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number", "boolean"]},
    "description": "In a request: `unit`, `timeout` (microseconds), `priority`, `binary_data_output`.",
}
_DATATYPES = [
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64",
    "BYTES",
]  # fmt: skip
_SHAPE = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 8}
_TENSOR: dict[str, Any] = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": _SHAPE,
        "datatype": {"enum": _DATATYPES},
        "parameters": _PARAMETERS,
        "data": {"type": "array", "description": "The elements, flat or nested; absent when binary."},
    },
}
_DESCRIBED: dict[str, Any] = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string"},
        "datatype": {"enum": _DATATYPES},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}},
    },
}


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required.split() or list(properties), "properties": properties}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_TEXT = {"type": "string"}
_ROWS = {"type": "array", "minItems": 1}

FACE_SCHEMAS: dict[str, Any] = {
    "InferenceRequest": _object(
        "inputs",
        id=_TEXT,
        parameters=_PARAMETERS,
        inputs={**_list(_TENSOR), "minItems": 1},
        outputs=_list(_object("name", name=_TEXT, parameters=_PARAMETERS)),
    ),
    "InferenceAnswer": _object(
        "model_name model_version outputs",
        model_name=_TEXT,
        model_version=_TEXT,
        id=_TEXT,
        parameters=_PARAMETERS,
        outputs=_list(_TENSOR),
    ),
    "ServerMetadata": _object(name=_TEXT, version=_TEXT, extensions=_list(_TEXT)),
    "ModelMetadata": _object(
        name=_TEXT,
        versions=_list(_TEXT),
        platform=_TEXT,
        inputs=_list(_DESCRIBED),
        outputs=_list(_DESCRIBED),
    ),
    "ModelReady": _object(name=_TEXT, ready={"const": True}),
    "Statistics": _object(model_stats=_list({"type": "object"})),
    "RepositoryIndex": _list(_object(name=_TEXT, version=_TEXT, state=_TEXT, reason=_TEXT)),
    "Empty": {"description": "Nothing."},
    "TensorFlowRequest": {
        "oneOf": [
            _object("instances", signature_name=_TEXT, instances=_ROWS),
            _object("inputs", signature_name=_TEXT, inputs={"type": ["array", "object"]}),
        ]
    },
    "TensorFlowAnswer": {
        "oneOf": [_object(predictions=_ROWS), _object(outputs={"type": ["array", "object"]})]
    },
    "InvocationRequest": {
        "oneOf": [
            _object(
                dataframe_split=_object("columns data", columns=_list(_TEXT), data={**_ROWS, "items": _ROWS})
            ),
            _object(dataframe_records={**_ROWS, "items": {"type": "object"}}),
            _object(instances=_ROWS),
            _object(inputs={"type": ["array", "object"]}),
        ]
    },
    "Invocation": _object(predictions=_ROWS),
    "PlainError": _object(error=_TEXT),
}
