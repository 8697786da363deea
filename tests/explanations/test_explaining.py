"""Requests of a real gateway explained by the version that answered them."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pandas as pd
import pytest
import sqlalchemy as sa

from fairlead.contracts.contract import Contract, Output
from fairlead.contracts.profile import profile
from fairlead.contracts.table import read_table
from fairlead.errors import MalformedRequest, NotExplainable, Overloaded, RecordNotFound
from fairlead.evaluation.scored import Scored
from fairlead.explanations.explaining import Explaining
from fairlead.explanations.measure import measure
from fairlead.stores.monitoring_tables import explanations
from tests.evaluation.site import ALL, Site, rows_of_iris
from tests.models import FEATURES, SAMPLE, faulty_onnx, iris_contract, iris_onnx


@pytest.fixture(scope="module")
def onnx() -> bytes:
    return iris_onnx(0)


def reference(contract: Contract | None = None, rows: pd.DataFrame | None = None) -> bytes:
    """The profile of iris, as it travels with a version."""
    frame = pd.DataFrame(rows_of_iris()) if rows is None else rows
    return msgspec.json.encode(profile(read_table(frame), contract or iris_contract()))


def explaining(site: Site) -> Explaining:
    return Explaining(site.registry, site, site.folder, trust_pickle=False)  # type: ignore[arg-type]


def served(site: Site, onnx: bytes, **options: Any) -> Explaining:
    held = reference(options.get("contract"))
    site.register("v1", {"model.onnx": onnx, "reference.json": held}, **options)
    site.serve(ALL)
    return explaining(site)


def test_a_request_is_explained_by_features_that_add_up_to_its_answer(site: Site, onnx: bytes) -> None:
    explainer = served(site, onnx)
    site.ask(SAMPLE, request_id="ünï/1")
    found = explainer.explain("ünï/1")
    assert (found.prediction, found.explains, found.version) == (0, "the probability of 0", "v1")
    assert found.agrees
    assert found.exact
    assert {part.feature: part.value for part in found.features} == SAMPLE
    assert found.value == pytest.approx(1.0, abs=0.05)
    moved = sum(part.contribution for part in found.features)
    assert found.base + moved == pytest.approx(found.value, abs=1e-9)
    leading = [part.feature for part in found.features]
    assert leading[0] == "petal_width"
    assert abs(found.features[0].contribution) > 10 * abs(found.features[-1].contribution)
    assert found.background == "the training data of v1"
    assert found.background_rows == 100
    assert all(part.low <= part.contribution <= part.high for part in found.features)
    assert f"{leading[0]} (+" in found.sentence


def test_who_asks_again_gets_the_same_even_when_the_model_is_gone(site: Site, onnx: bytes) -> None:
    explainer = served(site, onnx)
    site.ask(SAMPLE, request_id="one")
    first = explainer.explain("one")
    for file in site.specs["v1"].manifest.files:
        (site.folder.versions / site.specs["v1"].manifest.digest / file.path).unlink()
    assert explaining(site).explain("one") == first


def test_the_same_request_is_explained_alike_on_another_server(site: Site, onnx: bytes) -> None:
    explainer = served(site, onnx)
    site.ask(SAMPLE, request_id="one")
    first = explainer.explain("one")
    with site.registry.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM explanations")
    again = explainer.explain("one")
    assert msgspec.structs.replace(again, explained_at=first.explained_at) == first


def test_values_of_features_are_kept_in_the_log_alone(site: Site, onnx: bytes) -> None:
    explainer = served(site, onnx)
    site.ask(SAMPLE | {"sepal_length": 5.12345}, request_id="one")
    explainer.explain("one")
    with site.registry.database.read() as connection:
        (body,) = connection.exec_driver_sql("SELECT body FROM explanations").scalars()
    assert "5.12345" not in body


def test_a_row_of_a_batch_is_named(site: Site, onnx: bytes) -> None:
    explainer = served(site, onnx)
    site.ask_batch(rows_of_iris()[::50], "batch")
    with pytest.raises(MalformedRequest, match="3 rows"):
        explainer.explain("batch")
    assert explainer.explain("batch", 2).prediction == 2
    with pytest.raises(RecordNotFound, match="row 3"):
        explainer.explain("batch", 3)
    with pytest.raises(RecordNotFound):
        explainer.explain("nobody")


def test_a_cached_answer_is_explained_like_any_other(site: Site, onnx: bytes) -> None:
    explainer = served(site, onnx)
    site.ask(SAMPLE, request_id="first")
    site.ask(SAMPLE, request_id="second")
    first, second = explainer.explain("first"), explainer.explain("second")
    assert first.value == second.value
    assert second.agrees


def test_a_refused_request_has_no_answer_to_explain(site: Site, onnx: bytes) -> None:
    explainer = served(site, onnx)
    site.ask(SAMPLE | {"petal_width": -1}, request_id="refused")
    with pytest.raises(NotExplainable, match="No version answered"):
        explainer.explain("refused")


def test_sensitive_features_are_not_in_the_log_and_the_row_says_so(site: Site, onnx: bytes) -> None:
    contract = iris_contract(sensitivity="sensitive")
    explainer = served(site, onnx, contract=contract)
    site.ask(SAMPLE, request_id="one")
    with pytest.raises(NotExplainable, match="does not keep the sensitive feature 'sepal_length'"):
        explainer.explain("one")


def test_features_that_somebody_altered_are_not_explained(site: Site, onnx: bytes) -> None:
    explainer = served(site, onnx)
    site.ask(SAMPLE, request_id="one")
    site.alter("one", features=[6.5, 3.5, 1.4, 0.2])
    with pytest.raises(NotExplainable, match="somebody or something has changed them"):
        explainer.explain("one-altered")


def test_without_a_profile_earlier_requests_are_what_a_row_is_compared_with(site: Site, onnx: bytes) -> None:
    site.register("v1", onnx)
    site.serve(ALL)
    site.ask(SAMPLE, request_id="early")
    for number, row in enumerate(rows_of_iris()[::3]):
        site.ask(row, request_id=f"r{number}")
    site.ask(SAMPLE, request_id="late")
    with pytest.raises(NotExplainable, match="no profile of its training data, and the log has 0 rows"):
        explaining(site).explain("early")
    found = explaining(site).explain("late")
    assert found.background == "earlier requests"
    assert 20 <= found.background_rows <= 100


def test_a_later_version_without_a_profile_uses_the_first_one_of_its_contract(
    site: Site, onnx: bytes
) -> None:
    site.register("v0", {"model.onnx": iris_onnx(1), "reference.json": reference()})
    site.register("v1", onnx)
    site.serve(ALL)
    site.ask(SAMPLE, request_id="one")
    assert explaining(site).explain("one").background == "the training data of v0"


def test_mixtures_on_which_the_model_raises_are_left_out(site: Site) -> None:
    """The model raises on 9 of one feature and answers NaN on 8."""
    firsts = [9.0] * 10 + [8.0] * 10 + [float(number % 8) for number in range(80)]
    frame = pd.DataFrame({name: firsts if index == 0 else [1.0] * 100 for index, name in enumerate(FEATURES)})
    held = reference(rows=frame)
    site.register("v1", {"model.onnx": faulty_onnx(), "reference.json": held})
    site.serve(ALL)
    site.ask(SAMPLE, request_id="one")
    found = explaining(site).explain("one")
    assert (found.background_rows, found.failed) == (80, 20)
    assert sum(part.contribution for part in found.features) == pytest.approx(0.0)
    assert "no feature moved the probability of 0" in found.sentence


def test_what_is_no_class_and_no_number_is_not_explained() -> None:
    with pytest.raises(NotExplainable, match="The answer is a vector"):
        measure(Output(kind="vector", length=2), [1.0, 2.0], None)
    words, read = measure(Output(kind="class", classes=("no", "yes")), "yes", None)
    assert words == "whether it is yes"
    assert read(Scored("ok", "yes")) == 1.0
    assert read(Scored("ok", "no")) == 0.0
    assert read(Scored("failed")) is None
    assert measure(Output(kind="number"), 1.0, None)[1](Scored("ok", float("nan"))) is None


def test_one_explanation_is_made_at_a_time_and_kept_ones_need_no_turn(site: Site, onnx: bytes) -> None:
    explainer = served(site, onnx)
    site.ask(SAMPLE, request_id="kept")
    site.ask(SAMPLE, request_id="other")
    explainer.explain("kept")
    entered, leave = threading.Event(), threading.Event()
    made = explainer._made

    def waiting(record: Any) -> Any:
        entered.set()
        leave.wait(20)
        return made(record)

    explainer._made = waiting  # type: ignore[method-assign]
    thread = threading.Thread(target=explainer.explain, args=("other",))
    thread.start()
    try:
        assert entered.wait(20)
        site.ask(SAMPLE | {"petal_width": 1.0}, request_id="third")
        with pytest.raises(Overloaded):
            explainer.explain("third")
        assert explainer.explain("kept").request_id == "kept"
    finally:
        leave.set()
        thread.join(30)
    assert explainer.explain("other").request_id == "other"


def test_explanations_are_kept_for_as_long_as_the_setting_says(site: Site, onnx: bytes) -> None:
    served(site, onnx)
    for name in ("old", "young", "new"):
        site.ask(SAMPLE, request_id=name)
    forever = explaining(site)
    forever.explain("old")
    forever.explain("young")
    for_a_week = Explaining(site.registry, site, site.folder, trust_pickle=False, days=7.0)  # type: ignore[arg-type]
    (old,) = site.call("find", request_id="old")
    with site.registry.database.write() as connection:
        eight_days_ago = datetime.now(UTC) - timedelta(days=8)
        c = explanations.c
        connection.execute(
            explanations.update().where(c.prediction == old["prediction_id"]).values(at=eight_days_ago)
        )
    for_a_week.explain("new")
    (young,) = site.call("find", request_id="young")
    (new,) = site.call("find", request_id="new")
    with site.registry.database.read() as connection:
        held = set(connection.scalars(sa.select(explanations.c.prediction)))
    assert held == {young["prediction_id"], new["prediction_id"]}
    assert for_a_week.explain("old").value == forever.explain("young").value  # made anew
