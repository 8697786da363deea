"""The simulation of drift, in short: quiet without drift, and seeded drifts found within what is promised."""

from __future__ import annotations

import numpy as np
import pytest
from bench.seeded_drifts import SEEDED, Seeded
from bench.shipped_thresholds import Shipped
from bench.simulated_drift import broken, detection, no_drift, rows, simulate, tables


def test_without_drift_ours_keeps_quiet_where_fixed_thresholds_do_not() -> None:
    found = no_drift(rows(), np.random.default_rng(1), 8)
    assert found["alarm_windows"] == 0
    assert found["one_in_twenty_percent"] < 40.0
    assert all(one["windows"] > 5 for one in found["fixed"].values())


@pytest.mark.parametrize("seeded", SEEDED, ids=lambda one: one.name)
def test_a_seeded_drift_is_found_in_time(seeded: Seeded) -> None:
    found = detection(rows(), seeded, np.random.default_rng(1), 1)
    assert found["fairlead"]["worst"] <= found["within"]


def test_the_same_seed_tells_the_same_and_what_is_worse_than_promised_is_named() -> None:
    found = simulate(2, 1, 7)
    assert found == simulate(2, 1, 7)
    assert broken(found) == []
    found["no_drift"]["alarm_windows"] = 3
    found["detection"][0]["fairlead"] = {"median": None, "worst": None, "missed": 1}
    assert broken(found) == [
        "no drift: 3 alarms, promised 0.0 at most",
        "shift of 0.5 σ (temperature): found after None rows, promised 5000",
    ]
    assert "alarmed by Fairlead" in tables(found)


def test_shipped_thresholds_are_those_of_large_samples_that_differ() -> None:
    generator = np.random.default_rng(1)
    calm, moved = generator.normal(0.0, 1.0, (2, 50_000)), generator.normal(1.0, 1.0, 50_000)
    assert Shipped(calm[0]).alarms(calm[1]) | {"p": False} == dict.fromkeys(("psi", "js", "p", "w1"), False)
    assert Shipped(calm[0]).alarms(moved) == dict.fromkeys(("psi", "js", "p", "w1"), True)
    assert not any(Shipped(calm[0]).alarms(moved[:0]).values())
