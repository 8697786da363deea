"""What callers cost: hours from the database, answers from a real log, prices from settings."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fairlead.errors import ModelNotFound
from fairlead.monitoring.costing import Costing
from fairlead.monitoring.metering import Meter
from fairlead.predictions.segments import frame
from fairlead.serving.folder import DataFolder
from fairlead.settings import Settings
from fairlead.telemetry.counters import ArmKey, CounterBlock
from tests.monitoring.served import START, Served
from tests.predictions.records import AT, make_record

HOUR = timedelta(hours=1)
UNTIL = START + HOUR


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A model whose two versions have run for an hour of compute each, within the first hour."""
    made = Served(tmp_path)
    folder = DataFolder(tmp_path / "data").make()
    block = CounterBlock(folder.counters / "g0")
    for version, role in (("v1", "stable"), ("v2", "shadow")):
        made.register(version)
        block.row(ArmKey("shop", version, role, role)).ran(100, 3600.0)
    Meter(made.database, folder, clock=lambda: START).read()
    yield made
    made.close()


def answer(served: Served, use_case: str | None, count: int = 1, **more: object) -> None:
    for _ in range(count):
        served.writer.append(frame(make_record(at=AT, use_case=use_case, **more)))


def costs(served: Served, model: str | None = "shop") -> dict[tuple[str, str | None], float | None]:
    settings = Settings(price_per_core_hour=10.0, price_currency="€")
    report = Costing(served.registry, served.client, settings).report(
        START + HOUR / 2, UNTIL, model=model, by="use-case"
    )
    assert (report.start, report.end, report.currency) == (START, UNTIL, "€")
    return {(line.shown, line.name): line.cost for line in report.lines}


def test_callers_share_what_was_computed_for_them(served: Served) -> None:
    answer(served, "web", 3)
    answer(served, "app")
    answer(served, "app", 5, cached=True)
    answer(served, "app", 5, degraded="contract_default")
    answer(served, None)
    answer(served, "web", 5, status="rejected")
    answer(served, "web", 5, source="shadow", role="shadow", served_version="v2", assigned_version="v2")
    assert costs(served) == costs(served, None) == {
        ("use-case", "web"): pytest.approx(6.0),
        ("use-case", "app"): pytest.approx(2.0),
        ("unnamed", None): pytest.approx(2.0),
        ("nobody", None): pytest.approx(10.0),
    }  # fmt: skip


def test_tags_are_any_text_and_those_beyond_the_largest_are_one_line(served: Served) -> None:
    hostile = "'; DROP TABLE predictions; --\u202e☃"
    answer(served, hostile, 50)
    for index in range(249):
        answer(served, f"caller-{index}")
    found = costs(served)
    assert found["use-case", hostile] == pytest.approx(10 * 50 / 299)
    assert found["others", None] == pytest.approx(10 * 50 / 299)
    assert len(found) == 200 + 2
    assert len(costs(served, None)) == 20 + 2
    assert sum(cost or 0.0 for cost in found.values()) == pytest.approx(20.0)


def test_a_models_own_price_wins_and_may_be_nothing(served: Served) -> None:
    costing = Costing(served.registry, served.client, Settings(price_per_core_hour=10.0))
    for price, told in ((None, 10.0), (4.0, 4.0), (0.0, 0.0)):
        changes = {"price_per_core_hour": price}
        served.registry.configure("shop", None, changes, who="ann", why="")
        report = costing.report(START, UNTIL)
        assert [line.cost for line in report.lines] == [told, told]


def test_without_any_price_there_are_seconds_alone(served: Served) -> None:
    report = Costing(served.registry, served.client, Settings()).report(START, UNTIL)
    assert [(line.name, line.compute_seconds, line.cost) for line in report.lines] == [
        ("v1", 3600.0, None),
        ("v2", 3600.0, None),
    ]


def test_an_hour_that_was_not_asked_for_is_not_in_it(served: Served) -> None:
    answer(served, "web")
    report = Costing(served.registry, served.client, Settings()).report(UNTIL, UNTIL + HOUR, by="use-case")
    assert report.lines == []


def test_an_unknown_model_is_refused_by_name(served: Served) -> None:
    with pytest.raises(ModelNotFound, match="ship"):
        Costing(served.registry, served.client, Settings()).report(START, UNTIL, model="ship")
