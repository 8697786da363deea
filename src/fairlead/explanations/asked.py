"""A version in a process of its own, asked for the rows of an explanation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fairlead.evaluation.scored import Scored
from fairlead.evaluation.scoring import Scorer
from fairlead.explanations.measure import Measure

__all__ = ["asker", "scores"]

_TOGETHER = 64
"""So many rows are run at once, as far as the version's settings allow."""


def asker(scorer: Scorer) -> Callable[[Sequence[Sequence[Any]]], list[Scored]]:
    """What the version makes of each row, by many at a time. Raises what `Scorer.score` raises."""
    together = max(1, min(_TOGETHER, scorer.spec.settings.max_batch_rows))
    return lambda rows: list(scorer.score(rows, together=together))


def scores(scorer: Scorer, read: Measure) -> Callable[[Sequence[Sequence[Any]]], list[float | None]]:
    """The number that is explained, of each row. Raises what `Scorer.score` raises."""
    ask = asker(scorer)
    return lambda rows: [read(scored) for scored in ask(rows)]
