"""Outcomes with what was foreseeable taken out: narrower intervals from the same units.

CUPED (Deng, Xu, Kohavi, Walker, WSDM 2013): Y' = Y - theta (X - mean X), where X is what each unit did before
its first exposure and theta = cov(Y, X) / var(X) within the arms. Its expectation is that of Y, its variance
is smaller by the squared correlation.
"""

from __future__ import annotations

from fairlead.experiments.aggregates import Mean, Paired

__all__ = ["adjusted", "variance_removed"]


def adjusted(control: Paired, treated: Paired) -> tuple[Mean, Mean]:
    """Both arms as if all units had had the same past; for `difference` and `relative_lift`.

    Where the covariate tells nothing (no spread, fewer than two units) the arms come back as they were. A
    unit without a past counts with a covariate of the metric's usual value, the same rule in both arms.
    """
    theta = _theta(control, treated)
    units = control.n + treated.n
    centre = (control.covariate + treated.covariate) / units if units else 0.0
    return _without(control, theta, centre), _without(treated, theta, centre)


def variance_removed(control: Paired, treated: Paired) -> float:
    """The share of the outcome's variance within the arms that the covariate explains: 0.5 halves the units
    that are needed. 0 where it tells nothing."""
    theta = _theta(control, treated)
    before = sum((arm.n - 1) * (arm.variance or 0.0) for arm in (control, treated) if arm.n > 1)
    if not before:
        return 0.0
    after = sum((arm.n - 1) * _variance(arm, theta) for arm in (control, treated) if arm.n > 1)
    return max(1.0 - after / before, 0.0)


def _theta(control: Paired, treated: Paired) -> float:
    arms = [arm for arm in (control, treated) if arm.n > 1]
    spread = sum((arm.n - 1) * (arm.covariate_variance or 0.0) for arm in arms)
    if not spread:
        return 0.0
    return sum((arm.n - 1) * (arm.covariance or 0.0) for arm in arms) / spread


def _without(arm: Paired, theta: float, centre: float) -> Mean:
    if not arm.n:
        return Mean()
    total = arm.outcome - theta * (arm.covariate - arm.n * centre)
    if arm.n < 2:
        return Mean(arm.n, total, total * total)
    return Mean(arm.n, total, _variance(arm, theta) * (arm.n - 1) + total * total / arm.n)


def _variance(arm: Paired, theta: float) -> float:
    outcome, covariate = arm.variance or 0.0, arm.covariate_variance or 0.0
    return max(outcome + theta * (theta * covariate - 2.0 * (arm.covariance or 0.0)), 0.0)
