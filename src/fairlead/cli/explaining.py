"""The commands that say why: of one request, and of a version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fairlead.cli.shell import DONE, Command, Shell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from fairlead.client.explanations import Explanation, ImportanceReport, Part

__all__ = ["explain", "importance"]

_MOST = 12


@click.command(cls=Command, talks_to=("admin",))
@click.argument("request_id", metavar="REQUEST_ID")
@click.option("--row", type=click.IntRange(0), metavar="N", help="Which row, where there are several.")
@click.option("--all", "everything", is_flag=True, help="Show every feature.")
@click.pass_obj
def explain(shell: Shell, /, request_id: str, row: int | None, everything: bool) -> int:
    """Explain a logged request: how much each feature moved the answer.

    The version that answered is asked for mixtures of the row with rows like its training data. What is found
    is kept, so that who asks again gets the same.

    \b
      fairlead explain 0192f0c1-6a52-7b3e-8a94-0d2f5f3f9d11
      fairlead explain nightly-batch --row 17
    """
    found = shell.admin.explain(request_id, row=row)
    shell.show(found, *_shown(found, everything))
    return DONE


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model")
@click.option("--version", metavar="V", help="Which one; the version in production unless given.")
@click.option(
    "--since", default="24h", show_default=True, metavar="TIME",
    help="A span such as 24h, or a time with an offset.",
)  # fmt: skip
@click.pass_obj
def importance(shell: Shell, /, model: str, version: str | None, since: str) -> int:
    """Show which features a version goes by, on its training data and in traffic.

    \b
      fairlead importance shop
      fairlead importance shop --version v2 --since 7d
    """
    found = shell.admin.importance(model, version=version, since=since)
    shell.show(found, *_leaning(found))
    return DONE


def _leaning(found: ImportanceReport) -> Iterator[RenderableType]:
    from rich.markup import escape

    from fairlead.cli.tables import facts, table, time_text

    sign = {"alarm": "[red]✗[/]", "ok": "[green]✓[/]", "insufficient": "[yellow]?[/]"}[found.status]
    yield f"{sign} [bold]{escape(found.sentence)}[/]"
    before = found.reference.features if found.reference else {}
    now = found.live.features if found.live else {}
    moved = {one.feature: f"{one.low:+.1%} to {one.high:+.1%}" for one in found.changes}
    shares = before or now
    names = sorted(shares, key=lambda name: -shares[name].share)
    rows = [
        [
            escape(name),
            f"{before[name].share:.1%}" if name in before else "",
            f"{now[name].share:.1%}" if name in now else "",
            moved.get(name, ""),
        ]
        for name in names
    ]
    if rows:
        columns = ("feature", "on training data", "in traffic", "changed by")
        yield table(columns, rows, right=("on training data", "in traffic"))
    yield facts(
        {
            "version": found.version,
            "between": f"{time_text(found.start)} and {time_text(found.end)} UTC",
            "rows": None
            if found.live is None
            else f"{found.live.rows}" + (f", {found.live.failed} not explained" if found.live.failed else ""),
            "ranking": None if found.ndcg is None else f"nDCG {found.ndcg:.3f} (an alarm below 0.9)",
        }
    )


def _shown(found: Explanation, everything: bool) -> Iterator[RenderableType]:
    from rich.markup import escape

    from fairlead.cli.tables import facts, table, time_text

    yield f"[bold]{escape(found.sentence)}[/]"
    shown = found.features if everything else found.features[:_MOST]
    rows = [
        [escape(part.feature), escape(_value(part)), f"{part.contribution:+.3g}", _range(part)]
        for part in shown
    ]
    yield table(("feature", "value", "contribution", "95 %"), rows, right=("contribution",))
    if len(shown) < len(found.features):
        yield f"[dim]{len(found.features) - len(shown)} more: --all[/]"
    if not found.agrees:
        yield "[yellow]![/] The model answers otherwise now than it did; this explains what it says now."
    yield facts(
        {
            "model": f"{found.model} {found.version}",
            "at": time_text(found.at) + " UTC",
            "answer": str(found.prediction),
            "explains": found.explains,
            "compared with": f"{found.background_rows} rows of {found.background}",
            "left out": f"{found.failed} rows that the model takes no mixture with" if found.failed else None,
            "explained": time_text(found.explained_at) + " UTC",
        }
    )


def _value(part: Part) -> str:
    text = "null" if part.value is None else str(part.value)
    return text if len(text) <= 40 else text[:39] + "…"


def _range(part: Part) -> str:
    if part.low is None or part.high is None:
        return "not known"
    return "exact" if part.low == part.high else f"{part.low:+.3g} to {part.high:+.3g}"
