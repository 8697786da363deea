"""What the demo prints: headings, sentences, and tables of computed figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from fairlead.demo.figures import Z95, ArmFigures, wilson

__all__ = ["Screen"]


class Screen:
    """The demo's voice. Steps that hold get a tick, steps that do not get a cross and are remembered."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self.broken: list[str] = []
        self._act = 0

    def title(self, text: str, below: str) -> None:
        """The opening panel."""
        self.console.print(Panel(below, title=f"[bold]{text}[/]", title_align="left", padding=(0, 1)))

    def act(self, text: str) -> None:
        """A new act of the story."""
        self._act += 1
        self.console.print()
        self.console.rule(f"[bold cyan]{self._act}. {text}[/]", align="left")

    def say(self, text: str) -> None:
        """A sentence of the story."""
        self.console.print(text)

    def holds(self, what: str, holds: bool) -> None:
        """A step's result: shown, and remembered when it does not hold."""
        mark = "[green]✓[/]" if holds else "[bold red]✗[/]"
        self.console.print(f"  {mark} {what}")
        if not holds:
            self.broken.append(what)

    @contextmanager
    def progress(self, text: str, total: int) -> Iterator[Progress]:
        """A bar for a replay; leaves nothing behind."""
        bar = Progress(
            TextColumn("  {task.description}"),
            BarColumn(30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        )
        with bar:
            bar.add_task(text, total=total)
            yield bar

    def arms(self, figures: Sequence[ArmFigures]) -> None:
        """One row per arm: its share of the work, quality against known outcomes, latency, cache, flags."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for name in ("arm", "version"):
            table.add_column(name)
        for name in ("asked", "predicted", "came back (95 %)", "Brier", "flagged", "cached", "p50", "p99"):
            table.add_column(name, justify="right")
        for arm in figures:
            low, high = wilson(arm.hits, arm.positives)
            table.add_row(
                arm.arm,
                arm.version,
                f"{arm.rows:,}",
                f"{_percent(arm.positives, arm.rows)}",
                _interval(arm.precision, low, high) if arm.positives else "–",
                f"{arm.brier:.4f} ± {Z95 * math.sqrt(arm.variance):.4f}" if arm.labels > 1 else "–",
                _percent(arm.flagged, arm.rows),
                _percent(arm.cached, arm.rows),
                f"{arm.p50_ms:.2f} ms",
                f"{arm.p99_ms:.2f} ms",
            )
        self.console.print(table)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def _interval(share: float, low: float, high: float) -> str:
    return f"{100 * share:.1f} % ({100 * low:.0f}–{100 * high:.0f})"
