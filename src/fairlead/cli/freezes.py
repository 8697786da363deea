"""Commands of freeze windows: times in which no version gets more traffic."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import click
from rich.console import RenderableType
from rich.markup import escape

from fairlead.cli.moments import moment
from fairlead.cli.shell import Command, Shell
from fairlead.cli.tables import table, time_text
from fairlead.client.freezes import Freeze

__all__ = ["freeze", "freezes", "unfreeze"]


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model", required=False)
@click.option("--from", "starts_at", callback=moment, metavar="TIME", help="When it begins.  [default: now]")
@click.option("--to", "ends_at", callback=moment, required=True, metavar="TIME", help="When it ends.")
@click.option("--reason", required=True, metavar="TEXT", help="Why; who is held up reads it.")
@click.option("--weekly", is_flag=True, help="Every week again, at the same time UTC.")
@click.pass_obj
def freeze(
    shell: Shell, /, model: str | None, starts_at: datetime, ends_at: datetime, reason: str, weekly: bool
) -> None:
    """Keep traffic as it is for a time: that of a model, or all.

    \b
      fairlead freeze --from 2026-11-27T00:00 --to 2026-12-01T00:00 --reason "Black Friday"
      fairlead freeze shop --from 2026-11-20T16:00 --to 2026-11-23T06:00 --reason "the weekend" --weekly

    No rollout starts, widens or promotes, and no command moves traffic to another version, except with
    --override. Rollbacks, aborts and pauses always work. A rollout under way holds at its step and goes on
    after.
    """
    made = shell.admin.freeze(starts_at, ends_at, reason, model=model, weekly=weekly)
    shell.show(made, _list([made]))


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model", required=False)
@click.option("--all", "over", is_flag=True, help="Those that are over, too.")
@click.pass_obj
def freezes(shell: Shell, /, model: str | None, over: bool) -> None:
    """List the windows in which traffic stays as it is.

    \b
      fairlead freezes shop --all
    """
    found = shell.admin.freezes(model, over=over)
    shell.show(found, _list(found) if found else "[dim]Nothing is frozen.[/]")


@click.command(cls=Command, talks_to=("admin",))
@click.argument("window")
@click.option("--why", default="", metavar="TEXT", help="Why; noted in the audit log.")
@click.pass_obj
def unfreeze(shell: Shell, /, window: str, why: str) -> None:
    """End a freeze window before its time.

    \b
      fairlead unfreeze 3f9c21aa --why "the sale is over"
    """
    ended = shell.admin.unfreeze(window, why=why)
    shell.show(ended, _list([ended]))


def _list(found: Sequence[Freeze]) -> RenderableType:
    rows = [
        [one.id, one.model or "all", time_text(one.starts_at), time_text(one.ends_at),
         "weekly" if one.weekly else "once", _standing(one), one.who, escape(one.reason)]
        for one in found
    ]  # fmt: skip
    return table(["window", "model", "from (UTC)", "to (UTC)", "how often", "state", "by", "why"], rows)


def _standing(one: Freeze) -> str:
    now = datetime.now(UTC)
    if one.ended_at is not None:
        return f"ended by {escape(one.ended_by or '')}"
    if now < one.starts_at:
        return "to come"
    return "over" if one.ends_at <= now and not one.weekly else "holds" if not one.weekly else "every week"
