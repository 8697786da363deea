"""Commands that lead traffic. Each says which gateways serve the change; 3 is the status when some do not."""

from __future__ import annotations

import getpass
import socket
from typing import TYPE_CHECKING, Any, Literal

import click
from click.core import ParameterSource

from fairlead.cli.documents import document_of
from fairlead.cli.percents import PERCENT, percent_of
from fairlead.cli.rollouts import report
from fairlead.cli.shell import DONE, UNCONFIRMED, Command, Shell

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fairlead.client.registered import Confirmation

__all__ = ["deploy", "promote", "report_traffic", "rollback", "traffic"]

_why = click.option("--why", default="", metavar="TEXT", help="Why; noted in the audit log.")
_expected = click.option(
    "--if-generation", "expected", type=int, metavar="N", help="Refuse unless the model serves generation N."
)
_override = click.option(
    "--override",
    default="",
    metavar="REASON",
    help="Go past a gate that failed or a freeze window; noted in the audit log.",
)


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model")
@click.argument("version")
@click.option(
    "--strategy",
    type=click.Choice(["canary", "shadow", "blue-green", "ab", "direct"]),
    default="canary",
    show_default=True,
    help="By steps beside a control arm of the same size, as a copy that answers nobody, or all at once.",
)
@click.option("--weight", type=PERCENT, help="Where a canary begins.  [default: 1]")
@click.option("--steps", metavar="P,P,…", help="All its steps in percent.  [default: 1,5,25,50,100]")
@click.option(
    "--bake", metavar="TIME", help="How long it is watched after it got everything.  [default: 10m]"
)
@click.option(
    "--plan",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="A whole plan: YAML, TOML or JSON.",
)
@click.option("--no-shadow", is_flag=True, help="Begin with the canary, and with no copies before it.")
@click.option("--supersede", is_flag=True, help="Take the place of another rollout under way.")
@_override
@_why
@_expected
@click.pass_obj
def deploy(
    shell: Shell,
    /,
    model: str,
    version: str,
    strategy: Literal["canary", "shadow", "blue-green", "ab", "direct"],
    weight: float | None,
    steps: str | None,
    bake: str | None,
    plan: str | None,
    no_shadow: bool,
    supersede: bool,
    override: str,
    why: str,
    expected: int | None,
) -> int:
    """Roll a version out by steps, watched, or give it everything at once.

    \b
      fairlead deploy shop v2
      fairlead deploy shop v2 --plan rollout.yaml

    Every live gateway loads and warms the version before any traffic moves. At first it gets copies of
    requests and answers nobody. Then errors, latencies, rejections and outputs of the canary are compared
    with those of a control arm of the same size: it is widened when it does no worse, rolled back when it
    does worse, and held while that cannot be told. Where --weight or --steps say how it begins, no copies
    come before. A version that was in production within the last days (`return_days`) and was not rolled back
    skips all that: it gets everything, and is watched.

    With `--strategy direct` or `blue-green`, and no `--bake`, it gets everything and nobody watches.
    """
    unwatched = strategy in ("direct", "blue-green") and bake is None and plan is None
    if unwatched and weight is None and steps is None:
        whole: Literal["direct", "blue-green"] = "direct" if strategy == "direct" else "blue-green"
        return report_traffic(
            shell,
            shell.admin.deploy(
                model,
                version,
                strategy=whole,
                supersede=supersede,
                override=override,
                why=why,
                expected=expected,
            ),
        )
    return report(
        shell,
        shell.admin.start_rollout(
            model,
            version,
            strategy=strategy,
            weight=weight,
            steps=None if steps is None else _percents(steps),
            bake=bake,
            plan=None if plan is None else _plan(plan, strategy, no_shadow),
            shadow=not no_shadow,
            supersede=supersede,
            override=override,
            why=why,
            expected=expected,
        ),
    )


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model")
@click.argument("weights", nargs=-1, required=True, metavar="V=PERCENT ...")
@_override
@_why
@_expected
@click.pass_obj
def traffic(
    shell: Shell, /, model: str, weights: tuple[str, ...], override: str, why: str, expected: int | None
) -> int:
    """Split the traffic of a model by percent.

    \b
      fairlead traffic shop v1=90 v2=10

    Versions that are not named get nothing; the weights add up to 100.
    """
    split = _weights(weights)
    return report_traffic(
        shell, shell.admin.traffic(model, split, override=override, why=why, expected=expected)
    )


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model")
@_override
@_why
@_expected
@click.pass_obj
def promote(shell: Shell, /, model: str, override: str, why: str, expected: int | None) -> int:
    """Give the canary all traffic.

    \b
      fairlead promote shop

    A rollout under way goes on from there: the candidate is watched until its bake is over.
    """
    under_way = [one for one in shell.admin.rollouts(model, limit=1) if not one.over]
    if under_way:
        done = shell.admin.command_rollout(model, "promote", override=override, why=why, expected=expected)
        return report(shell, done)
    return report_traffic(shell, shell.admin.promote(model, override=override, why=why, expected=expected))


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model")
@click.option("--to", metavar="V", help="Go to this version instead.")
@click.option("--local", is_flag=True, help="On this machine alone, without control or database.")
@click.option("--data", metavar="DIR", help="With --local: the data folder of this machine.")
@_why
@click.pass_obj
def rollback(shell: Shell, /, model: str, to: str | None, local: bool, data: str | None, why: str) -> int:
    """Take the traffic back to the version before.

    \b
      fairlead rollback shop

    While several versions have traffic, the one in production gets all of it; else the version that was in
    production before does. Repeating it never returns to what was rolled back.

    With --local it works while control and the database are away: it changes what the gateways of this
    machine serve. Once the database is back, the agent does the same everywhere.
    """
    if local:
        return _roll_back_here(shell, model, to, data, why)
    if data is not None:
        raise click.UsageError("--data goes with --local.")
    return report_traffic(shell, shell.admin.rollback(model, to=to, why=why))


def _roll_back_here(shell: Shell, model: str, to: str | None, data: str | None, why: str) -> int:
    from fairlead.cli.local_rollback import roll_back_locally
    from fairlead.serving.folder import DataFolder
    from fairlead.settings import load_settings

    settings = load_settings({"data": data})
    done = roll_back_locally(
        DataFolder(settings.folder),
        model,
        to=to,
        who=f"{getpass.getuser()}@{socket.gethostname()}",
        why=why,
        seconds=settings.confirm_seconds,
    )
    gateways = ", ".join(done.confirmed) or "no gateway"
    lines = [
        f"[green]✓[/] [bold]{model}[/] is on [bold]{done.version}[/] on this machine: {gateways} "
        f"[dim]after {done.took_ms:.0f} ms[/]",
        f"  Generation {done.generation} is overridden here. Once the database is back, "
        "the agent does the same everywhere.",
    ]
    if done.unconfirmed:
        lines.append(f"[red]✗[/] Not confirmed by {', '.join(done.unconfirmed)}.")
    elif not done.confirmed:
        lines.append("[yellow]![/] No gateway is live on this machine; the next to start serves it.")
    shell.show(done, *lines)
    return DONE if done.confirmed and not done.unconfirmed else UNCONFIRMED


def _plan(path: str, strategy: str, no_shadow: bool) -> dict[str, Any]:
    """The plan in that file; wrong usage where flags say something else than it does."""
    plan = document_of(path, "--plan")
    planned = plan.get("strategy", "canary")
    source = click.get_current_context().get_parameter_source("strategy")
    if source is ParameterSource.COMMANDLINE and strategy != planned:
        raise click.UsageError(
            f"--strategy is {strategy!r}, and {path} says {planned!r}: drop the flag, or change the plan."
        )
    if no_shadow:
        raise click.UsageError("--no-shadow does not go with --plan: take the steps with `mirror` out of it.")
    return plan


# --- what every command of traffic answers ------------------------------------------------------------------


def report_traffic(shell: Shell, done: Confirmation) -> int:
    """Shows what a command of traffic did, and answers the status that it ends with."""
    shell.show(done, *_lines(done))
    return UNCONFIRMED if done.unconfirmed else DONE


def _lines(done: Confirmation) -> list[RenderableType]:
    from rich.markup import escape

    from fairlead.cli.tables import percent

    split = ", ".join(f"[bold]{version}[/] {percent(share)}" for version, share in done.weights.items())
    lines: list[RenderableType] = [f"[green]✓[/] [bold]{done.model}[/] generation {done.generation}: {split}"]
    if done.confirmed:
        names = f"{', '.join(done.confirmed)} [dim]after {done.took_ms:.0f} ms[/]"
        lines.append(f"  confirmed by {names}")
    for late in done.unconfirmed:
        serves = f"{late.gateway} still serves generation {late.generation}"
        lines.append(f"[yellow]![/] {serves}: {escape(late.reason)}")
    if done.note:
        lines.append(f"[yellow]![/] {escape(done.note)}")
    return lines


def _percents(text: str) -> list[float]:
    try:
        return [percent_of(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no list of percents, as in 5,25,100.", param_hint="--steps"
        ) from None


def _weights(given: tuple[str, ...]) -> dict[str, float]:
    weights: dict[str, float] = {}
    for text in given:
        version, equals, share = text.partition("=")
        try:
            number = percent_of(share)
        except ValueError:
            number = float("nan")
        if not version or not equals or number != number:
            raise click.BadParameter(f"{text!r} is not VERSION=PERCENT, as in v2=10.", param_hint="weights")
        if version in weights:
            raise click.BadParameter(f"{version!r} stands there twice.", param_hint="weights")
        weights[version] = number
    return weights
