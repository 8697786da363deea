"""The command of reports: how a version did, in a table, a page or every number."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fairlead.cli.moments import moment
from fairlead.cli.shell import DONE, Command, Shell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from fairlead.client.performance import VersionReport

__all__ = ["report"]

_SIGNS = {
    "alarm": "[red]alarm[/]",
    "ok": "[green]ok[/]",
    "insufficient": "[dim]too little[/]",
    "error": "[red]error[/]",
}
_MOST = 40
_PLACES = 10


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model")
@click.option("--version", metavar="V", help="A version or an alias; the one in production unless given.")
@click.option(
    "--from", "since", default="7d", show_default=True, metavar="TIME",
    help="The beginning: a span such as 24h before the end, or a time with an offset.",
)  # fmt: skip
@click.option("--to", "until", callback=moment, metavar="TIME", help="The end.  [default: now]")
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a page there."
)
@click.pass_obj
def report(
    shell: Shell, /, model: str, version: str | None, since: str, until: datetime, html: Path | None
) -> int:
    """Show how a version did: by its labels, and estimated without them.

    \b
      fairlead report shop
      fairlead report shop --from 2026-11-01T00:00Z --to 2026-11-08T00:00Z --html week.html

    Accuracy or errors with their intervals, calibration, drift of every field, slices, fairness, and how many
    labels have come. The page needs nothing else; --json has every number.
    """
    found = shell.admin.report(model, version=version, since=since, until=until)
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        text = shell.admin.report_page(model, version=found.version, since=since, until=until)
        html.write_text(text, "utf-8")
        shell.note(f"Wrote {html}.")
    shell.show(found, *_shown(found))
    return DONE


def _shown(found: VersionReport) -> Iterator[RenderableType]:
    from rich.markup import escape

    from fairlead.cli.tables import facts, table, time_text

    sign = "[red]✗[/]" if found.alarms else "[green]✓[/]"
    yield f"{sign} {escape(found.sentence)}"
    held = found.performance
    rate = held["join_rate"]
    yield facts(
        {
            "version": found.version,
            "from": f"{time_text(found.start)} to {time_text(found.end)} UTC",
            "answers": f"{held['answers']:,}, {held['labelled']:,} with a label",
            "label join rate": None if rate is None else f"{rate:.1%}",
            **_covered(held["uncertainty"]),
            "clicks by place": _clicks(held["clicks"]),
        }
    )
    figures = {one["name"]: one for one in held["figures"]}
    guesses = {one["name"]: one for one in held["estimates"]}
    names = list(dict.fromkeys([*figures, *guesses]))
    if names:
        told = [[escape(name), _ranged(figures.get(name)), _ranged(guesses.get(name))] for name in names]
        yield table(
            ("figure", "by labels", "estimated without"), told, right=("by labels", "estimated without")
        )
    rows = [
        [_SIGNS[one.status], one.kind, escape(one.subject), escape(one.slice), escape(one.sentence)]
        for one in [one for one in found.findings if one.status != "ok"][:_MOST]
    ]
    if rows:
        yield table(("", "kind", "of", "slice", "found"), rows)
    if (more := len(found.findings) - len(rows)) > 0:
        yield f"[dim]{more} more in --json and --html; those that are well are not listed here.[/]"


def _covered(held: dict[str, Any] | None) -> dict[str, str]:
    """How often labels lay within what was said of answers, beside what was promised."""
    if held is None:
        return {}
    name = "intervals" if held["kind"] == "interval" else "sets"
    seen = held["observed"]
    found = "no label yet" if seen is None else f"{seen['value']:.1%} of {seen['n']:,} labels lay within"
    return {name: f"{found}, {held['promised']:.0%} promised"}


def _clicks(held: list[dict[str, Any]]) -> str | None:
    """Where in rankings the right item stood: the first places."""
    return ", ".join(f"{one['value']:.1%}" for one in held[:_PLACES]) or None


def _ranged(one: dict[str, Any] | None) -> str:
    if one is None:
        return "–"
    if one["low"] is None or one["high"] is None:
        return f"{one['value']:.4g}"
    return f"{one['value']:.4g} ({one['low']:.4g} to {one['high']:.4g})"
