"""The rules of a contract over one column: which rows break which, and what stands in their place.

Where a rule is broken, the first broken value goes through `check_value`, which decides what that leads to
and words the finding: there is one set of rules.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fairlead.contracts.check import Finding, Verdict, check_value
from fairlead.contracts.contract import Action, Field

__all__ = ["Breach", "Column", "check_column", "plain"]

Array = npt.NDArray[Any]

_INT64 = np.iinfo(np.int64)
_NUMBERS = "iuf"


class Column(NamedTuple):
    """One feature of checked rows. Nulls are NaN in numbers that are floats and None in objects; in other
    arrays `null` marks them."""

    values: Array
    null: Array | None = None


class Breach(NamedTuple):
    """One rule that values of one field break: in which rows, and the values that were sent."""

    field: Field
    rule: str
    action: Action
    rows: npt.NDArray[np.int64]
    values: Sequence[Any] | None
    """None when the feature was not sent."""

    def finding(self, index: int) -> Finding:
        """The finding of the broken value at that place in `rows`."""
        value = None if self.values is None else plain(self.values[index])
        found = check_value(self.field, value, self.values is not None).finding
        assert found is not None
        return found

    def findings(self) -> Iterator[tuple[int, Finding]]:
        """Every row with its finding."""
        return ((int(row), self.finding(index)) for index, row in enumerate(self.rows))


def check_column(field: Field, raw: Array | None, rows: int) -> tuple[Column, list[Breach]]:
    """The column as the model gets it, and what is wrong with it; None stands for a feature not sent."""
    if raw is None:
        return _absent(field, rows)
    if raw.dtype == object:
        return _check_texts(field, raw) if _are_texts(field, raw) else _check_objects(field, raw)
    if field.shape:
        return _check_lists(field, raw)
    if field.type in ("float", "int") and raw.dtype.kind in _NUMBERS:
        return _check_floats(field, raw) if field.type == "float" else _check_ints(field, raw)
    if field.type == "bool" and raw.dtype.kind == "b":
        column = _Repair(field, raw, raw)
        if field.categories is not None:
            column.refuse(~np.isin(raw, field.categories))
        return column.done()
    # Another family of types: no value can be right, and what is imputed is found value by value.
    return _check_objects(field, raw)


class _Repair:
    """A column on its way through the rules: `refuse` takes the rows that break the next one."""

    def __init__(self, field: Field, raw: Array, values: Array) -> None:
        self._field = field
        self._raw = raw
        self.values = values
        self.null: Array | None = None
        self._breaches: list[Breach] = []

    def refuse(self, broken: Array) -> None:
        """Applies what the contract says of these rows; all of them break the same rule."""
        rows = np.flatnonzero(broken)
        if not rows.size:
            return
        field = self._field
        verdict = check_value(field, plain(self._raw[rows[0]]))
        assert verdict.finding is not None
        assert verdict.action is not None
        sent: Any = self._raw[rows]
        self._breaches.append(Breach(field, verdict.finding.rule, verdict.action, rows, sent))
        if verdict.action == "impute":
            if field.type == "float" and self.values.dtype != np.float64:
                self.values = self.values.astype(np.float64)
            elif self.values is self._raw:
                self.values = self.values.copy()
            self.values[rows] = verdict.value
            if self.null is not None:
                self.null[rows] = False

    def done(self) -> tuple[Column, list[Breach]]:
        """The column and what was found."""
        return Column(self.values, self.null), self._breaches


def _check_floats(field: Field, raw: Array) -> tuple[Column, list[Breach]]:
    column = _Repair(field, raw, raw)
    exact = raw if raw.dtype == np.float64 else raw.astype(np.float64)
    usable: Any = True
    if raw.dtype.kind == "f":
        usable = np.isfinite(exact)
        if not usable.all():
            if not field.nullable:
                column.refuse(np.isnan(exact))
            column.refuse(np.isinf(exact))
    column.refuse(_outside(field, exact, usable))
    return column.done()


def _check_ints(field: Field, raw: Array) -> tuple[Column, list[Breach]]:
    if raw.dtype.kind == "f":
        numbers = raw.astype(np.float64)
        null, infinite = np.isnan(numbers), np.isinf(numbers)
        fraction = ~null & ~infinite & (np.floor(numbers) != numbers)
        wide = ~null & ~infinite & ~fraction & ((numbers < -(2.0**63)) | (numbers >= 2.0**63))
        usable: Any = ~(null | infinite | fraction | wide)
        column = _Repair(field, raw, np.where(usable, numbers, 0).astype(np.int64))
        column.null = null if null.any() else None
        if not field.nullable:
            column.refuse(null)
        column.refuse(infinite)
        column.refuse(fraction)
        column.refuse(wide)
    elif raw.dtype == np.uint64:
        wide = raw > np.uint64(_INT64.max)
        usable = ~wide
        column = _Repair(field, raw, np.where(wide, 0, raw).astype(np.int64))
        column.refuse(wide)
    else:
        usable = True
        column = _Repair(field, raw, raw if raw.dtype == np.int64 else raw.astype(np.int64))
    whole = column.values
    outside = _outside(field, whole, usable)
    column.refuse(outside)
    if field.categories is not None:
        column.refuse(~np.isin(whole, field.categories) & usable & ~outside)
    return column.done()


def _outside(field: Field, values: Array, usable: Any) -> Array:
    """Which usable values lie beyond the bounds. Whole numbers are compared as such, however large."""
    low, high = field.minimum, field.maximum
    whole = values.dtype.kind == "i"
    outside: Any = np.zeros(values.shape, np.bool_)
    if low is not None:
        outside = outside | (values < (math.ceil(low) if whole else low))
    if high is not None:
        outside = outside | (values > (math.floor(high) if whole else high))
    found: Array = outside & usable
    return found


def _check_lists(field: Field, raw: Array) -> tuple[Column, list[Breach]]:
    if raw.ndim != 2 or raw.dtype.kind not in _NUMBERS or field.shape[0] not in (-1, raw.shape[1]):
        return _check_objects(field, raw)
    values = raw
    clean: Any = np.ones(len(raw), np.bool_)
    if field.type == "int" and raw.dtype.kind == "f":
        exact = raw.astype(np.float64)
        clean = (np.isfinite(exact) & (np.floor(exact) == exact) & (np.abs(exact) < 2.0**63)).all(axis=1)
        values = np.where(clean[:, None], exact, 0).astype(np.int64)
    elif field.type == "int" and raw.dtype == np.uint64:
        clean = (raw <= np.uint64(_INT64.max)).all(axis=1)
    elif raw.dtype.kind == "f":
        clean = np.isfinite(raw).all(axis=1)
    compared = values if field.type == "int" else values.astype(np.float64)
    clean = clean & ~_outside(field, compared, True).any(axis=1)
    rows = np.flatnonzero(~clean)
    # Few rows are not clean, and a list breaks the rule that its first broken item breaks.
    verdicts = [check_value(field, row) for row in raw[rows].tolist()]
    return Column(values), _group(field, rows.tolist(), raw[rows].tolist(), verdicts)


def _are_texts(field: Field, raw: Array) -> bool:
    if field.type != "string" or not set(map(type, raw)) <= {str, type(None)}:
        return False
    try:
        "".join(value for value in raw if value is not None).encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_texts(field: Field, raw: Array) -> tuple[Column, list[Breach]]:
    column = _Repair(field, raw, raw)
    null = raw == None  # noqa: E711 - each element is compared
    if not field.nullable:
        column.refuse(null)
    if field.categories is not None:
        known = set(field.categories)
        column.refuse(np.fromiter((value not in known for value in raw), np.bool_, len(raw)) & ~null)
    return column.done()


def _check_objects(field: Field, raw: Array) -> tuple[Column, list[Breach]]:
    """Values of any kind, one by one."""
    sent = [plain(value) for value in raw]
    verdicts = [check_value(field, value) for value in sent]
    breaches = _group(field, range(len(sent)), sent, verdicts)
    rejected = any(breach.action == "reject" for breach in breaches)
    values = [None] * len(sent) if rejected else [verdict.value for verdict in verdicts]
    return _as_column(field, values), breaches


def _absent(field: Field, rows: int) -> tuple[Column, list[Breach]]:
    verdict = check_value(field, None, present=False)
    column = _as_column(field, [verdict.value] * rows)
    if verdict.finding is None or verdict.action is None:
        return column, []
    return column, [Breach(field, verdict.finding.rule, verdict.action, np.arange(rows), None)]


def _group(
    field: Field, rows: Sequence[int], sent: Sequence[Any], verdicts: Sequence[Verdict]
) -> list[Breach]:
    groups: dict[tuple[str, Action], list[int]] = {}
    for index, verdict in enumerate(verdicts):
        if verdict.finding is not None and verdict.action is not None:
            groups.setdefault((verdict.finding.rule, verdict.action), []).append(index)
    return [
        Breach(field, rule, action, np.array([rows[i] for i in found]), [sent[i] for i in found])
        for (rule, action), found in groups.items()
    ]


def _as_column(field: Field, values: Sequence[Any]) -> Column:
    """Checked values of one feature as an array."""
    if field.type == "string":
        return Column(np.fromiter(values, dtype=object, count=len(values)))
    dtype: Any = {"float": np.float64, "int": np.int64, "bool": np.bool_}[field.type]
    if field.shape:
        if values and None not in values and len(set(map(len, values))) == 1:
            return Column(np.array(values, dtype))
        return Column(np.fromiter(values, dtype=object, count=len(values)))
    if field.type == "float":
        return Column(np.array(values, dtype))  # None becomes NaN
    null = np.array([value is None for value in values], np.bool_)
    filled = np.array([0 if value is None else value for value in values], dtype)
    return Column(filled, null if null.any() else None)


def plain(value: Any) -> Any:
    """One element as a plain value; NaN stands for null, except within lists."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and plain != plain else plain
