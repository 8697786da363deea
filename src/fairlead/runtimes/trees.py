"""An ensemble of trees, walked for one row: what each decision on the way did for the sum of leaves. Pure.

Every node stands for the mean of the leaves below it, weighed by how many reference rows came there. A
decision moves the sum from its node's mean to that of the branch taken, and belongs to the column that
it asked (Saabas, Interpreting random forests, 2014). What the decisions did adds up to the sum of the leaves
less that of the roots, whatever the trees are.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = ["MOST_CELLS", "MOST_DEPTH", "Nodes", "Trees", "Walk", "depth_of", "leaf_sums", "with_means"]

MOST_CELLS = 100_000
"""Nodes times numbers in each: so many take 3 MB of each gateway that is asked, and 12 ms to read, and no
more are kept for this."""
MOST_DEPTH = 64

Array = npt.NDArray[Any]


class Nodes(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Trees as arrays, an entry for each node: the number in `columns` (-1 in a leaf) is asked whether it is
    at most the one in `thresholds`; then `left` is next, else `right`, and a leaf is its own successor. What
    is missing goes left where `missing_left` says so. `values` [nodes, numbers] count in leaves, and `base`
    is added to their sum over all trees, whose first nodes are the `roots`."""

    columns: Array
    thresholds: Array
    left: Array
    right: Array
    missing_left: Array
    roots: Array
    values: Array
    base: Array


class Trees(msgspec.Struct, frozen=True, kw_only=True):
    """Trees as they are kept: the arrays of `Nodes` as bytes, little endian, `values` now the mean in every
    node. `double`: thresholds are doubles. `owners` name the feature of each column."""

    columns: bytes
    thresholds: bytes
    left: bytes
    right: bytes
    missing_left: bytes
    roots: bytes
    values: bytes
    owners: tuple[int, ...]
    width: int
    depth: int
    double: bool

    @classmethod
    def of(cls, nodes: Nodes, owners: tuple[int, ...], depth: int) -> Trees:
        """The trees of nodes that have their means already."""
        double = nodes.thresholds.dtype.itemsize == 8
        return cls(
            columns=nodes.columns.astype("<i4").tobytes(),
            thresholds=nodes.thresholds.astype("<f8" if double else "<f4").tobytes(),
            left=nodes.left.astype("<i4").tobytes(),
            right=nodes.right.astype("<i4").tobytes(),
            missing_left=nodes.missing_left.astype("?").tobytes(),
            roots=nodes.roots.astype("<i4").tobytes(),
            values=nodes.values.astype("<f8").tobytes(),
            owners=owners,
            width=nodes.values.shape[1],
            depth=depth,
            double=double,
        )


class Walk:
    """Trees ready to be walked."""

    def __init__(self, trees: Trees, features: int) -> None:
        self._type = np.float64 if trees.double else np.float32
        self._columns = np.frombuffer(trees.columns, "<i4")
        self._thresholds = np.frombuffer(trees.thresholds, "<f8" if trees.double else "<f4")
        # By the answer, so that the next node is one look.
        self._next = np.stack([np.frombuffer(trees.right, "<i4"), np.frombuffer(trees.left, "<i4")])
        self._missing_left = np.frombuffer(trees.missing_left, "?")
        self._roots = np.frombuffer(trees.roots, "<i4")
        table = np.frombuffer(trees.values, "<f8").reshape(-1, trees.width)
        self._values = [np.ascontiguousarray(column) for column in table.T]
        self._owners = np.array(
            [*trees.owners, 0], np.int64
        )  # leaves ask the one behind the last, for nothing
        self._depth = trees.depth
        self._features = features

    def __call__(self, columns: Array, number: int) -> Array:
        """What each feature did for that number of the sum."""
        given = columns.astype(self._type)
        missing = bool(np.isnan(given).any())
        values = self._values[number]
        at = self._roots
        before = values[at]
        found = np.zeros(self._features)
        for _ in range(self._depth):
            asked = self._columns[at]
            known = given[asked]
            below = known <= self._thresholds[at]
            if missing:
                below |= np.isnan(known) & self._missing_left[at]
            at = self._next[below.view(np.int8), at]
            after = values[at]
            found += np.bincount(self._owners[asked], after - before, self._features)
            before = after
        return found


def depth_of(nodes: Nodes) -> int:
    """How many decisions there are at most on the way to a leaf; beyond `MOST_DEPTH` one more than that."""
    at, depth = nodes.roots, 0
    while depth <= MOST_DEPTH:
        at = at[nodes.columns[at] >= 0]
        if not at.size:
            return depth
        at, depth = np.concatenate([nodes.left[at], nodes.right[at]]), depth + 1
    return depth


def leaf_sums(nodes: Nodes, table: Array, depth: int) -> tuple[Array, Array]:
    """The sums of leaves and base for rows of columns, [rows, numbers], and how often each node was
    passed."""
    given = table.astype(nodes.thresholds.dtype)
    visits = np.zeros(nodes.columns.size)
    at = np.broadcast_to(nodes.roots, (len(given), nodes.roots.size))
    np.add.at(visits, at, 1.0)
    rows = np.arange(len(given))[:, None]
    for _ in range(depth):
        known = given[rows, nodes.columns[at]]
        below = (known <= nodes.thresholds[at]) | (np.isnan(known) & nodes.missing_left[at])
        after = np.where(below, nodes.left[at], nodes.right[at])
        np.add.at(visits, after[after != at], 1.0)
        at = after
    return nodes.values[at].sum(axis=1) + nodes.base, visits


def with_means(nodes: Nodes, visits: Array, depth: int) -> Nodes:
    """The nodes with the mean of the leaves below in each, weighed by visits; where nobody came, both
    branches count alike."""
    means = np.where((nodes.columns < 0)[:, None], nodes.values, 0.0)
    layers = []
    at = nodes.roots
    for _ in range(depth):
        at = at[nodes.columns[at] >= 0]
        layers.append(at)
        at = np.concatenate([nodes.left[at], nodes.right[at]])
    for inner in reversed(layers):
        left, right = nodes.left[inner], nodes.right[inner]
        total = visits[left] + visits[right]
        share = np.where(total > 0, visits[left] / np.maximum(total, 1.0), 0.5)[:, None]
        means[inner] = share * means[left] + (1 - share) * means[right]
    return msgspec.structs.replace(nodes, values=means)
