"""Sharing out what versions have used: nothing is lost, nothing invented, and who caused it pays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.monitoring.cost import Compute, CostLine, Share, by_use_case, by_version, shared

HOUR = 3_600 * 10**9
V1, V2 = ("shop", "v1"), ("shop", "v2")

amounts = st.integers(0, 10**18)
computes = st.builds(
    Compute, run_ns=amounts, shadow_ns=amounts, load_ns=amounts, rows=amounts, answers=amounts
)
shares = st.builds(
    Share,
    model=st.just("shop"),
    version=st.sampled_from(["v1", "v2"]),
    shown=st.just("use-case"),
    use_case=st.text(max_size=3),
    answers=st.integers(0, 10**9),
    computed=st.integers(0, 10**9),
)


def of(use_case: str, computed: int, version: str = "v1", answers: int | None = None) -> Share:
    told = computed if answers is None else answers
    return Share(
        model="shop", version=version, shown="use-case", use_case=use_case, answers=told, computed=computed
    )


def named(lines: list[CostLine]) -> dict[str | None, CostLine]:
    return {line.name: line for line in lines}


@given(st.integers(0, 10**20), st.dictionaries(st.integers(), st.integers(0, 10**12)))
def test_shares_add_up_to_the_whole_and_none_is_off_by_one(total: int, weights: dict[int, int]) -> None:
    parts = shared(total, weights)
    whole = sum(weights.values())
    if whole == 0:
        assert parts == {}
        return
    assert sum(parts.values()) == total
    for key, part in parts.items():
        assert abs(part * whole - total * weights[key]) < whole


@given(st.dictionaries(st.sampled_from([V1, V2]), computes), st.lists(shares, max_size=8))
def test_what_callers_pay_adds_up_to_what_versions_used(
    used: dict[tuple[str, str], Compute], callers: list[Share]
) -> None:
    versions = by_version(used, {"shop": 1.0})
    lines = by_use_case(used, callers, {"shop": 1.0})
    for name in ("run_seconds", "shadow_seconds", "load_seconds", "compute_seconds", "cost"):
        wanted = sum(getattr(line, name) for line in versions)
        assert sum(getattr(line, name) for line in lines) == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    assert sum(line.answers for line in lines) == sum(one.answers for one in callers)


def test_a_caller_pays_by_the_answers_that_were_computed_for_it_and_not_for_those_from_the_cache() -> None:
    used = {V1: Compute(run_ns=HOUR, rows=400, answers=10_000)}
    lines = named(by_use_case(used, [of("web", 300), of("app", 100, answers=9_700)], {"shop": 2.0}))
    assert lines["web"].compute_seconds == 2_700
    assert lines["web"].cost == 1.5
    assert lines["web"].cost_per_thousand == pytest.approx(5.0)
    assert lines["app"].cost == 0.5
    assert lines["app"].cost_per_thousand == pytest.approx(0.5 / 9.7)


def test_one_caller_of_two_versions_pays_for_what_each_took() -> None:
    used = {V1: Compute(run_ns=HOUR), V2: Compute(run_ns=10 * HOUR)}
    callers = [of("web", 10, "v1"), of("app", 30, "v1"), of("web", 1, "v2")]
    lines = named(by_use_case(used, callers, {}))
    assert lines["web"].compute_seconds == 0.25 * 3_600 + 36_000
    assert lines["app"].compute_seconds == 0.75 * 3_600
    assert [lines["web"].cost, lines["app"].cost_per_thousand] == [None, None]


def test_a_shadow_is_paid_by_nobody_who_asked() -> None:
    used = {V1: Compute(run_ns=HOUR, load_ns=HOUR), V2: Compute(shadow_ns=5 * HOUR, load_ns=HOUR)}
    lines = by_use_case(used, [of("web", 7)], {"shop": 1.0})
    assert [(line.shown, line.name, line.cost) for line in lines] == [
        ("nobody", None, 6.0),
        ("use-case", "web", 2.0),
    ]
    assert lines[0].cost_per_thousand is None


def test_a_caller_who_was_only_answered_from_the_cache_pays_nothing() -> None:
    lines = named(by_use_case({}, [of("web", 0, answers=5)], {"shop": 1.0}))
    assert lines["web"].answers == 5
    assert lines["web"].compute_seconds == 0.0


def test_versions_without_a_price_have_seconds_and_no_cost() -> None:
    (line,) = by_version({V1: Compute(run_ns=5 * 10**9, load_ns=10**9, answers=2_000)}, {"shop": None})
    assert (line.compute_seconds, line.load_seconds, line.seconds_per_thousand) == (6.0, 1.0, 3.0)
    assert (line.cost, line.cost_per_thousand) == (None, None)


def test_nothing_used_is_no_line() -> None:
    assert by_version({}, {}) == []
    assert by_use_case({}, [], {}) == []
