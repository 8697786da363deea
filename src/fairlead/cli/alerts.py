"""Commands of alerts: what fires, why, what to do, and who is told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from fairlead.cli.shell import Group, Shell

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fairlead.client.alerts import Alert, AlertDetails, Silence

__all__ = ["alerts"]

_UNITS = {"m": 60, "h": 3_600, "d": 86_400}
_COLOURS = {"page": "red", "warning": "yellow", "info": "cyan"}


class _ByModel(Group):
    """A group whose first word may be a model, or nothing: then `list` is meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            return "list", self.commands["list"], args
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # Options may stand in front of the verb or the model: the group itself has none.
        if not args or (args[0].startswith("-") and args[0] not in ("--help", "-h")):
            verb = next((word for word in args if word in self.commands), "list")
            args = [verb, *(word for word in args if word != verb)]
        return super().parse_args(ctx, args)


@click.group(cls=_ByModel)
def alerts() -> None:
    """Show what fires, why, and what to do about it.

    `fairlead alerts M` is short for `fairlead alerts list M`, without a model for all of them.

    \b
      fairlead alerts shop --all
      fairlead alerts show 3f9c21aa
      fairlead alerts ack 3f9c21aa --why "the cache is being filled"
      fairlead alerts silence --model shop --rule latency --for 2h --why "the batch job"
      fairlead alerts test ops
    """


@alerts.command("list", talks_to=("admin",))
@click.argument("model", required=False)
@click.option("--all", "ended", is_flag=True, help="Those that are over, too.")
@click.pass_obj
def list_alerts(shell: Shell, /, model: str | None, ended: bool) -> None:
    """List the alerts that fire or may soon.

    \b
      fairlead alerts list shop --all
    """
    from rich.markup import escape

    if model is not None:
        shell.admin.model(model)  # a model that is not there is refused by name
    found = shell.admin.alerts(model, ended=ended)
    source = shell.admin.alerts_file()
    shown: list[RenderableType] = [_list(found) if found else "[green]✓[/] Nothing fires."]
    if source.problem is not None:
        told = f"{source.path} is not followed, what was in force stays so: {source.problem}"
        shown.append(f"[yellow]! {escape(told)}[/]")
    shell.show(found, *shown)


@alerts.command("show", talks_to=("admin",))
@click.argument("alert")
@click.pass_obj
def show(shell: Shell, /, alert: str) -> None:
    """Show an alert: the evidence, what it means, what to look at and what to do.

    \b
      fairlead alerts show 3f9c21aa
    """
    found = shell.admin.alert(alert)
    shell.show(found, *_details(found))


@alerts.command("ack", talks_to=("admin",))
@click.argument("alert")
@click.option("--why", required=True, metavar="TEXT", help="What is done about it; others read it.")
@click.pass_obj
def acknowledge(shell: Shell, /, alert: str, why: str) -> None:
    """Say that you attend to an alert: nobody is reminded of it as long as it fires.

    \b
      fairlead alerts ack 3f9c21aa --why "the cache is being filled"
    """
    found = shell.admin.acknowledge(alert, why)
    shell.show(found, _list([found]))


@alerts.command("rules", talks_to=("admin",))
@click.pass_obj
def rules(shell: Shell, /) -> None:
    """List the rules, and who is told by them.

    \b
      fairlead alerts rules
    """
    from rich.markup import escape

    from fairlead.cli.tables import table

    found = shell.admin.alert_rules()
    rows = [
        [
            escape(str(one.rule["name"])), escape(str(one.rule["title"])), str(one.rule["kind"]),
            _severity(str(one.rule["severity"])), f"{one.rule['fire']} of {one.rule['of']}",
            escape(", ".join(one.channels)),
        ]
        for one in found
    ]  # fmt: skip
    shell.show(found, table(["rule", "what", "of", "severity", "looks", "tells"], rows))


@alerts.command("channels", talks_to=("admin",))
@click.pass_obj
def channels(shell: Shell, /) -> None:
    """List the channels, where they lead, and the messages that wait.

    \b
      fairlead alerts channels
    """
    from rich.markup import escape

    from fairlead.cli.tables import table

    found = shell.admin.alert_channels()
    waiting = [one for one in shell.admin.alert_deliveries() if one.state != "delivered"]
    rows = []
    for one in found:
        mine = [each for each in waiting if each.channel == one.name]
        error = next((each.error for each in mine if each.error), "")
        rows.append(
            [
                escape(one.name),
                one.type,
                escape(one.to),
                _repeat(one.repeat),
                str(len(mine)),
                escape(error or ""),
            ]
        )
    columns = ["channel", "type", "to", "again after", "not delivered", "last error"]
    shell.show({"channels": found, "not_delivered": waiting}, table(columns, rows))


@alerts.command("test", talks_to=("admin",))
@click.argument("channel")
@click.pass_obj
def test(shell: Shell, /, channel: str) -> None:
    """Send a trial message to a channel.

    \b
      fairlead alerts test ops
    """
    from rich.markup import escape

    found = shell.admin.test_channel(channel)
    shell.show(found, f"[green]✓[/] {escape(channel)} has taken it: {escape(found.sent)}")


@alerts.command("silence", talks_to=("admin",))
@click.option("--model", default="*", show_default=True, metavar="PATTERN", help="Of which models.")
@click.option("--rule", default="*", show_default=True, metavar="PATTERN", help="Of which rules.")
@click.option("--subject", default="*", show_default=True, metavar="PATTERN", help="Of which features or so.")
@click.option("--for", "span", metavar="SPAN", required=True, help="How long, as in 30m, 2h or 3d.")
@click.option("--why", required=True, metavar="TEXT", help="Why; who misses an alert reads it.")
@click.pass_obj
def silence(shell: Shell, /, model: str, rule: str, subject: str, span: str, why: str) -> None:
    """Tell nobody of some alerts for a time.

    \b
      fairlead alerts silence --model shop --rule drift --subject "basket_*" --for 3d --why "the sale"

    They still fire and are listed; what is still true when the silence ends is told then.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", span)
    if found is None:
        raise click.BadParameter(f"{span!r} is no span of time such as 30m, 2h or 3d.", param_hint="--for")
    until = datetime.now(UTC) + timedelta(seconds=int(found[1]) * _UNITS[found[2]])
    made = shell.admin.silence(until, why, model=model, rule=rule, subject=subject)
    shell.show(made, _silences([made]))


@alerts.command("silences", talks_to=("admin",))
@click.option("--all", "over", is_flag=True, help="Those that are over, too.")
@click.pass_obj
def silences(shell: Shell, /, over: bool) -> None:
    """List the silences.

    \b
      fairlead alerts silences --all
    """
    found = shell.admin.silences(over=over)
    shell.show(found, _silences(found) if found else "[dim]Nothing is silenced.[/]")


@alerts.command("unsilence", talks_to=("admin",))
@click.argument("silence")
@click.pass_obj
def unsilence(shell: Shell, /, silence: str) -> None:
    """End a silence before its time.

    \b
      fairlead alerts unsilence 3f9c21aa
    """
    ended = shell.admin.unsilence(silence)
    shell.show(ended, _silences([ended]))


def _severity(severity: str) -> str:
    return f"[{_COLOURS.get(severity, 'white')}]{severity}[/]"


def _repeat(seconds: float) -> str:
    return "never" if not seconds else f"{seconds / 3_600:g} h"


def _standing(one: Alert) -> str:
    more = [word for word, so in (("flapping", one.flapping), ("silenced", one.silenced)) if so]
    more += [f"acknowledged by {one.acknowledged.by}"] if one.acknowledged is not None else []
    from rich.markup import escape

    return f"{one.standing} ({escape(', '.join(more))})" if more else one.standing


def _list(found: Sequence[Alert]) -> RenderableType:
    from rich.markup import escape

    from fairlead.cli.tables import table, time_text

    rows = [
        [
            one.id, _severity(one.severity), _standing(one), escape(one.model or "server"), escape(one.title),
            escape(one.sentence), time_text(one.since),
        ]
        for one in found
    ]  # fmt: skip
    return table(["alert", "severity", "state", "model", "what", "found", "since (UTC)"], rows)


def _details(found: AlertDetails) -> list[RenderableType]:
    from rich.markup import escape
    from rich.text import Text

    from fairlead.cli.tables import table, time_text

    alert, book = found.alert, found.runbook
    place = " · ".join(part for part in (alert.model or "server", alert.version or "", alert.subject) if part)
    lines = [
        f"[bold]{escape(alert.title)}[/] {_severity(alert.severity)} {_standing(alert)} since "
        f"{time_text(alert.since)} UTC",
        f"{escape(place)}: {escape(alert.sentence)}",
        *_attended(alert),
        "",
        escape(book.means),
    ]
    if book.look:
        lines += ["", "[dim]Look:[/]", *(f"  {escape(one)}" for one in book.look)]
    if book.do:
        lines += ["", escape(book.do)]
    rows = [
        [time_text(one.at), f"{one.from_standing} → {one.to_standing}", one.told, escape(one.sentence)]
        for one in found.events
    ]
    return ["\n".join(lines), Text(), table(["at (UTC)", "transition", "told", "found"], rows)]


def _attended(alert: Alert) -> list[str]:
    held = alert.acknowledged
    if held is None:
        return []
    from rich.markup import escape

    from fairlead.cli.tables import time_text

    return [f"{escape(held.by)} attends to it since {time_text(held.at)} UTC: {escape(held.why)}"]


def _silences(found: Sequence[Silence]) -> RenderableType:
    from rich.markup import escape

    from fairlead.cli.tables import table, time_text

    rows = [
        [
            one.id, escape(one.model), escape(one.rule), escape(one.subject),
            time_text(one.until), escape(one.who), escape(one.why),
            "" if one.ended_at is None else f"ended by {escape(one.ended_by or '')}",
        ]
        for one in found
    ]  # fmt: skip
    return table(["silence", "model", "rule", "subject", "until (UTC)", "by", "why", ""], rows)
