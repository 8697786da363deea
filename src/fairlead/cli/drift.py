"""The command of drift: whether what comes is of the kind that the model was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fairlead.cli.shell import DONE, Command, Shell

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from fairlead.client.drift import DriftFound, DriftReport, SeparatedReport

__all__ = ["drift"]

_SIGNS = {
    "alarm": "[red]drifted[/]",
    "error": "[red]error[/]",
    "insufficient": "[yellow]unknown[/]",
    "ok": "[green]ok[/]",
}
"""What is not ok comes first, in this order."""
_ORDER = list(_SIGNS)
_MOST = 40


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model")
@click.option("--version", metavar="V", help="What answered; the version in production unless given.")
@click.option(
    "--against", metavar="WHAT",
    help="training (unless given), before (the seven days before), week-before (the same time a week "
    "before), or a version.",
)  # fmt: skip
@click.option(
    "--since", default="24h", show_default=True, metavar="TIME",
    help="A span such as 24h, or a time with an offset.",
)  # fmt: skip
@click.option(
    "--multivariate", is_flag=True,
    help="Ask a classifier whether it can tell rows apart by all fields together; against before unless "
    "given.",
)  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="Show every question of every field.")
@click.pass_obj
def drift(
    shell: Shell,
    /,
    model: str,
    version: str | None,
    against: str | None,
    since: str,
    multivariate: bool,
    everything: bool,
) -> int:
    """Show whether what comes is of the kind that the model was trained on.

    A field has drifted where that is beyond chance and enough rows hold something else. How often that may
    be wrong is a setting of the model, `drift_alarm_days`.

    \b
      fairlead drift shop
      fairlead drift shop --against before --since 1h
      fairlead drift shop --version v2 --against v1
      fairlead drift shop --multivariate
    """
    against = against or ("before" if multivariate else "training")
    asked: dict[str, Any] = {"version": version, "since": since, "against": against}
    if against not in ("training", "before", "week-before"):
        asked |= {"against": "version", "other": against}
    if multivariate:
        if against == "training":
            raise click.UsageError(
                "Training data are not kept as rows: give before, week-before or a version."
            )
        told = shell.admin.multivariate_drift(model, **asked)
        shell.show(told, *_told(told))
        return DONE
    found = shell.admin.drift(model, **asked)
    shell.show(found, *_shown(found, everything))
    return DONE


def _told(told: SeparatedReport) -> Iterator[RenderableType]:
    from rich.markup import escape

    from fairlead.cli.tables import facts, table, time_text

    found = told.found
    sign = {"alarm": "[red]✗[/]", "ok": "[green]✓[/]", "insufficient": "[yellow]?[/]"}[found.status]
    yield f"{sign} [bold]{escape(told.sentence)}[/]"
    if found.status == "alarm":
        rows = [[escape(name), f"{share:.0%}"] for name, share in found.leading]
        yield table(["what tells", "share"], rows, right=("share",))
    yield facts(
        {
            "version": told.version,
            "between": f"{time_text(told.start)} and {time_text(told.end)} UTC",
            "rows": f"{found.n:,}, beside {found.reference_n:,}",
            "p": None if found.p is None else f"{found.p:.2g} (an alarm up to {told.level:.2g})",
        }
    )


def _shown(found: DriftReport, everything: bool) -> Iterator[RenderableType]:
    from rich.markup import escape

    from fairlead.cli.tables import facts, table, time_text

    sign = "[red]✗[/]" if found.drifted else "[green]✓[/]"
    told = bool(found.found) and any(one.status == "ok" for one in found.found)
    yield f"{sign if told or found.drifted else '[yellow]?[/]'} [bold]{escape(found.sentence)}[/]"
    small = {} if everything else _too_small(found.found)
    shown = found.found if everything else _one_each(found.found)
    rows = sorted((one for one in shown if one.slice not in small), key=lambda one: _ORDER.index(one.status))
    names = ["", "field", "where", "measure", "moved (up to)", "psi", "p", "rows", "what changed"]
    listed = [name for name in names if _is_told(name, rows, everything)]
    if rows:
        cells = [_cells(one) for one in rows[: None if everything else _MOST]]
        figures = [name for name in ("moved (up to)", "psi", "p", "rows") if name in listed]
        yield table(listed, [[cell[name] for name in listed] for cell in cells], right=figures)
        if not everything and len(rows) > _MOST:
            yield f"[dim]{len(rows) - _MOST} more: --all[/]"
    if small:
        named = ", ".join(f"{escape(slice)} ({rows:,} rows)" for slice, rows in small.items())
        yield f"[dim]Too small to tell: {named}[/]"
    broken = [one for one in found.quality if one.seen or one.expected]
    for one in broken:
        yield f"{'[red]✗[/]' if one.status == 'alarm' else '·'} {escape(one.sentence)}"
    for note in found.notes:
        yield f"[yellow]![/] {escape(note)}"
    yield facts(
        {
            "version": found.version,
            "against": found.reference,
            "between": f"{time_text(found.start)} and {time_text(found.end)} UTC",
            "rows": f"{found.rows:,}, beside {found.reference_rows:,}",
            "an alarm": "moved by as much as is said in parentheses or more, beyond chance",
            "false alarms": f"one in {found.days:g} days at most (p up to {found.level:.2g} in one look)",
        }
    )


def _is_told(name: str, rows: Sequence[DriftFound], everything: bool) -> bool:
    """Whether a column has something to say: 80 characters are few."""
    match name:
        case "where":
            return any(one.slice for one in rows)
        case "measure":
            return everything or any(one.measure != "moved-share" for one in rows)
        case "p":
            return everything
        case "what changed":
            return any(one.status != "ok" for one in rows)
        case _:
            return True


def _too_small(found: Sequence[DriftFound]) -> dict[str, int]:
    """The slices of which nothing is known for want of rows, with how many there were at most."""
    known = {one.slice for one in found if one.status != "insufficient"}
    small: dict[str, int] = {}
    for one in found:
        if one.slice and one.slice not in known:
            small[one.slice] = max(one.n, small.get(one.slice, 0))
    return small


def _one_each(found: Sequence[DriftFound]) -> list[DriftFound]:
    """Of each field the question that says the most: an alarm, else the first."""
    chosen: dict[tuple[str, str], DriftFound] = {}
    for one in found:
        held = chosen.get((one.slice, one.subject))
        if held is None or (one.status == "alarm" and held.status != "alarm"):
            chosen[one.slice, one.subject] = one
    return list(chosen.values())


def _cells(one: DriftFound) -> dict[str, str]:
    from rich.markup import escape

    from fairlead.cli.tables import percent

    changed = ", ".join(one.changes)
    if one.expected is not None and one.seen is not None:
        changed = f"{percent(100 * one.expected)} → {percent(100 * one.seen)}"
    # A small change of a field that is well is no news.
    told = escape(changed or one.sentence) if one.status == "alarm" else ""
    if one.status in ("error", "insufficient"):
        told = escape(one.sentence)
    psi = one.distances.get("psi")
    moved = ""
    if one.effect is not None and one.threshold is not None:
        moved = f"{percent(100 * one.effect)} ({percent(100 * one.threshold)})"
    return {
        "": _SIGNS[one.status],
        "field": escape(one.subject),
        "where": escape(one.slice),
        "measure": one.measure.replace("-", " "),
        "moved (up to)": moved,
        "psi": "" if psi is None else f"{psi:.3f}",
        "p": "" if one.p is None else f"{one.p:.1g}",
        "rows": f"{one.n:,}" if one.n else "",
        "what changed": told,
    }
