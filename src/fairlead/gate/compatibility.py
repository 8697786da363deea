"""What callers of one contract would notice of another: requests that are refused, answers of another form.
Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from fairlead.contracts.contract import Contract, Field, Output

__all__ = ["Break", "breaks"]


class Break(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a caller of production would notice; `field` is `output` for the answer."""

    field: str
    text: str


def breaks(production: Contract, candidate: Contract) -> list[Break]:
    """All that a caller whom production accepts would be refused for by the candidate, and how the answers
    differ in form. What is only flagged or imputed breaks nobody."""
    held = {field.name: field for field in production.inputs}
    taken = {field.name: field for field in candidate.inputs}
    found = []
    for name, field in taken.items():
        before = held.get(name)
        if before is None:
            if not _may_miss(field):
                found.append(Break(field=name, text=f"{name} is new and required"))
            continue
        found += [Break(field=name, text=text) for text in _of_field(before, field)]
    found += [
        Break(field=name, text=f"{name} is no longer known, and is refused once production is gone")
        for name in held
        if name not in taken
    ]
    found += [Break(field="output", text=text) for text in _of_output(production.output, candidate.output)]
    return found


def _of_field(before: Field, after: Field) -> Iterator[str]:
    name = after.name
    if _may_miss(before) and not _may_miss(after):
        yield f"{name} has become required"
    if _may_be_null(before) and not _may_be_null(after):
        yield f"{name} no longer may be null"
    if after.on_type == "reject":
        if before.on_type != "reject":
            yield f"{name} took a value of any type and refuses those of another"
        if after.type != before.type and (before.type, after.type) != ("int", "float"):
            yield f"{name} was a {before.type} and is a {after.type}"
            return
        if after.shape not in (before.shape, (-1,) if before.shape else before.shape):
            yield f"{name} was {_shape(before)} and is {_shape(after)}"
            return
    if after.on_range == "reject":
        yield from _of_range(before, after)
    if after.on_category == "reject" and after.categories is not None:
        # What production only flags or imputes it accepts.
        if before.categories is None or before.on_category != "reject":
            yield f"{name} took any value and takes only {len(after.categories)}"
        else:
            lost = [value for value in before.categories if value not in after.categories]
            if lost:
                shown = ", ".join(repr(value) for value in lost[:5])
                more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
                yield f"{name} no longer takes {shown}{more}"


def _of_range(before: Field, after: Field) -> Iterator[str]:
    strict = before.on_range == "reject"
    low = before.minimum if strict and before.minimum is not None else -math.inf
    high = before.maximum if strict and before.maximum is not None else math.inf
    if after.minimum is not None and after.minimum > low:
        yield f"{after.name} has to be {after.minimum:g} or more, {_before(low)}"
    if after.maximum is not None and after.maximum < high:
        yield f"{after.name} has to be {after.maximum:g} or less, {_before(high)}"


def _of_output(before: Output, after: Output) -> Iterator[str]:
    if after.kind != before.kind:
        yield f"the answer was a {before.kind} and is a {after.kind}"
        return
    if after.kind == "class":
        new = [value for value in after.classes if not _among(value, before.classes)]
        if new and before.classes:
            shown = ", ".join(repr(value) for value in new[:5])
            yield f"the answer may be a class that callers do not know: {shown}"
    if after.kind == "vector" and after.length != before.length:
        yield f"the answer had {before.length} numbers and has {after.length}"


def _among(value: object, classes: tuple[object, ...]) -> bool:
    """Whether a class is there as itself: true is not 1 to a caller."""
    return any(type(value) is type(one) and value == one for one in classes)


def _may_miss(field: Field) -> bool:
    return not field.required or field.on_missing != "reject"


def _may_be_null(field: Field) -> bool:
    return field.nullable or field.on_missing != "reject"


def _shape(field: Field) -> str:
    if not field.shape:
        return "a single value"
    return "a list" if field.shape == (-1,) else f"a list of {field.shape[0]}"


def _before(bound: float) -> str:
    return "and had no bound" if math.isinf(bound) else f"and had to be {bound:g}"
