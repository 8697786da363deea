"""A report as one page that needs nothing else: no scripts, no fonts, no pictures from anywhere. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from html import escape

from fairlead.monitoring.calibration import Calibration
from fairlead.monitoring.charts import Line, diagonal, lines
from fairlead.monitoring.covering import Coverage
from fairlead.monitoring.drift_report import DriftReport
from fairlead.monitoring.estimates import Estimate
from fairlead.monitoring.fairness import Disparity, Fairness, Rate
from fairlead.monitoring.measured import Moment, Performance
from fairlead.monitoring.performance import Figure
from fairlead.monitoring.report import MonitoringReport

__all__ = ["page"]

_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --dim: #5c6670; --back: #fff; --line: #d8dee4;
  --good: #12703a; --bad: #b3261e; --open: #7a5200; --real: #0b57d0; --guess: #9a3fb5; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ec; --dim: #9aa4ae; --back: #14171a;
  --line: #333a41; --good: #5dc98a; --bad: #ff8a80; --open: #e0b252; --real: #8ab4f8; --guess: #d7a6e6; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); margin: 0 auto;
  padding: 1.5rem; max-width: 60rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p.said { font-size: 1.1rem; } dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt, .dim, figcaption { color: var(--dim); } dd { margin: 0; } ul { list-style: none; padding: 0; margin: 0; }
li { border-top: 1px solid var(--line); padding: .4rem 0; } figure { margin: .5rem 0; }
.ok { color: var(--good); } .alarm, .error { color: var(--bad); } .insufficient { color: var(--dim); }
.word { font-weight: 600; margin-right: .5rem; } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; } th { text-align: left; color: var(--dim); }
td, th { padding: .15rem 1rem .15rem 0; vertical-align: top; font-weight: 400; }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
details { margin: .5rem 0; } summary { color: var(--dim); cursor: pointer; }
svg { width: 100%; height: auto; } svg text { font-size: 11px; fill: var(--dim); }
svg .grid { stroke: var(--line); } svg .even { stroke: var(--dim); stroke-dasharray: 4 4; }
svg .line { fill: none; stroke-width: 1.5; } svg .band { opacity: .18; stroke: none; }
svg polyline.real { stroke: var(--real); } svg polyline.guess { stroke: var(--guess); }
svg circle.real, svg .band.real { fill: var(--real); }
svg circle.guess, svg .band.guess { fill: var(--guess); }
.key::before { content: "■ "; } .key.real::before { color: var(--real); }
.key.guess::before { color: var(--guess); }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .5rem; } }
"""
_WORDS = {"ok": "fine", "alarm": "alarm", "insufficient": "too little", "error": "error"}
_FIRST = {"accuracy": "Accuracy", "mae": "Mean absolute error", "ndcg@10": "NDCG at 10"}
"""The figure that is drawn over time, of the first kind that there is."""


def page(report: MonitoringReport) -> str:
    """The page as HTML. What is in the report is text in it, whatever it holds."""
    name = f"{report.model} {report.version}"
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>How {escape(name)} does</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{escape(name)}</h1>",
        f'<p class="said">{escape(report.sentence)}</p>',
        "<dl>",
        *(f"<dt>{escape(term)}</dt><dd>{escape(said)}</dd>" for term, said in _facts(report)),
        "</dl>",
        *_findings(report),
        *_performance(report.performance),
        *_calibration(report.calibration),
        *_drift(report.drift, report.drift_problem),
        *_slices(report.performance),
        *_fairness(report.fairness),
        "</body></html>",
        "",
    ]
    return "\n".join(parts).encode("utf-8", "replace").decode("utf-8")  # a lone surrogate cannot be sent


def _facts(report: MonitoringReport) -> Iterator[tuple[str, str]]:
    held = report.performance
    yield "From", f"{_time(report.start)} to {_time(report.end)} UTC"
    yield "Answers", f"{held.answers:,}, {held.labelled:,} with a label"
    if held.join_rate is not None:
        yield "Labels", f"{held.join_rate:.1%} of the answers before {_time(held.mature)} have one"
    if held.delays is not None and held.delays.p95 is not None:
        yield "Label delay", f"half within {_span(held.delays.p50)}, 95 % within {_span(held.delays.p95)}"
    if held.coverage is not None:
        yield "Coverage", f"{held.coverage:,} different items were shown"
    if held.uncertainty is not None:
        yield "Intervals" if held.uncertainty.kind == "interval" else "Sets", _covered(held.uncertainty)
    yield "Made", f"{_time(report.made_at)} UTC"


def _covered(held: Coverage) -> str:
    promised = f"{held.promised:.0%} promised on {held.rows:,} rows"
    if held.optimistic:
        promised += ", which the model may have learnt"
    found = "no label has come yet"
    if (seen := held.observed) is not None:
        found = f"{seen.value:.1%} ({seen.low:.1%} to {seen.high:.1%}) of {seen.n:,} labels lay within"
    if held.size is None:
        return f"{found}; {promised}"
    size = "mean width" if held.kind == "interval" else "mean number of classes"
    return f"{found}; {promised}; {size} {held.size.value:.4g}"


def _findings(report: MonitoringReport) -> Iterator[str]:
    yield "<h2>What was looked at</h2><ul>"
    shown = [one for one in report.findings if one.status in ("alarm", "error")]
    rest = [one for one in report.findings if one.status not in ("alarm", "error")]

    def item(kind: str, status: str, sentence: str) -> str:
        word = f'<span class="word {status}">{_WORDS[status]}</span>'
        return f'<li>{word}<span class="dim">{escape(kind)}</span> {escape(sentence)}</li>'

    yield from (item(one.kind, one.status, one.sentence) for one in shown)
    if not shown:
        yield '<li class="dim">Nothing rings.</li>'
    yield "</ul>"
    if rest:
        yield f"<details><summary>{len(rest):,} more</summary><ul>"
        yield from (item(one.kind, one.status, one.sentence) for one in rest)
        yield "</ul></details>"


def _performance(held: Performance) -> Iterator[str]:
    yield "<h2>Performance</h2>"
    if not held.figures and not held.estimates:
        yield '<p class="dim">No label has come, and nothing can be estimated without.</p>'
    names = list(dict.fromkeys([one.name for one in held.figures] + [one.name for one in held.estimates]))
    real = {one.name: one for one in held.figures}
    before = {one.name: one for one in held.reference}
    guess = {one.name: one for one in held.estimates}
    if names:
        yield _table(
            ("figure", "by labels", "estimated without", "at first"),
            (
                [name, _ranged(real.get(name)), _ranged(guess.get(name)), _ranged(before.get(name))]
                for name in names
            ),
        )
    if held.validity is not None and not held.validity.valid:
        yield f'<p class="dim">The estimate is not valid: {escape(held.validity.reason)}.</p>'
    if held.risk is not None:
        yield (
            f'<p class="dim">Watched: {escape(held.loss)}. Up to {held.risk.limit:.1%} are no alarm; '
            f"evidence of more is {held.risk.evidence:,.3g} of {held.risk.needed:,.0f}.</p>"
        )
    places = [_time(moment.start) for moment in held.moments]
    for name, title in _FIRST.items():
        chart = lines(
            f"{title} over time",
            places,
            [
                Line("by labels", "real", [_point(moment.figures, name) for moment in held.moments]),
                Line(
                    "estimated without", "guess", [_point(moment.estimates, name) for moment in held.moments]
                ),
            ],
        )
        if chart:
            yield chart
            break
    if held.uncertainty is not None:
        promised = held.uncertainty.promised
        within = [_point(moment.figures, "coverage") for moment in held.moments]
        line = Line("promised", "guess", [(promised, None, None) for _ in held.moments])
        yield lines("Share of labels within", places, [Line("by labels", "real", within), line])
    yield lines("Share of answers with a label", places, [
        Line("label join rate", "real", [(_rate(moment), None, None) for moment in held.moments])
    ], reach=(0.0, 1.0))  # fmt: skip
    if held.clicks:
        yield "<details open><summary>Where in the ranking the right item stood</summary>"
        yield (
            _table(("", "share of labels"), ([one.name, _ranged(one)] for one in held.clicks)) + "</details>"
        )
    if held.back_test:
        yield "<details><summary>Estimates beside what labels showed later</summary>"
        yield _table(
            ("figure", "rows", "estimated", "true", "off"),
            (
                [one.name, f"{one.n:,}", f"{one.estimated:.4f}", f"{one.realised:.4f}", f"{one.off:.4f}"]
                for one in held.back_test
            ),
        )
        yield "</details>"
    if len(held.arms) > 1:
        yield "<details><summary>By arm</summary>"
        rows = [[arm or "none", one.name, _ranged(one)] for arm, found in held.arms.items() for one in found]
        yield _table(("arm", "figure", "by labels"), rows) + "</details>"


def _calibration(held: Calibration | None) -> Iterator[str]:
    if held is None:
        return
    parts = held.brier
    yield "<h2>Calibration</h2>"
    yield (
        f"<p>Scores are off by {held.ece_mass:.2%} on average, {held.floor:.2%} of it by chance. "
        f"What happened lies {100 * held.shift:+.2f} points from what was said. "
        f"Brier score {parts.score:.4f}: "
        f"reliability {parts.reliability:.4f}, resolution {parts.resolution:.4f}, "
        f"uncertainty {parts.uncertainty:.4f}.</p>"
    )
    yield diagonal(
        "What scores said, and what happened", [(one.score, one.share, one.n) for one in held.bins]
    )


def _drift(held: DriftReport | None, problem: str) -> Iterator[str]:
    yield "<h2>Drift</h2>"
    if held is None:
        yield f'<p class="dim">{escape(problem)}</p>'
        return
    yield f"<p>{escape(held.sentence)}</p>"
    if held.found:
        rows = (
            [
                f'<span class="{one.status}">{_WORDS[one.status]}</span>',
                escape(f"{one.subject} {one.slice}"),
                escape(one.measure),
                f"{one.n:,}",
                _plain(one.effect),
                _plain(one.p),
                escape(", ".join(f"{name} {value:.4g}" for name, value in one.distances.items())),
            ]
            for one in held.found
        )
        heads = ("", "field", "question", "rows", "effect", "p", "distances")
        yield f"<details><summary>Every field</summary>{_table(heads, rows, escaped=True)}</details>"


def _slices(held: Performance) -> Iterator[str]:
    if not held.slices:
        return
    yield "<h2>Slices</h2>"
    rows = []
    for part in held.slices:
        before = {one.name: one for one in part.before}
        found = part.figures[:1] or (None,)
        for one in found:
            then = before.get(one.name) if one is not None else None
            within = next((found for found in part.figures if found.name == "coverage"), None)
            rows.append([
                f"{part.feature}={part.part}", f"{part.answers:,}", f"{part.labelled:,}",
                "" if one is None else one.name, _ranged(one), _ranged(then), _ranged(within),
            ])  # fmt: skip
    heads = ("part", "answers", "labels", "figure", "by labels", "at first", "coverage")
    told = held.uncertainty is not None
    yield _table(heads if told else heads[:-1], rows if told else [row[:-1] for row in rows])


def _fairness(held: Sequence[Fairness]) -> Iterator[str]:
    if not held:
        return
    yield "<h2>Fairness</h2>"
    for one in held:
        yield f"<h3>{escape(one.feature)}</h3><p>{escape(_gap(one.demographic_parity))}<br>"
        yield f"{escape(_gap(one.equalized_odds))}</p>"
        yield _table(
            ("part", "rows", "chosen", "of positives", "of negatives"),
            (
                [
                    part.name,
                    f"{part.selection.n:,}",
                    _share(part.selection),
                    _share(part.tpr),
                    _share(part.fpr),
                ]
                for part in one.parts
            ),
        )


def _gap(one: Disparity) -> str:
    if one.difference is None:
        return f"{one.measure.capitalize()}: fewer than two parts are large enough to tell."
    ratio = "" if one.ratio is None else f", ratio {one.ratio:.3f}"
    return (
        f"{one.measure.capitalize()}: {one.highest} lies {100 * one.difference:.2f} points above {one.lowest}"
        f" ({100 * (one.low or 0.0):.2f} to {100 * (one.high or 0.0):.2f}{ratio})."
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, escaped: bool = False) -> str:
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{'' if index == 0 else ' class=n'}>{one if escaped else escape(one)}</td>"
            for index, one in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _point(found: Sequence[Figure | Estimate], name: str) -> tuple[float | None, float | None, float | None]:
    one = next((each for each in found if each.name == name), None)
    return (None, None, None) if one is None else (one.value, one.low, one.high)


def _rate(moment: Moment) -> float | None:
    return moment.labelled / moment.answers if moment.answers else None


def _ranged(one: Figure | Estimate | None) -> str:
    if one is None:
        return "–"
    if one.low is None or one.high is None:
        return f"{one.value:.4g}"
    return f"{one.value:.4g} ({one.low:.4g} to {one.high:.4g})"


def _share(rate: Rate) -> str:
    if rate.value is None or rate.low is None or rate.high is None:
        return "too few" if rate.n else "–"
    return f"{rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%})"


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
