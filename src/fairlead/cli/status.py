"""`fairlead status`: once, or again and again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click
import msgspec

from fairlead.cli.shell import Command, Shell
from fairlead.errors import AdminUnreachable, FairleadError

if TYPE_CHECKING:
    from fairlead.client.registered import Status

__all__ = ["status"]


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model", required=False)
@click.option("--watch", is_flag=True, help="Go on showing it until Ctrl-C.")
@click.option(
    "--every",
    type=click.FloatRange(0.2, 3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="With --watch.",
)
@click.pass_obj
def status(shell: Shell, /, model: str | None, watch: bool, every: float) -> None:
    """Show what serves, how well, and who has confirmed it.

    \b
      fairlead status shop

    Traffic is drawn by role: green is stable, cyan the control arm, yellow a canary, magenta a variant. Rates
    are over the last 10 seconds, latencies, errors and cache hits over the last 60.
    """
    if model is not None:
        shell.admin.model(model)  # a model that is not there is refused by name
    if not watch:
        _print(shell, _wanted(shell.admin.status(), model), model)
    elif shell.json or not shell.console.is_terminal:
        _repeat(shell, model, every)
    else:
        _live(shell, model, every)


def _print(shell: Shell, found: Status, model: str | None) -> None:
    from fairlead.cli.screen import status_page

    shell.show(found, status_page(found, model))


def _wanted(found: Status, model: str | None) -> Status:
    """The status of one model alone, where one is wanted."""
    if model is None:
        return found
    return msgspec.structs.replace(found, models=tuple(each for each in found.models if each.name == model))


def _repeat(shell: Shell, model: str | None, every: float) -> None:
    try:
        while True:
            _print(shell, _wanted(shell.admin.status(), model), model)
            time.sleep(every)
    except KeyboardInterrupt:
        return


def _live(shell: Shell, model: str | None, every: float) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from fairlead.cli.screen import status_page

    found = _wanted(shell.admin.status(), model)
    with Live(status_page(found, model), console=shell.console, auto_refresh=False, screen=True) as live:
        try:
            while True:
                time.sleep(every)
                trouble: FairleadError | None = None
                try:
                    found = _wanted(shell.admin.status(), model)
                except AdminUnreachable as error:
                    trouble = error  # the last page stays, and says how old it is
                page = status_page(found, model)
                if trouble is not None:
                    page = Group(Text(f"✗ {trouble.message} Shown is what was.", "bold red"), page)
                live.update(page, refresh=True)
        except KeyboardInterrupt:
            return
