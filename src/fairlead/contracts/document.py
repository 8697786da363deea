"""A contract as a person reads and edits it: TOML or JSON in and out, and JSON Schema for callers."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec.structs import replace

from fairlead.contracts.contract import Action, Contract, Field, FieldType, Kind, Output
from fairlead.contracts.keys import known_keys
from fairlead.errors import InvalidContract

__all__ = ["json_schema", "read_contract", "to_json", "to_toml"]

_HEADER = """\
# The data contract of a model: what callers send, and what it answers. Edit it freely.
#
# Each [[inputs]] table is one feature, in the order of the model's columns.
#   type         float, int, bool or string; shape = [n] or [-1] makes it a list of numbers
#   required     false lets callers leave it out; then `default` stands in, or null
#   nullable     true lets callers send null
#   minimum, maximum, categories
#                the rules that on_range and on_category speak of; bounds are inclusive
#   on_missing, on_type, on_range, on_category
#                what a broken rule does: "reject" refuses the request, "flag" answers and says so,
#                "impute" answers with `default` in its place. Left out, it is "reject".
#   inferred     rules that were guessed from a sample. Once you stand behind one, remove it from the list
#                and let it reject.
"""

_NAMES: dict[str, tuple[str, ...]] = {
    "contract": Contract.__struct_fields__,
    "field": Field.__struct_fields__,
    "output": Output.__struct_fields__,
}

_CHOICES: dict[str, tuple[str, ...]] = {
    "type": get_args(FieldType),
    "kind": get_args(Kind),
    **dict.fromkeys(("on_missing", "on_type", "on_range", "on_category"), get_args(Action)),
}


# --- TOML and JSON ------------------------------------------------------------------------------------------


def to_toml(contract: Contract) -> str:
    """The contract as TOML that a person can edit; what has its default value is left out."""
    parts = [_HEADER, "[output]", *_entries(msgspec.to_builtins(contract.output), whole=False)]
    for field in contract.inputs:
        entries = {"name": field.name, "type": field.type, **msgspec.to_builtins(field)}
        parts += ["", "[[inputs]]", *_entries(entries, whole=field.type == "int")]
    return "\n".join(parts) + "\n"


def to_json(contract: Contract) -> str:
    """The contract as indented JSON, which `read_contract` reads as well."""
    return json.dumps(msgspec.to_builtins(contract), indent=2, ensure_ascii=False) + "\n"


def read_contract(source: Path | str) -> Contract:
    """The contract in a file or a text, TOML or JSON.

    A `Path` is a file. A string is text when it has a line break or begins with `{`, else a path. Raises
    `InvalidContract` naming the key, field or line that is wrong, and the nearest known key.
    """
    if isinstance(source, str) and ("\n" in source or source.lstrip().startswith("{")):
        return _from_document(_parse(source, "The contract", is_json=source.lstrip().startswith("{")))
    path = Path(source)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InvalidContract(
            f"Contract file {str(path)!r} cannot be read: {reason}.", remedy="Check the path."
        ) from error
    is_json = path.suffix == ".json" or (path.suffix != ".toml" and text.lstrip().startswith("{"))
    return _from_document(_parse(text, f"Contract file {path.name!r}", is_json=is_json))


def _entries(values: dict[str, Any], *, whole: bool) -> list[str]:
    return [f"{key} = {_toml(_plain(key, value, whole))}" for key, value in values.items()]


def _plain(key: str, value: Any, whole: bool) -> Any:
    """Bounds of integers without their `.0`, as a person writes them."""
    if not whole or key not in ("minimum", "maximum") or isinstance(value, int):
        return value
    return int(value) if abs(value) <= 2.0**53 and value.is_integer() else value


def _toml(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            # JSON's escapes are TOML's, save that TOML wants DEL escaped as well.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case _:
            return f"[{', '.join(_toml(item) for item in value)}]"


def _parse(text: str, what: str, *, is_json: bool) -> Any:
    try:
        return json.loads(text) if is_json else tomllib.loads(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        kind = "JSON" if is_json else "TOML"
        raise InvalidContract(f"{what} is not {kind}: {error}.", remedy="Correct that line.") from error


def _from_document(document: Any) -> Contract:
    _verify_keys(document, "contract", "the contract")
    _verify_keys(document.get("output", {}), "output", "the output")
    inputs = document.get("inputs", [])
    if not isinstance(inputs, list):
        raise InvalidContract("inputs is no list.", remedy="Write one [[inputs]] table per feature.")
    names = []
    for index, entry in enumerate(inputs):
        name = entry.get("name", index) if isinstance(entry, dict) else index
        names.append(f"field {name!r}")
        _verify_keys(entry, "field", names[-1])
    try:
        contract = msgspec.convert(document, Contract)
    except msgspec.ValidationError as error:
        raise _explained(error, names) from error
    rules: list[tuple[str, Field | Output]] = [("the output", contract.output)]
    rules += zip(names, contract.inputs, strict=True)
    for where, rule in rules:
        if not all(math.isfinite(bound) for bound in (rule.minimum, rule.maximum) if bound is not None):
            raise InvalidContract(f"{_sentence(where)}: a bound is not finite.", remedy="Leave it out.")
    return replace(contract, inputs=tuple(_canonical(field) for field in contract.inputs)).verify()


def _verify_keys(document: Any, kind: str, where: str) -> None:
    known_keys(document, _NAMES[kind], where, InvalidContract)


def _explained(error: msgspec.ValidationError, names: list[str]) -> InvalidContract:
    """msgspec's own words, with the field's name in place of its index."""
    reason, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`").removeprefix(".")
    where = "the contract"
    for index, name in enumerate(names):
        if path.startswith(f"inputs[{index}]"):
            where, path = name, path.removeprefix(f"inputs[{index}]").removeprefix(".")
    allowed = _CHOICES.get(path.rpartition(".")[2])
    remedy = f"Use one of {', '.join(allowed)}." if allowed else "Correct that key."
    key = f", {path}" if path else ""
    return InvalidContract(f"{_sentence(where)}{key}: {reason}.", remedy=remedy)


def _sentence(where: str) -> str:
    return where[0].upper() + where[1:]


def _canonical(field: Field) -> Field:
    """The field with every number written one way: 1 and 1.0, 0.0 and -0.0 are one contract with one id."""
    default = field.default
    if field.type == "float" and isinstance(default, int | float) and not isinstance(default, bool):
        try:
            default = float(default) + 0.0
        except OverflowError:
            default = math.inf
        if not math.isfinite(default):
            raise InvalidContract(f"Field {field.name!r}: the default is not finite.", remedy="Correct it.")
    return replace(
        field,
        minimum=None if field.minimum is None else field.minimum + 0.0,
        maximum=None if field.maximum is None else field.maximum + 0.0,
        default=default,
    )


# --- JSON Schema --------------------------------------------------------------------------------------------

_SCHEMA_TYPES = {"float": "number", "int": "integer", "bool": "boolean", "string": "string"}


def json_schema(contract: Contract) -> dict[str, Any]:
    """JSON Schema 2020-12 of a request's `features` object.

    Whatever it accepts is answered. Bounds and categories stand in it only where breaking them rejects; rules
    that flag or impute, and which ones were inferred, are under `x-fairlead`.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "features",
        "type": "object",
        "properties": {field.name: _property(field) for field in contract.inputs},
        "required": [field.name for field in contract.inputs if _must_be_sent(field)],
        "additionalProperties": False,
        "x-fairlead": {"contract_id": contract.id},
    }


def _must_be_sent(field: Field) -> bool:
    return field.required and field.on_missing == "reject"


def _property(field: Field) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": _SCHEMA_TYPES[field.type]}
    if field.type in ("float", "int"):
        schema["format"] = "double" if field.type == "float" else "int64"
    if field.on_range == "reject":
        schema |= _bounds(field)
    if field.shape:
        schema = {"type": "array", "items": schema}
        if field.shape != (-1,):
            schema |= {"minItems": field.shape[0], "maxItems": field.shape[0]}
    if field.categories is not None and field.on_category == "reject":
        schema["enum"] = list(field.categories)
    if field.nullable:
        schema["type"] = [schema["type"], "null"]
        if "enum" in schema:
            schema["enum"].append(None)
    if field.default is not None:
        schema["default"] = field.default
    if field.description:
        schema["description"] = field.description
    if annotations := _annotations(field):
        schema["x-fairlead"] = annotations
    return schema


def _bounds(field: Field) -> dict[str, float]:
    bounds = {"minimum": field.minimum, "maximum": field.maximum}
    return {
        key: _plain(key, value, field.type == "int") for key, value in bounds.items() if value is not None
    }


def _annotations(field: Field) -> dict[str, Any]:
    """The rules that do not reject, and what else callers may want to know."""
    found: dict[str, Any] = {}
    for action in ("on_missing", "on_type", "on_range", "on_category"):
        if getattr(field, action) != "reject":
            found[action] = getattr(field, action)
    if field.on_range != "reject":
        found |= _bounds(field)
    if field.categories is not None and field.on_category != "reject":
        found["categories"] = list(field.categories)
    if field.inferred:
        found["inferred"] = list(field.inferred)
    if field.sensitivity != "none":
        found["sensitivity"] = field.sensitivity
    return found
