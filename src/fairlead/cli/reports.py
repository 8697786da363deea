"""Parts that reports of shadows and of replays share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import RenderableType
from rich.markup import escape

from fairlead.cli.tables import percent, table
from fairlead.client.registered import ShadowConfusion, ShadowLatency, ShadowSegment

__all__ = ["confusion_table", "counts_text", "latency_text", "segment_table"]


def counts_text(counts: Mapping[str, int]) -> str | None:
    """Names with their numbers, as in `v1 1,200, v2 30`; None where there are none."""
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())) or None


def latency_text(latency: ShadowLatency | None) -> str | None:
    """The quantiles in milliseconds."""
    if latency is None:
        return None
    parts = {"p50": latency.p50_ms, "p95": latency.p95_ms, "p99": latency.p99_ms}
    return ", ".join(f"{name} {value:.3g} ms" for name, value in parts.items() if value is not None)


def confusion_table(pairs: Iterable[ShadowConfusion], columns: Sequence[str]) -> RenderableType:
    """How many rows were answered so and by the other version so."""
    rows = [[escape(pair.answered), escape(pair.shadow), f"{pair.rows:,}"] for pair in pairs]
    return table(columns, rows, right=("rows",))


def segment_table(segments: Iterable[ShadowSegment]) -> RenderableType:
    """In which segments rows differ."""
    rows = [
        [escape(one.feature), escape(one.value), f"{one.rows:,}", percent(100 * one.share)]
        for one in segments
    ]
    return table(("feature", "value", "rows", "different"), rows, right=("rows", "different"))
