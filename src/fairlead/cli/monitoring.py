"""Commands about how traffic is counted."""

from __future__ import annotations

import click

from fairlead.cli.shell import Group, Shell

__all__ = ["monitoring"]


@click.group(cls=Group)
def monitoring() -> None:
    """Look after the counts that monitoring rests on.

    \b
      fairlead monitoring rebuild shop
    """


@monitoring.command("rebuild", talks_to=("admin",))
@click.argument("model")
@click.pass_obj
def rebuild(shell: Shell, /, model: str) -> None:
    """Count all logged traffic of a model again.

    \b
      fairlead monitoring rebuild shop

    Counts of different bins do not add. When a contract's bins have changed, as when the first version with a
    reference comes under a contract that had none, or when the log is older than its counts, this counts
    every row on the bins that hold now. Serving and logging go on meanwhile.
    """
    with shell.counting(f"rows of {model}") as advance:
        done = shell.admin.rebuilt(model, advance)
    shell.show(done, f"[green]✓[/] {done.counted:,} rows of {model} are counted anew.")
