"""What the demo prints: headings, sentences, and tables of computed figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from fairlead.demo.figures import Z95, ArmFigures
from fairlead.experiments.aggregates import Proportion
from fairlead.experiments.fixed import wilson

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
        quality = {
            "asked": [f"{arm.rows:,}" for arm in figures],
            "predicted": [_percent(arm.positives, arm.rows) for arm in figures],
            "came back (95 %)": [_came_back(arm) for arm in figures],
            "Brier score": [_brier(arm) for arm in figures],
        }
        service = {
            "flagged": [_percent(arm.flagged, arm.rows) for arm in figures],
            "cached": [_percent(arm.cached, arm.rows) for arm in figures],
            "p50": [f"{arm.p50_ms:.2f} ms" for arm in figures],
            "p99": [f"{arm.p99_ms:.2f} ms" for arm in figures],
        }
        # A narrow terminal gets two tables rather than one of broken words.
        for columns in [quality | service] if self.console.width >= 106 else [quality, service]:
            table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
            table.add_column("arm")
            table.add_column("version")
            for name in columns:
                table.add_column(name, justify="right", no_wrap=True)
            for index, arm in enumerate(figures):
                table.add_row(arm.arm, arm.version, *(cells[index] for cells in columns.values()))
            self.console.print(Padding(table, (0, 0, 0, 2)))


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def _came_back(arm: ArmFigures) -> str:
    if not arm.positives:
        return "–"
    share = wilson(Proportion(arm.positives, arm.hits))
    return f"{100 * arm.precision:.1f} % ({100 * share.low:.0f}–{100 * share.high:.0f})"


def _brier(arm: ArmFigures) -> str:
    return f"{arm.brier:.4f} ± {Z95 * math.sqrt(arm.variance):.4f}" if arm.labels > 1 else "–"
