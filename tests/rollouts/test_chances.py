"""How often a rollout decides rightly, simulated with fixed seeds: harm shows soon, twins seldom differ."""

from __future__ import annotations

from statistics import median

import numpy as np
from numpy.typing import NDArray

from fairlead.rollouts.judge import judge
from fairlead.rollouts.observation import ArmSample
from fairlead.rollouts.policy import Advance, Decision, Rollback, apply, decide
from fairlead.rollouts.reading import preset
from fairlead.rollouts.spec import RolloutSpec
from fairlead.telemetry.latency import BOUNDS, BUCKETS
from tests.rollouts.seen import after, seen, serving

FIVE = preset(weight=5)
EDGES = np.array(BOUNDS)


class Traffic:
    """An arm's requests as they come in: failures at a rate, latencies around a median."""

    def __init__(self, rng: np.random.Generator, rate: float, seconds: float = 0.02) -> None:
        self.rng, self.rate, self.seconds = rng, rate, seconds
        self.requests = self.failures = 0
        self.latency: NDArray[np.int64] = np.zeros(BUCKETS, np.int64)

    def come(self, requests: int) -> ArmSample:
        took = self.rng.lognormal(np.log(self.seconds), 0.5, requests)
        self.requests += requests
        self.failures += int(self.rng.binomial(requests, self.rate))
        self.latency += np.bincount(np.searchsorted(EDGES, took), minlength=BUCKETS)
        return ArmSample(
            requests=self.requests, failures=self.failures, latency=tuple(map(int, self.latency))
        )


def run(
    canary: Traffic, control: Traffic, spec: RolloutSpec = FIVE, *, upto: int, look: int
) -> tuple[int, Decision]:
    """The first decision other than to hold, and after how many requests to the canary; the last, else."""
    found = serving(spec)
    for count in range(look, upto + 1, look):
        now = after(count / 10)
        theirs = control.come(int(control.rng.poisson(look)))
        observation = seen(canary.come(look), theirs, lasted=count / 10)
        decision = decide(found, judge(spec, found.present_step, observation), observation, now)
        moved = apply(found, decision, now)
        if (moved.state, moved.step) != (found.state, found.step):
            break
        found = moved
    return count, decision


def test_a_candidate_that_fails_one_request_in_twenty_is_rolled_back_within_five_hundred() -> None:
    rng = np.random.default_rng(20261121)
    runs = [run(Traffic(rng, 0.05), Traffic(rng, 0.0), upto=500, look=25) for _ in range(100)]
    caught = [count for count, decision in runs if isinstance(decision, Rollback)]
    assert len(caught) >= 0.95 * len(runs)
    assert median(caught) <= 300


def test_a_candidate_that_is_twice_as_slow_is_rolled_back() -> None:
    rng = np.random.default_rng(7)
    runs = [run(Traffic(rng, 0.0, 0.06), Traffic(rng, 0.0, 0.02), upto=3_000, look=250) for _ in range(20)]
    assert all(isinstance(decision, Rollback) for _, decision in runs)


def test_a_candidate_that_is_slower_by_half_does_not_go_on_though_it_keeps_its_limit() -> None:
    rng = np.random.default_rng(17)
    runs = [run(Traffic(rng, 0.0, 0.03), Traffic(rng, 0.0, 0.02), upto=9_000, look=1_000) for _ in range(20)]
    assert not any(isinstance(decision, Advance) for _, decision in runs)


def test_of_a_hundred_harmless_twins_no_more_than_alpha_are_rolled_back() -> None:
    rng = np.random.default_rng(11)
    runs = [run(Traffic(rng, 0.004), Traffic(rng, 0.004), upto=4_000, look=250) for _ in range(100)]
    back = sum(isinstance(decision, Rollback) for _, decision in runs)
    assert back <= FIVE.alpha * len(runs)


def test_twins_that_both_break_the_limit_are_not_rolled_back_for_it() -> None:
    rng = np.random.default_rng(13)
    runs = [run(Traffic(rng, 0.02), Traffic(rng, 0.02), upto=3_000, look=250) for _ in range(100)]
    back = sum(isinstance(decision, Rollback) for _, decision in runs)
    assert back <= FIVE.alpha * len(runs)
