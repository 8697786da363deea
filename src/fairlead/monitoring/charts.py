"""Charts as inline SVG: no scripts, and colours by the page's own variables. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

__all__ = ["Line", "diagonal", "lines"]

_Scale = Callable[[float], float]
_Place = Callable[[int], float]
_WIDTH, _HEIGHT, _LEFT, _BELOW, _ABOVE = 640, 220, 52, 28, 10


class Line(NamedTuple):
    """One line of a chart: its name, its colour by class, and at each place a value and where it lies; None
    where nothing is known."""

    name: str
    style: str
    points: Sequence[tuple[float | None, float | None, float | None]]


def lines(
    title: str, places: Sequence[str], drawn: Sequence[Line], reach: tuple[float, float] | None = None
) -> str:
    """Lines with their bands over equal steps; nothing where no value is known. `reach` is the least and the
    most that is drawn, where what was seen does not tell."""
    known = [
        value
        for line in drawn
        for point in line.points
        for value in point
        if value is not None and math.isfinite(value)
    ]
    if not known:
        return ""
    low, high = reach or _room(min(known), max(known))

    def x(index: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - 10) * (index + 0.5) / max(len(places), 1)

    def y(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return _ABOVE + (_HEIGHT - _ABOVE - _BELOW) * (1.0 - share)

    parts = [_frame(title), *_grid(low, high, y)]
    shown = {0, len(places) // 2, len(places) - 1} & set(range(len(places)))
    parts += [_text(x(index), _HEIGHT - 8, places[index], "middle") for index in sorted(shown)]
    for line in drawn:
        parts += _line(line, x, y)
    legend = "".join(f'<span class="key {line.style}">{escape(line.name)}</span> ' for line in drawn)
    return f"<figure>{''.join(parts)}</svg><figcaption>{legend}</figcaption></figure>"


def diagonal(title: str, points: Sequence[tuple[float, float, int]]) -> str:
    """What was said, from left to right, and what happened, from below, both from 0 to 1; `n` rows each."""
    size = _HEIGHT - _ABOVE - _BELOW
    most = max((n for _, _, n in points), default=1)

    def x(value: float) -> float:
        return _LEFT + size * value

    def y(value: float) -> float:
        return _ABOVE + size * (1.0 - value)

    parts = [_frame(title, width=_LEFT + size + 20), *_grid(0.0, 1.0, y, right=_LEFT + size)]
    parts.append(f'<line class="even" x1="{x(0):.1f}" y1="{y(0):.1f}" x2="{x(1):.1f}" y2="{y(1):.1f}"/>')
    for said, happened, n in points:
        radius = 2.0 + 6.0 * math.sqrt(n / most)
        hint = f"<title>{n:,} rows: {said:.3f} said, {happened:.3f} happened</title>"
        parts.append(
            f'<circle class="real" cx="{x(said):.1f}" cy="{y(happened):.1f}" r="{radius:.1f}">{hint}</circle>'
        )
    parts += [_text(x(value), _HEIGHT - 8, f"{value:g}", "middle") for value in (0.0, 0.5, 1.0)]
    return f"<figure>{''.join(parts)}</svg></figure>"


def _room(low: float, high: float) -> tuple[float, float]:
    margin = (high - low) * 0.1 or abs(high) * 0.1 or 0.1
    return low - margin, high + margin


def _frame(title: str, width: float = _WIDTH) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {_HEIGHT}" role="img" aria-label="{escape(title, quote=True)}" '
        f'style="max-width:{width:g}px"><title>{escape(title)}</title>'
    )


def _grid(low: float, high: float, y: _Scale, right: float = _WIDTH - 10) -> list[str]:
    parts = []
    for step in range(5):
        value = low + (high - low) * step / 4
        at = f"{y(value):.1f}"
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{at}" x2="{right:g}" y2="{at}"/>')
        parts.append(_text(_LEFT - 6, y(value) + 4, f"{value:.3g}", "end"))
    return parts


def _line(line: Line, x: _Place, y: _Scale) -> list[str]:
    parts = []
    for run in _runs(line.points):
        banded = [(index, low, high) for index, _, low, high in run if low is not None and high is not None]
        if banded:
            above = [f"{x(index):.1f},{y(high):.1f}" for index, _, high in banded]
            below = [f"{x(index):.1f},{y(low):.1f}" for index, low, _ in reversed(banded)]
            parts.append(f'<polygon class="band {line.style}" points="{" ".join(above + below)}"/>')
        points = " ".join(f"{x(index):.1f},{y(value):.1f}" for index, value, _, _ in run)
        parts.append(f'<polyline class="line {line.style}" points="{points}"/>')
        parts += [
            f'<circle class="{line.style}" cx="{x(index):.1f}" cy="{y(value):.1f}" r="2.5"/>'
            for index, value, _, _ in run
        ]
    return parts


def _runs(
    points: Sequence[tuple[float | None, float | None, float | None]],
) -> list[list[tuple[int, float, float | None, float | None]]]:
    """The stretches of neighbouring points that are known: a gap stays a gap."""
    found: list[list[tuple[int, float, float | None, float | None]]] = []
    last = -2
    for index, (value, low, high) in enumerate(points):
        if value is None or not math.isfinite(value):
            continue
        if index != last + 1:
            found.append([])
        found[-1].append((index, value, low, high))
        last = index
    return found


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
