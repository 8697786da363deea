"""Real models on real data: what converts answers like the original, and what does not is refused."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)
from sklearn.svm import LinearSVC

from fairlead.contracts.contract import Output
from fairlead.contracts.profile import CategoryProfile, NumberProfile
from fairlead.contracts.table import read_table
from fairlead.errors import ConversionRefused, InvalidReference
from fairlead.runtimes.binding import Binding
from fairlead.runtimes.convert import Converted, convert
from fairlead.runtimes.onnx import OnnxRuntime

CANCER, MALIGNANT = load_breast_cancer(return_X_y=True, as_frame=True)
WINE, CULTIVAR = load_wine(return_X_y=True, as_frame=True)
DIABETES, PROGRESS = load_diabetes(return_X_y=True, as_frame=True)


def people(rows: int = 600) -> tuple[pd.DataFrame, Any]:
    """Named columns of every type, with an answer that depends on all of them."""
    rng = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, rows),
            "income": rng.lognormal(10, 1, rows),
            "country": rng.choice(["DE", "FR", "IT", "Österreich"], rows),
            "plan": rng.choice(["basic", "gold"], rows),
            "member": rng.random(rows) < 0.5,
        }
    )
    answer = ((frame.income > 20_000) & (frame.country != "IT")) | (frame.age > 70) & frame.member
    return frame, answer.to_numpy()


PEOPLE, BUYS = people()
NUMBERS, TEXTS = ["age", "income"], ["country", "plan"]


def on_columns(*parts: Any, estimator: Any = None, **options: Any) -> Pipeline:
    """A pipeline of a column transformer and a small forest, fitted on the people."""
    forest = RandomForestClassifier(15, random_state=0)
    return make_pipeline(ColumnTransformer(list(parts), **options), estimator or forest).fit(PEOPLE, BUYS)


def one_hot() -> OneHotEncoder:
    return OneHotEncoder(handle_unknown="ignore")


def answers(converted: Converted, folder: Path, sample: Any) -> list[Any]:
    (folder / "model.onnx").write_bytes(converted.onnx)
    rows = read_table(sample, columns=converted.contract.names).records()
    binding = Binding(converted.contract, converted.spec)
    outputs = OnnxRuntime(folder, converted.spec).run(binding.encode(rows))
    return [prediction.value for prediction in binding.decode(outputs, len(rows))]


# --- what converts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "classifier",
    [
        RandomForestClassifier(20, random_state=0),
        make_pipeline(StandardScaler(), RandomForestClassifier(20, random_state=0)),
        GradientBoostingClassifier(n_estimators=10),
        make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=10)),
        LogisticRegression(max_iter=5000),
        make_pipeline(StandardScaler(), PCA(5), LogisticRegression()),
        make_pipeline(StandardScaler(), MLPClassifier(max_iter=40, random_state=0)),
        GaussianNB(),
        CalibratedClassifierCV(RandomForestClassifier(5, random_state=0), cv=2),
        VotingClassifier([("a", RandomForestClassifier(5)), ("b", GaussianNB())], voting="soft"),
        make_pipeline(FeatureUnion([("a", StandardScaler()), ("b", PCA(3))]), RandomForestClassifier(5)),
    ],
    ids=lambda model: type(model[-1] if isinstance(model, Pipeline) else model).__name__,
)
@pytest.mark.parametrize("data", ["cancer", "wine"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_classifiers_convert_with_every_row_proven(classifier: Any, data: str) -> None:
    features, target = (CANCER, MALIGNANT) if data == "cancer" else (WINE, CULTIVAR)
    converted = convert(classifier.fit(features, target), features)
    assert converted.proof.holds
    assert converted.proof.rows == len(features)
    assert converted.proof.compared == "probabilities"
    assert converted.proof.max_difference <= 1e-5
    assert converted.contract.output == Output(kind="class", classes=tuple(sorted(set(target.tolist()))))
    assert (converted.spec.binding, len(converted.spec.inputs)) == ("matrix", 1)
    assert converted.contract.names == tuple(features.columns)


@pytest.mark.parametrize(
    "regressor",
    [
        RandomForestRegressor(10, random_state=0),
        GradientBoostingRegressor(n_estimators=10),
        HistGradientBoostingRegressor(max_iter=10),
        make_pipeline(StandardScaler(), LinearRegression()),
    ],
)
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e6])
def test_regressors_are_proven_relative_to_the_size_of_their_values(regressor: Any, scale: float) -> None:
    converted = convert(regressor.fit(DIABETES, PROGRESS * scale), DIABETES)
    assert (converted.proof.compared, converted.proof.holds) == ("values", True)
    assert converted.proof.max_difference <= 1e-5
    assert converted.contract.output == Output(kind="number")


def test_several_values_at_once_are_a_vector() -> None:
    model = LinearRegression().fit(DIABETES, np.column_stack([PROGRESS, PROGRESS * 2]))
    assert convert(model, DIABETES).contract.output == Output(kind="vector", length=2)


@pytest.mark.parametrize("model", [LinearSVC(), RidgeClassifier(), VotingClassifier([("a", GaussianNB())])])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_classifiers_without_probabilities_are_proven_by_their_labels(model: Any) -> None:
    converted = convert(make_pipeline(StandardScaler(), model).fit(CANCER, MALIGNANT), CANCER)
    assert (converted.proof.compared, converted.proof.label_flips) == ("labels", 0)
    assert converted.spec.outputs.probabilities is None


def test_clusters_convert_as_numbers() -> None:
    converted = convert(make_pipeline(StandardScaler(), KMeans(3, n_init=1, random_state=0)).fit(WINE), WINE)
    assert converted.proof.max_abs_difference == 0.0


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array(["no", "yes"])[MALIGNANT], ("no", "yes")),
        (np.array(["größer", "a", "年"])[CULTIVAR], ("a", "größer", "年")),
        (MALIGNANT == 1, (False, True)),
        (MALIGNANT.astype(float), (0, 1)),
        (CULTIVAR + 5, (5, 6, 7)),
    ],
)
def test_labels_keep_their_type(labels: Any, classes: tuple[Any, ...], tmp_path: Path) -> None:
    features = CANCER if len(labels) == len(CANCER) else WINE
    model = RandomForestClassifier(9, random_state=0).fit(features, labels)
    converted = convert(model, features)
    assert converted.contract.output.classes == classes
    served = answers(converted, tmp_path, features)
    assert {type(value) for value in served} == {type(classes[0])}
    assert served == [type(classes[0])(value) for value in model.predict(features)]


def test_classes_can_be_given_names_that_the_model_never_knew(tmp_path: Path) -> None:
    model = RandomForestClassifier(9, random_state=0).fit(CANCER, MALIGNANT)
    converted = convert(model, CANCER, classes=["benign", "malignant"])
    expected = [["benign", "malignant"][label] for label in model.predict(CANCER)]
    assert answers(converted, tmp_path, CANCER) == expected
    with pytest.raises(ConversionRefused, match="3 class names were given for the 2 classes"):
        convert(model, CANCER, classes=["a", "b", "c"])


# --- columns of several types -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        on_columns(("n", StandardScaler(), NUMBERS), ("t", one_hot(), TEXTS)),
        on_columns(("t", one_hot(), TEXTS), remainder="passthrough"),
        on_columns(("n", "passthrough", [*NUMBERS, "member"]), ("t", OrdinalEncoder(), TEXTS)),
        on_columns(
            ("n", make_pipeline(SimpleImputer(), FunctionTransformer(np.log1p), StandardScaler()), NUMBERS),
            ("t", one_hot(), make_column_selector(dtype_exclude="number")),
        ),
        on_columns(
            ("n", StandardScaler(), NUMBERS),
            ("t", one_hot(), TEXTS),
            estimator=HistGradientBoostingClassifier(max_iter=10),
        ),
        on_columns(("n", StandardScaler(), NUMBERS), ("t", one_hot(), TEXTS), estimator=LogisticRegression()),
    ],
)
def test_mixed_columns_become_one_tensor_each_and_unknown_texts_are_answered(
    model: Pipeline, tmp_path: Path
) -> None:
    converted = convert(model, PEOPLE)
    assert converted.proof.holds
    assert converted.spec.binding == "columns"
    assert {tensor.dtype for tensor in converted.spec.inputs} == {"float64", "string"}
    assert {tensor.shape for tensor in converted.spec.inputs} == {(-1, 1)}
    if not any("ordinal" in str(part).lower() for part in model[0].transformers_):
        unknown = PEOPLE.assign(country="Atlantis")
        assert answers(converted, tmp_path, unknown) == model.predict(unknown).tolist()


def test_columns_that_the_model_drops_need_not_be_sent() -> None:
    converted = convert(on_columns(("t", one_hot(), TEXTS)), PEOPLE)
    assert converted.contract.names == ("country", "plan")
    assert tuple(tensor.name for tensor in converted.spec.inputs) == ("country", "plan")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("age in years", "c"),
        ("größe", "年"),
        ("label", "probabilities"),
        ("x.y", "x-y"),
        ("features", "variable"),
    ],
)
def test_features_keep_their_own_names_whatever_they_are(number: str, text: str) -> None:
    frame = PEOPLE.rename(columns={"age": number, "country": text})[[number, text]]
    parts = ColumnTransformer([("n", StandardScaler(), [number]), ("t", one_hot(), [text])])
    converted = convert(make_pipeline(parts, RandomForestClassifier(5)).fit(frame, BUYS), frame)
    assert converted.contract.names == (number, text)
    assert converted.proof.holds


def test_all_numbers_in_a_column_transformer_are_still_one_matrix() -> None:
    frame = PEOPLE[["age", "income", "member"]]
    parts = ColumnTransformer([("s", StandardScaler(), ["income"]), ("p", "passthrough", ["member", "age"])])
    converted = convert(make_pipeline(parts, RandomForestClassifier(9)).fit(frame, BUYS), frame)
    assert converted.spec.binding == "matrix"
    assert converted.contract.names == ("age", "income", "member")
    assert [field.type for field in converted.contract.inputs] == ["int", "float", "bool"]


def test_nulls_are_what_the_original_took_them_for(tmp_path: Path) -> None:
    holes = PEOPLE.astype({"age": float})
    holes.loc[::7, "age"] = np.nan
    holes.loc[::5, "country"] = None
    texts = make_pipeline(SimpleImputer(strategy="constant", fill_value="?"), one_hot())
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    for country in (texts, one_hot()):
        parts = ColumnTransformer([("n", numbers, NUMBERS), ("t", country, ["country"])])
        model = make_pipeline(parts, RandomForestClassifier(9, random_state=0)).fit(holes, BUYS)
        converted = convert(model, holes)
        assert converted.proof.holds
        assert [field.nullable for field in converted.contract.inputs] == [True, False, True]


def test_a_gradient_booster_keeps_its_own_way_with_nulls() -> None:
    holes = CANCER.mask(np.random.default_rng(0).random(CANCER.shape) < 0.05)
    converted = convert(HistGradientBoostingClassifier(max_iter=10).fit(holes, MALIGNANT), holes)
    assert converted.proof.holds
    assert all(field.nullable for field in converted.contract.inputs)


def test_text_is_vectorised_on_machines_without_an_english_locale() -> None:
    texts = pd.DataFrame({"review": ["Good product", "BAD service", "very good", "awful bad"] * 20})
    model = make_pipeline(ColumnTransformer([("t", TfidfVectorizer(), "review")]), LogisticRegression())
    converted = convert(model.fit(texts, [1, 0, 1, 0] * 20), texts)
    assert converted.contract.names == ("review",)
    assert b"C.UTF-8" in converted.onnx


# --- the reference ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reference",
    [
        CANCER,
        CANCER[CANCER.columns[::-1]],
        CANCER.to_numpy(),
        pl.from_pandas(CANCER),
        pa.Table.from_pandas(CANCER),
        read_table(CANCER),
    ],
    ids=["pandas", "reordered", "matrix", "polars", "pyarrow", "table"],
)
def test_the_reference_may_come_from_any_library_and_in_any_order(reference: Any) -> None:
    model = RandomForestClassifier(5, random_state=0).fit(CANCER, MALIGNANT)
    converted = convert(model, reference)
    assert converted.contract.names == tuple(CANCER.columns)
    assert converted.proof.holds


def test_a_model_fitted_on_a_matrix_takes_its_names_from_the_reference() -> None:
    model = RandomForestClassifier(5, random_state=0).fit(CANCER.to_numpy(), MALIGNANT)
    assert convert(model, CANCER).contract.names == tuple(CANCER.columns)
    assert convert(model, CANCER.to_numpy()).contract.names[:2] == ("f0", "f1")


def test_the_target_and_columns_that_the_model_never_saw_are_left_out() -> None:
    reference = CANCER.assign(malignant=MALIGNANT, day=pd.Timestamp("2024-01-01"))
    model = RandomForestClassifier(5, random_state=0).fit(CANCER, MALIGNANT)
    converted = convert(model, reference, target="malignant")
    assert converted.contract.names == tuple(CANCER.columns)


def test_the_profile_holds_the_features_and_the_models_own_answers() -> None:
    held = convert(RandomForestClassifier(5, random_state=0).fit(CANCER, MALIGNANT), CANCER).profile
    assert held.rows == len(CANCER)
    assert isinstance(held.fields["mean radius"], NumberProfile)
    assert held.prediction is not None
    assert isinstance(held.prediction.values, CategoryProfile)
    assert held.prediction.values.categories == (0, 1)
    assert [score.n for score in held.prediction.scores] == [len(CANCER)] * 2


@pytest.mark.parametrize(
    ("model", "reference", "says"),
    [
        (
            RandomForestClassifier(5).fit(CANCER, MALIGNANT),
            CANCER[CANCER.columns[:3]],
            "no column 'mean area'",
        ),
        (RandomForestClassifier(5).fit(CANCER.to_numpy(), MALIGNANT), WINE, "fitted on 30 columns .* has 13"),
        (RandomForestClassifier(5), CANCER, "not fitted yet"),
        (LinearRegression().fit(CANCER, MALIGNANT), CANCER.mask(CANCER > 20), "contains NaN"),
    ],
)
def test_rows_that_the_model_cannot_answer_are_refused(model: Any, reference: Any, says: str) -> None:
    with pytest.raises(InvalidReference, match=says):
        convert(model, reference)


# --- what is refused ----------------------------------------------------------------------------------------


def seconds_since_1970() -> tuple[Any, Any]:
    """A feature that float32 can only resolve to 128 seconds, and an answer that turns every few."""
    rng = np.random.default_rng(0)
    at = 1_700_000_000 + rng.integers(0, 500, 800)
    return np.column_stack([at.astype(float), rng.random(800)]), (at % 97) > 40


def test_a_conversion_that_loses_precision_is_refused_with_share_maximum_and_flips() -> None:
    features, target = seconds_since_1970()
    model = HistGradientBoostingClassifier(max_iter=20, random_state=0).fit(features, target)
    with pytest.raises(ConversionRefused) as caught:
        convert(model, features)
    proof = caught.value.details["proof"]
    assert proof["share_off"] > 0.3
    assert proof["label_flips"] > 50
    off = round(proof["share_off"] * 800)
    assert f"{off} of 800 reference rows ({proof['share_off']:.2%})" in str(caught.value)
    assert f"by up to {proof['max_difference']:.2g} in a probability" in str(caught.value)
    assert f"{proof['label_flips']} labels flipped" in str(caught.value)
    assert "tolerance=" in caught.value.remedy
    assert "trust_pickle" in caught.value.remedy


def test_the_tolerance_that_the_refusal_names_is_accepted() -> None:
    features, target = seconds_since_1970()
    model = HistGradientBoostingClassifier(max_iter=20, random_state=0).fit(features, target)
    with pytest.raises(ConversionRefused) as caught:
        convert(model, features)
    named = float(caught.value.remedy.partition("tolerance=")[2].split()[0])
    converted = convert(model, features, tolerance=named)
    assert converted.proof.tolerance == named
    assert converted.proof.label_flips > 50


def test_a_tolerance_finer_than_single_precision_is_refused() -> None:
    model = RandomForestClassifier(30, random_state=0).fit(CANCER, MALIGNANT)
    with pytest.raises(ConversionRefused, match="Allowed is 0") as caught:
        convert(model, CANCER, tolerance=0)
    assert 0 < caught.value.details["proof"]["max_difference"] < 1e-6


def test_forests_that_send_nulls_their_own_way_are_refused() -> None:
    holes = CANCER.mask(np.random.default_rng(0).random(CANCER.shape) < 0.05)
    with pytest.raises(ConversionRefused, match="differently from the original"):
        convert(RandomForestClassifier(9, random_state=0).fit(holes, MALIGNANT), holes)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (
            make_pipeline(FunctionTransformer(lambda x: x * 2), GaussianNB()).fit(WINE, CULTIVAR),
            r"\(FunctionTransformer → GaussianNB\).*'<lambda>' is not supported",
        ),
        (
            MultiOutputClassifier(GaussianNB()).fit(WINE, np.column_stack([CULTIVAR, CULTIVAR])),
            "several labels at once",
        ),
        (lambda rows: rows, "function is no scikit-learn model"),
    ],
)
def test_what_cannot_be_converted_says_which_part_and_what_to_do(model: Any, says: str) -> None:
    with pytest.raises(ConversionRefused, match=says) as caught:
        convert(model, WINE)
    assert caught.value.remedy


def test_without_the_extra_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['skl2onnx'] = None\n"
        "from fairlead.errors import MissingExtra\n"
        "from fairlead.runtimes.convert import convert\n"
        "try:\n    convert(None, None)\n"
        "except MissingExtra as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        "Converting a scikit-learn model needs skl2onnx. pip install 'fairlead[sklearn]'"
    )


# --- side effects -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(StandardScaler(), RandomForestClassifier(5, random_state=0)).fit(PEOPLE[NUMBERS], BUYS),
        on_columns(("n", StandardScaler(), NUMBERS), ("t", one_hot(), TEXTS)),
        on_columns(("n", FeatureUnion([("s", StandardScaler())]), NUMBERS), ("t", one_hot(), TEXTS)),
        VotingClassifier([("a", GaussianNB())], voting="soft").fit(PEOPLE[NUMBERS], BUYS),
    ],
)
def test_the_callers_model_is_not_changed(model: Any) -> None:
    reference = PEOPLE[list(model.feature_names_in_)]
    before = pickle.dumps(model)
    convert(model, reference)
    assert pickle.dumps(model) == before


def test_the_same_model_converts_to_the_same_bytes() -> None:
    model = on_columns(("n", StandardScaler(), NUMBERS), ("t", one_hot(), TEXTS))
    assert convert(model, PEOPLE).onnx == convert(model, PEOPLE).onnx


def test_the_winner_of_a_search_is_converted() -> None:
    search = GridSearchCV(
        make_pipeline(StandardScaler(), GaussianNB()), {"gaussiannb__var_smoothing": [1e-9]}
    )
    assert convert(search.fit(WINE, CULTIVAR), WINE).proof.holds
