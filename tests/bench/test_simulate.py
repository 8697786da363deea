"""The simulation of experiments, in short: verdicts err as rarely and find as much as promised."""

from __future__ import annotations

from bench.simulate import broken, simulate, table


def test_daily_verdicts_keep_what_they_promise_and_daily_z_tests_do_not() -> None:
    found = simulate(400, 1)
    assert broken(found) == []
    assert found["alike"]["plain_z_false_percent"] > 20.0
    assert found["unlike"]["worse_percent"] == 0.0
    assert found["unlike"]["median_day"] < 20


def test_the_same_seed_tells_the_same() -> None:
    assert simulate(20, 7) == simulate(20, 7)


def test_a_figure_that_is_worse_than_promised_is_named() -> None:
    found = simulate(5, 1)
    found["alike"]["false_percent"], found["unlike"]["better_percent"] = 6.0, 80.0
    found["split"]["false_percent"] = found["few_events"]["false_percent"] = 0.0
    assert broken(found) == [
        "alike: 6.0 % false, promised 5.0 % at most",
        "unlike: 80.0 % found, promised 85.0 % at least",
    ]
    assert "6.0 %" in table(found)
