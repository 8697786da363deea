"""From what a person has to a version's files: everything is known to work before anything is sent."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression

from fairlead.client.packing import Package, packed
from fairlead.contracts.contract import Contract
from fairlead.contracts.counts import bins_of
from fairlead.contracts.document import to_toml
from fairlead.contracts.profile import NumberProfile
from fairlead.contracts.table import read_table
from fairlead.errors import (
    FairleadError,
    InvalidContract,
    InvalidModelFile,
    InvalidReference,
    MissingExtra,
    TrustRequired,
)
from tests.models import FEATURES, iris_contract, iris_onnx


class Doubling:
    """A model that only Python can run."""

    def __call__(self, columns: dict[str, Any]) -> dict[str, Any]:
        return {"value": columns["size"] * 2}


def explode(*_: object) -> None:
    raise RuntimeError("a pickle was opened")


class Explosive:
    """Runs code when it is unpickled, as any pickle may."""

    def __reduce__(self) -> Any:
        return explode, ()


@pytest.fixture(scope="module")
def iris() -> tuple[pd.DataFrame, pd.Series]:
    data = load_iris(as_frame=True)
    return data.data.set_axis(list(FEATURES), axis="columns"), data.target


@pytest.fixture(scope="module")
def classifier(iris: tuple[pd.DataFrame, pd.Series]) -> LogisticRegression:
    return LogisticRegression(max_iter=500).fit(*iris)


@pytest.fixture(scope="module")
def forest() -> bytes:
    return iris_onnx()


def kept(model: Any, tmp_path: Path, **options: Any) -> tuple[Package, dict[str, bytes]]:
    with packed(model, **options) as package:
        return package, {name: path.read_bytes() for name, path in package.files.items()}


# --- scikit-learn -------------------------------------------------------------------------------------------


def test_a_fitted_estimator_becomes_onnx_with_contract_proof_and_profile(
    classifier: LogisticRegression, iris: tuple[pd.DataFrame, pd.Series], tmp_path: Path
) -> None:
    package, files = kept(classifier, tmp_path, reference=iris[0], target=iris[1])
    documents = {"contract.json", "proof.json", "reference.json", "importance.json", "leading.json"}
    assert set(files) == {"model.onnx", *documents}
    assert package.contract.names == FEATURES
    assert package.contract.output.classes == (0, 1, 2)
    assert package.framework == "sklearn"
    assert package.proof is not None
    assert package.proof["rows"] == 150
    assert package.profile is not None
    assert package.profile.contract_id == package.contract.id


def test_what_was_written_for_packing_is_gone_afterwards(
    classifier: LogisticRegression, iris: tuple[pd.DataFrame, pd.Series]
) -> None:
    with packed(classifier, reference=iris[0]) as package:
        places = list(package.files.values())
        assert all(place.exists() for place in places)
    assert not any(place.exists() for place in places)


def test_a_conversion_without_reference_rows_is_refused(classifier: LogisticRegression) -> None:
    with pytest.raises(InvalidReference, match="none were given"), packed(classifier):
        pass


@pytest.mark.parametrize("trust_pickle", [False, True])
def test_slices_that_a_person_declares_are_counted_in_the_reference(
    classifier: LogisticRegression,
    iris: tuple[pd.DataFrame, pd.Series],
    tmp_path: Path,
    trust_pickle: bool,
) -> None:
    package, _ = kept(classifier, tmp_path / "plain", reference=iris[0])
    assert package.profile is not None
    assert package.profile.slices is msgspec.UNSET
    inferred = package.contract
    first = msgspec.structs.replace(inferred.inputs[0], slice=True)
    own = Contract(inputs=(first, *inferred.inputs[1:]), output=inferred.output)
    package, _ = kept(
        classifier, tmp_path / "sliced", reference=iris[0], contract=to_toml(own), trust_pickle=trust_pickle
    )
    assert package.profile is not None
    assert package.profile.slices is not msgspec.UNSET
    assert sum(one.rows for one in package.profile.slices.values()) == len(iris[0])
    assert all(name.startswith(first.name) for name in package.profile.slices)


def test_a_contract_of_ones_own_is_put_in_the_order_of_the_models_columns(
    classifier: LogisticRegression, iris: tuple[pd.DataFrame, pd.Series], tmp_path: Path
) -> None:
    own = iris_contract(minimum=0.5)
    shuffled = Contract(inputs=own.inputs[::-1], output=own.output)
    package, _ = kept(classifier, tmp_path, reference=iris[0], contract=to_toml(shuffled))
    assert package.contract == own
    assert package.profile is not None
    assert package.profile.contract_id == package.contract.id


@pytest.mark.parametrize("change", ["field", "classes", "kind"])
def test_a_contract_that_does_not_fit_the_model_is_refused(
    classifier: LogisticRegression, iris: tuple[pd.DataFrame, pd.Series], change: str
) -> None:
    text = to_toml(iris_contract())
    match change:
        case "field":
            text = text.replace("petal_width", "petal_size")
        case "classes":
            text = text.replace("[0, 1, 2]", "[1, 2, 3]")
        case "kind":
            text = text.replace('"class"', '"number"').replace("classes = [0, 1, 2]", "")
    with pytest.raises(InvalidContract), packed(classifier, reference=iris[0], contract=text):
        pass


def test_the_same_model_has_the_same_files_in_every_process(tmp_path: Path) -> None:
    script = tmp_path / "pack.py"
    script.write_text(
        "from sklearn.datasets import load_iris\n"
        "from sklearn.ensemble import RandomForestClassifier\n"
        "from fairlead.client.packing import packed\n"
        "from fairlead.registry.artifacts import manifest_of\n"
        "data = load_iris(as_frame=True)\n"
        "model = RandomForestClassifier(3, random_state=1).fit(data.data, data.target)\n"
        "with packed(model, reference=data.data) as package: print(manifest_of(package.files).digest)\n"
    )
    digests = set()
    for seed in ("1", "4"):  # with these two, sets of the same texts have different orders
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, script], env=environment, capture_output=True, check=True)
        digests.add(done.stdout)
    assert len(digests) == 1


# --- ONNX ---------------------------------------------------------------------------------------------------


def test_onnx_comes_as_bytes_as_an_object_and_as_a_file(forest: bytes, tmp_path: Path) -> None:
    runtimes = []
    path = tmp_path / "flower.onnx"
    path.write_bytes(forest)
    for model in (forest, onnx.load_from_string(forest), path, str(path)):
        package, files = kept(model, tmp_path)
        assert package.framework == "onnx"
        assert files[package.runtime.entry] == forest
        assert package.contract.names == ("f0", "f1", "f2", "f3")
        runtimes.append(package.runtime)
    assert [runtime.entry for runtime in runtimes] == [
        "model.onnx",
        "model.onnx",
        "flower.onnx",
        "flower.onnx",
    ]


def test_a_reference_names_the_columns_of_a_matrix_and_is_profiled(
    forest: bytes, iris: tuple[pd.DataFrame, pd.Series], tmp_path: Path
) -> None:
    package, files = kept(forest, tmp_path, reference=iris[0].assign(kind=iris[1]), target="kind")
    assert package.contract.names == FEATURES
    assert package.contract.field("petal_width").inferred == ("range",)
    assert package.profile is not None
    assert package.profile.prediction is not None
    assert package.profile.rows == 150
    assert "reference.json" in files


@pytest.mark.parametrize("way", ["onnx", "sklearn", "python"])
def test_a_later_version_is_profiled_on_the_bins_of_the_first_under_its_contract(
    way: str,
    forest: bytes,
    classifier: LogisticRegression,
    iris: tuple[pd.DataFrame, pd.Series],
    tmp_path: Path,
) -> None:
    model: Any = forest if way == "onnx" else classifier
    options: dict[str, Any] = {"contract": iris_contract(), "trust_pickle": way == "python"}
    first, _ = kept(model, tmp_path, reference=iris[0], target=iris[1], **options)
    asked: list[Contract] = []

    def lent(contract: Contract) -> Any:
        asked.append(contract)
        return first.profile

    rows = iris[0][:40] + 0.01
    later, _ = kept(model, tmp_path, reference=rows, target=iris[1][:40], lent=lent, **options)
    assert later.profile is not None
    assert first.profile is not None
    assert {contract.id for contract in asked} == {later.contract.id} == {first.contract.id}
    assert later.profile.rows == 40
    for key, held in bins_of(later.profile).items():
        theirs = bins_of(first.profile)[key]
        assert isinstance(held, NumberProfile) == isinstance(theirs, NumberProfile)
        assert getattr(held, "edges", ()) == getattr(theirs, "edges", ())
        assert sum(held.counts) == 40


def test_a_contract_of_a_matrix_follows_the_order_of_the_reference(
    forest: bytes, iris: tuple[pd.DataFrame, pd.Series], tmp_path: Path
) -> None:
    own = iris_contract()
    shuffled = Contract(inputs=own.inputs[::-1], output=own.output)
    package, _ = kept(forest, tmp_path, reference=iris[0], contract=shuffled)
    assert package.contract.names == FEATURES


def test_a_reference_that_lacks_a_column_names_it(
    forest: bytes, iris: tuple[pd.DataFrame, pd.Series]
) -> None:
    lacking = iris[0].drop(columns="petal_width")
    own = iris_contract()
    with (
        pytest.raises(InvalidReference, match="petal_width"),
        packed(forest, reference=lacking, contract=own),
    ):
        pass
    with pytest.raises(InvalidContract, match="4 columns"), packed(forest, reference=lacking):
        pass


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07" * 500])
def test_a_corrupt_file_is_refused_by_its_own_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "größe.onnx"
    path.write_bytes(content)
    with pytest.raises(InvalidModelFile, match=r"größe\.onnx"), packed(path):
        pass


@pytest.mark.parametrize("name", ["model.h5", "model", "nothing.onnx"])
def test_what_is_no_model_is_refused(tmp_path: Path, name: str) -> None:
    if name != "nothing.onnx":
        (tmp_path / name).write_bytes(b"?")
    with pytest.raises(InvalidModelFile), packed(tmp_path / name):
        pass


# --- folders ------------------------------------------------------------------------------------------------


def test_a_folder_brings_its_files_and_its_contract(forest: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True)
    (folder / "flower.onnx").write_bytes(forest)
    (folder / "data" / "vocabulary.txt").write_text("a")
    (folder / "contract.toml").write_text(to_toml(iris_contract()))
    (folder / "proof.json").write_text("of something else")
    package, files = kept(folder, tmp_path)
    assert set(files) == {"flower.onnx", "data/vocabulary.txt", "contract.toml", "contract.json"}
    assert package.runtime.entry == "flower.onnx"
    assert package.contract == iris_contract()


def test_a_folder_with_several_models_needs_a_main_one(forest: bytes, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes(forest)
    with pytest.raises(InvalidModelFile, match=r"a\.onnx, b\.onnx"), packed(tmp_path):
        pass
    (tmp_path / "model.onnx").write_bytes(forest)
    package, _ = kept(tmp_path, tmp_path)
    assert package.runtime.entry == "model.onnx"


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "readme.md").write_text("later")
    with pytest.raises(InvalidModelFile, match="has no model"), packed(tmp_path):
        pass


# --- pickles ------------------------------------------------------------------------------------------------


def test_a_pickle_that_a_person_names_is_opened_here_and_converted(
    classifier: LogisticRegression, iris: tuple[pd.DataFrame, pd.Series], tmp_path: Path
) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(classifier))
    package, files = kept(path, tmp_path, reference=read_table(iris[0]))
    assert package.framework == "sklearn"
    assert "model.pkl" not in files


def test_a_pickle_inside_a_folder_is_never_opened_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(Explosive()))
    with pytest.raises(TrustRequired), packed(tmp_path):
        pass


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", pickle.dumps(Explosive()), b"\x80\x05cno.such\nthing\n."]
)
def test_a_damaged_pickle_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    with pytest.raises(FairleadError) as refused, packed(path, reference={"a": [1.0]}):
        pass
    assert isinstance(refused.value, InvalidModelFile | MissingExtra)
    assert "model.pkl" in refused.value.message


def test_a_trusted_estimator_travels_as_it_is_with_its_own_answers(
    iris: tuple[pd.DataFrame, pd.Series], tmp_path: Path
) -> None:
    model = LinearRegression().fit(*iris)
    package, files = kept(model, tmp_path, reference=iris[0], trust_pickle=True)
    assert (package.runtime.kind, package.framework) == ("python", "python")
    assert package.contract.output.kind == "number"
    assert package.profile is not None
    assert package.profile.prediction is not None
    assert np.allclose(pickle.loads(files["model.pkl"]).coef_, model.coef_)


def test_any_trusted_object_needs_something_that_says_what_it_takes(tmp_path: Path) -> None:
    with pytest.raises(InvalidReference, match="contract"), packed(Doubling(), trust_pickle=True):
        pass
    reference = pd.DataFrame({"size": [1.0, 2.0, 3.0], "price": [2.5, 4.5, 6.0]})
    package, _ = kept(Doubling(), tmp_path, reference=reference, target="price", trust_pickle=True)
    assert package.contract.names == ("size",)
    assert package.contract.output.kind == "number"


def test_what_cannot_be_pickled_is_refused(tmp_path: Path) -> None:
    with (
        open(os.devnull) as file,
        pytest.raises(InvalidModelFile, match="cannot be pickled"),
        packed(file, trust_pickle=True),
    ):
        pass
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec("class Model: pass", namespace)
    model = namespace["Model"]()
    with pytest.raises(InvalidModelFile, match="script or notebook"), packed(model, trust_pickle=True):
        pass
