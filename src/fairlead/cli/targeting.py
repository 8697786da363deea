"""Commands for what comes before a split: targeting rules, holdouts and layers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from fairlead.cli.percents import PERCENT
from fairlead.cli.shell import DONE, Command, Shell
from fairlead.cli.traffic import report_traffic

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import RenderableType

    from fairlead.client.targeting import LayerUse, Targeting

__all__ = ["holdout", "layers", "targeting"]

_why = click.option("--why", default="", metavar="TEXT", help="Why; noted in the audit log.")
_SHOWN = 5


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model")
@click.option(
    "--set",
    "path",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Rules instead of those that are there: YAML, TOML or JSON with a list `rules`.",
)
@click.option("--clear", is_flag=True, help="Take all rules away.")
@click.option(
    "--override", default="", metavar="REASON", help="Go past a gate that failed; noted in the audit log."
)
@_why
@click.pass_obj
def targeting(shell: Shell, /, model: str, path: str | None, clear: bool, override: str, why: str) -> int:
    """Show or set who gets a certain version whatever the split says.

    \b
      fairlead targeting shop --set rules.yaml

    \b
      rules:
        - {name: staff, header: x-group, one_of: [staff], version: v2}
        - {name: pilot, units: [user-17, user-42], version: v2}
        - {name: minors, feature: age, below: 18}

    The first rule that matches decides; one without a version sends to the version in production. Whom a
    rule decides about takes part in no experiment.
    """
    if path is not None and clear:
        raise click.UsageError("--set and --clear are two different things.")
    if path is None and not clear:
        found = shell.admin.targeting(model)
        shell.show(found, *_lines(found))
        return DONE
    rules = [] if path is None else _rules(path)
    return report_traffic(shell, shell.admin.target(model, rules, override=override, why=why))


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model")
@click.argument("percent", type=PERCENT)
@click.option(
    "--until",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    metavar="TIME",
    help="When it ends by itself, in UTC, as in 2027-03-31.",
)
@_why
@click.pass_obj
def holdout(shell: Shell, /, model: str, percent: float, until: datetime | None, why: str) -> int:
    """Keep a share of the units from every candidate; 0 ends that.

    \b
      fairlead holdout shop 5 --until 2027-03-31

    They always get the version in production, over all rollouts, so that what rollouts bring together can be
    measured against them: they are in the log under the arm `holdout`.
    """
    if not 0 <= percent < 100:
        raise click.BadParameter(f"{percent:g} is not from 0 to below 100.", param_hint="PERCENT")
    end = None if until is None else until.replace(tzinfo=UTC)
    return report_traffic(shell, shell.admin.hold_out(model, percent, until=end, why=why))


@click.command(cls=Command, talks_to=("admin",))
@click.pass_obj
def layers(shell: Shell, /) -> int:
    """Show which rollouts share a layer, so that no unit is in two of them.

    A rollout is put into one by its plan: `layer: checkout` and `traffic: 30`, for 30 % of the units.

    \b
      fairlead layers --json
    """
    found = shell.admin.layers()
    shell.show(found, *(_layer_line(layer) for layer in found))
    return DONE


def _rules(path: str) -> list[Mapping[str, Any]]:
    from fairlead.cli.documents import read_document

    try:
        found = read_document(path)
    except (ValueError, OSError) as error:
        raise click.BadParameter(f"{path} cannot be read: {error}.", param_hint="--set") from error
    rules = found.get("rules")
    if set(found) != {"rules"} or not isinstance(rules, list):
        raise click.BadParameter(f"{path} has no list `rules`, or something beside it.", param_hint="--set")
    return rules


def _lines(found: Targeting) -> Iterator[RenderableType]:
    from rich.markup import escape

    for rule in found.rules:
        version = rule.get("version")
        served = f"[bold]{escape(version)}[/]" if version else "the version in production"
        yield f"[bold]{escape(rule['name'])}[/]: {escape(_about(rule))} → {served}"
    if not found.rules:
        yield f"[bold]{escape(found.model)}[/] has no rules."
    if found.holdout is not None:
        until = found.holdout.until
        end = "" if until is None else f" until {until:%Y-%m-%d %H:%M} UTC"
        yield f"{found.holdout.percent:g} % are held out since {found.holdout.since:%Y-%m-%d}{end}"
    if found.layer is not None:
        yield f"Its rollout is in the layer [bold]{escape(found.layer)}[/]"


def _about(rule: Mapping[str, Any]) -> str:
    if "units" in rule:
        units = rule["units"]
        more = f" and {len(units) - _SHOWN:,} more" if len(units) > _SHOWN else ""
        return f"units {', '.join(units[:_SHOWN])}{more}"
    name = f"header {rule['header']}" if "header" in rule else f"feature {rule['feature']}"
    values = rule.get("one_of")
    if values:
        return f"{name} is one of {', '.join(map(str, values))}"
    words = (("above", "above"), ("at_least", "at least"), ("below", "below"), ("at_most", "at most"))
    return f"{name} is {' and '.join(f'{word} {rule[key]:g}' for key, word in words if key in rule)}"


def _layer_line(layer: LayerUse) -> str:
    from rich.markup import escape

    shares = ", ".join(
        f"{escape(share.model)} {share.percent:g} %{' (ended, and still served)' if share.ended else ''}"
        for share in layer.shares
    )
    return f"[bold]{escape(layer.name)}[/]: {shares or 'nobody'}; {layer.free:g} % free"
