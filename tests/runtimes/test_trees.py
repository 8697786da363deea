"""Trees walked for a row: what the decisions did adds up, whatever the trees are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.runtimes.trees import MOST_DEPTH, Nodes, Trees, Walk, depth_of, leaf_sums, with_means

FEATURES = 3


def grown(seed: int, *, trees: int = 4, depth: int = 5, width: int = 2, asked: int = FEATURES) -> Nodes:
    """Random trees, some of them a single leaf, that ask the first `asked` columns."""
    generator = np.random.default_rng(seed)
    columns: list[int] = []
    left: list[int] = []
    right: list[int] = []
    thresholds: list[float] = []

    def node(level: int) -> int:
        place = len(columns)
        columns.append(-1)
        left.append(place)
        right.append(place)
        thresholds.append(0.0)
        if level < depth and generator.random() < 0.8:
            columns[place] = int(generator.integers(asked))
            thresholds[place] = float(np.round(generator.normal(), 1))
            left[place] = node(level + 1)
            right[place] = node(level + 1)
        return place

    roots = [node(0) for _ in range(trees)]
    leaf = np.array(columns) < 0
    values = np.where(leaf[:, None], generator.normal(size=(len(columns), width)), 0.0)
    return Nodes(
        columns=np.array(columns, np.int32),
        thresholds=np.array(thresholds, np.float32),
        left=np.array(left, np.int32),
        right=np.array(right, np.int32),
        missing_left=generator.random(len(columns)) < 0.5,
        roots=np.array(roots, np.int32),
        values=values,
        base=np.arange(width, dtype=np.float64),
    )


def table(seed: int, rows: int = 30) -> np.ndarray:
    generator = np.random.default_rng(seed)
    found = np.round(generator.normal(size=(rows, FEATURES)), 1)
    found[generator.random(found.shape) < 0.1] = np.nan
    return found


def walk(nodes: Nodes, rows: np.ndarray) -> tuple[Walk, np.ndarray, np.ndarray]:
    """The walk, the means of the roots with the base, and the sums of the rows."""
    depth = depth_of(nodes)
    sums, visits = leaf_sums(nodes, rows, depth)
    means = with_means(nodes, visits, depth)
    trees = Trees.of(means, tuple(range(FEATURES)), depth)
    return Walk(trees, FEATURES), means.values[means.roots].sum(axis=0) + nodes.base, sums


def slowly(nodes: Nodes, row: np.ndarray) -> np.ndarray:
    """The sum of leaves, one decision after the other."""
    total = nodes.base.copy()
    for root in nodes.roots:
        at = int(root)
        while nodes.columns[at] >= 0:
            value = np.float32(row[nodes.columns[at]])
            below = bool(nodes.missing_left[at]) if np.isnan(value) else bool(value <= nodes.thresholds[at])
            at = int(nodes.left[at] if below else nodes.right[at])
        total += nodes.values[at]
    return total


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_what_decisions_did_and_the_mean_add_up_to_the_sum_of_the_leaves(seed: int) -> None:
    nodes, rows = grown(seed), table(seed)
    walked, base, sums = walk(nodes, rows)
    for row, total in zip(rows, sums, strict=True):
        assert total == pytest.approx(slowly(nodes, row), abs=1e-12)
        for number in range(2):
            assert walked(row, number).sum() + base[number] == pytest.approx(total[number], abs=1e-9)


def test_the_base_is_the_mean_over_the_rows_that_were_counted() -> None:
    nodes, rows = grown(3), table(3, rows=200)
    _, base, sums = walk(nodes, rows)
    assert base == pytest.approx(sums.mean(axis=0), abs=1e-9)


def test_a_column_that_no_tree_asks_did_nothing() -> None:
    nodes, rows = grown(5, asked=2), table(5)
    walked, _, _ = walk(nodes, rows)
    assert all(walked(row, 0)[2] == 0.0 for row in rows)


def test_a_feature_has_what_all_of_its_columns_did() -> None:
    nodes, rows = grown(7), table(7)
    depth = depth_of(nodes)
    means = with_means(nodes, leaf_sums(nodes, rows, depth)[1], depth)
    apart = Walk(Trees.of(means, (0, 1, 2), depth), 3)
    together = Walk(Trees.of(means, (0, 1, 1), depth), 2)
    for row in rows:
        alone = apart(row, 0)
        assert together(row, 0) == pytest.approx([alone[0], alone[1] + alone[2]], abs=1e-12)


def test_a_branch_where_no_row_came_counts_like_the_other() -> None:
    nodes = Nodes(
        columns=np.array([0, -1, -1], np.int32),
        thresholds=np.array([0.0, 0.0, 0.0], np.float32),
        left=np.array([1, 1, 2], np.int32),
        right=np.array([2, 1, 2], np.int32),
        missing_left=np.zeros(3, bool),
        roots=np.array([0], np.int32),
        values=np.array([[0.0], [1.0], [3.0]]),
        base=np.zeros(1),
    )
    assert with_means(nodes, np.zeros(3), 1).values[0] == 2.0


def test_trees_that_are_too_deep_are_told_by_one_level_more() -> None:
    count = MOST_DEPTH + 10
    right = np.array([*range(2, 2 * count, 2), 2 * count - 1], np.int32)
    columns = np.full(2 * count, -1, np.int32)
    columns[::2] = 0
    places = np.arange(2 * count, dtype=np.int32)
    follow = places.copy()
    follow[::2] = right
    left = places.copy()
    left[::2] = places[1::2]
    nodes = Nodes(
        columns=columns,
        thresholds=np.zeros(2 * count, np.float32),
        left=left,
        right=follow,
        missing_left=np.zeros(2 * count, bool),
        roots=np.array([0], np.int32),
        values=np.zeros((2 * count, 1)),
        base=np.zeros(1),
    )
    assert depth_of(nodes) == MOST_DEPTH + 1
