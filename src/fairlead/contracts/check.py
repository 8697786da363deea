"""The thorough check of one row: every finding, with coercion, imputation and flags.

It runs only for requests that the compiled type refused, and for callers that already hold Python values.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from fairlead.contracts.contract import Action, Contract, Field
from fairlead.errors import DataContractViolation

__all__ = [
    "HIDDEN",
    "MOST_KEPT",
    "Finding",
    "Verdict",
    "check_row",
    "check_value",
    "echo",
    "for_the_record",
    "nearest",
]

_LONGEST_ECHO = 100
MOST_KEPT = 200
"""Of a refused row so many features stay in the log."""
HIDDEN = "…"
"""Stands for a value that is nobody else's business: findings go into answers and into the log."""
_INT64 = (-(2**63), 2**63 - 1)


class Finding(msgspec.Struct, frozen=True):
    """One rule that one value breaks. `rule` is one of missing, type, not_finite, shape, range, category,
    unknown; `value` is what was sent, shortened; `expected` says what the contract wants."""

    field: str
    rule: str
    value: Any
    expected: str


class Verdict(NamedTuple):
    """What became of one value: as the model gets it, the rule that it breaks, and what that leads to.

    A value that is rejected has no meaning.
    """

    value: Any
    finding: Finding | None
    action: Action | None


class _Broken(Exception):
    def __init__(self, rule: str, expected: str, action: Action) -> None:
        self.rule, self.expected, self.action = rule, expected, action


def check_row(
    contract: Contract, features: Mapping[str, Any], also_known: frozenset[str] = frozenset()
) -> tuple[tuple[Any, ...], list[Finding]]:
    """The row in contract order and the findings that only flag or impute.

    Raises `DataContractViolation` with every finding that rejects. Numbers are coerced: 31.0 is the integer
    31 and 31 is the float 31.0; text is never a number and true is never 1.
    """
    row: list[Any] = []
    flags: list[Finding] = []
    violations: list[Finding] = []
    for field in contract.inputs:
        value, finding, action = check_value(field, features.get(field.name), field.name in features)
        if finding is not None:
            if action == "reject":
                violations.append(finding)
                continue
            flags.append(finding)
        row.append(value)
    known = set(contract.names)
    for name in features:
        if name not in known and name not in also_known:
            near = nearest(name, known)
            expected = (
                f"a feature of the contract; did you mean {near!r}?" if near else "a feature of the contract"
            )
            violations.append(Finding(echo(name), "unknown", echo(features[name]), expected))
    if violations:
        first = violations[0]
        more = f" and {len(violations) - 1} more" if len(violations) > 1 else ""
        raise DataContractViolation(
            f"Field {first.field!r} breaks rule {first.rule!r}: expected {first.expected}{more}.",
            [msgspec.to_builtins(finding) for finding in violations],
            refused=for_the_record(contract, features),
            remedy="See `violations`, and the model's contract for what it takes.",
        )
    return tuple(row), flags


def check_value(field: Field, value: Any, present: bool = True) -> Verdict:
    """What the field's rules make of one value, or of its absence."""
    try:
        return Verdict(_checked(field, value, present), None, None)
    except _Broken as broken:
        shown = HIDDEN if field.sensitivity == "sensitive" and value is not None else echo(value)
        finding = Finding(field.name, broken.rule, shown, broken.expected)
        if broken.action == "reject":
            return Verdict(None, finding, broken.action)
        return Verdict(_stand_in(field, value, broken), finding, broken.action)


def for_the_record(contract: Contract, features: Mapping[str, Any]) -> dict[str, Any]:
    """The features of a refused row as the log may keep them. A name that the contract does not know may hold
    anything, so only its presence is kept."""
    open_fields = {field.name for field in contract.inputs if field.sensitivity != "sensitive"}
    kept = islice(features.items(), MOST_KEPT)
    return {str(echo(name)): echo(value) if name in open_fields else HIDDEN for name, value in kept}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like this one, if any is like it."""
    close = difflib.get_close_matches(name[:_LONGEST_ECHO], list(known), n=1)
    return close[0] if close else None


def _checked(field: Field, value: Any, present: bool) -> Any:
    if value is None:
        if present and field.nullable:
            return None
        if not present and not field.required:
            return _as_type(field, field.default)
        raise _Broken("missing", f"a value of type {_type_name(field)}", field.on_missing)
    if field.shape:
        return _checked_list(field, value)
    scalar = _scalar(field, value)
    _check_range(field, scalar)
    if field.categories is not None and scalar not in field.categories:
        shown = ", ".join(repr(category) for category in field.categories[:10])
        more = ", …" if len(field.categories) > 10 else ""
        raise _Broken("category", f"one of {shown}{more}", field.on_category)
    return scalar


def _checked_list(field: Field, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise _Broken("type", _type_name(field), field.on_type)
    length = field.shape[0]
    if length >= 0 and len(value) != length:
        raise _Broken("shape", f"{length} values, not {len(value)}", field.on_type)
    scalars = [_scalar(field, item) for item in value]
    for scalar in scalars:
        _check_range(field, scalar)
    return scalars


def _scalar(field: Field, value: Any) -> Any:
    wrong = _Broken("type", _type_name(field), field.on_type)
    match field.type:
        case "bool":
            if not isinstance(value, bool):
                raise wrong
            return value
        case "string":
            if not isinstance(value, str):
                raise wrong
            if not value.isascii():
                try:
                    value.encode("utf-8")
                except UnicodeEncodeError:
                    raise _Broken("type", "text without lone surrogates", field.on_type) from None
            return value
        case _:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise wrong
            if isinstance(value, float) and not math.isfinite(value):
                raise _Broken("not_finite", "a finite number", field.on_type)
            return _number(field, value, wrong)


def _number(field: Field, value: int | float, wrong: _Broken) -> int | float:
    if field.type == "float":
        try:
            return float(value)
        except OverflowError:
            raise _Broken("not_finite", "a number that a float can hold", field.on_type) from None
    if isinstance(value, float) and not value.is_integer():
        raise wrong
    if not _INT64[0] <= value <= _INT64[1]:
        raise _Broken("range", "an integer of at most 64 bits", "reject")
    return int(value)


def _check_range(field: Field, value: Any) -> None:
    low, high = field.minimum, field.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = (
            f"at least {low:g}"
            if high is None
            else f"at most {high:g}"
            if low is None
            else f"{low:g} to {high:g}"
        )
        raise _Broken("range", bounds, field.on_range)


def _stand_in(field: Field, value: Any, broken: _Broken) -> Any:
    """What the model gets for a value that was flagged or is to be imputed."""
    if broken.action == "impute":
        return _as_type(field, field.default)
    if value is None:
        return None
    return [_scalar(field, item) for item in value] if field.shape else _scalar(field, value)


def _as_type(field: Field, value: Any) -> Any:
    return float(value) if value is not None and field.type == "float" else value


def _type_name(field: Field) -> str:
    name = {"float": "number", "int": "integer", "bool": "boolean", "string": "string"}[field.type]
    return f"list of {name}" if field.shape else name


def echo(value: Any) -> Any:
    """A value as it may stand in an answer or in the log: short, and always valid JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, bool | int | float) or value is None:
        return (
            value
            if not isinstance(value, int) or _INT64[0] <= value <= _INT64[1]
            else str(value)[:_LONGEST_ECHO]
        )
    text = value if isinstance(value, str) else repr(value)
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= _LONGEST_ECHO else text[:_LONGEST_ECHO] + "…"
