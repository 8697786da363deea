"""Commands that let control read outcomes from somebody else's database."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from fairlead.cli.shell import Shell

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fairlead.client.syncs import OutcomeSyncState

__all__ = ["sync_command", "syncs_command"]

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def _seconds(context: click.Context, parameter: click.Parameter, value: str) -> float:
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no span of time such as 15m or 1h.", ctx=context)
    return float(int(found[1]) * _SECONDS[found[2]])


@click.argument("name", required=False)
@click.option("--model", metavar="M", help="The model that the outcomes are about.")
@click.option("--sql", metavar="SELECT", help="The query: unit or request_id, metric, value, at, outcome_id.")
@click.option("--every", default="15m", show_default=True, callback=_seconds, help="How often.")
@click.option(
    "--overlap", default="10m", show_default=True, callback=_seconds, help="How far back rows may come late."
)
@click.option("--url-env", metavar="VAR", help="Variable of control's environment with the database's URL.")
@click.option("--url-file", metavar="FILE", help="File on control's machine with the database's URL.")
@click.option("--once", is_flag=True, help="Run it now, too; alone it runs a sync that is there.")
@click.option("--remove", is_flag=True, help="Take the sync away; its outcomes stay.")
@click.pass_obj
def sync_command(
    shell: Shell,
    /,
    name: str | None,
    model: str | None,
    sql: str | None,
    every: float,
    overlap: float,
    url_env: str | None,
    url_file: str | None,
    once: bool,
    remove: bool,
) -> None:
    """Read outcomes from the shop's own database, again and again.

    The query answers unit or request_id, metric, value and at, and if wanted outcome_id, row and mode.
    Control runs it, and reads only. NAME is the model unless given.

    \b
      fairlead outcomes sync --model shop --every 15m --url-env SHOP_DATABASE_URL --sql \\
        "SELECT customer AS unit, 'sale' AS metric, total AS value, paid_at AS at FROM orders"
    """
    chosen = name or model
    if chosen is None:
        raise click.UsageError("Give --model and --sql to make a sync, or the name of one that is there.")
    if remove:
        gone = shell.admin.remove_sync(chosen)
        shell.show(gone, f"[green]✓[/] Sync {chosen} is gone; its {gone.accepted:,} outcomes stay.")
        return
    if sql is not None:
        if model is None:
            raise click.UsageError("A sync is about one model: give --model.")
        state = shell.admin.sync_outcomes(
            chosen, model=model, sql=sql, every=every, url_env=url_env, url_file=url_file, overlap=overlap
        )
    elif not once:
        raise click.UsageError("Give --sql to make the sync, --once to run it or --remove to end it.")
    if once:
        state = shell.admin.run_sync(chosen)
    shell.show(state, _table((state,)))


@click.pass_obj
def syncs_command(shell: Shell, /) -> None:
    """Show the syncs of outcomes, how far they are, and what fails.

    \b
      fairlead outcomes syncs
    """
    found = shell.admin.syncs()
    shell.show(found, _table(found))


def _table(found: tuple[OutcomeSyncState, ...]) -> RenderableType:
    from rich.markup import escape

    from fairlead.cli.tables import table, time_text

    rows = [
        [
            escape(one.sync.name),
            escape(one.sync.model),
            f"{one.sync.every:g} s",
            f"[red]failing[/] ({one.failures})" if one.failures else "waiting",
            "" if one.watermark is None else time_text(one.watermark),
            f"{one.accepted:,}",
            f"{one.refused:,}",
            time_text(one.next_at),
            escape(one.error or one.problem or ""),
        ]
        for one in found
    ]
    columns = ["sync", "model", "every", "state", "read up to", "accepted", "refused", "next", "problem"]
    return table(columns, rows, right=("accepted", "refused"))
