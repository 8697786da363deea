"""A sample that lent its own bins becomes a fair reference: at its list's cut, and beyond what it had."""

from __future__ import annotations

import numpy as np

from fairlead.contracts.counts import FieldCounts, FieldKey, reference_counts, tally
from fairlead.monitoring.drift import Pair, Shift, shifts
from fairlead.monitoring.lent import beyond, uncut
from tests.monitoring.made import categories, numbers

X = FieldKey("feature", "x")


def many(generator: np.random.Generator, n: int) -> list[str]:
    """Names of 2,000 that are all as frequent, of which a profile lists a hundred."""
    return [f"n{number}" for number in generator.integers(0, 2000, n)]


def asked(seed: int, *, lent: bool) -> dict[str, Shift]:
    generator = np.random.default_rng(seed)
    bins = categories(many(generator, 20_000))
    pair = Pair("", X, bins, reference_counts(bins), tally(bins, many(generator, 2000)), lent=lent)
    return {one.question: one for one in shifts([pair], level=0.01)}


def test_the_most_frequent_of_many_are_no_longer_when_they_come_again() -> None:
    naive = [asked(seed, lent=False)["unseen-share"] for seed in range(10)]
    fair = [asked(seed, lent=True)["unseen-share"] for seed in range(10)]
    # Of a list of the luckiest, less comes again: taken as it is, that is an alarm nearly every time.
    assert sum(one.status == "alarm" for one in naive) > 5
    assert {one.status for one in fair} == {"ok"}


def test_what_is_far_from_the_cut_keeps_its_bin() -> None:
    generator = np.random.default_rng(1)
    bins = categories([*many(generator, 5000), *["often"] * 3000])
    both = uncut(bins, reference_counts(bins), tally(bins, ["often"] * 10 + ["n1"] * 5))
    place = bins.categories.index("often")
    assert (both[0].counts[place], both[1].counts[place]) == (3000, 10)
    assert [one.n for one in both] == [8000, 15]


def test_a_whole_list_and_numbers_stay_as_they_are() -> None:
    for bins in (categories(["a", "b", "b"]), numbers([1.0, 2.0]), categories([])):
        held = reference_counts(bins)
        assert uncut(bins, held, held) == (held, held)


def test_what_was_had_once_would_be_unseen_by_the_others() -> None:
    bins = categories(["a"] * 5 + ["b", "c"])
    assert beyond(bins, reference_counts(bins)) == 2
    assert beyond(bins, FieldCounts(counts=(5, 1, 1, 7))) == 7


def test_extremes_would_be_outside_of_the_others() -> None:
    bins = numbers([1.0, 2.0, 3.0])
    assert beyond(bins, reference_counts(bins)) == 2
    assert beyond(numbers([]), FieldCounts(counts=(0,))) == 0


def test_new_rare_names_are_expected_where_the_reference_had_many_rare_ones() -> None:
    generator = np.random.default_rng(2)
    rare = [f"r{number}" for number in range(60)]
    bins = categories(["usual"] * 1000 + rare)
    current = tally(bins, ["usual"] * 940 + [f"new{number}" for number in generator.integers(0, 900, 60)])
    pair = Pair("", X, bins, reference_counts(bins), current)
    questions = [shifts([one], level=0.01)[3] for one in (pair, pair._replace(lent=True))]
    assert [one.question for one in questions] == ["unseen-share"] * 2
    assert [one.status for one in questions] == ["alarm", "ok"]
