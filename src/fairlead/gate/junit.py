"""A gate's report as JUnit XML, which build servers show as tests."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import msgspec

from fairlead.gate.report import Check, Report

__all__ = ["junit"]

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(report: Report) -> str:
    """One test case for each check. What closes the gate is a failure with its numbers; what could not be
    told, and does not close it, is skipped."""
    suite = ElementTree.Element("testsuite")
    failures = sum(check.closes for check in report.checks)
    skipped = sum(_is_skipped(check) for check in report.checks)
    beside = "" if report.against is None else f" beside {report.against.version}"
    named = {
        "name": _text(f"{report.model} {report.candidate.version}{beside}"),
        "tests": str(len(report.checks)),
        "failures": str(failures),
        "errors": "0",
        "skipped": str(skipped),
        "time": f"{report.seconds:.3f}",
    }
    suite.attrib.update(named)
    for check in report.checks:
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"gate.{check.group}", name=_text(check.name), time="0"
        )
        if check.closes:
            failure = ElementTree.SubElement(case, "failure", type=check.status, message=_text(check.text))
            failure.text = _text(_evidence(check))
        elif _is_skipped(check):
            ElementTree.SubElement(case, "skipped", message=_text(check.text))
        else:
            ElementTree.SubElement(case, "system-out").text = _text(check.text)
    suites = ElementTree.Element("testsuites", name="fairlead gate")
    suites.append(suite)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _is_skipped(check: Check) -> bool:
    return not check.closes and check.status in ("inconclusive", "too_small", "skipped")


def _evidence(check: Check) -> str:
    numbers = [
        f"{name} = {'unknown' if value is None else f'{value:.6g}'}" for name, value in check.numbers.items()
    ]
    examples = [msgspec.json.encode(example).decode() for example in check.examples]
    return "\n".join([*numbers, *examples])


def _text(text: str) -> str:
    """The text without what XML cannot hold."""
    return _NOT_XML.sub("\ufffd", text)
