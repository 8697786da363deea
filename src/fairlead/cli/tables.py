"""The few forms in which commands print things: tables, lists of facts, times, percentages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich import box
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

__all__ = ["ago", "facts", "percent", "proof_text", "stage_text", "table", "time_text"]

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
) -> Table:
    """A plain table; columns named in `right` are aligned to the right. Texts are rich markup."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for name in columns:
        made.add_column(escape(name), justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def facts(values: Mapping[str, Any]) -> Table:
    """Names and values below each other; what is not there is left out."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim")
    made.add_column(overflow="fold")
    for name, value in values.items():
        if value is None or value == {} or value == ():
            continue
        made.add_row(
            escape(name.replace("_", " ")), value if isinstance(value, Text) else escape(_plain(value))
        )
    return made


def stage_text(stage: str) -> Text:
    """A stage in its colour."""
    return Text(stage, style=_STAGE_STYLES.get(stage, ""))


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
