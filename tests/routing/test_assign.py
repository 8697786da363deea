"""Assignment is sticky, even, independent between models, and the published algorithm."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.errors import InvalidPlan
from fairlead.routing.assign import mirror_slot_of, rebalance, slot_of, slot_order, targets
from fairlead.routing.plan import SLOTS

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "assignment.md").read_text("utf-8")

UNITS = 100_000

# Chi-square quantiles at 0.9999, from tables. Units and salts are fixed, so a run that passes always does.
CHI_SQUARE = {1: 15.14, 3: 21.11, 99: 160.06}


def rows_of(page: str, columns: int) -> list[list[str]]:
    cells = r"\| `(\".*?\")` " + r"\| `(\".*?\")` " * (columns - 2) + r"\| ([\d, ]+) \|"
    return [list(found) for found in re.findall(cells, page)]


def chi_square(observed: list[int], expected: list[float]) -> float:
    return sum((o - e) ** 2 / e for o, e in zip(observed, expected, strict=True))


# --- the promise --------------------------------------------------------------------------------------------


def test_the_published_vectors_hold() -> None:
    vectors = rows_of(PAGE.split("## Slot to arm")[0], 3)
    assert len(vectors) >= 12
    for salt, unit, slot in vectors:
        assert slot_of(json.loads(salt), json.loads(unit)) == int(slot), (salt, unit)


def test_the_published_vectors_of_copies_hold() -> None:
    vectors = rows_of(PAGE.split("## Copies for a shadow")[1], 3)
    assert len(vectors) >= 4
    for salt, unit, slot in vectors:
        assert mirror_slot_of(json.loads(salt), json.loads(unit)) == int(slot), (salt, unit)


def test_who_is_copied_says_nothing_about_who_answers() -> None:
    counts = Counter(
        (slot_of("s", f"u{n}") < SLOTS // 2, mirror_slot_of("s", f"u{n}") < SLOTS // 2) for n in range(UNITS)
    )
    assert chi_square(list(counts.values()), [UNITS / 4] * 4) < CHI_SQUARE[3]


def test_the_published_orders_hold() -> None:
    orders = rows_of(PAGE.split("## Slot to arm")[1].split("## Copies for a shadow")[0], 2)
    assert len(orders) >= 3
    for rollout, first in orders:
        assert slot_order(json.loads(rollout))[:5] == [int(slot) for slot in first.split(",")]


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_a_unit_has_the_same_slot_in_every_process(seed: str) -> None:
    units = ["", "user-42", "Zoë", "東京", "\ud800", "x" * 10_000]
    code = (
        "import json, sys; from fairlead.routing.assign import slot_of, slot_order;"
        "units = json.load(sys.stdin);"
        "print(json.dumps([[slot_of('s', unit) for unit in units], slot_order('r')]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(units),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": seed},
    )
    assert json.loads(found.stdout) == [[slot_of("s", unit) for unit in units], slot_order("r")]


@given(st.text(), st.text())
def test_every_unit_has_a_slot(salt: str, unit: str) -> None:
    assert 0 <= slot_of(salt, unit) < SLOTS
    assert slot_of(salt, unit) == slot_of(salt, unit)


# --- evenness and independence ------------------------------------------------------------------------------


def test_units_fall_evenly_on_the_slots() -> None:
    hundredths = Counter(slot_of("salt", f"user-{number}") // 100 for number in range(UNITS))
    observed = [hundredths[part] for part in range(100)]
    assert chi_square(observed, [UNITS / 100] * 100) < CHI_SQUARE[99]


@pytest.mark.parametrize("percent", [1, 5, 50])
def test_an_arm_gets_its_share_of_the_units(percent: int) -> None:
    wanted = {"stable": SLOTS - 100 * percent, "canary": 100 * percent}
    owners = rebalance(["stable"] * SLOTS, wanted, slot_order("r"))
    inside = sum(owners[slot_of("salt", f"user-{number}")] == "canary" for number in range(UNITS))
    share = UNITS * percent / 100
    assert chi_square([inside, UNITS - inside], [share, UNITS - share]) < CHI_SQUARE[1]


def test_two_models_split_the_same_units_independently() -> None:
    owners = rebalance(["stable"] * SLOTS, {"stable": 7_000, "canary": 3_000}, slot_order("r"))
    table = Counter(
        (owners[slot_of("one", f"user-{number}")], owners[slot_of("two", f"user-{number}")])
        for number in range(UNITS)
    )
    shares = {"stable": 0.7, "canary": 0.3}
    pairs = [(a, b) for a in shares for b in shares]
    expected = [UNITS * shares[a] * shares[b] for a, b in pairs]
    assert chi_square([table[pair] for pair in pairs], expected) < CHI_SQUARE[3]


def test_the_order_of_a_rollout_holds_each_slot_once_and_is_its_own() -> None:
    one, other = slot_order("one"), slot_order("other")
    assert sorted(one) == sorted(other) == list(range(SLOTS))
    assert one != other


# --- targets ------------------------------------------------------------------------------------------------


@given(
    st.dictionaries(
        st.text(max_size=3), st.floats(0.001, 1000, allow_subnormal=False), min_size=1, max_size=20
    )
)
def test_targets_add_up_and_are_exact_to_a_slot(parts: dict[str, float]) -> None:
    total = sum(parts.values())
    weights = {arm: part * 100 / total for arm, part in parts.items()}
    counts = targets(weights)
    assert sum(counts.values()) == SLOTS
    lifted = sum(weight * SLOTS / 100 < 1 for weight in weights.values())
    for arm, weight in weights.items():
        assert counts[arm] >= 1
        assert abs(counts[arm] - weight * SLOTS / 100) < 1 + lifted


def test_an_arm_without_weight_gets_no_slot() -> None:
    assert targets({"a": 100.0, "b": 0.0}) == {"a": SLOTS, "b": 0}


def test_thirds_are_shared_without_a_slot_lost() -> None:
    assert sorted(targets({"a": 100 / 3, "b": 100 / 3, "c": 100 / 3}).values()) == [3333, 3333, 3334]


@pytest.mark.parametrize("weights", [{"a": 99.0}, {"a": -1.0, "b": 101.0}, {"a": float("nan")}, {}])
def test_weights_that_are_no_split_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(InvalidPlan):
        targets(weights)


# --- rebalance ----------------------------------------------------------------------------------------------

ARMS = ("stable", "a", "b", "c", "d")


@st.composite
def changes(draw: st.DrawFn) -> tuple[list[str], dict[str, int], list[int]]:
    slots = draw(st.lists(st.sampled_from(ARMS), min_size=1, max_size=60))
    marks = draw(st.lists(st.sampled_from(ARMS), min_size=len(slots), max_size=len(slots)))
    order = draw(st.permutations(range(len(slots))))
    return slots, dict(Counter(marks)), list(order)


@given(changes())
@settings(max_examples=300)
def test_any_change_moves_the_total_variation_distance_and_no_more(
    change: tuple[list[str], dict[str, int], list[int]],
) -> None:
    slots, wanted, order = change
    after = rebalance(slots, wanted, order)
    assert Counter(after) == Counter(wanted)
    had = Counter(slots)
    moves = sum(a != b for a, b in zip(slots, after, strict=True))
    assert 2 * moves == sum(abs(wanted.get(arm, 0) - had[arm]) for arm in ARMS)


@given(changes())
@settings(max_examples=300)
def test_an_arm_that_grows_loses_no_slot(change: tuple[list[str], dict[str, int], list[int]]) -> None:
    slots, wanted, order = change
    after = rebalance(slots, wanted, order)
    had = Counter(slots)
    for slot, arm in enumerate(slots):
        if wanted.get(arm, 0) >= had[arm]:
            assert after[slot] == arm


@given(st.lists(st.integers(0, 30), min_size=2, max_size=4), st.permutations(range(60)))
def test_shrinking_undoes_growing(sizes: list[int], order: list[int]) -> None:
    owners = ["stable"] * 60
    seen = []
    for size in sorted(sizes):
        owners = rebalance(owners, {"stable": 60 - 2 * size, "a": size, "b": size}, order)
        seen.append(owners)
    for size, before in zip(sorted(sizes, reverse=True), reversed(seen), strict=True):
        owners = rebalance(owners, {"stable": 60 - 2 * size, "a": size, "b": size}, order)
        assert owners == before


def test_slots_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(InvalidPlan, match="3 slots are wanted of 4"):
        rebalance(["a"] * 4, {"a": 3}, [0, 1, 2, 3])
