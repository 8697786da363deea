"""How versions do by their labels: from the log to findings, on real people and on answers that go wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from fairlead.contracts.contract import Contract, Output
from fairlead.contracts.profile import profile
from fairlead.contracts.table import read_table
from fairlead.contracts.uncertainty import Uncertainty
from fairlead.errors import InvalidSetting, MissingExtra
from fairlead.monitoring.answered import calibration_of, fairness_of, performance_of
from fairlead.monitoring.findings import Finding
from fairlead.monitoring.performing import Performing, PerformingLooker
from fairlead.monitoring.verdicts import Rules, findings_of
from fairlead.predictions.binning import ContractNote
from tests.data.employment import employment
from tests.monitoring.served import CLASSES, START, Served
from tests.predictions.records import SCHEMA

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
RULES = Rules()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    made.close()


def binary(served: Served, right: float, hour: int, seed: int, n: int = 500, labelled: bool = True) -> None:
    """An hour of scores that are right as often as said."""
    generator = np.random.default_rng(seed)
    label = generator.random(n) < 0.5
    value = np.where(generator.random(n) < right, label, ~label)
    score = np.where(value, 0.85, 0.15)
    countries = ["DE" if one else "FR" for one in generator.random(n) < 0.5]
    known = [int(one) if labelled else None for one in label]
    served.serve(
        [int(one) for one in value], known, at=hour * HOUR, scores=score, countries=countries, every=3600 / n
    )


def findings(served: Served, until: timedelta = DAY) -> dict[tuple[str, str, str], Finding]:
    seen = Performing(served.registry, served.client).seen("shop", "v1", START, START + until)
    return {(one.kind, one.subject, one.slice): one for one in findings_of(seen, RULES)}


def test_a_version_without_any_answer_has_too_little_to_tell(served: Served) -> None:
    served.register()
    found = findings(served)
    assert found
    assert {one.status for one in found.values()} == {"insufficient"}
    assert PerformingLooker(served.registry, served.client).look(START + DAY) == []


def test_answers_without_labels_are_never_an_alarm(served: Served) -> None:
    served.register()
    for hour in range(4):
        binary(served, 0.85, hour, hour, labelled=False)
    assert {one.status for one in findings(served).values()} <= {"insufficient", "ok"}


def test_a_healthy_version_is_fine_and_one_whose_concept_flips_rings_soon(served: Served) -> None:
    served.register()
    for hour in range(10):
        binary(served, 0.85, hour, hour)
    calm = findings(served, 10 * HOUR + timedelta(minutes=1))
    assert calm["performance", "risk", ""].status == "ok"
    assert calm["estimate", "accuracy", ""].status == "ok"
    assert not [one for one in calm.values() if one.status == "alarm"]
    binary(served, 0.2, 10, 99)
    found = findings(served, 11 * HOUR + timedelta(minutes=1))
    assert found["performance", "risk", ""].status == "alarm"
    assert "since 2025-11-21 10:00 UTC" in found["performance", "risk", ""].sentence
    assert found["estimate", "accuracy", ""].status == "insufficient"
    assert "was estimated and" in found["estimate", "accuracy", ""].sentence


def test_live_labels_are_held_against_the_accuracy_that_was_stated_at_registration(
    served: Served,
) -> None:
    served.register(metrics={"accuracy": 0.95})
    for hour in range(6):
        binary(served, 0.8, hour, hour)
    found = findings(served)["performance", "risk", ""]
    assert found.status == "alarm"
    assert found.against == "training"
    assert found.threshold == pytest.approx(0.1)


def test_a_slice_that_goes_wrong_alone_is_named(served: Served) -> None:
    served.register()
    for hour in range(12):
        binary(served, 0.85, hour, hour)
    generator = np.random.default_rng(4)
    for hour in range(12, 24):
        label = generator.random(500) < 0.5
        german = generator.random(500) < 0.2
        right = generator.random(500) < np.where(german, 0.6, 0.88)
        value = np.where(right, label, ~label)
        served.serve(
            [int(one) for one in value], [int(one) for one in label], at=hour * HOUR, every=7.2,
            scores=np.where(value, 0.85, 0.15), countries=["DE" if one else "FR" for one in german],
        )  # fmt: skip
    seen = Performing(served.registry, served.client).seen("shop", "v1", START + 12 * HOUR, START + DAY)
    found = {(one.subject, one.slice): one for one in findings_of(seen, RULES)}
    assert found["risk", "country=DE"].status == "alarm"
    assert found["risk", "country=FR"].status == "ok"
    assert found["risk", "member=true"].status == "ok"


def test_labels_that_stop_coming_ring(served: Served) -> None:
    served.register()
    for hour in range(4):
        binary(served, 0.85, hour, hour)
    for hour in range(4, 8):
        binary(served, 0.85, hour, hour, labelled=False)
    seen = Performing(served.registry, served.client).seen("shop", "v1", START + 4 * HOUR, START + 9 * HOUR)
    found = {one.subject: one for one in findings_of(seen, RULES) if not one.slice}
    assert found["label join rate"].status == "alarm"
    assert found["label join rate"].expected == 1.0


def test_the_looker_looks_at_versions_that_answer_and_are_known(served: Served) -> None:
    served.register()
    served.register("v2")
    served.register("silent")
    binary(served, 0.85, 0, 0)
    served.serve([1], [1], at=HOUR, version="v2")
    served.serve([1], [1], at=HOUR, version="nobody knows it")
    found = PerformingLooker(served.registry, served.client).look(START + DAY)
    assert {one.version for one in found} == {"v1", "v2"}


def test_hours_and_the_reference_are_asked_for_once_and_again_when_a_late_label_changes_them(
    served: Served,
) -> None:
    served.register()
    for hour in range(6):
        binary(served, 0.85, hour, hour)
    served.serve([1], [None], at=timedelta(seconds=1), scores=[0.85], countries=["FR"])
    performing = Performing(served.registry, served.client)
    asked: list[str] = []
    real = served.client.call

    def call(op: str, **arguments: Any) -> Any:
        asked.append(op)
        return real(op, **arguments)

    served.client.call = call  # type: ignore[method-assign]

    def looked(until: timedelta) -> tuple[Any, int]:
        asked.clear()
        seen = performing.seen("shop", "v1", START, START + until)
        assert seen.reference is not None
        french = next(part for part in seen.reference_parts if part.part == "FR")
        return (seen.reference, french), asked.count("labelled")

    (first, part), before = looked(DAY)
    assert first.answers == first.labelled + 1
    assert before == 3
    # Of what has not changed only the window is counted again.
    assert looked(DAY) == ((first, part), 1)
    binary(served, 0.85, 6, 6)
    assert looked(DAY) == ((first, part), 2)
    served.late(timedelta(seconds=1), 0, 0)
    (then, french), again = looked(DAY)
    assert again == before
    assert (then.labelled, french.labelled) == (first.labelled + 1, part.labelled + 1)


def test_what_cannot_be_asked_is_a_finding_and_no_exception(served: Served) -> None:
    served.register()
    served.ingest.close()
    served.client.call = _away  # type: ignore[method-assign]
    (found,) = PerformingLooker(served.registry, served.client).look(START + DAY)
    assert (found.status, found.model) == ("error", "shop")


def _away(op: str, **_: object) -> None:
    from fairlead.errors import StoreUnavailable

    raise StoreUnavailable("The prediction log is away.", remedy="Wait.")


def test_real_people_come_out_of_the_log_as_they_went_in(served: Served) -> None:
    served.register()
    generator = np.random.default_rng(1)
    people = employment().shuffled(generator).of(2015).take(slice(0, 6_000))
    for hour in range(6):
        part = people.take(slice(1_000 * hour, 1_000 * (hour + 1)))
        served.serve(
            part.prediction.tolist(), part.label.tolist(), at=hour * HOUR, every=3.6,
            scores=part.probability, countries=part.features["SEX"].tolist(),
        )  # fmt: skip
    seen = Performing(served.registry, served.client).seen("shop", "v1", START, START + 7 * HOUR)
    found = performance_of(seen, tolerance=0.05, needed=720.0)
    figures = {one.name: one.value for one in found.figures}
    assert figures["accuracy"] == pytest.approx((people.prediction == people.label).mean())
    assert figures["brier"] == pytest.approx(((people.probability - people.label) ** 2).mean(), abs=5e-5)
    guess = {one.name: one.value for one in found.estimates}["accuracy"]
    assert guess == pytest.approx(figures["accuracy"], abs=0.02)
    assert found.join_rate == 1.0
    assert [one.answers for one in found.moments] == [1_000] * 6
    calibrated = calibration_of(seen)
    assert calibrated is not None
    assert calibrated.n == 6_000
    (sex,) = [one for one in fairness_of(seen) if one.feature == "country"]
    women = people.features["SEX"] == "2"
    expected = people.prediction[~women].mean() - people.prediction[women].mean()
    assert abs(sex.demographic_parity.difference or 0.0) == pytest.approx(abs(expected))


def test_numbers_ring_when_large_errors_become_frequent(tmp_path: Path) -> None:
    contract = Contract(inputs=CLASSES.inputs, output=Output(kind="number"))
    served = Served(tmp_path, contract=contract)
    try:
        served.register()
        generator = np.random.default_rng(2)
        for hour in range(8):
            spread = 1.0 if hour < 6 else 2.5
            label = generator.normal(100.0, 20.0, 400)
            value = label + generator.normal(0.0, spread, 400)
            served.serve(value.tolist(), label.tolist(), at=hour * HOUR, every=9.0)
        found = findings(served)["performance", "risk", ""]
        assert found.status == "alarm"
        assert "errors of more than 1.6" in found.sentence
        estimate = findings(served, 6 * HOUR)["estimate", "mae", ""]
        assert estimate.status == "ok"
        assert estimate.value == pytest.approx(0.8, abs=0.15)
        late = findings(served)["estimate", "mae", ""]
        assert (late.status, late.value) == ("insufficient", None)
    finally:
        served.close()


def test_rankings_have_hits_and_coverage(tmp_path: Path) -> None:
    contract = Contract(inputs=CLASSES.inputs, output=Output(kind="ranking"))
    served = Served(tmp_path, contract=contract)
    try:
        served.register()
        shown = [{"id": name, "score": 1.0} for name in ("a", "b", "c")]
        served.serve([shown] * 10, ["b"] * 5 + [None] * 5, at=HOUR)
        seen = Performing(served.registry, served.client).seen("shop", "v1", START, START + DAY)
        found = performance_of(seen, tolerance=0.05, needed=720.0)
        assert {one.name: one.value for one in found.figures}["hit@3"] == 1.0
        assert found.coverage == 3
        assert [one.value for one in found.clicks] == [0.0, 1.0]
        assert fairness_of(seen) == []
        assert calibration_of(seen) is None
    finally:
        served.close()


def test_a_model_may_have_a_detector_of_river_beside_the_alarm(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.register()
    with pytest.raises(InvalidSetting, match="performance_detector"):
        served.registry.configure("shop", None, {"performance_detector": "kswin"}, who="ann")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "river", None)
        with pytest.raises(MissingExtra) as raised:
            served.registry.configure("shop", None, {"performance_detector": "adwin"}, who="ann")
        assert "fairlead[river]" in raised.value.remedy
    for hour in range(10):
        binary(served, 0.85, hour, hour)
    looker = PerformingLooker(served.registry, served.client)

    def detected(at: timedelta) -> list[tuple[str, str | None]]:
        return [(one.status, one.version) for one in looker.look(START + at) if one.measure == "adwin"]

    assert detected(10 * HOUR + timedelta(minutes=1)) == []
    served.registry.configure("shop", None, {"performance_detector": "adwin"}, who="ann")
    assert detected(10 * HOUR + timedelta(minutes=1)) == [("ok", "v1")]
    binary(served, 0.2, 10, 99)
    assert detected(11 * HOUR + timedelta(minutes=1)) == [("alarm", "v1")]


def test_how_much_is_too_much_and_when_labels_are_due_are_settings_of_the_model(served: Served) -> None:
    served.register()
    wanted = {"performance_alarm_days": 10.0, "performance_tolerance": 0.02, "fairness_gap": 0.3}
    served.registry.configure("shop", None, {**wanted, "label_delay_hours": 6.0}, who="ann")
    performing = Performing(served.registry, served.client)
    rules = performing.rules("shop")
    assert (rules.steps, rules.tolerance, rules.gap) == (240.0, 0.02, 0.3)
    assert rules.alpha == pytest.approx(1 / (10 * 144 * 3))
    seldom = Performing(served.registry, served.client, looks_a_day=24.0)
    assert seldom.rules("shop").alpha == pytest.approx(1 / (10 * 24 * 3))
    assert performing.seen("shop", "v1", START, START + DAY).mature == START + 18 * HOUR


def test_numbers_are_cut_as_live_traffic_is_and_what_the_reference_never_had_makes_estimates_invalid(
    tmp_path: Path,
) -> None:
    age, *others = CLASSES.inputs
    contract = Contract(inputs=(msgspec.structs.replace(age, slice=True), *others), output=CLASSES.output)
    table = read_table(
        {
            "age": [18.0 + number % 40 for number in range(800)],
            "visits": [number % 9 for number in range(800)],
            "member": [True] * 800,
            "country": ["DE"] * 800,
        }
    )
    note = ContractNote(contract=contract, version="v1", reference=profile(table, contract))
    place = tmp_path / "bins" / "shop" / f"{SCHEMA.contract_id}.json"
    place.parent.mkdir(parents=True)
    place.write_bytes(msgspec.json.encode(note))
    served = Served(tmp_path, contract=contract)
    try:
        served.register()
        for hour in range(5):
            binary(served, 0.85, hour, hour)
        served.ingest.flush()
        seen = Performing(served.registry, served.client).seen("shop", "v1", START, START + DAY)
        assert {part.part: part.answers for part in seen.parts if part.feature == "age"} == {
            "28 to below 38": 2_500
        }
        assert seen.unseen == pytest.approx(0.5, abs=0.05)
        found = findings(served)["estimate", "accuracy", ""]
        assert found.status == "insufficient"
        assert "a value of a feature" in found.sentence
    finally:
        served.close()


def test_intervals_that_hold_are_fine_and_ones_that_do_not_any_more_ring(tmp_path: Path) -> None:
    contract = Contract(inputs=CLASSES.inputs, output=Output(kind="number"))
    served = Served(tmp_path, contract=contract)
    try:
        served.register(uncertainty=Uncertainty(kind="interval", quantile=1.645, n=2_000))
        generator = np.random.default_rng(3)

        def serve(hours: range, spread: float, quantile: float | None = 1.645) -> None:
            for hour in hours:
                label = generator.normal(100.0, 20.0, 200)
                value = label + generator.normal(0.0, spread, 200)
                countries = ["DE" if one else "FR" for one in generator.random(200) < 0.5]
                served.serve(
                    value.tolist(), label.tolist(), at=hour * HOUR, every=18.0, quantile=quantile,
                    countries=countries,
                )  # fmt: skip

        serve(range(1), 1.0, None)  # an older Fairlead logged what it said of nothing
        few = findings(served, HOUR + timedelta(minutes=1))["calibration", "coverage", ""]
        assert (few.status, few.n) == ("insufficient", 0)
        serve(range(1, 6), 1.0)
        calm = findings(served, 6 * HOUR + timedelta(minutes=1))["calibration", "coverage", ""]
        assert (calm.status, calm.n, calm.expected) == ("ok", 1_000, 0.9)
        assert calm.value == pytest.approx(0.9, abs=0.03)
        serve(range(6, 9), 2.0)
        until = START + 9 * HOUR + timedelta(minutes=1)
        seen = Performing(served.registry, served.client).seen("shop", "v1", START, until)
        found = {(one.subject, one.slice): one for one in findings_of(seen, RULES)}["coverage", ""]
        assert found.status == "alarm"
        assert "Since 2025-11-21 06:00 UTC only" in found.sentence
        assert found.p is not None
        assert found.p < 1e-6
        performance = performance_of(seen, tolerance=0.05, needed=720.0)
        assert performance.uncertainty is not None
        assert performance.uncertainty.size is not None
        assert performance.uncertainty.size.value == pytest.approx(3.29)
        parts = {one.part: {figure.name: figure for figure in one.figures} for one in performance.slices}
        assert parts["DE"]["coverage"].n + parts["FR"]["coverage"].n == 1_600
        named = [{figure.name for figure in moment.figures} for moment in performance.moments]
        assert ["coverage" in names for names in named] == [False] + 8 * [True]
    finally:
        served.close()


def test_sets_of_classes_are_counted_by_the_probabilities_that_were_logged(served: Served) -> None:
    served.register(uncertainty=Uncertainty(kind="set", quantile=0.25, n=1_000))
    label = [1] * 60 + [0] * 40
    served.serve([1] * 100, label, at=0 * HOUR, scores=[0.75] * 100, quantile=0.25)
    found = findings(served, 2 * HOUR)["calibration", "coverage", ""]
    assert (found.status, found.n, found.value) == ("alarm", 100, pytest.approx(0.6))
    assert "sets of classes" in found.sentence
