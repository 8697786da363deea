"""A gate's report as one page that needs nothing else: no scripts, no fonts, no pictures from anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

import msgspec

from fairlead.gate.report import Check, Group, Report

__all__ = ["page"]

_TITLES: dict[Group, str] = {
    "answers": "Answers",
    "metric": "Metrics",
    "slice": "Slices",
    "test": "Behaviour",
    "fairness": "Fairness",
    "replay": "Logged traffic",
    "budget": "Budget",
    "compatibility": "Compatibility",
}
_WORDS = {
    "passed": "passed",
    "failed": "failed",
    "inconclusive": "not told",
    "too_small": "too small",
    "skipped": "skipped",
}
_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --dim: #5c6670; --back: #fff; --line: #d8dee4;
  --good: #12703a; --bad: #b3261e; --open: #7a5200; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ec; --dim: #9aa4ae; --back: #14171a;
  --line: #333a41;
  --good: #5dc98a; --bad: #ff8a80; --open: #e0b252; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); margin: 0 auto;
  padding: 1.5rem; max-width: 60rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p.said { font-size: 1.1rem; } dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt, .dim { color: var(--dim); } dd { margin: 0; } ul { list-style: none; padding: 0; margin: 0; }
li { border-top: 1px solid var(--line); padding: .6rem 0; }
.passed { color: var(--good); } .closes, .failed { color: var(--bad); } .inconclusive { color: var(--open); }
.too_small, .skipped { color: var(--dim); } .word { font-weight: 600; margin-right: .5rem; }
details { margin-top: .3rem; } summary { color: var(--dim); cursor: pointer; }
table { border-collapse: collapse; font-size: .9rem; }
td { padding: .1rem 1rem .1rem 0; vertical-align: top; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
pre { white-space: pre-wrap; font-size: .85rem; }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .5rem; } }
"""


def page(report: Report) -> str:
    """The page as HTML. What is in the report is text in it, whatever it holds."""
    name = f"{report.model} {report.candidate.version}"
    verdict = "passed" if report.passed else "failed"
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>Gate of {escape(name)}: {verdict}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style></head><body>",
        f'<h1>{escape(name)} <span class="{verdict}">{verdict}</span></h1>',
        f'<p class="said">{escape(report.summary)}</p>',
        "<dl>",
        *(f"<dt>{escape(term)}</dt><dd>{escape(said)}</dd>" for term, said in _facts(report)),
        "</dl>",
    ]
    for group, title in _TITLES.items():
        checks = [check for check in report.checks if check.group == group]
        if checks:
            shown = sorted(checks, key=lambda check: not check.closes)
            parts += [f"<h2>{title}</h2><ul>", *map(_check, shown), "</ul>"]
    whole = "\n".join([*parts, "</body></html>", ""])
    return whole.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate is no text that can be sent


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    yield "Candidate", f"{report.candidate.version} ({report.candidate.digest[:12]})"
    if report.against is None:
        yield "Compared with", "nothing: no version was in production"
    else:
        yield "Compared with", f"{report.against.version} ({report.against.digest[:12]})"
    yield "Rows", f"{report.rows:,}, of which {report.compared:,} were compared"
    if report.data_digest:
        yield "Data", f"SHA-256 {report.data_digest[:12]}…"
    yield "Asked", f"SHA-256 {report.spec_digest[:12]}…"
    yield "False alarms", f"a version that is as good fails with a chance of {report.alpha:.3g} at most"
    if report.machine:
        yield "Run by", f"{report.machine}, {report.seconds:.1f} s"


def _check(check: Check) -> str:
    kind = "closes" if check.closes else check.status
    said = f'<span class="word {kind}">{_WORDS[check.status]}</span>{escape(check.text)}'
    return f"<li>{said}{_evidence(check)}</li>"


def _evidence(check: Check) -> str:
    if not check.numbers and not check.examples:
        return ""
    rows = "".join(
        f'<tr><td>{escape(name.replace("_", " "))}</td><td class="n">{_number(value)}</td></tr>'
        for name, value in check.numbers.items()
    )
    examples = "".join(f"<pre>{escape(_json(example))}</pre>" for example in check.examples)
    opened = " open" if check.closes else ""
    return f"<details{opened}><summary>Numbers</summary><table>{rows}</table>{examples}</details>"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.6g}"


def _json(example: dict[str, Any]) -> str:
    return msgspec.json.encode(example).decode()
