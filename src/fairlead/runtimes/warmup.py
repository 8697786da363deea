"""A row that a contract allows, to warm a model up with before anybody waits for it."""

from __future__ import annotations

from typing import Any

from fairlead.contracts.contract import Contract, Field
from fairlead.runtimes.binding import Row

__all__ = ["warm_row"]


def warm_row(contract: Contract) -> Row:
    """A row that the contract allows: defaults, first categories, middles of ranges, else zero."""
    return tuple(_plain_value(field) for field in contract.inputs)


def _plain_value(field: Field) -> Any:
    if field.shape:
        return [_scalar(field)] * max(field.shape[0], 1)
    return _scalar(field)


def _scalar(field: Field) -> Any:
    if field.default is not None:
        return float(field.default) if field.type == "float" else field.default
    if field.categories:
        return field.categories[0]
    match field.type:
        case "string":
            return ""
        case "bool":
            return False
        case _:
            low, high = field.minimum, field.maximum
            if low is not None and high is not None:
                middle = low + (high - low) / 2
            else:
                middle = low if low is not None else high if high is not None else 0.0
            return float(middle) if field.type == "float" else int(middle)
