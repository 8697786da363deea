"""The command that shows a shadow beside what was answered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
from rich.console import RenderableType
from rich.markup import escape

from fairlead.cli.reports import confusion_table, counts_text, latency_text, segment_table
from fairlead.cli.shell import Command, Shell
from fairlead.cli.tables import facts, percent, table, time_text
from fairlead.client.registered import ShadowReport

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

    \b
      fairlead shadow shop --version v2

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
        "errors of answers": counts_text(found.answered_errors),
        "errors of the shadow": counts_text(found.shadow_errors),
        "latency of answers": latency_text(found.answered_latency),
        "latency of the shadow's runs": latency_text(found.shadow_latency),
        "between": f"{time_text(found.start)} and {time_text(found.end)} UTC",
    }  # fmt: skip


def _tables(found: ShadowReport) -> list[RenderableType]:
    shown: list[RenderableType] = []
    if found.confusion:
        shown.append(confusion_table(found.confusion, ("answered", "shadow", "rows")))
    if found.segments:
        shown.append(segment_table(found.segments))
    if found.most_different:
        rows = [[escape(one.unit), f"{one.rows:,}", f"{one.different:,}"] for one in found.most_different]
        shown.append(table(("unit", "rows", "different"), rows, right=("rows", "different")))
    return shown
