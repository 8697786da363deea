"""The data contract: what a model takes, what it answers, and what to do when a value breaks a rule.

A contract is data. It says nothing about how it is checked (`compile.py`), guessed (`infer.py`) or written
down for people (`document.py`).
"""

from __future__ import annotations

import hashlib
import math
from typing import Literal

import msgspec

from fairlead.errors import InvalidContract

__all__ = ["Action", "Contract", "Field", "FieldType", "Kind", "Output", "Scalar", "class_name"]

FieldType = Literal["float", "int", "bool", "string"]
Kind = Literal["class", "number", "vector", "ranking"]
Action = Literal["reject", "flag", "impute"]
Scalar = float | int | bool | str
Sensitivity = Literal["none", "personal", "sensitive"]

_ACTIONS = {
    "on_missing": ("reject", "flag", "impute"),
    "on_type": ("reject", "impute"),
    "on_range": ("reject", "flag", "impute"),
    "on_category": ("reject", "flag", "impute"),
}


class Field(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One feature.

    `shape` is `()` for a scalar, `(n,)` for a list of exactly n numbers, `(-1,)` for a list of any length.
    `minimum` and `maximum` are inclusive. `inferred` names the rules that were guessed from a sample
    (`range`, `categories`) rather than stated by a person. `on_type` also governs values that are not finite.
    A missing value of a field that is not required becomes `default`, else null; null reaches the model as
    NaN, or as the empty string.
    """

    name: str
    type: FieldType
    shape: tuple[int, ...] = ()
    required: bool = True
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[Scalar, ...] | None = None
    default: Scalar | None = None
    on_missing: Action = "reject"
    on_type: Action = "reject"
    on_range: Action = "reject"
    on_category: Action = "reject"
    inferred: tuple[str, ...] = ()
    sensitivity: Sensitivity = "none"
    slice: bool = False
    entity: bool = False
    description: str = ""


class Output(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a prediction is.

    - `class`: one of `classes`, with a probability for each in the same order when the model gives them.
    - `number`: a finite number within `minimum` and `maximum` where given.
    - `vector`: a list of `length` finite numbers.
    - `ranking`: up to `length` objects `{"id", "score"}`, best first. A model that answers positions names
      the things at those positions in `items`; one that answers ids itself leaves it empty.

    `default`, where given, is answered when no version can: a class, a number, the numbers of a vector, or
    the ids of a ranking, best first.
    """

    kind: Kind
    classes: tuple[str | int | bool, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    length: int | None = None
    items: tuple[str | int, ...] = ()
    default: Scalar | tuple[Scalar, ...] | None = None


class Contract(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Inputs in the order of the model's columns, and the output. Two equal contracts have the same id."""

    inputs: tuple[Field, ...]
    output: Output

    @property
    def id(self) -> str:
        """`c` and 15 hexadecimal digits: SHA-256 of the contract's canonical JSON, cut to 60 bits."""
        # Read back once: a bound given as 10 is the float 10.0, and must not make another contract.
        same = msgspec.json.decode(msgspec.json.encode(self), type=Contract)
        canonical = msgspec.json.encode(same, order="sorted")
        return "c" + hashlib.sha256(canonical).hexdigest()[:15]

    @property
    def names(self) -> tuple[str, ...]:
        """The feature names in order."""
        return tuple(field.name for field in self.inputs)

    def field(self, name: str) -> Field:
        """The field of that name; KeyError when there is none."""
        for field in self.inputs:
            if field.name == name:
                return field
        raise KeyError(name)

    def verify(self) -> Contract:
        """This contract, or `InvalidContract` naming the first field and rule that make no sense."""
        if not self.inputs:
            raise InvalidContract("The contract has no inputs.", remedy="Name at least one feature.")
        seen: set[str] = set()
        for field in self.inputs:
            if field.name in seen:
                raise InvalidContract(
                    f"Field {field.name!r} is declared twice.", remedy="Give each field its own name."
                )
            seen.add(field.name)
            _verify_field(field)
        _verify_output(self.output)
        return self


def class_name(value: Scalar) -> str:
    """How a class is called where classes are keys, as in `probabilities`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _verify_field(field: Field) -> None:
    def refuse(rule: str, remedy: str) -> InvalidContract:
        return InvalidContract(f"Field {field.name!r}: {rule}.", remedy=remedy, field=field.name)

    if not field.name or field.name != field.name.strip():
        raise refuse("the name is empty or padded with blanks", "Name the field as callers will send it.")
    if any(character in '\\"' or character < " " for character in field.name):
        raise refuse("the name holds a quote, backslash or control character", "Rename the column.")
    if len(field.shape) > 1 or any(size < -1 or size == 0 for size in field.shape):
        raise refuse(f"shape {list(field.shape)} is not understood", "Use [] , [n] or [-1].")
    if field.shape and field.type not in ("float", "int"):
        raise refuse(f"a list of {field.type} is not supported", "Lists hold float or int.")
    for action, allowed in _ACTIONS.items():
        if getattr(field, action) not in allowed:
            raise refuse(
                f"{action} cannot be {getattr(field, action)!r}", f"Use one of {', '.join(allowed)}."
            )
    bounded = field.minimum is not None or field.maximum is not None
    if bounded and field.type not in ("float", "int"):
        raise refuse(f"a {field.type} has no range", "Drop minimum and maximum.")
    if field.minimum is not None and field.maximum is not None and field.minimum > field.maximum:
        raise refuse(f"minimum {field.minimum} is above maximum {field.maximum}", "Swap them.")
    if field.categories is not None:
        if not field.categories:
            raise refuse("categories is empty", "List the known categories or drop the rule.")
        if field.type == "float" or field.shape:
            raise refuse("only a scalar int, bool or string has categories", "Use minimum and maximum.")
        if not all(_is_of(field.type, value) for value in field.categories):
            raise refuse(f"a category is no {field.type}", "Give categories of the field's own type.")
    imputes = "impute" in (field.on_missing, field.on_type, field.on_range, field.on_category)
    if imputes and field.default is None:
        raise refuse("it imputes and has no default", "Give the default that stands in.")
    if field.default is not None and (field.shape or not _is_of(field.type, field.default)):
        raise refuse(f"default {field.default!r} is no {field.type}", "Give a default of the field's type.")
    if field.on_missing == "flag" and not field.nullable:
        raise refuse("on_missing = 'flag' needs a null for the model", "Set nullable, or impute.")
    if not field.required and field.default is None and not field.nullable:
        raise refuse("it is optional without default or null", "Give a default or set nullable.")


def _verify_output(output: Output) -> None:
    if output.kind == "ranking" and output.length is not None and output.length < 1:
        raise InvalidContract("The ranking's length is below 1.", remedy="Say how many items it answers.")
    if output.minimum is not None and output.maximum is not None and output.minimum > output.maximum:
        raise InvalidContract("The output's minimum is above its maximum.", remedy="Swap them.")
    if output.default is not None and not _may_answer(output, output.default):
        raise InvalidContract(
            f"The output's default {output.default!r} is no {output.kind} that it allows.",
            remedy="Give a default that a model of this contract could have answered.",
        )


def _may_answer(output: Output, value: Scalar | tuple[Scalar, ...]) -> bool:
    parts = value if isinstance(value, tuple) else (value,)
    match output.kind:
        case "class":
            return not isinstance(value, tuple) and (not output.classes or value in output.classes)
        case "number":
            low = -math.inf if output.minimum is None else output.minimum
            high = math.inf if output.maximum is None else output.maximum
            return _is_of("float", value) and low <= value <= high  # type: ignore[arg-type,operator]
        case "vector":
            fits = output.length is None or output.length == len(parts)
            return fits and all(_is_of("float", part) and math.isfinite(part) for part in parts)  # type: ignore[arg-type]
        case "ranking":
            short = output.length is None or len(parts) <= output.length
            return isinstance(value, tuple) and short and all(isinstance(part, str | int) for part in parts)


def _is_of(kind: FieldType, value: Scalar) -> bool:
    match kind:
        case "bool":
            return isinstance(value, bool)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "string":
            return isinstance(value, str)
