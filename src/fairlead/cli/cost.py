"""The command of cost: what versions and callers have used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from fairlead.cli.shell import Command, Shell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from fairlead.client.cost import CostLine, CostReport

__all__ = ["cost", "per_thousand"]

_NAMES = {
    "unnamed": "[dim]no use case given[/]",
    "others": "[dim]all others[/]",
    "nobody": "[dim]nobody's: shadows, loads[/]",
}


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model", required=False)
@click.option(
    "--since", default="30d", show_default=True, metavar="TIME",
    help="A span such as 24h, or a time with an offset; the whole hour counts.",
)  # fmt: skip
@click.option(
    "--by", type=click.Choice(["version", "use-case"]), default="version", show_default=True,
    help="A line per version, or per caller by its use case.",
)  # fmt: skip
@click.pass_obj
def cost(shell: Shell, /, model: str | None, since: str, by: Literal["version", "use-case"]) -> None:
    """Show how much compute answers took, and what it cost.

    \b
      fairlead cost
      fairlead cost shop --since 7d --by use-case

    Prices are the setting `price_per_core_hour`, of the server or of a model.
    """
    found = shell.admin.cost(model, since=since, by=by)
    shell.show(found, *_shown(found))


def per_thousand(line: CostLine, currency: str) -> str:
    """Compute and cost of a thousand answers, in words; empty without an answer."""
    if line.seconds_per_thousand is None:
        return ""
    money = "" if line.cost_per_thousand is None else f", {_money(line.cost_per_thousand, currency)}"
    return f"{line.seconds_per_thousand:.3g} s{money}"


def _shown(found: CostReport) -> Iterator[RenderableType]:
    from rich.markup import escape

    from fairlead.cli.tables import facts, table, time_text

    if not found.lines:
        yield "[dim]Nothing was used.[/]"
    else:
        who = found.by.replace("-", " ")
        names = ["model", who, "answers", "computed", "compute", "of it loads", "cost", "per 1,000 answers"]
        rows = [
            [
                escape(line.model),
                _NAMES.get(line.shown) or escape(line.name or ""),
                f"{line.answers:,}",
                f"{line.computed:,}",
                f"{line.compute_seconds:,.3g} s",
                f"{line.load_seconds:,.3g} s",
                "" if line.cost is None else escape(_money(line.cost, found.currency)),
                escape(per_thousand(line, found.currency)),
            ]
            for line in found.lines
        ]
        priced = any(line.cost is not None for line in found.lines)
        listed = [index for index, name in enumerate(names) if priced or name != "cost"]
        yield table(
            [names[index] for index in listed],
            [[row[index] for index in listed] for row in rows],
            right=names[2:],
        )
    yield facts({"between": f"{time_text(found.start)} and {time_text(found.end)} UTC"})


def _money(amount: float, currency: str) -> str:
    return f"{amount:,.3g} {currency}".rstrip()
