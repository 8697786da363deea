"""Whether units reached the arms in the shares that were configured.

If they did not, something between assignment and measurement loses units of one arm, and no comparison of
the arms means anything. Two tests: evidence that may be looked at as often as one likes, for the automatic
hold (Lindon & Malek, "Anytime-valid inference for multinomial count data", 2022), and chi-square for the
report at the end. Count each unit once, at its first exposure, and only since the weights were last changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from fairlead.experiments.sequences import verify_alpha

__all__ = ["SampleRatio", "chi_square_survival", "log_evidence", "sample_ratio"]


class SampleRatio(msgspec.Struct, frozen=True):
    """How the units lie beside what was configured.

    `log_e`: logarithm of the evidence against the configured shares, valid at every look; `mismatch` when it
    passes 1 / alpha. `p` is chi-square's, for one look only; `freedom` its degrees of freedom, in which arms
    of weight 0 do not count. `arm` is furthest from its share, by `deviation`: -0.1 is ten percent too few.
    """

    units: int
    log_e: float
    mismatch: bool
    statistic: float
    freedom: int
    p: float
    arm: str
    deviation: float

    @property
    def sentence(self) -> str:
        """What a person should know of it."""
        if not self.units:
            return "No unit was counted yet."
        much = f"{abs(self.deviation):.1%} {'more' if self.deviation > 0 else 'fewer'} units than its share"
        if self.mismatch:
            return f"The split is not the one that was configured: {self.arm} has {much}."
        return f"The split is as configured; furthest from it is {self.arm} with {much}."


def sample_ratio(
    counts: Mapping[str, int], weights: Mapping[str, float], *, alpha: float = 0.001, k: float = 100.0
) -> SampleRatio:
    """Both tests of units per arm against weights per arm.

    Weights count relative to their sum; an arm that `counts` lacks has no units. `k`: how near to the
    configured shares a deviation is looked for; 100 finds large ones early, 10,000 small ones in many units.
    Raises ValueError for negative numbers, for weights that are all 0, and for a counted arm without a
    weight.
    """
    verify_alpha(alpha)
    shares = _shares(counts, weights)
    units = sum(counts.values())
    strays = [name for name, share in shares.items() if not share and counts.get(name)]
    live = {name: share for name, share in shares.items() if share}
    log_e = log_evidence(counts, weights, k=k)
    mismatch = log_e >= math.log(1.0 / alpha)
    freedom = len(live) - 1
    if strays:
        # Where nobody should be, one unit is proof, and no ratio to a share of 0 says by how much.
        share = counts[strays[0]] / units
        return SampleRatio(units, log_e, mismatch, math.inf, freedom, 0.0, strays[0], share)
    if not units:
        return SampleRatio(0, 0.0, False, 0.0, freedom, 1.0, next(iter(live)), 0.0)
    off = {name: counts.get(name, 0) / (units * share) - 1.0 for name, share in live.items()}
    statistic = sum(units * share * off[name] ** 2 for name, share in live.items())
    arm = max(off, key=lambda name: abs(off[name]))
    p = chi_square_survival(statistic, freedom)
    return SampleRatio(units, log_e, mismatch, statistic, freedom, p, arm, off[arm])


def log_evidence(counts: Mapping[str, int], weights: Mapping[str, float], *, k: float = 100.0) -> float:
    """Logarithm of the evidence that counts come in other shares than the weights'.

    ln B(a + x) - ln B(a) - sum x ln p with a = k p: a martingale under the weights, so it passes ln(1 /
    alpha) at any look with probability alpha at most. Cumulative counts give what updating look by look would
    give.
    """
    if not k > 0.0:
        raise ValueError(f"k is {k:g}: must be above 0")
    shares = _shares(counts, weights)
    found = 0.0
    units = 0
    for name, share in shares.items():
        count = counts.get(name, 0)
        if not count:
            continue
        if not share:
            return math.inf
        units += count
        found += math.lgamma(k * share + count) - math.lgamma(k * share) - count * math.log(share)
    return found + math.lgamma(k) - math.lgamma(k + units) if units else 0.0


def chi_square_survival(statistic: float, freedom: int) -> float:
    """P(X > statistic) for chi-square with a whole number of degrees of freedom, by its finite sum
    (Abramowitz & Stegun 26.4.4 and 26.4.5). 1 where no degree of freedom is left."""
    if freedom < 1 or statistic <= 0.0:
        return 1.0
    half = statistic / 2.0
    if freedom % 2:
        total, power = math.erfc(math.sqrt(half)), 0.5
    else:
        total, power = math.exp(-half), 1.0
    while power < freedom / 2.0:
        total += math.exp(power * math.log(half) - half - math.lgamma(power + 1.0))
        power += 1.0
    return min(total, 1.0)


def _shares(counts: Mapping[str, int], weights: Mapping[str, float]) -> dict[str, float]:
    unknown = sorted(set(counts) - set(weights))
    if unknown:
        raise ValueError(f"units were counted for {unknown[0]!r}, which has no weight")
    for name, weight in weights.items():
        if not (weight >= 0.0 and math.isfinite(weight)):
            raise ValueError(f"the weight of {name!r} is {weight:g}: must be 0 or more")
        if counts.get(name, 0) < 0:
            raise ValueError(f"{counts[name]} units of {name!r}: must be 0 or more")
    total = sum(weights.values())
    if not total:
        raise ValueError("no arm has a weight above 0")
    return {name: weight / total for name, weight in weights.items()}
