"""A sample that lent its own bins is no fair reference at their borders; how it becomes one. Pure.

A list of the hundred most frequent categories holds those that this very sample had more of than the next one
will: of what is near the cut, less comes again. What a sample never had, it would have had if it were another
sample of the same: as often as it had something once (Good 1953), and as often as there is an extreme.
"""

from __future__ import annotations

import math

import msgspec

from fairlead.contracts.counts import Bins, FieldCounts
from fairlead.contracts.profile import CategoryProfile

__all__ = ["beyond", "uncut"]

_NEAR = 4.0
"""In standard deviations of the least frequent count that is listed."""


def uncut(bins: Bins, reference: FieldCounts, current: FieldCounts) -> tuple[FieldCounts, FieldCounts]:
    """Both with all categories near the cut among those that are not listed; as they are where nothing was
    cut. `reference` lies in the sample that lent the bins."""
    if not isinstance(bins, CategoryProfile) or not bins.categories or not bins.counts[-1]:
        return reference, current
    least = bins.counts[-2]
    limit = least + _NEAR * math.sqrt(least)
    near = [place for place, count in enumerate(bins.counts[:-1]) if count <= limit]
    return _moved(reference, near), _moved(current, near)


def beyond(bins: Bins, reference: FieldCounts) -> int:
    """How many values of the sample would have been unseen or outside, had the others lent the bins. Never
    less than what was: the sample of a part holds fewer than the whole that lent."""
    if isinstance(bins, CategoryProfile):
        return reference.counts[-1] or sum(1 for count in reference.counts if count == 1)
    outer = reference.counts[0] + reference.counts[-1] if len(reference.counts) > 1 else reference.counts[-1]
    return outer or min(2, reference.n)


def _moved(held: FieldCounts, near: list[int]) -> FieldCounts:
    counts = list(held.counts)
    for place in near:
        counts[-1] += counts[place]
        counts[place] = 0
    return msgspec.structs.replace(held, counts=tuple(counts))
