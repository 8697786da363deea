"""Which models' answers can carry their leading features, and whether these add up to the answer."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fairlead.client import leadings
from fairlead.client.packing import packed
from fairlead.contracts.contract import Contract, Field, Output
from fairlead.errors import NotExplainable
from fairlead.runtimes.binding import Binding, Prediction
from fairlead.runtimes.leading import LEADING_FILE, TOP, Leader, Leading
from fairlead.runtimes.onnx import OnnxRuntime

GENERATOR = np.random.default_rng(0)
NUMBERS = GENERATOR.normal(size=(300, 4))
PAIR = (NUMBERS[:, 0] + NUMBERS[:, 1] * NUMBERS[:, 2] > 0).astype(int)
THREE = (NUMBERS[:, 0] > 0).astype(int) + (NUMBERS[:, 1] > 0)
SIZES = 3 * NUMBERS[:, 0] + NUMBERS[:, 1] ** 2
GAPPED = np.where(NUMBERS > 1.5, np.nan, NUMBERS)
MIXED = pd.DataFrame(NUMBERS, columns=list("abcd")).assign(
    a=lambda frame: frame["a"].where(GENERATOR.random(300) > 0.1),
    größe=GENERATOR.choice(["klein", "groß", ""], 300),
    count=GENERATOR.integers(0, 4, 300),
)
FOREST = RandomForestClassifier(30, random_state=0)
LARGE = np.exp(NUMBERS + 10)
"""Scaled, they lie close together: a threshold tells what rounds differently."""
ARRANGED = ColumnTransformer(
    [
        ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), list("abcd")),
        ("words", OneHotEncoder(handle_unknown="ignore"), ["größe"]),
        ("counts", OneHotEncoder(handle_unknown="ignore"), ["count"]),
    ]
)


class Found:
    """What was found of a model, and the model's own answers."""

    def __init__(self, model: Any, reference: Any, **options: Any) -> None:
        with packed(model, reference=reference, **options) as package:
            folder = package.files[package.runtime.entry].parent
            self.contract: Contract = package.contract
            self.leading = msgspec.json.decode(package.files[LEADING_FILE].read_bytes(), type=Leading)
            self.leader = Leader(self.leading, self.contract)
            session, binding = (
                OnnxRuntime(folder, package.runtime),
                Binding(package.contract, package.runtime),
            )
            frame = reference if isinstance(reference, pd.DataFrame) else pd.DataFrame(reference)
            ordered = frame[list(self.contract.names)] if isinstance(reference, pd.DataFrame) else frame
            self.rows = [tuple(map(_plain, row)) for row in ordered.itertuples(index=False)]
            self.answers = binding.decode(session.run(binding.encode(self.rows)), len(self.rows))
            session.close()

    def score(self, answer: Prediction) -> float:
        """The score of an answer, by its scale."""
        if self.leading.scale == "number":
            return float(answer.value)
        shares = answer.probabilities or []
        place = self.contract.output.classes.index(answer.value)
        if self.leading.scale == "probability":
            return shares[place]
        if len(shares) == 2:
            return math.log(shares[place] / shares[1 - place])
        return math.log(shares[place]) - sum(map(math.log, shares)) / len(shares)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def boosted(**options: Any) -> GradientBoostingClassifier:
    return GradientBoostingClassifier(n_estimators=10, random_state=0, **options)


@pytest.mark.parametrize(
    ("model", "reference", "target", "scale"),
    [
        (LinearRegression(), NUMBERS, SIZES, "number"),
        (LogisticRegression(), NUMBERS, PAIR, "log_odds"),
        (LogisticRegression(), NUMBERS, THREE, "log_odds"),
        (Pipeline([("arranged", ARRANGED), ("last", LogisticRegression())]), MIXED, PAIR, "log_odds"),
        (RandomForestRegressor(5, random_state=0), NUMBERS, SIZES, "number"),
        (RandomForestClassifier(5, random_state=0), NUMBERS, THREE, "probability"),
        (RandomForestClassifier(5, random_state=0), NUMBERS, PAIR == 1, "probability"),
        (boosted(), NUMBERS, PAIR, "log_odds"),
        (boosted(), NUMBERS, THREE, "log_odds"),
        (HistGradientBoostingClassifier(max_iter=5), GAPPED, PAIR, "log_odds"),
        (Pipeline([("arranged", ARRANGED), ("last", boosted())]), MIXED, PAIR, "log_odds"),
        (Pipeline([("arranged", ARRANGED), ("last", FOREST)]), MIXED, PAIR, "probability"),
        (make_pipeline(StandardScaler(), FOREST), LARGE, LARGE[:, 0] > 1e4, "probability"),
    ],
    ids=lambda one: type(one).__name__ if hasattr(one, "fit") else "",
)  # fmt: skip
def test_contributions_and_the_base_add_up_to_the_score_of_every_row(
    model: Any, reference: Any, target: Any, scale: str
) -> None:
    found = Found(model.fit(reference, target), reference)
    assert (found.leading.reason, found.leading.scale) == ("", scale)
    for row, answer in zip(found.rows, found.answers, strict=True):
        moved = found.leader.contributions(row, answer.value)
        assert moved is not None
        score = found.leader.base(answer.value) + sum(moved)
        assert score == pytest.approx(found.score(answer), abs=2e-4)


def test_a_linear_term_is_coefficient_times_distance_from_the_mean() -> None:
    model = LinearRegression().fit(NUMBERS, SIZES)
    found = Found(model, NUMBERS)
    moved = found.leader.contributions(found.rows[0], 0.0)
    assert moved == pytest.approx(model.coef_ * (NUMBERS[0] - NUMBERS.mean(axis=0)), rel=1e-6)
    assert found.leader.base(0.0) == pytest.approx(model.predict(NUMBERS).mean())


def test_a_class_and_its_opposite_are_moved_against_each_other() -> None:
    found = Found(LogisticRegression().fit(NUMBERS, PAIR), NUMBERS)
    for_one = found.leader.contributions(found.rows[0], 1)
    for_other = found.leader.contributions(found.rows[0], 0)
    assert for_one is not None
    assert for_other == [-one for one in for_one]


def test_the_leading_features_come_first_and_those_that_did_nothing_not_at_all() -> None:
    wide = np.concatenate([NUMBERS, NUMBERS[:, :4] * 0 + 1], axis=1)
    found = Found(LinearRegression().fit(wide, SIZES), wide)
    top = found.leader.top(found.rows[0], 0.0)
    assert top is not None
    sizes = [abs(one.contribution) for one in top]
    assert sizes == sorted(sizes, reverse=True)
    assert 0 < len(top) <= min(TOP, 4)


def test_a_category_that_nobody_had_gets_what_the_model_makes_of_it() -> None:
    found = Found(Pipeline([("arranged", ARRANGED), ("last", LogisticRegression())]).fit(MIXED, PAIR), MIXED)
    names = found.contract.names
    row = dict(zip(names, found.rows[1], strict=True))
    strange = tuple({**row, "größe": "riesig 🐘"}[name] for name in names)
    assert found.leader.top(strange, 1) is not None
    uncounted = tuple({**row, "count": 17}[name] for name in names)
    assert found.leader.top(uncounted, 1) is None  # what other counts do was never asked


@pytest.mark.parametrize("last", [RandomForestClassifier(5, random_state=0), LogisticRegression()])
def test_an_encoder_that_bears_no_unseen_category_leaves_only_that_unknown(last: Any) -> None:
    table = MIXED[["b", "größe"]]
    strict = ColumnTransformer([("numbers", StandardScaler(), ["b"]), ("words", OneHotEncoder(), ["größe"])])
    found = Found(make_pipeline(strict, last).fit(table, PAIR), table)
    assert found.leading.reason == ""
    assert all(found.leader.top(row, 1) is not None for row in found.rows)
    assert found.leader.top((0.5, "riesig 🐘"), 1) is None


def test_numbers_beyond_all_bounds_have_no_leading_features_instead_of_infinite_ones() -> None:
    found = Found(LinearRegression().fit(NUMBERS, SIZES), NUMBERS)
    assert found.leader.top((1.7e308, -1.7e308, 1.7e308, 0.0), 0.0) is None


def test_a_model_whose_features_do_not_add_up_says_so() -> None:
    found = Found(
        MLPRegressor(hidden_layer_sizes=(5,), max_iter=50, random_state=0).fit(NUMBERS, SIZES), NUMBERS
    )
    assert "neither a sum of what its features do nor one ensemble of trees" in found.leading.reason


def test_what_trees_ask_of_several_features_together_is_nobodys() -> None:
    from sklearn.decomposition import PCA

    forest = make_pipeline(PCA(2), RandomForestClassifier(3, random_state=0)).fit(NUMBERS, PAIR)
    assert "made of several features" in Found(forest, NUMBERS).leading.reason


def test_a_forest_that_is_too_large_is_left_to_explain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.client.leadings.MOST_CELLS", 100)
    found = Found(RandomForestClassifier(20, random_state=0).fit(NUMBERS, PAIR), NUMBERS)
    assert "100 and 64 are few enough" in found.leading.reason


def test_a_matrix_of_one_row_is_enough_to_look_at_and_too_little_to_be_sure_of() -> None:
    found = Found(LinearRegression().fit(NUMBERS, SIZES), NUMBERS[:1])
    assert found.leading.reason == ""
    assert found.leader.contributions(found.rows[0], 0.0) == pytest.approx([0.0] * 4)


def test_what_is_found_is_the_same_each_time() -> None:
    forest = RandomForestClassifier(5, random_state=0).fit(NUMBERS, PAIR)
    assert Found(forest, NUMBERS).leading == Found(forest, NUMBERS).leading


def test_leading_features_of_a_wide_model_are_found_with_a_bounded_number_of_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features, rows = 40, 100
    monkeypatch.setattr(leadings, "_MOST_CELLS", features * rows)
    table = np.random.default_rng(0).normal(size=(300, features))
    model = LinearRegression().fit(table, table[:, 3] * 2)
    asked = []
    decode = leadings._answers

    def counted(*arguments: Any) -> Any:
        ask = decode(*arguments)
        return lambda given: asked.append(len(given)) or ask(given)

    monkeypatch.setattr(leadings, "_answers", counted)
    monkeypatch.setattr("fairlead.client.packing.importance_of_onnx", lambda *_: None)
    found = Found(model, table)
    assert found.leading.reason == ""
    # All reference rows once for their scores and once for the proof; seven values of each feature.
    assert sum(asked) <= 2 * rows + 100 + 1 + 7 * features


def test_a_model_that_takes_thousands_of_features_is_left_to_explain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leadings, "_MOST_FEATURES", 3)
    found = Found(LinearRegression().fit(NUMBERS, SIZES), NUMBERS)
    assert found.leading.reason == "The model takes 4 features; 3 are few enough."


FIELDS = (
    Field(name="size", type="float", nullable=True),
    Field(name="land", type="string", nullable=True),
    Field(name="new", type="bool"),
    Field(name="kind", type="int"),
)


class Sum:
    """A model that adds what its features do, as chance has it; and what two of them do together."""

    def __init__(self, seed: int, classes: int, together: float = 0.0) -> None:
        generator = np.random.default_rng(seed)
        self.width = 3 if classes == 3 else 1
        self.weight, self.null = generator.normal(size=(2, self.width)) * 0.5
        self.lands = {land: generator.normal(size=self.width) * 0.5 for land in ("a", "ä", "", None)}
        self.kinds = generator.normal(size=(4, self.width)) * 0.5
        self.new = generator.normal(size=self.width) * 0.5
        self.together = together
        output = Output(kind="class", classes=tuple(range(classes))) if classes else Output(kind="number")
        self.contract = Contract(inputs=FIELDS, output=output)
        self.classes = classes

    def rows(self, seed: int, count: int) -> list[tuple[Any, ...]]:
        generator = np.random.default_rng(seed)
        sizes = generator.normal(size=count).tolist()
        return [
            (
                None if generator.random() < 0.1 else size,
                list(self.lands)[generator.integers(4)],
                bool(generator.integers(2)),
                int(generator.integers(4)),
            )
            for size in sizes
        ]

    def score(self, row: tuple[Any, ...]) -> np.ndarray:
        size, land, new, kind = row
        moved = self.null if size is None else self.weight * size
        found = moved + self.lands.get(land, self.null) + self.kinds[kind] + self.new * new
        found = found + self.together * (size or 0.0) * kind
        return found - found.mean() if self.width == 3 else found

    def answers(self, rows: list[tuple[Any, ...]]) -> list[Prediction | None]:
        return [self.answer(self.score(row)) for row in rows]

    def answer(self, score: np.ndarray) -> Prediction:
        if not self.classes:
            return Prediction(float(score[0]))
        raised = np.exp(score if self.width == 3 else np.array([0.0, score[0]]))
        shares = (raised / raised.sum()).tolist()
        return Prediction(int(np.argmax(shares)), shares)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.sampled_from([0, 2, 3]))
def test_any_sum_of_what_features_do_is_found_and_adds_up(seed: int, classes: int) -> None:
    model = Sum(seed, classes)
    known, fresh = model.rows(seed, 80), model.rows(seed + 1, 40)
    leader = Leader(leadings._additive(model.contract, model.answers, known, fresh), model.contract)
    means = np.mean([model.score(row) for row in known], axis=0)
    for row in [*fresh, (0.3, "nobody has this", True, 1)]:
        score, answer = model.score(row), model.answers([row])[0]
        assert answer is not None
        place = answer.value if classes == 3 else 0
        sign = -1 if classes == 2 and answer.value == 0 else 1
        moved = leader.contributions(row, answer.value)
        assert moved is not None
        assert leader.base(answer.value) == pytest.approx(sign * means[place], abs=1e-6)
        assert leader.base(answer.value) + sum(moved) == pytest.approx(sign * score[place], abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.sampled_from([0, 2]))
def test_a_sum_in_which_two_features_work_together_is_refused(seed: int, classes: int) -> None:
    model = Sum(seed, classes, together=0.3)
    with pytest.raises(NotExplainable):
        leadings._additive(model.contract, model.answers, model.rows(seed, 80), model.rows(seed + 1, 40))
