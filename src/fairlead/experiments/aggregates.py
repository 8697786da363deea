"""What the statistics know of an arm: sums over its units that add up across minutes and machines.

`a + b` is what one would have summed over the units of both; `later - earlier` is what came between two
readings of growing sums. Every aggregate answers `mean` and `variance` (of one unit, so that the squared
standard error of the mean is `variance / n`), or None where its units do not tell.
"""

from __future__ import annotations

from typing import Self

import msgspec

__all__ = ["Mean", "Paired", "Proportion", "Ratio"]

_ROUNDING = 1e-12
"""Spread below this share of the sum of squares is what rounding leaves of equal values."""

_FEW = 5
"""So many events a rate's spread is reckoned with at least. With 1 instead, arms of 5 and 95 % of the traffic
with a few events each were told apart falsely in 8 % of runs at alpha 0.05 (`bench/simulate.py`, few
events)."""


class _Sums(msgspec.Struct, frozen=True):
    def __add__(self, other: Self) -> Self:
        mine, theirs = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return type(self)(*(a + b for a, b in zip(mine, theirs, strict=True)))

    def __sub__(self, other: Self) -> Self:
        mine, theirs = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return type(self)(*(a - b for a, b in zip(mine, theirs, strict=True)))


class Proportion(_Sums, frozen=True, tag="proportion"):
    """How many of `n` units had the event. Raises ValueError unless 0 ≤ successes ≤ n."""

    n: int = 0
    successes: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.n:
            raise ValueError(f"{self.successes} successes of {self.n} units: must be between 0 and the units")

    @property
    def mean(self) -> float | None:
        """The share of units with the event; None without units."""
        return self.successes / self.n if self.n else None

    @property
    def variance(self) -> float | None:
        """p (1 - p), where p stands for no fewer than five events: with fewer the true rate may well be far
        above, and an interval that took them at their word would miss it too often. None without units."""
        if not self.n:
            return None
        rarer = max(min(self.successes, self.n - self.successes), _FEW)
        share = min(rarer / self.n, 0.5)
        return share * (1.0 - share)


class Mean(_Sums, frozen=True, tag="mean"):
    """The sum of one number per unit, and of its squares. Raises ValueError for fewer than 0 units."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def __post_init__(self) -> None:
        _verify(self.n, self.squares)

    @property
    def mean(self) -> float | None:
        """The average; None without units."""
        return self.total / self.n if self.n else None

    @property
    def variance(self) -> float | None:
        """The sample variance (n - 1); None for fewer than two units."""
        return _spread(self.n, self.total, self.squares)


class Ratio(_Sums, frozen=True, tag="ratio"):
    """Two numbers per unit whose sums are divided, such as clicks by requests where the unit is a user."""

    n: int = 0
    numerator: float = 0.0
    denominator: float = 0.0
    numerator_squares: float = 0.0
    denominator_squares: float = 0.0
    products: float = 0.0

    def __post_init__(self) -> None:
        _verify(self.n, self.numerator_squares, self.denominator_squares)

    @property
    def mean(self) -> float | None:
        """Numerator by denominator; None where the denominator is 0."""
        return self.numerator / self.denominator if self.n and self.denominator else None

    @property
    def variance(self) -> float | None:
        """By the delta method: (sN² - 2 R sND + R² sD²) / mean(D)² (Deng et al. 2018, arXiv 1803.06336)."""
        ratio = self.mean
        if ratio is None or self.n < 2:
            return None
        squares = self.numerator_squares + ratio * (ratio * self.denominator_squares - 2.0 * self.products)
        # The residuals N - R D sum to 0, so their mean square is their variance.
        scale = self.numerator_squares + ratio * ratio * self.denominator_squares
        if squares <= _ROUNDING * scale:
            return 0.0
        level = self.denominator / self.n
        return squares / (self.n - 1) / (level * level)


class Paired(_Sums, frozen=True):
    """An outcome per unit and, from before its first exposure, a covariate that foretells it (`cuped.py`)."""

    n: int = 0
    outcome: float = 0.0
    covariate: float = 0.0
    outcome_squares: float = 0.0
    covariate_squares: float = 0.0
    products: float = 0.0

    def __post_init__(self) -> None:
        _verify(self.n, self.outcome_squares, self.covariate_squares)

    @property
    def mean(self) -> float | None:
        """The average outcome, not adjusted; None without units."""
        return self.outcome / self.n if self.n else None

    @property
    def variance(self) -> float | None:
        """The sample variance of the outcome, not adjusted; None for fewer than two units."""
        return _spread(self.n, self.outcome, self.outcome_squares)

    @property
    def covariate_variance(self) -> float | None:
        """The sample variance of the covariate; None for fewer than two units."""
        return _spread(self.n, self.covariate, self.covariate_squares)

    @property
    def covariance(self) -> float | None:
        """The sample covariance of outcome and covariate; None for fewer than two units."""
        if self.n < 2:
            return None
        return (self.products - self.outcome * self.covariate / self.n) / (self.n - 1)


def _spread(n: int, total: float, squares: float) -> float | None:
    if n < 2:
        return None
    spread = squares - total * total / n
    return spread / (n - 1) if spread > _ROUNDING * squares else 0.0


def _verify(n: int, *squares: float) -> None:
    if n < 0:
        raise ValueError(f"an arm of {n} units: must be 0 or more")
    if any(square < 0.0 for square in squares):
        raise ValueError("a sum of squares below 0: was a later reading subtracted from an earlier one?")
