"""The command that shows a shadow beside what was answered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
from rich.console import RenderableType
from rich.markup import escape

from fairlead.cli.shell import Command, Shell
from fairlead.cli.tables import facts, percent, table, time_text
from fairlead.client.registered import ShadowLatency, ShadowReport

__all__ = ["shadow"]


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model")
@click.option("--version", metavar="V", help="The shadow; else the one that got copies last.")
@click.option(
    "--hours", type=click.FloatRange(0, 24 * 366, min_open=True), default=24.0, show_default=True,
    metavar="N", help="How far back.",
)  # fmt: skip
@click.pass_obj
def shadow(shell: Shell, /, model: str, version: str | None, hours: float) -> None:
    """Show what a shadow would have answered, and on whom it differs.

    Each copy is compared with the answer that its caller got.
    """
    until = datetime.now(UTC)
    found = shell.admin.shadow(model, until - timedelta(hours=hours), until, version=version)
    if not found.rows:
        shell.show(found, f"[dim]No copies of {escape(model)} in the last {hours:g} hours.[/]")
        return
    shell.show(found, facts(_told(found)), *_tables(found))


def _told(found: ShadowReport) -> dict[str, str | None]:
    difference = found.difference
    return {
        "shadow": found.version,
        "against": ", ".join(f"{version} ({rows:,})" for version, rows in sorted(found.against.items())),
        "copies": f"{found.rows:,}, of which {found.compared:,} can be compared",
        "different": None if found.share is None else f"{found.different:,} ({percent(100 * found.share)})",
        "units": f"{found.units_different:,} of {found.units:,} would be answered otherwise",
        "difference": None if difference is None else (
            f"mean {difference.mean:.3g}, absolute mean {difference.mean_absolute:.3g}, "
            f"p95 {difference.p95_absolute:.3g}, max {difference.max_absolute:.3g}"
        ),
        "errors of answers": _errors(found.answered_errors),
        "errors of the shadow": _errors(found.shadow_errors),
        "latency of answers": _latency(found.answered_latency),
        "latency of the shadow's runs": _latency(found.shadow_latency),
        "between": f"{time_text(found.start)} and {time_text(found.end)} UTC",
    }  # fmt: skip


def _errors(codes: dict[str, int]) -> str | None:
    return ", ".join(f"{code} {count:,}" for code, count in sorted(codes.items())) or None


def _latency(latency: ShadowLatency | None) -> str | None:
    if latency is None:
        return None
    parts = {"p50": latency.p50_ms, "p95": latency.p95_ms, "p99": latency.p99_ms}
    return ", ".join(f"{name} {value:.3g} ms" for name, value in parts.items() if value is not None)


def _tables(found: ShadowReport) -> list[RenderableType]:
    shown: list[RenderableType] = []
    if found.confusion:
        rows = [[escape(pair.answered), escape(pair.shadow), f"{pair.rows:,}"] for pair in found.confusion]
        shown.append(table(("answered", "shadow", "rows"), rows, right=("rows",)))
    if found.segments:
        rows = [
            [escape(one.feature), escape(one.value), f"{one.rows:,}", percent(100 * one.share)]
            for one in found.segments
        ]
        shown.append(table(("feature", "value", "rows", "different"), rows, right=("rows", "different")))
    if found.most_different:
        rows = [[escape(one.unit), f"{one.rows:,}", f"{one.different:,}"] for one in found.most_different]
        shown.append(table(("unit", "rows", "different"), rows, right=("rows", "different")))
    return shown
