"""The few forms in which commands print things: tables, lists of facts, times, percentages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

__all__ = ["ago", "facts", "percent", "proof_text", "stage_text", "sureness_text", "table", "time_text"]

_GAP = 3  # between two columns
_LONG_TEXT, _LONG_WORD = 40, 16
_UNBOUNDED = 100_000
_STAGE_STYLES = {
    "production": "bold green",
    "canary": "bold yellow",
    "shadow": "magenta",
    "staging": "cyan",
    "archived": "dim",
    "none": "dim",
}


def table(
    columns: Sequence[str], rows: Iterable[Sequence[RenderableType]], *, right: Iterable[str] = ()
) -> RenderableType:
    """A plain table; columns named in `right` are aligned to the right. Texts are rich markup.

    Words and names stay whole: the widest columns are folded between words first, and where a terminal is too
    narrow even for that, each row becomes a list of facts.
    """
    return _Fitted(tuple(columns), [tuple(row) for row in rows], frozenset(right))


class _Fitted:
    """A table that asks how wide the terminal is when it is printed."""

    def __init__(
        self, columns: tuple[str, ...], rows: list[tuple[RenderableType, ...]], right: frozenset[str]
    ) -> None:
        self._columns, self._rows, self._right = columns, rows, right

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        needs = [self._need(console, options, index) for index in range(len(self._columns))]
        widths = _share_out(needs, options.max_width - _GAP * (len(needs) - 1))
        if widths is None and self._rows:
            for number, row in enumerate(self._rows):
                if number:
                    yield ""
                yield _facts(zip(self._columns, row, strict=True))
            return
        made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
        for name, width in zip(self._columns, widths or [least for least, _ in needs], strict=True):
            justify: Literal["right", "left"] = "right" if name in self._right else "left"
            made.add_column(escape(name), justify=justify, overflow="fold", width=width)
        for row in self._rows:
            made.add_row(*row)
        yield made

    def _need(self, console: Console, options: ConsoleOptions, index: int) -> tuple[int, int]:
        """Width of a column's longest word, and of its longest cell."""
        # Measured without bounds: what does not fit is what this is about.
        wide = options.update(width=_UNBOUNDED)
        cells: list[RenderableType] = [escape(self._columns[index]), *(row[index] for row in self._rows)]
        found = [Measurement.get(console, wide, cell) for cell in cells]
        word, cell = max(one.minimum for one in found), max(one.maximum for one in found)
        # A long text may hold a long word, such as a digest: it is folded.
        return (min(word, _LONG_WORD), cell) if cell > _LONG_TEXT else (word, cell)


def _share_out(needs: Sequence[tuple[int, int]], room: int) -> list[int] | None:
    """Widths between the least and the most that columns need, together within `room`; None if that is too
    little. Those that need little more than their least get it first, so that only long texts are folded."""
    widths = [least for least, _ in needs]
    left = room - sum(widths)
    if left < 0:
        return None
    for index in sorted(range(len(needs)), key=lambda index: needs[index][1] - needs[index][0]):
        more = min(left, needs[index][1] - needs[index][0])
        widths[index] += more
        left -= more
    return widths


def facts(values: Mapping[str, Any]) -> Table:
    """Names and values below each other; what is not there is left out."""
    return _facts(
        (name.replace("_", " "), value if isinstance(value, Text) else escape(_plain(value)))
        for name, value in values.items()
        if not (value is None or value == {} or value == ())
    )


def _facts(values: Iterable[tuple[str, RenderableType]]) -> Table:
    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim")
    made.add_column(overflow="fold")
    for name, value in values:
        made.add_row(escape(name), value)
    return made


def stage_text(stage: str) -> Text:
    """A stage in its colour."""
    return Text(stage, style=_STAGE_STYLES.get(stage, ""))


def sureness_text(spec: Mapping[str, Any]) -> str | None:
    """What a version says of its answers, how far that reaches, and on what it rests; None for nothing."""
    said = spec.get("uncertainty")
    if said is None:
        return None
    kind, reach = "sets", f"of classes from {1.0 - said['quantile']:.2%} on"
    if said["kind"] == "interval":
        kind, reach = "intervals", f"± {said['quantile']:.4g}"
    text = f"{kind} {reach}, to hold {said['coverage']:.0%} of labels, on {said['n']:,} rows"
    if said["optimistic"]:
        text += " that the model may have learnt"
    if spec.get("settings", {}).get("adaptive_coverage"):
        text += "; they follow the labels"
    return text


def proof_text(proof: Mapping[str, Any] | None) -> str | None:
    """How a conversion was proven, in one line."""
    if proof is None:
        return None
    return f"{proof['rows']:,} rows through original and ONNX, within {proof['max_difference']:.1g}"


def percent(share: float) -> str:
    """A percentage with as many digits as it needs: 5 %, 12.5 %, 0.01 %."""
    return f"{share:.2f}".rstrip("0").rstrip(".") + " %"


def time_text(at: datetime) -> str:
    """A time in UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def ago(at: datetime, now: datetime) -> str:
    """How long ago that was, in the largest unit that says something."""
    seconds = max(0, int((now - at).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def _plain(value: Any) -> str:
    match value:
        case str():
            return value
        case datetime():
            return f"{time_text(value)} UTC"
        case float():
            return f"{value:g}"
        case list() | tuple() if all(isinstance(item, str) for item in value):
            return ", ".join(value)
        case _:
            return msgspec.json.encode(value).decode()
