"""Commands of retraining: what would retrain a model, and what came of it when it did."""

from __future__ import annotations

import time

import click
from rich.console import RenderableType
from rich.markup import escape
from rich.text import Text

from fairlead.cli.shell import DONE, REFUSED, Command, Shell
from fairlead.cli.tables import table, time_text
from fairlead.client.retraining import RetrainingJob

__all__ = ["retrain", "triggers"]

_LOOK_SECONDS = 0.5
_STYLES = {"promoted": "green", "kept": "green", "failed": "red", "lost": "yellow", "rolled-back": "red"}


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model", required=False)
@click.pass_obj
def triggers(shell: Shell, /, model: str | None) -> None:
    """Show what would retrain the models, and what each waits for.

    \b
      fairlead triggers shop

    Policies and trainers stand in the server's settings: `[retraining.shop]` in fairlead.toml.
    """
    found = shell.admin.triggers(model)
    if not found:
        whose = "any model" if model is None else escape(model)
        shell.show(found, f"[dim]The server's settings do not say how {whose} is retrained.[/]")
        return
    rows: list[list[RenderableType]] = [
        [
            escape(one.model),
            escape(str(one.policy["trainer"])),
            _every(one.policy["every"]),
            escape(", ".join(one.policy["on"])),
            one.job or "–",
            escape(one.sentence),
        ]
        for one in found
    ]
    shell.show(found, table(("model", "trainer", "every", "on alarms of", "under way", "now"), rows))


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model")
@click.option("--reason", default="", metavar="TEXT", help="Why; noted with it.")
@click.option("--force", is_flag=True, help="Go past cooldown and budget.")
@click.option("--wait", is_flag=True, help="Wait until it is over; 0 when its candidate got through.")
@click.option("--list", "listed", is_flag=True, help="Show the model's retrainings instead.")
@click.option("--log", metavar="ID", help="Show what the trainer of that one has said instead.")
@click.option("--cancel", metavar="ID", help="End that one instead, before its rollout begins.")
@click.pass_obj
def retrain(
    shell: Shell,
    /,
    model: str,
    reason: str,
    force: bool,
    wait: bool,
    listed: bool,
    log: str | None,
    cancel: str | None,
) -> int:
    """Retrain a model now: rows from the log, the trainer, the gate, a rollout.

    \b
      fairlead retrain shop --reason "the autumn range is in" --wait
      fairlead retrain shop --list

    It goes on by itself, whether or not this command waits. By which trainer, and how, stands in the server's
    settings: `[retraining.shop]` in fairlead.toml.
    """
    if listed + (log is not None) + (cancel is not None) > 1 or (
        (listed or log or cancel) and (wait or force)
    ):
        raise click.UsageError("Give one of --list, --log and --cancel, and nothing else with it.")
    if log is not None:
        text = shell.admin.retraining_log(model, log)
        shell.show({"id": log, "log": text}, Text(text))
        return DONE
    if cancel is not None:
        done = shell.admin.cancel_retraining(model, cancel, why=reason)
        shell.show(done, f"[green]✓[/] Retraining {done.id} of {escape(model)} is cancelled.")
        return DONE
    if listed:
        found = shell.admin.retrainings(model)
        if not found:
            shell.show(found, f"[dim]{escape(model)} was not retrained yet.[/]")
            return DONE
        shell.show(found, _table(found))
        return DONE
    job = shell.admin.retrain(model, why=reason, force=force)
    if not wait:
        shell.show(
            job, f"[green]✓[/] Retraining {job.id} of {escape(model)} goes on by itself.",
            f"  fairlead retrain {escape(model)} --list",
        )  # fmt: skip
        return DONE
    job = _until_over(shell, job)
    shell.show(job, _table((job,)))
    return DONE if job.ended in ("promoted", "kept") else REFUSED


def _until_over(shell: Shell, job: RetrainingJob) -> RetrainingJob:
    told = ""
    while not job.over:
        if job.told != told:
            told = job.told
            shell.note(f"{job.state}: {told}")
        time.sleep(_LOOK_SECONDS)
        job = shell.admin.retraining(job.model, job.id)
    return job


def _table(jobs: tuple[RetrainingJob, ...]) -> RenderableType:
    rows: list[list[RenderableType]] = []
    for job in jobs:
        state = job.ended or job.state
        rows.append(
            [
                job.id,
                escape(job.cause.kind),
                escape(job.version),
                escape(job.champion),
                Text(state, style=_STYLES.get(state, "")),
                "" if job.rows is None else f"{job.rows.trained:,} + {job.rows.held:,}",
                time_text(job.created_at),
                escape(job.told),
            ]
        )
    columns = (
        "id",
        "cause",
        "candidate",
        "champion",
        "state",
        "rows + held out",
        "when (UTC)",
        "how it stands",
    )
    return table(columns, rows, right=("rows + held out",))


def _every(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds / 86_400:g} d" if seconds >= 86_400 else f"{seconds:g} s"
