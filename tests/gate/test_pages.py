"""A report as JUnit XML and as a page, with all that people put into names."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

from fairlead.gate.junit import junit
from fairlead.gate.page import page
from fairlead.gate.report import Check, Report, Side, summary

HOSTILE = "<script>alert('x')</script> & \"ü\" \x00\x1b ]]> \ud800"


def report(*checks: Check, name: str = "shop") -> Report:
    return Report(
        model=name,
        candidate=Side(version="v2", digest="b" * 64),
        against=Side(version="v1", digest="a" * 64),
        passed=not any(check.closes for check in checks),
        summary=summary(checks, "v2", "v1"),
        checks=list(checks),
        rows=100,
        compared=99,
        alpha=0.05,
        spec_digest="c" * 64,
        data_digest=None,
        machine="onnxruntime",
        seconds=1.5,
    )


PASSED = Check(group="metric", name="mae", status="passed", text="mae is as before.")
FAILED = Check(
    group="slice", name="mae where land is FR", status="failed", closes=True, text="It is worse.",
    numbers={"worse_by": 0.25, "low": None}, examples=[{"row": {"age": 1}}],
)  # fmt: skip
SMALL = Check(group="slice", name="mae where land is XK", status="too_small", text="3 rows are too few.")
UNTOLD = Check(group="metric", name="rmse", status="inconclusive", closes=True, text="Not told.")
HARMFUL = Check(group="test", name=HOSTILE, status="failed", closes=True, text=HOSTILE)


def test_the_summary_says_what_closes_the_gate_and_how_much_more() -> None:
    assert summary([PASSED, SMALL], "v2", "v1") == (
        "v2 beside v1 passes: 1 of 2 checks passed, but 1 had too few rows."
    )
    said = summary([PASSED, FAILED, UNTOLD], "v2", None)
    assert said == "v2 does not pass: It is worse. And 1 more of 3 checks."


def test_every_check_is_a_test_case_and_what_closes_the_gate_fails_with_its_numbers() -> None:
    suite = ElementTree.fromstring(junit(report(PASSED, FAILED, SMALL, UNTOLD)))[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "2", "1")
    failure = suite.find("testcase[@name='mae where land is FR']/failure")
    assert failure is not None
    assert failure.text == 'worse_by = 0.25\nlow = unknown\n{"row":{"age":1}}'
    assert suite.find("testcase[@name='mae where land is XK']/skipped") is not None


def test_names_that_xml_cannot_hold_are_still_xml() -> None:
    text = junit(report(HARMFUL, name=HOSTILE)).encode("utf-8")
    case = ElementTree.fromstring(text)[0][0]
    assert "<script>alert('x')</script>" in (case.get("name") or "")


class Tags(HTMLParser):
    """All tags and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def test_the_page_stands_alone_and_runs_nothing() -> None:
    text = page(report(PASSED, FAILED, SMALL, HARMFUL, name=HOSTILE))
    found = Tags()
    found.feed(text)
    assert not {"script", "link", "img", "iframe", "form"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on") or name in ("src", "href")]
    assert not re.search(r"url\(|@import|https?:", text)
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    text.encode("utf-8")


def test_what_closes_the_gate_stands_first_and_open() -> None:
    text = page(report(SMALL, FAILED))
    assert text.index("It is worse.") < text.index("3 rows are too few.")
    assert "<details open>" in text
    assert "worse by" in text
