"""How much each feature of one row did for its answer: Shapley values against background rows. Pure.

The game is the interventional one: features of a coalition have the row's values, all others those of a
background row, so that a feature which the model ignores gets exactly nothing (Janzing, Minorics and
Blöbaum, 2020). Values are exact for each background row where few features differ from it; else they are
means over walks along a random order and its reverse (Mitchell, Cooper, Frank and Holmes, 2022), exact
for models that add what each feature does. Either way they sum to the answer less the mean answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = ["MOST_RUNS", "Attribution", "Score", "attribute", "same"]

MOST_RUNS = 20_000
"""About so many rows are scored for one explanation."""
LEAST_BACKGROUND = 20
"""So many background rows are used however many features there are."""
_MOST_EXACT = 12
"""Beyond so many differing features the exact sum is never taken."""
_NORMAL_95 = 1.959964

Row = Sequence[Any]
Score = Callable[[Sequence[Row]], Sequence[float | None]]
"""The number that is explained, for each of the rows; None where the model does not answer."""


class Attribution(msgspec.Struct, frozen=True, kw_only=True):
    """What each feature did for one answer, in the features' order.

    `contributions` sum to `value` less `base`, the mean answer to the `rows` background rows used. `errors`
    are half widths of 95 % intervals of the contributions, over the draw of background rows and of orders.
    `exact`: no order was drawn. `failed` background rows were left out, since the model did not answer a
    mixture with them; `runs` rows were scored.
    """

    value: float
    base: float
    contributions: tuple[float, ...]
    errors: tuple[float, ...]
    rows: int
    failed: int
    exact: bool
    runs: int


def attribute(
    row: Row,
    background: Sequence[Row],
    score: Score,
    generator: np.random.Generator,
    *,
    most_runs: int = MOST_RUNS,
) -> Attribution | None:
    """The contributions of the row's features; None where the model does not answer the row itself, or a
    mixture with more than half of the background rows. Raises ValueError without background rows."""
    if not background:
        raise ValueError("there are no background rows")
    games = [_Game.of(row, other) for other in background]
    widest = max(len(game.players) for game in games)
    if widest:
        games = games[: max(LEAST_BACKGROUND, most_runs // (2 * widest))]
    each = max(2, most_runs // len(games))
    plans = [game.plan(each, generator) for game in games]
    wanted: dict[int, list[int]] = {
        index: sorted({coalition for walk in plan.walks for coalition in walk} | {0, game.all})
        for index, (game, plan) in enumerate(zip(games, plans, strict=True))
    }
    mixtures: list[Row] = [row]
    for index, coalitions in wanted.items():
        mixtures += [games[index].mixture(one) for one in coalitions if one != games[index].all]
    scores = score(mixtures)
    value = scores[0]
    if value is None:
        return None
    found: list[npt.NDArray[np.float64]] = []
    bases: list[float] = []
    at = 1
    for index, game in enumerate(games):
        held: dict[int, float | None] = {game.all: value}
        for coalition in wanted[index]:
            if coalition != game.all:
                held[coalition], at = scores[at], at + 1
        known = {coalition: number for coalition, number in held.items() if number is not None}
        if len(known) == len(held):
            found.append(plans[index].values(game, known, len(row)))
            bases.append(known[0])
    if not found or 2 * len(found) < len(games):
        return None
    table = np.array(found)
    spread = table.std(axis=0, ddof=1) if len(found) > 1 else np.full(len(row), math.nan)
    # A feature that did the same beside every row is known exactly.
    errors = np.where(np.ptp(table, axis=0) == 0, 0.0, _NORMAL_95 * spread / math.sqrt(len(found)))
    return Attribution(
        value=value,
        base=float(np.mean(bases)),
        contributions=tuple(table.mean(axis=0).tolist()),
        errors=tuple(errors.tolist()),
        rows=len(found),
        failed=len(games) - len(found),
        exact=all(plan.exact for plan in plans),
        runs=len(mixtures),
    )


def same(one: Any, other: Any) -> bool:
    """Whether two values of a feature are the same to a model: lists by element, not-a-number as itself."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other):
        return True
    return bool(one == other)


class _Plan(msgspec.Struct, frozen=True):
    """Which coalitions are asked: walks from nobody to everybody, or all there are."""

    walks: list[list[int]]
    exact: bool

    def values(self, game: _Game, known: dict[int, float], features: int) -> npt.NDArray[np.float64]:
        found = np.zeros(features)
        if self.exact:
            found[list(game.players)] = _exactly(len(game.players), known)
            return found
        for walk in self.walks:
            for before, after in pairwise(walk):
                player = (before ^ after).bit_length() - 1
                found[game.players[player]] += known[after] - known[before]
        return found / len(self.walks)


class _Game(msgspec.Struct, frozen=True):
    """The row beside one background row. Players are the features that differ; a coalition is a number with
    a bit for each of them."""

    row: Row
    other: Row
    players: tuple[int, ...]

    @classmethod
    def of(cls, row: Row, other: Row) -> _Game:
        differ = (index for index, pair in enumerate(zip(row, other, strict=True)) if not same(*pair))
        return cls(row, other, tuple(differ))

    @property
    def all(self) -> int:
        return (1 << len(self.players)) - 1

    def mixture(self, coalition: int) -> Row:
        mixed = list(self.other)
        for bit, feature in enumerate(self.players):
            if coalition >> bit & 1:
                mixed[feature] = self.row[feature]
        return mixed

    def plan(self, runs: int, generator: np.random.Generator) -> _Plan:
        """What is asked for about so many runs."""
        count = len(self.players)
        if count <= _MOST_EXACT and 1 << count <= max(runs, 4):
            return _Plan([list(range(1 << count))], True)
        walks: list[list[int]] = []
        for _ in range(max(1, runs // (2 * count))):
            order = generator.permutation(count).tolist()
            walks += [_walk(order), _walk(order[::-1])]
        return _Plan(walks, False)


def _walk(order: Sequence[int]) -> list[int]:
    coalition = 0
    found = [0]
    for player in order:
        coalition |= 1 << player
        found.append(coalition)
    return found


def _exactly(players: int, known: dict[int, float]) -> npt.NDArray[np.float64]:
    """Shapley's sum over all coalitions."""
    found = np.zeros(players)
    if not players:
        return found
    coalitions = np.arange(1 << players)
    scores = np.array([known[coalition] for coalition in range(1 << players)])
    sizes = np.array([coalition.bit_count() for coalition in range(1 << players)])
    weights = np.array([1 / (players * math.comb(players - 1, size)) for size in range(players)])
    for player in range(players):
        without = coalitions[coalitions >> player & 1 == 0]
        gains = scores[without | 1 << player] - scores[without]
        found[player] = float(np.sum(weights[sizes[without]] * gains))
    return found
