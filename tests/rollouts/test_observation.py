"""What the gateways' counters say of an arm, and what lies between two looks at them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.experiments.aggregates import Mean, Proportion, Ratio
from fairlead.rollouts.observation import ArmSample, Observation, Outcome, reading
from fairlead.telemetry.counters import ArmKey, CounterBlock, read_counters
from tests.rollouts.seen import arm, latencies, seen

CANARY = ArmKey("shop", "v2", "canary", "canary")


def test_a_sample_is_what_came_between_two_readings(tmp_path: Path) -> None:
    row = CounterBlock(tmp_path / "g0").row(CANARY)
    row.answered("ok", 0.01)
    before = reading(read_counters(tmp_path), "shop", "canary", "v2")
    row.answered("ok", 0.01)
    row.answered("failed", 0.3)
    row.answered("rejected", 0.001)
    row.add("cache_hits", 2)
    sample = reading(read_counters(tmp_path), "shop", "canary", "v2").since(before)
    assert (sample.requests, sample.failures, sample.rejected, sum(sample.latency)) == (3, 1, 1, 3)
    assert sample.hits == 2
    assert sample.errors == Proportion(2, 1)
    assert sample.rejections == Proportion(3, 1)


def test_all_gateways_count_and_other_arms_versions_and_models_do_not(tmp_path: Path) -> None:
    for slot in range(2):
        block = CounterBlock(tmp_path / f"g{slot}")
        for key in (
            CANARY,
            ArmKey("shop", "v1", "canary", "canary"),
            ArmKey("shop", "v2", "stable", "stable"),
            ArmKey("other", "v2", "canary", "canary"),
        ):
            block.row(key).answered("ok", 0.01)
    assert reading(read_counters(tmp_path), "shop", "canary", "v2").requests == 2


@pytest.mark.parametrize(
    ("stood_in", "answered_by_the_arm"),
    [("fallback_version", False), ("stale_cache", True), ("contract_default", True)],
)
def test_a_failure_counts_on_its_arm_whoever_answered_instead(
    tmp_path: Path, stood_in: str, answered_by_the_arm: bool
) -> None:
    row = CounterBlock(tmp_path / "g0").row(CANARY)
    row.add("faults")
    row.add(stood_in)
    if answered_by_the_arm:
        row.answered("ok", 0.01)
    assert reading(read_counters(tmp_path), "shop", "canary", "v2").errors == Proportion(1, 1)


def test_an_arm_that_nobody_counted_is_nothing(tmp_path: Path) -> None:
    assert reading(read_counters(tmp_path), "shop", "canary", "v2") == ArmSample()


def test_hits_are_taken_off_where_answers_are_fastest() -> None:
    sample = ArmSample(requests=10, hits=4, latency=latencies({0.0001: 3, 0.02: 5, 2.0: 2}))
    assert sample.computed == latencies({0.02: 4, 2.0: 2})
    assert sum(msgspec.structs.replace(sample, hits=99).computed) == 0


def test_counters_that_run_backwards_are_no_sample() -> None:
    with pytest.raises(ValueError, match="smaller"):
        arm(5).since(arm(6))


arms = st.builds(
    lambda requests, failures, slow: arm(requests, min(failures, requests), slow=min(slow, requests)),
    st.integers(0, 1000),
    st.integers(0, 1000),
    st.integers(0, 1000),
)


@given(arms, arms)
def test_what_is_added_between_two_readings_comes_out(before: ArmSample, between: ArmSample) -> None:
    later = ArmSample(
        requests=before.requests + between.requests,
        failures=before.failures + between.failures,
        rejected=before.rejected + between.rejected,
        latency=tuple(a + b for a, b in zip(before.latency, between.latency, strict=True)),
    )
    assert later.since(before) == between
    assert 0 <= between.errors.successes <= between.errors.n


@pytest.mark.parametrize(
    "sums",
    [Proportion(10, 3), Mean(10, 5.0, 4.0), Ratio(10, 5.0, 6.0, 4.0, 4.0, 4.0)],
    ids=lambda s: type(s).__name__,
)
def test_an_observation_comes_back_from_where_it_was_stored(sums: Proportion | Mean | Ratio) -> None:
    made = seen(
        arm(100, 3, slow=2),
        outcomes={"conversion": Outcome(control=sums, canary=sums)},
        units={"canary": 3},
        expected={"canary": 1.0},
        errors={"units": "The log is away."},
    )
    assert msgspec.json.decode(msgspec.json.encode(made), type=Observation) == made
