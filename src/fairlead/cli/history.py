"""Commands that look back: audit, stages, who was in production, how a version has answered."""

from __future__ import annotations

import re
from datetime import datetime

import click
from rich.console import RenderableType
from rich.markup import escape

from fairlead.cli.cost import per_thousand
from fairlead.cli.moments import moment
from fairlead.cli.shell import Command, Shell
from fairlead.cli.tables import facts, percent, stage_text, table, time_text
from fairlead.client.registered import AuditEntry, Window

__all__ = ["audit", "metrics", "production", "stages"]


def _window(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,5}[smhd]", value):
        raise click.BadParameter(f"{value!r} is no span of time, as in 15m, 24h or 7d.")
    return value


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model", required=False)
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=30, show_default=True, metavar="N", help="How many."
)
@click.pass_obj
def audit(shell: Shell, /, model: str | None, limit: int) -> None:
    """Show who changed what, when and why.

    \b
      fairlead audit shop

    The newest change comes first; of one model, or of all.
    """
    entries = shell.admin.audit(model, limit=limit)
    rows = [
        [
            time_text(entry.at),
            escape(entry.who),
            f"[bold]{escape(entry.action)}[/]",
            entry.model or "",
            _change(entry),
        ]
        for entry in entries
    ]
    shown = table(("when (UTC)", "who", "what", "model", "how and why"), rows)
    shell.show(entries, shown if rows else "[dim]Nothing was changed yet.[/]")


def _change(entry: AuditEntry) -> str:
    """What an entry changed in a few words, and why if somebody said so."""
    to = entry.details.get("to")
    match entry.action:
        case "deploy" | "traffic" | "promote" | "rollback" if isinstance(to, dict):
            how = ", ".join(f"{version} {percent(weight)}" for version, weight in to.items())
        case "alias":
            how = f"{entry.details.get('alias')} → {entry.version or 'nothing'}"
        case "configure" if isinstance(to, dict):
            how = ", ".join(f"{name}={value}" for name, value in to.items()) or "defaults"
            how = f"{entry.version}: {how}" if entry.version else how
        case "stage":
            how = f"{entry.version} → {to}"
        case _:
            how = entry.version or ""
    why = f"[dim]{escape(entry.why)}[/]" if entry.why else ""
    return "  ".join(part for part in (escape(how), why) if part)


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model")
@click.option("--version", metavar="V", help="Of this version alone.")
@click.pass_obj
def stages(shell: Shell, /, model: str, version: str | None) -> None:
    """Show how the versions of a model came to their stages.

    \b
      fairlead stages shop
    """
    changes = [change for change in shell.admin.stages(model) if version in (None, change.version)]
    rows: list[list[RenderableType]] = [
        [
            time_text(change.at),
            f"[bold]{change.version}[/]",
            stage_text(change.from_stage),
            stage_text(change.to_stage),
            "" if change.generation is None else str(change.generation),
            escape(change.who),
            escape(change.why),
        ]
        for change in changes
    ]
    shell.show(changes, table(("when (UTC)", "version", "from", "to", "generation", "who", "why"), rows))


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model")
@click.option("--at", callback=moment, metavar="TIME", help="The moment; now when it is left out.")
@click.pass_obj
def production(shell: Shell, /, model: str, at: datetime) -> None:
    """Say which version was in production at a moment.

    \b
      fairlead production shop --at 2026-11-01T12:00
    """
    version = shell.admin.production_at(model, at)
    said = f"[bold]{version}[/]" if version else "[dim]none[/]"
    shell.show({"model": model, "at": at, "version": version}, said)


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model")
@click.argument("version")
@click.option(
    "--window", callback=_window, default="24h", show_default=True, metavar="SPAN", help="How far back."
)
@click.pass_obj
def metrics(shell: Shell, /, model: str, version: str, window: str) -> None:
    """Show how a version has answered lately.

    \b
      fairlead metrics shop v2 --window 24h
    """
    found = shell.admin.metrics(model, version, window=window)
    told = {
        "answers": f"{found.count:,} ({found.ok:,} ok, {found.rejected:,} rejected, {found.failed:,} failed)",
        "rate": f"{found.rate:.3g} per second",
        "errors": _share(found.error_rate),
        "cache hits": _share(found.cache_hit_rate),
        "latency": _latency(found),
        "compute": _compute(shell, model, version, window),
        "between": f"{time_text(found.start)} and {time_text(found.end)} UTC",
    }
    shell.show(found, facts(told))


def _share(value: float | None) -> str | None:
    return None if value is None else percent(100 * value)


def _compute(shell: Shell, model: str, version: str, window: str) -> str | None:
    """What a thousand answers took; of whole hours, the one in which the window begins included."""
    report = shell.admin.cost(model, since=window)
    took = [per_thousand(line, report.currency) for line in report.lines if line.name == version]
    return f"{escape(took[0])} per 1,000 answers" if took and took[0] else None


def _latency(found: Window) -> str | None:
    parts = {"p50": found.p50_ms, "p95": found.p95_ms, "p99": found.p99_ms, "max": found.max_ms}
    return ", ".join(f"{name} {value:.3g} ms" for name, value in parts.items() if value is not None) or None
