"""Answers of a version to the rows of a gate: asked in a process of its own, and what that took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import msgspec
import numpy as np

from fairlead.evaluation.scored import Scored
from fairlead.evaluation.scoring import Scorer
from fairlead.gate.answers import Answers
from fairlead.registry.versions import VersionSpec

__all__ = ["LEAST_TIMED", "Asked", "Asking", "ask"]

_ONE_BY_ONE = 1_000
_TOGETHER = 64
LEAST_TIMED = 100


class Asking(Protocol):
    """Starts a version, ready to score."""

    def __call__(self, spec: VersionSpec, /) -> AbstractContextManager[Scorer]: ...


class Asked(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The answers; `p99_ms` of the rows that ran one by one, None for fewer than 100 of them; the most memory
    of the process in megabytes; by what it was run."""

    answers: Answers
    p99_ms: float | None
    timed: int
    memory_mb: float
    runtime: str


def ask(asking: Asking, spec: VersionSpec, rows: Sequence[Mapping[str, Any]]) -> Asked:
    """The version's answers to the rows, in their order.

    The first thousand go one by one, as requests do, and are timed; the others together, to be done sooner.
    Raises what scoring raises when the version cannot be loaded, dies, or takes too much.
    """
    with asking(spec) as scorer:
        alone = list(scorer.score(rows[:_ONE_BY_ONE]))
        others = list(scorer.score(rows[_ONE_BY_ONE:], together=_TOGETHER))
        memory = scorer.peak_bytes
        runtime = scorer.runtime
    timed = [scored.seconds for scored in alone if scored.status == "ok"]
    scored = alone + others
    return Asked(
        answers=Answers(
            values=[one.prediction for one in scored],
            probabilities=[one.probabilities for one in scored],
            errors=[_error(one) for one in scored],
        ),
        p99_ms=1000.0 * float(np.quantile(timed, 0.99)) if len(timed) >= LEAST_TIMED else None,
        timed=len(timed),
        memory_mb=memory / 1e6,
        runtime=runtime,
    )


def _error(scored: Scored) -> str | None:
    if scored.status == "ok":
        return None
    code = scored.error_code or scored.status
    if not scored.violations:
        return code
    first = scored.violations[0]
    return f"{code} ({first['field']}: {first['rule']})"
