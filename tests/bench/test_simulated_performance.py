"""The simulation of performance's alarm, in short: quiet without drift, and a flipped concept found soon."""

from __future__ import annotations

import numpy as np
from bench.simulated_performance import broken, first_alarm, raised, simulate, tables


def test_months_without_drift_are_quiet_and_a_flipped_concept_is_found_in_time() -> None:
    found = simulate(6, 2, 2, 7)
    assert broken(found) == []
    assert found["no_drift"]["rang"]["fairlead"] == 0
    assert found["no_drift"]["rang"]["z"] > 0
    assert found["detection"][0]["fairlead"]["worst"] <= 500
    assert "concept flips" in tables(found)


def test_the_same_seed_tells_the_same() -> None:
    assert simulate(1, 1, 1, 7) == simulate(1, 1, 1, 7)


def test_what_is_worse_than_promised_is_named() -> None:
    found = simulate(6, 1, 1, 1)
    found["at_the_limit"]["rang_soon"]["narrow"] = 6
    found["detection"][0]["stated"] = {"median": None, "worst": None, "missed": 1}
    found["nothing_changed"]["alarms"]["as it ships"]["fairness"] = 2
    wrong = ["at_the_limit", "concept flips", "nothing changed, as it ships"]
    assert [fault.split(":")[0] for fault in broken(found)] == wrong
    assert "–" in tables(found)


def test_right_answers_go_wrong_until_the_share_is_met() -> None:
    generator = np.random.default_rng(3)
    wrong = generator.random(200_000) < 0.17
    after = raised(wrong, 0.3, generator)
    assert abs(after.mean() - 0.3) < 0.005
    assert not (wrong & ~after).any()


def test_an_alarm_that_is_on_when_things_go_wrong_counts_from_then() -> None:
    generator = np.random.default_rng(4)
    reference = generator.random(1_000) < 0.17
    stream = np.concatenate([generator.random(2_000) < 0.17, generator.random(4_000) < 0.6])
    assert first_alarm("fairlead", reference, reference, stream, 30) == 30
    assert first_alarm("drop", reference, reference, stream, 30) == 30
    assert first_alarm("fairlead", reference, reference, stream[:2_000], 0) is None
