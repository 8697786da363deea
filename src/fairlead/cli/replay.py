"""The command that asks again what was answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.console import RenderableType
from rich.markup import escape

from fairlead.cli.reports import confusion_table, counts_text, latency_text, segment_table
from fairlead.cli.shell import DONE, REFUSED, Command, Shell
from fairlead.cli.tables import facts, percent, table, time_text

if TYPE_CHECKING:
    from fairlead.client.replayed import ChangeExample, ChangeReport, Replayed

__all__ = ["replay"]

_SIGNS = {
    "identical": "[green]✓[/] identical",
    "within_tolerance": "[green]✓[/] within tolerance",
    "differs": "[red]✗[/] differs",
    "not_replayable": "[yellow]![/] not replayable",
}


@click.command(cls=Command, talks_to=("admin",))
@click.argument("target", metavar="REQUEST_ID|MODEL")
@click.option("--row", type=click.IntRange(0), metavar="N", help="Only that row of the request.")
@click.option("--against", metavar="V", help="Replay the traffic of MODEL by this version.")
@click.option("--since", metavar="24h", help="How far back (15m, 24h, 7d), or a time.  [default: 24h]")
@click.option(
    "--limit", type=click.IntRange(1, 1_000_000), metavar="N", help="At most so many.  [default: 10000]"
)
@click.option("--where", metavar="SQL", help="Only records on which this condition holds.")
@click.option(
    "--examples", type=click.IntRange(0, 1_000), metavar="N", help="Name so many of a kind.  [default: 20]"
)
@click.pass_obj
def replay(
    shell: Shell,
    /,
    target: str,
    row: int | None,
    against: str | None,
    since: str | None,
    limit: int | None,
    where: str | None,
    examples: int | None,
) -> int:
    """Replay a logged request, or logged traffic by another version.

    A request is asked again of the version that answered it, with the features of the log; the status is 1
    when something else comes out, or a row cannot be replayed. Traffic is asked of any version, to see what
    would change. Neither is logged.

    \b
      fairlead replay 0192f0c1-6a52-7b3e-8a94-0d2f5f3f9d11
      fairlead replay shop --against v3 --since 24h --where "use_case = 'checkout'"
    """
    given = {"--since": since, "--limit": limit, "--where": where, "--examples": examples}
    if against is None:
        for name, value in given.items():
            if value is not None:
                raise click.UsageError(
                    f"{name} is for the traffic of a model; name a version with --against."
                )
        return _request(shell, target, row)
    if row is not None:
        raise click.UsageError("--row is for a request; leave out --against.")
    return _traffic(
        shell,
        target,
        against,
        since="24h" if since is None else since,
        limit=10_000 if limit is None else limit,
        where=where or "",
        examples=20 if examples is None else examples,
    )


def _request(shell: Shell, request_id: str, row: int | None) -> int:
    found = shell.admin.replay(request_id, row=row)
    shown: list[RenderableType] = []
    for replayed in found:
        shown += [_verdict(replayed), _facts(replayed)]
    shell.show(found, *shown)
    good = all(replayed.verdict in ("identical", "within_tolerance") for replayed in found)
    return DONE if good else REFUSED


def _verdict(replayed: Replayed) -> str:
    name = f"{escape(replayed.request_id)}#{replayed.row}"
    return f"{_SIGNS[replayed.verdict]}  {name}  [dim]{escape(replayed.explanation)}[/]"


def _facts(replayed: Replayed) -> RenderableType:
    logged, again = replayed.logged, replayed.replayed
    same = replayed.verdict == "identical" or again is None
    return facts(
        {
            "model": f"{replayed.model} {replayed.version or ''}".strip(),
            "at": replayed.at,
            "logged" if not same else "answer": _answer(logged),
            "replayed": None if same or again is None else _answer(again),
            "largest difference": replayed.largest_difference if not same else None,
            "runtime": logged.runtime,
            "runtime of the replay": None
            if again is None or again.runtime in (None, logged.runtime)
            else again.runtime,
            "degraded": replayed.degraded,
        }
    )


def _answer(answered: Any) -> str | None:
    if answered.status != "ok":
        broken = ", ".join(f"{each['field']}: {each['rule']}" for each in answered.violations)
        return f"{answered.error_code or answered.status}{f' ({broken})' if broken else ''}"
    parts = [_json(answered.prediction)]
    if answered.probabilities is not None:
        parts.append(_json(answered.probabilities))
    return " ".join(parts)


# --- traffic ------------------------------------------------------------------------------------------------


def _traffic(shell: Shell, model: str, against: str, **order: Any) -> int:
    job = shell.admin.start_replay(model, against, **order)
    with shell.counting(f"replaying {model} by {against}") as advance:
        try:
            found = shell.admin.replay_report(job.id, advance)
        except KeyboardInterrupt:
            shell.admin.cancel_replay(job.id)
            raise
    if not found.records:
        shell.show(found, f"[dim]No requests of {escape(model)} since {time_text(found.start)} UTC.[/]")
    else:
        shell.show(found, facts(_told(found)), *_tables(found))
    return DONE


def _told(found: ChangeReport) -> dict[str, str | None]:
    difference, probabilities = found.difference, found.probability_difference
    newest = " (the newest; there are more)" if found.truncated else ""
    return {
        "version": found.version,
        "against": counts_text(found.against),
        "records": f"{found.records:,}{newest}, of which {found.replayed:,} were replayed",
        "not replayable": counts_text(found.not_replayable),
        "changed": None
        if found.changed_share is None
        else f"{found.changed:,} of {found.compared:,} ({percent(100 * found.changed_share)})",
        "units": f"{found.units_changed:,} of {found.units:,} would be answered otherwise",
        "difference": None if difference is None else (
            f"mean {difference.mean:.3g}, absolute mean {difference.mean_absolute:.3g}, "
            f"p95 {difference.p95_absolute:.3g}, max {difference.max_absolute:.3g}"
        ),
        "probabilities": None if probabilities is None else (
            f"differ by {probabilities[0]:.3g} on average, by {probabilities[1]:.3g} at most"
        ),
        "new errors": counts_text(found.failed),
        "new violations": None
        if not found.rejected_rows
        else f"{found.rejected_rows:,} rows: {counts_text(found.rejected)}",
        "mended": f"{found.mended:,} rows on which the model failed" if found.mended else None,
        "latency of a row": latency_text(found.latency),
        "memory": f"{found.peak_bytes / 1e6:,.0f} MB",
        "between": f"{time_text(found.start)} and {time_text(found.end)} UTC",
    }  # fmt: skip


def _tables(found: ChangeReport) -> list[RenderableType]:
    shown: list[RenderableType] = []
    if found.confusion:
        shown.append(confusion_table(found.confusion, ("answered", found.version, "rows")))
    if found.segments:
        shown.append(segment_table(found.segments))
    if found.examples:
        rows = [
            [
                f"{escape(one.request_id)}#{one.row}",
                one.kind,
                escape(one.unit or ""),
                escape(_json(one.logged)),
                escape(_outcome(one)),
                "" if one.difference is None else f"{one.difference:.3g}",
            ]
            for one in found.examples
        ]
        columns = ("request", "kind", "unit", "answered", found.version, "difference")
        shown.append(table(columns, rows, right=("difference",)))
    return shown


def _outcome(one: ChangeExample) -> str:
    if one.kind == "rejected":
        return ", ".join(f"{each['field']}: {each['rule']}" for each in one.violations)
    return str(one.error_code) if one.kind == "failed" else _json(one.replayed)


def _json(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 100 else text[:99] + "…"
