"""Commands of rollouts: how they stand, and what people say about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fairlead.cli.shell import DONE, REFUSED, UNCONFIRMED, Command, Shell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from fairlead.client.registered import Rollout
    from fairlead.client.rollouts import RolloutCommand

__all__ = ["abort", "approve", "pause", "report", "resume", "rollouts", "shown", "standing", "widen"]

_why = click.option("--why", default="", metavar="TEXT", help="Why; it stands in the journal.")
_expected = click.option(
    "--if-generation", "expected", type=int, metavar="N", help="Refuse unless the model serves generation N."
)
_SIGNS = {
    "succeeded": "[green]✓[/]",
    "rolled_back": "[red]✗[/]",
    "aborting": "[red]✗[/]",
    "paused": "[yellow]![/]",
}


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model")
@click.argument("rollout", required=False)
@click.pass_obj
def rollouts(shell: Shell, /, model: str, rollout: str | None) -> int:
    """Show the rollouts of a model, or one of them with its journal.

    \b
      fairlead rollouts shop
      fairlead rollouts shop present

    `present` names the one that is under way.
    """
    if rollout is None:
        found = shell.admin.rollouts(model)
        shell.show(found, *_list(model, found))
    else:
        one = shell.admin.rollout(model, rollout)
        shell.show(one, *shown(one))
    return DONE


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model")
@_why
@_expected
@click.pass_obj
def pause(shell: Shell, /, model: str, why: str, expected: int | None) -> int:
    """Keep a rollout from going on.

    \b
      fairlead pause shop --why "the sale begins"

    Its traffic stays as it is. A candidate that fails is rolled back all the same.
    """
    return _command(shell, model, "pause", why, expected)


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model")
@_why
@_expected
@click.pass_obj
def resume(shell: Shell, /, model: str, why: str, expected: int | None) -> int:
    """Let a paused rollout go on.

    \b
      fairlead resume shop

    What it was paused for does not pause it again in this step.
    """
    return _command(shell, model, "resume", why, expected)


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model")
@_why
@_expected
@click.pass_obj
def approve(shell: Shell, /, model: str, why: str, expected: int | None) -> int:
    """Agree that a rollout may leave its step.

    \b
      fairlead approve shop --why "looks good to marketing"

    It still waits for the step's verdict.
    """
    return _command(shell, model, "approve", why, expected)


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model")
@click.option(
    "--override",
    default="",
    metavar="REASON",
    help="Go past a gate that failed or a freeze window; noted in the audit log.",
)
@_why
@_expected
@click.pass_obj
def widen(shell: Shell, /, model: str, override: str, why: str, expected: int | None) -> int:
    """Take a rollout to its next step now, whatever was seen.

    \b
      fairlead widen shop
    """
    return _command(shell, model, "widen", why, expected, override)


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model")
@_why
@_expected
@click.pass_obj
def abort(shell: Shell, /, model: str, why: str, expected: int | None) -> int:
    """End a rollout: everything goes back to the version in production.

    \b
      fairlead abort shop --why "v2 charges twice"
    """
    return _command(shell, model, "abort", why, expected)


def report(shell: Shell, done: Rollout) -> int:
    """Shows a rollout after a command; the exit status tells whether its traffic is as its state asks."""
    shell.show(done, *_lines(done))
    if not done.over:
        shell.note(
            f"It goes on by itself: fairlead rollouts {done.model} present, fairlead status {done.model}."
        )
    if done.state == "rolled_back":
        return REFUSED
    return DONE if done.over or done.generation is not None or done.state == "paused" else UNCONFIRMED


def _command(
    shell: Shell, model: str, name: RolloutCommand, why: str, expected: int | None, override: str = ""
) -> int:
    done = shell.admin.command_rollout(model, name, why=why, expected=expected, override=override)
    status = report(shell, done)
    return DONE if name == "abort" and done.state == "rolled_back" else status


# --- how it looks -------------------------------------------------------------------------------------------


def shown(one: Rollout) -> Iterator[RenderableType]:
    """A rollout with its verdicts and its journal, as a person reads it."""
    yield from _lines(one)
    yield from _journal(one)


def _list(model: str, found: tuple[Rollout, ...]) -> Iterator[RenderableType]:
    from datetime import UTC, datetime

    from rich.markup import escape

    from fairlead.cli.tables import ago, table

    if not found:
        yield f"[dim]No version of {escape(model)} was rolled out by steps yet.[/]"
        return
    now = datetime.now(UTC)
    rows = [
        [one.id, one.candidate, one.stable or "", standing(one), ago(one.started_at, now), one.who]
        for one in found
    ]
    yield table(["rollout", "candidate", "stable", "state", "began", "by"], rows)
    if not found[0].over:
        yield f"[dim]Why it stands there: fairlead rollouts {escape(model)} present[/]"


def _lines(one: Rollout) -> Iterator[RenderableType]:
    from rich.markup import escape

    from fairlead.cli.tables import percent
    from fairlead.cli.verdicts import verdicts

    beside = f" beside [bold]{one.stable}[/]" if one.stable else ""
    sign = _SIGNS.get(one.state, "[green]→[/]")
    yield f"{sign} [bold]{one.model}[/] [bold]{one.candidate}[/]{beside}: {standing(one)} [dim]{one.id}[/]"
    if one.weights:
        yield "  " + ", ".join(f"{version} {percent(share)}" for version, share in one.weights.items())
    if one.note:
        yield f"  {escape(one.note)}"
    if one.held:
        yield f"[yellow]![/] {escape(one.held)}"
    yield from verdicts(one.judgement)
    if one.journal and (one.over or one.state in ("paused", "aborting")):
        reasons = [
            event.reason for event in one.journal if event.to_state in ("aborting", "paused", "promoting")
        ]
        yield f"  {escape((reasons or [one.journal[-1].reason])[-1])}"


def _journal(one: Rollout) -> Iterator[RenderableType]:
    from rich.markup import escape

    from fairlead.cli.tables import table, time_text

    rows = [
        [time_text(event.at), event.to_state.replace("_", " "), str(event.step + 1), event.who,
         escape(event.reason)]
        for event in one.journal
    ]  # fmt: skip
    yield ""
    yield table(["when (UTC)", "state", "step", "by", "why"], rows)


def standing(one: Rollout) -> str:
    """The state that a rollout is in, as markup."""
    state = one.state.replace("_", " ")
    if one.state == "paused":
        return f"[yellow]paused[/] ({one.paused_because})"
    if one.state in ("canary", "shadow") and one.steps:
        step = one.steps[one.step]
        share = step.get("weight") or step.get("mirror") or 0.0
        return f"{state} {share:g} % [dim](step {one.step + 1} of {len(one.steps)})[/]"
    return state
