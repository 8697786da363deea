"""How a judgement looks on the terminal: a row of numbers per metric, and a sentence where there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

__all__ = ["verdicts"]

# Does no worse, does worse, cannot be told yet, too little was seen.
_SIGNS = {
    "pass": "[green]✓[/]",
    "fail": "[red]✗[/]",
    "inconclusive": "[yellow]?[/]",
    "no-data": "[dim]…[/]",
}
_COLUMNS = ("", "metric", "candidate", "control", "change (surely within)", "borne", "limit")


def verdicts(judgement: dict[str, Any] | None) -> Iterator[RenderableType]:
    """What is known of each metric: its numbers as a table (pp are percentage points); then, in words, what
    has none, what fails, and what is waited for. Metrics of which the same is said stand together."""
    from rich.markup import escape
    from rich.padding import Padding
    from rich.table import Table

    from fairlead.cli.tables import table

    if judgement is None:
        return
    counted = [found for found in judgement["verdicts"] if found.get("canary") is not None or "low" in found]
    measured = [found for found in counted if found["result"] not in ("no-data", "error")]
    if measured:
        yield Padding(table(_COLUMNS, [_row(found) for found in measured], right=_COLUMNS[2:]), (0, 0, 0, 2))
    lines = Table.grid(padding=(0, 1))
    lines.add_column(no_wrap=True)
    lines.add_column(overflow="fold")
    said: dict[tuple[str, str], list[str]] = {}
    for found in judgement["verdicts"]:
        if found not in measured or found["result"] == "fail":
            said.setdefault((found["result"], found["sentence"]), []).append(found["metric"])
    for (result, sentence), names in said.items():
        # Most sentences begin with the name of their metric.
        about = "" if sentence.startswith(names[0]) else f"{', '.join(names)}: "
        lines.add_row(_sign(result), escape(about + sentence))
    for waiting in judgement["waiting"]:
        lines.add_row("[dim]…[/]", escape(waiting))
    if lines.rows:
        yield Padding(lines, (0, 0, 0, 2))


def _row(found: dict[str, Any]) -> list[str]:
    unit, relative = found.get("unit", ""), bool(found.get("relative"))
    canary, control, limit = found.get("canary"), found.get("control"), found.get("limit")
    estimate, low, high = (found.get(name) for name in ("estimate", "low", "high"))
    measure = "%" if relative else {"share": "pp", "seconds": "ms"}.get(unit, "")
    scale = 100.0 if relative or unit == "share" else 1000.0 if unit == "seconds" else 1.0
    own = estimate is None and control is None and canary is not None
    change = borne = ""
    if own and low is not None and high is not None:  # what lies between them is the candidate's own value
        change = f"{scale * low:.3g} … {scale * high:.3g} %"
    elif estimate is not None or low is not None or high is not None:
        least = "−∞" if low is None else f"{scale * low:+.3g}"
        most = "∞" if high is None else f"{scale * high:+.3g}"
        known = "" if estimate is None else f"{scale * estimate:+.3g} "
        change = f"{known}({least} … {most}) {measure}".rstrip()
    if not own or limit is None:
        borne = f"{scale * found.get('margin', 0.0):.3g} {measure}".rstrip()
    return [
        _sign(found["result"]),
        found["metric"],
        _value(canary, unit),
        _value(control, unit),
        change,
        borne,
        _value(limit, unit),
    ]


def _sign(result: str) -> str:
    return _SIGNS.get(result, "[dim]·[/]")


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    if unit == "seconds":
        return f"{1000 * value:.3g} ms"
    return f"{100 * value:.3g} %" if unit == "share" else f"{value:.4g}"
