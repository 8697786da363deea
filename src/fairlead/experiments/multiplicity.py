"""Several questions asked of the same data, and still no more false answers than agreed."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["benjamini_hochberg", "holm", "share_of_alpha"]


def share_of_alpha(alpha: float, questions: int) -> float:
    """What each of several guardrails may spend, so that one of them cries wolf with probability alpha at
    most (Bonferroni); it holds at every look, too. Raises ValueError for fewer than one question."""
    if questions < 1:
        raise ValueError(f"alpha divided among {questions} questions: must be 1 or more")
    return alpha / questions


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values: those below alpha are false with probability alpha at most, all together
    (Holm 1979). In the order in which they came."""
    found: dict[str, float] = {}
    least = 0.0
    for rank, name in enumerate(_ranked(p_values)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[name]))
        found[name] = least
    return {name: found[name] for name in p_values}


def benjamini_hochberg(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values: of those below a rate, that share is false on average at most, where the questions
    are independent or hang together positively (Benjamini & Hochberg 1995). In the order in which they
    came."""
    found: dict[str, float] = {}
    most = 1.0
    for rank, name in reversed(list(enumerate(_ranked(p_values), start=1))):
        most = min(most, p_values[name] * len(p_values) / rank)
        found[name] = most
    return {name: found[name] for name in p_values}


def _ranked(p_values: Mapping[str, float]) -> list[str]:
    for name, p in p_values.items():
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"the p-value of {name!r} is {p:g}: must be between 0 and 1")
    return sorted(p_values, key=lambda name: p_values[name])
