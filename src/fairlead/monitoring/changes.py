"""What changed in a field, in the words of a person: "median 31 → 310", "nulls 0.1 % → 5.2 %". Pure."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fairlead.contracts.counts import Bins, FieldCounts
from fairlead.contracts.profile import NumberProfile

__all__ = ["changes", "median", "share_text"]

_LEAST = 0.005
"""Shares that changed by less are not worth a word."""


def changes(bins: Bins, reference: FieldCounts, current: FieldCounts, *, most: int = 3) -> tuple[str, ...]:
    """The largest changes, largest first; nothing where nothing changed by half a percent of the rows.

    Shares are of all rows. Of numbers the median comes first where it moved by a tenth of what lies between
    the quartiles. Both lie on `bins`, and have rows.
    """
    told = sorted(_shares(bins, reference, current), key=lambda one: -round(abs(one[2] - one[1]), 9))
    words = [
        f"{name} {share_text(before)} → {share_text(after)}"
        for name, before, after in told
        if abs(after - before) >= _LEAST
    ]
    moved = _moved(bins, reference, current)
    return tuple(([moved] if moved else []) + words)[:most]


def median(bins: NumberProfile, held: FieldCounts, share: float = 0.5) -> float | None:
    """About the value below which that share of the numbers lies: on a straight line between the edges of
    its bin, and what was seen beyond all of them. None without numbers."""
    if not held.n or held.low is None or held.high is None:
        return None
    points = [held.low, *bins.edges, held.high]
    heights = np.concatenate(([0.0], np.cumsum(held.counts))) / held.n
    place = int(np.searchsorted(heights, share, side="left"))
    before, after = heights[place - 1], heights[place]
    low, high = (min(max(points[at], held.low), held.high) for at in (place - 1, place))
    return float(low + (high - low) * (share - before) / (after - before))


def share_text(share: float) -> str:
    """A share in percent, as short as it is clear."""
    if 0.0 < share < 0.0001:
        return "<0.01 %"
    return f"{100.0 * share:.3g} %" if share < 0.995 or share == 1.0 else f"{100.0 * share:.2f} %"


def _shares(bins: Bins, reference: FieldCounts, current: FieldCounts) -> Iterator[tuple[str, float, float]]:
    """Each bin's name, and its share of the rows before and after."""
    n, m = reference.rows, current.rows
    yield "nulls", reference.nulls / n, current.nulls / m
    yield "misfits", reference.misfits / n, current.misfits / m
    for place, (before, after) in enumerate(zip(reference.counts, current.counts, strict=True)):
        if before or after:
            yield _name(bins, place, current), before / n, after / m


def _name(bins: Bins, place: int, current: FieldCounts) -> str:
    if isinstance(bins, NumberProfile):
        edges = bins.edges
        if not edges:
            return "values"
        if place == 0:
            return f"below {edges[0]:.4g}"
        if place == len(edges):
            return f"from {edges[-1]:.4g} on"
        low, high = edges[place - 1], edges[place]
        return f"{low:.4g} to {high:.4g}" if f"{low:.4g}" != f"{high:.4g}" else f"{low:.4g}"
    if place < len(bins.categories):
        return _quoted(str(bins.categories[place]))
    named = ", ".join(_quoted(name) for name in list(current.new)[:3])
    return f"unseen ({named})" if named else "unseen"


def _quoted(name: str) -> str:
    return repr(name if len(name) <= 40 else f"{name[:39]}…")


def _moved(bins: Bins, reference: FieldCounts, current: FieldCounts) -> str | None:
    if not isinstance(bins, NumberProfile):
        return None
    before, after = median(bins, reference), median(bins, current)
    low, high = median(bins, reference, 0.25), median(bins, reference, 0.75)
    if before is None or after is None or low is None or high is None:
        return None
    if abs(after - before) <= 0.1 * (high - low) or f"{before:.3g}" == f"{after:.3g}":
        return None
    return f"median {before:.3g} → {after:.3g}"
