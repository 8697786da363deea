"""The report of a version, as a document and as a page that needs nothing else."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest

from fairlead.contracts.uncertainty import Uncertainty
from fairlead.errors import ModelNotFound, VersionNotFound
from fairlead.monitoring.charts import Line, diagonal, lines
from fairlead.monitoring.drifting import Drifting
from fairlead.monitoring.page import page
from fairlead.monitoring.performing import Performing
from fairlead.monitoring.report import MonitoringReport, Reports
from tests.monitoring.served import START, Served

DAY = timedelta(days=1)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    made.register()
    yield made
    made.close()


def report_of(served: Served, version: str = "v1") -> MonitoringReport:
    performing = Performing(served.registry, served.client)
    drifting = Drifting(served.registry, served.client)
    return Reports(performing, drifting).of("shop", version, START, START + DAY)


def serve(served: Served, hours: int, country: str = "DE") -> None:
    generator = np.random.default_rng(0)
    for hour in range(hours):
        label = generator.random(400) < 0.5
        value = np.where(generator.random(400) < 0.85, label, ~label)
        served.serve(
            value.astype(int).tolist(), label.astype(int).tolist(), at=timedelta(hours=hour), every=9.0,
            scores=np.where(value, 0.85, 0.15), countries=[country] * 400,
        )  # fmt: skip


def well_formed(html: str) -> None:
    """Reads it as XML would be, once what HTML leaves open is closed."""
    closed = re.sub(r"<(meta|br)([^>]*)>", r"<\1\2/>", html.removeprefix("<!doctype html>"))
    ElementTree.fromstring(closed.replace("class=n>", 'class="n">'))


def test_a_report_has_every_figure_and_its_page_shows_them(served: Served) -> None:
    serve(served, 6)
    report = report_of(served)
    assert report.sentence.startswith("v1 does well in all of")
    html = page(report)
    well_formed(html)
    for heading in ("Performance", "Calibration", "Drift", "Slices", "Fairness"):
        assert f"<h2>{heading}</h2>" in html
    assert html.count("<svg") == 3
    accuracy = next(one for one in report.performance.figures if one.name == "accuracy")
    assert f"{accuracy.value:.4g}" in html
    assert "<script" not in html
    assert not re.search(r"(src|href)=", html)


def test_a_report_of_nothing_says_so(served: Served) -> None:
    report = report_of(served)
    assert report.sentence == "Too little is known of v1 in this time to say anything."
    html = page(report)
    well_formed(html)
    assert "No label has come" in html
    assert "<svg" not in html


def test_what_callers_sent_is_text_in_the_page(served: Served) -> None:
    serve(served, 1, country="<script>alert('☃')</script>\ud800".encode("utf-8", "replace").decode())
    html = page(report_of(served))
    well_formed(html)
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_a_report_can_be_sent_as_json_and_read_back(served: Served) -> None:
    serve(served, 4)
    report = report_of(served)
    assert msgspec.json.decode(msgspec.json.encode(report), type=MonitoringReport).sentence == report.sentence


def test_what_is_not_there_has_no_report(served: Served) -> None:
    with pytest.raises(VersionNotFound):
        report_of(served, "v9")
    with pytest.raises(ModelNotFound):
        Reports(Performing(served.registry, served.client), Drifting(served.registry, served.client)).of(
            "none", "v1", START, START + DAY
        )


def test_a_gap_in_time_is_a_gap_in_the_line() -> None:
    held = [(0.5, 0.4, 0.6), (None, None, None), (0.7, None, None), (0.8, 0.7, 0.9)]
    chart = lines("T", ["a", "b", "c", "d"], [Line("real", "real", held)])
    assert chart.count("<polyline") == 2
    assert chart.count("<polygon") == 2


def test_a_chart_of_nothing_is_none_and_one_of_a_single_level_has_room() -> None:
    assert lines("T", [], []) == ""
    assert lines("T", ["a"], [Line("x", "real", [(math.nan, None, None)])]) == ""
    for level in (0.0, 1.0, -3.0, 1e300):
        chart = lines("T & <b>", ["a"], [Line("x", "real", [(level, level, level)])])
        ElementTree.fromstring(chart)
        assert "nan" not in chart
    ElementTree.fromstring(diagonal("T", []))


def test_what_was_promised_of_sets_stands_beside_what_labels_show(served: Served) -> None:
    served.register("v2", uncertainty=Uncertainty(kind="set", quantile=0.2, n=500, optimistic=True))
    assert "no label has come yet; 90% promised on 500 rows, which the model may have learnt" in page(
        report_of(served, "v2")
    )
    label = [1, 0] * 200
    served.serve(
        [1] * 400, label, at=timedelta(0), scores=[0.9] * 400, version="v2", quantile=0.2,
        countries=["DE"] * 400,
    )  # fmt: skip
    report = report_of(served, "v2")
    html = page(report)
    well_formed(html)
    assert "50.0% (45.1% to 54.9%) of 400 labels lay within; 90% promised" in html
    assert "mean number of classes 1" in html
    assert "Share of labels within" in html
    assert report.performance.uncertainty is not None
    assert report.performance.uncertainty.promised == 0.9
