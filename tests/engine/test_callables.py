"""What a pickled object is asked with, and what becomes of its answers."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.contracts.infer import infer_contract
from fairlead.contracts.table import read_table
from fairlead.engine.callables import callable_of
from fairlead.runtimes.binding import Binding, Prediction
from fairlead.runtimes.python import python_spec

from .conftest import worker_spec


def served(contract: Contract, sample: Any, folder: Path) -> list[Prediction]:
    spec = python_spec(contract, "model.pkl")
    binding = Binding(contract, spec)
    rows = read_table(sample, columns=contract.names).records()

    described = worker_spec(folder, spec, contract.names)
    model = callable_of(unpickled(folder / "model.pkl"), described.outputs, described.names)
    return binding.decode(model(binding.encode(rows)), len(rows))


def unpickled(path: Path) -> Any:
    sys.path.insert(0, str(path.parent))
    try:
        return pickle.loads(path.read_bytes())
    finally:
        sys.path.remove(str(path.parent))


def test_an_estimator_with_names_gets_a_frame_in_its_own_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"b": rng.random(50), "a": rng.integers(0, 9, 50), "t": rng.random(50) < 0.5})
    target = np.array(["no", "yes"])[(frame.a > 4).astype(int)]
    model = RandomForestClassifier(5, random_state=0).fit(frame, target)
    contract = infer_contract(frame[["t", "a", "b"]], target=target)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    predictions = served(contract, frame, tmp_path)
    assert [prediction.value for prediction in predictions] == model.predict(frame).tolist()
    assert [prediction.probabilities for prediction in predictions] == model.predict_proba(frame).tolist()


PLAIN = """
import numpy as np


class Estimator:
    coefficients = np.array([1.0, 10.0, 100.0])

    def predict(self, rows):
        assert type(rows) is np.ndarray and rows.dtype == np.float64
        return rows @ self.coefficients
"""


def test_nulls_are_what_the_model_was_fitted_with(tmp_path: Path) -> None:
    frame = pd.DataFrame({"land": ["DE", None, "FR", "DE"] * 9, "n": [1.0, 2.0, None, 4.0] * 9})
    target = frame.land.isna()
    texts = make_pipeline(SimpleImputer(strategy="constant", fill_value="?"), OneHotEncoder())
    parts = ColumnTransformer([("t", texts, ["land"]), ("n", SimpleImputer(), ["n"])])
    model = make_pipeline(parts, RandomForestClassifier(5, random_state=0)).fit(frame, target)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    predictions = served(infer_contract(frame, target=target), frame, tmp_path)
    assert [prediction.value for prediction in predictions] == target.tolist()


def test_an_estimator_without_names_gets_a_matrix(folder: Path) -> None:
    (folder / "plain_estimator.py").write_text(PLAIN)
    (folder / "model.pkl").write_bytes(b"cplain_estimator\nEstimator\n(tR.")
    fields = tuple(
        Field(name=name, type=kind) for name, kind in [("c", "float"), ("a", "int"), ("b", "bool")]
    )
    contract = Contract(inputs=fields, output=Output(kind="number"))
    predictions = served(contract, {"a": [2, 3], "b": [True, False], "c": [0.5, 1.5]}, folder)
    assert [prediction.value for prediction in predictions] == [120.5, 31.5]


def test_a_callable_gets_columns_and_answers_a_ranking(folder: Path) -> None:
    (folder / "plain_ranker.py").write_text(
        "import numpy as np\n"
        "def rank(columns):\n"
        "    user = columns['user'].reshape(-1, 1)\n"
        "    return {'ids': user + [[1, 2]], 'scores': np.array([[0.75, 0.25]] * len(user))}\n"
    )
    (folder / "model.pkl").write_bytes(b"cplain_ranker\nrank\n.")
    contract = Contract(inputs=(Field(name="user", type="int"),), output=Output(kind="ranking"))
    first, second = served(contract, {"user": [10, 20]}, folder)
    assert first.value == [{"id": 11, "score": 0.75}, {"id": 12, "score": 0.25}]
    assert second.value[0]["id"] == 21


def test_an_estimator_that_lacks_what_the_contract_wants_is_refused() -> None:
    class Estimator:
        def predict(self, rows: Any) -> Any: ...

    with pytest.raises(TypeError, match=r"Estimator has no predict_proba\(\)"):
        callable_of(Estimator(), {"label": "label", "probabilities": "p"}, ())
    with pytest.raises(TypeError, match="answers no ids"):
        callable_of(Estimator(), {"ids": "ids"}, ())
    with pytest.raises(TypeError, match="int has no predict"):
        callable_of(3, {"value": "value"}, ())
