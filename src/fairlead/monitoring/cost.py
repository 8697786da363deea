"""What answers cost: the compute of versions, shared out over whom it was for, and its price. Pure.

Compute is time in the model and time to load it, as gateways count it, in nanoseconds. The gateway's own
work, such as checking a row and writing its record, is not in it; so an answer from the cache costs nothing.

A version's compute is shared out over the answers that it computed, by number; what it did as a shadow, or
with no answer to show for it, was for nobody who asked. Shares add up to the whole, to the nanosecond.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Literal, TypeVar

import msgspec

__all__ = ["By", "Compute", "CostLine", "Share", "Shown", "by_use_case", "by_version", "shared"]

By = Literal["version", "use-case"]
Shown = Literal["version", "use-case", "unnamed", "others", "nobody"]
"""Whose compute a line is: a version's, a caller's by its tag, that of callers who gave none, of callers
beyond the largest, or nobody's."""

K = TypeVar("K", bound=Hashable)
_NANO = 1_000_000_000


class Compute(msgspec.Struct, frozen=True, kw_only=True):
    """What one version has used: nanoseconds of runs for callers, of runs as a shadow and of loads; the rows
    that it ran for callers, and the answers that were given in its name, cached ones included."""

    run_ns: int = 0
    shadow_ns: int = 0
    load_ns: int = 0
    rows: int = 0
    answers: int = 0

    @property
    def whole_ns(self) -> int:
        """All of it."""
        return self.run_ns + self.shadow_ns + self.load_ns


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind of caller got from one version, by the log: answers, and how many of them the version
    computed."""

    model: str
    version: str
    shown: Shown
    use_case: str | None
    answers: int
    computed: int


class CostLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one version of a model, or one of its callers (`shown`), has used. Seconds are core-seconds of
    runs, of shadow runs and of loads, and `compute_seconds` is all three; `computed` are rows that were run
    for it. Money is in the report's currency and null without a price; what is per thousand is null without
    an answer."""

    model: str
    shown: Shown
    name: str | None
    answers: int
    computed: int
    run_seconds: float
    shadow_seconds: float
    load_seconds: float
    compute_seconds: float
    seconds_per_thousand: float | None
    cost: float | None
    cost_per_thousand: float | None


def shared(total: int, weights: Mapping[K, int]) -> dict[K, int]:
    """The total in whole parts by weight, which add up to it; {} where all weights are nothing.

    By largest remainders: no part is off its exact share by one or more.
    """
    whole = sum(weights.values())
    if whole == 0:
        return {}
    parts = {key: total * weight // whole for key, weight in weights.items()}
    left = total - sum(parts.values())
    by_remainder = sorted(weights, key=lambda key: -(total * weights[key] % whole))
    for key in by_remainder[:left]:
        parts[key] += 1
    return parts


def by_version(used: Mapping[tuple[str, str], Compute], prices: Mapping[str, float | None]) -> list[CostLine]:
    """A line per model and version, the dearest of each model first; `prices` are per core and hour, by
    model."""
    lines = [
        _line(model, "version", version, one, prices.get(model)) for (model, version), one in used.items()
    ]
    return _sorted(lines)


def by_use_case(
    used: Mapping[tuple[str, str], Compute], shares: Sequence[Share], prices: Mapping[str, float | None]
) -> list[CostLine]:
    """A line per model and caller, over all versions, the dearest of each model first. Their compute adds up
    to that of the versions."""
    callers: dict[tuple[str, str], list[Share]] = {}
    for share in shares:
        callers.setdefault((share.model, share.version), []).append(share)
    found: dict[tuple[str, Shown, str | None], Compute] = {}

    def add(key: tuple[str, Shown, str | None], more: Compute) -> None:
        held = found.get(key, Compute())
        found[key] = Compute(
            **{name: getattr(held, name) + getattr(more, name) for name in Compute.__struct_fields__}
        )

    for model, version in sorted({*used, *callers}):
        one = used.get((model, version), Compute())
        here = callers.get((model, version), [])
        weights = {index: share.computed for index, share in enumerate(here)}
        runs, loads = shared(one.run_ns, weights), shared(one.load_ns, weights)
        for index, share in enumerate(here):
            more = Compute(
                run_ns=runs.get(index, 0), load_ns=loads.get(index, 0), rows=share.computed,
                answers=share.answers,
            )  # fmt: skip
            add((model, share.shown, share.use_case), more)
        rest = Compute(
            run_ns=one.run_ns - sum(runs.values()), shadow_ns=one.shadow_ns,
            load_ns=one.load_ns - sum(loads.values()),
        )  # fmt: skip
        if rest.whole_ns:
            add((model, "nobody", None), rest)
    return _sorted(
        [_line(model, shown, name, one, prices.get(model)) for (model, shown, name), one in found.items()]
    )


def _line(model: str, shown: Shown, name: str | None, one: Compute, price: float | None) -> CostLine:
    seconds = one.whole_ns / _NANO
    cost = None if price is None else seconds / 3600 * price
    thousands = one.answers / 1000
    return CostLine(
        model=model,
        shown=shown,
        name=name,
        answers=one.answers,
        computed=one.rows,
        run_seconds=one.run_ns / _NANO,
        shadow_seconds=one.shadow_ns / _NANO,
        load_seconds=one.load_ns / _NANO,
        compute_seconds=seconds,
        seconds_per_thousand=seconds / thousands if thousands else None,
        cost=cost,
        cost_per_thousand=None if cost is None or not thousands else cost / thousands,
    )


def _sorted(lines: list[CostLine]) -> list[CostLine]:
    return sorted(lines, key=lambda line: (line.model, -line.compute_seconds, line.shown, line.name or ""))
