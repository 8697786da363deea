"""What arrives broken: rules of the contract that values break, and requests that are refused for it. Pure.

What a contract asks for and does not get is counted by field and rule, whether it was refused, let through
with a flag or imputed. It is an alarm where it became more than before, beyond chance, by a share of rows
that matters. Nulls and values of no known category that the contract allows are drift (`drift.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from fairlead.experiments.aggregates import Proportion
from fairlead.experiments.exact import fisher
from fairlead.experiments.multiplicity import benjamini_hochberg

__all__ = ["Breach", "Rows", "breaches"]


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """What was logged in a window: how many rows, how many of them were refused, and broken rules by field,
    then rule."""

    rows: int
    rejected: int = 0
    broken: Mapping[str, Mapping[str, int]] = {}


class Breach(msgspec.Struct, frozen=True, kw_only=True):
    """How often one rule of one field was broken (`rule` None: requests refused, whatever the reason), as a
    share of rows, before and in the window. `p` is adjusted for all that was asked in the same look."""

    field: str
    rule: str | None
    status: Literal["ok", "alarm", "insufficient"]
    n: int
    reference_n: int
    expected: float
    seen: float
    p: float | None = None

    @property
    def name(self) -> str:
        """What was counted, in words."""
        return f"{self.field}: {self.rule}" if self.rule is not None else "refused requests"


def breaches(current: Rows, reference: Rows, *, level: float, floor: float, least: int) -> list[Breach]:
    """Every rule that was broken in either window, and the share of refused requests first of all.

    A rise by `floor` or more, in shares of rows, is an alarm when its p is at most `level`. With less than
    `least` rows in either window nothing is told. That less is broken than before never alarms.
    """
    names: list[tuple[str, str | None]] = [("", None)]
    for held in (current.broken, reference.broken):
        names += [(field, rule) for field in held for rule in held[field] if (field, rule) not in names]
    found = [
        _breach(name, current, reference) for name in sorted(names, key=lambda one: (one[1] is not None, one))
    ]
    if min(current.rows, reference.rows) < least:
        return [msgspec.structs.replace(one, status="insufficient", p=None) for one in found]
    adjusted = benjamini_hochberg({str(place): one.p or 0.0 for place, one in enumerate(found)})
    return [_decided(one, adjusted[str(place)], level, floor) for place, one in enumerate(found)]


def _breach(name: tuple[str, str | None], current: Rows, reference: Rows) -> Breach:
    field, rule = name
    control, treated = (_share(held, field, rule) for held in (reference, current))
    return Breach(
        field=field,
        rule=rule,
        status="ok",
        n=current.rows,
        reference_n=reference.rows,
        expected=control.mean or 0.0,
        seen=treated.mean or 0.0,
        p=fisher(control, treated),
    )


def _share(held: Rows, field: str, rule: str | None) -> Proportion:
    count = held.rejected if rule is None else held.broken.get(field, {}).get(rule, 0)
    return Proportion(held.rows, min(count, held.rows))


def _decided(one: Breach, p: float, level: float, floor: float) -> Breach:
    alarm = p <= level and one.seen - one.expected >= floor
    return msgspec.structs.replace(one, p=p, status="alarm" if alarm else "ok")
