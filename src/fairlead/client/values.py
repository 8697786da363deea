"""From what a notebook holds to what JSON carries: numpy scalars, NaN, frames."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from fairlead.errors import DataContractViolation, MalformedRequest

__all__ = ["plain_features", "plain_value", "rows_of"]

_NULLS = ("NAType", "NaTType")  # pandas' own, recognised without importing pandas


def plain_features(features: Mapping[str, Any]) -> dict[str, Any]:
    """The features as JSON values under text names; `features` is a mapping or a pandas Series.

    NaN becomes null, which is how a contract speaks of a missing value. Infinity is refused here, since JSON
    has no word for it: `DataContractViolation`, as the server would say. What JSON cannot carry at all is
    `MalformedRequest`.
    """
    if not hasattr(features, "items"):
        raise MalformedRequest(
            f"Features are a mapping from name to value, not a {type(features).__name__}.",
            remedy='Write them as {"age": 31, "country": "DE"}.',
        )
    return {str(name): plain_value(value, str(name)) for name, value in features.items()}


def plain_value(value: Any, field: str) -> Any:
    """The value as JSON carries it; `field` is named when it cannot."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        return _finite(value, field)
    if isinstance(value, list | tuple):
        return [plain_value(item, field) for item in value]
    if kind.__name__ in _NULLS:
        return None
    if hasattr(value, "tolist"):  # numpy scalars and arrays, pandas columns
        return plain_value(value.tolist(), field)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float | Decimal):
        return _finite(float(value), field)
    raise MalformedRequest(
        f"Field {field!r} is a {kind.__module__}.{kind.__qualname__}, which JSON cannot carry.",
        remedy="Send a number, a text, true or false, a list of numbers, or None.",
        field=field,
    )


def rows_of(rows: Any) -> list[dict[str, Any]]:
    """The rows of a list of mappings, or of a pandas or Polars frame or a pyarrow table."""
    listed: Iterable[Any]
    if hasattr(rows, "to_dicts"):  # Polars
        listed = rows.to_dicts()
    elif hasattr(rows, "to_pylist"):  # pyarrow
        listed = rows.to_pylist()
    elif hasattr(rows, "columns") and hasattr(rows, "to_dict"):  # pandas
        listed = rows.to_dict(orient="records")
    else:
        listed = rows
    return [plain_features(row) for row in listed]


def _finite(value: float, field: str) -> float | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        finding = {"field": field, "rule": "not_finite", "value": str(value), "expected": "a finite number"}
        raise DataContractViolation(
            f"Field {field!r} breaks rule 'not_finite': expected a finite number.",
            [finding],
            remedy="Send a finite number, or None where the value is missing.",
        )
    return value
