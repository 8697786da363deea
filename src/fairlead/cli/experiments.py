"""Commands of experiments: what split traffic has found out, and how long an experiment will take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from fairlead.cli.shell import DONE, REFUSED, Group, Shell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from fairlead.client.experiments import ExperimentReport, FoundOut, MetricResult, Range

__all__ = ["experiments"]

_SIGNS = {"better": "[green]✓[/]", "worse": "[red]✗[/]", "no difference": "[green]=[/]"}


class _ByModel(Group):
    """A group whose first word may be a model: then `show` is meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            return "show", self.commands["show"], args
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # Options may stand in front of the verb or the model: the group itself has none.
        if args and args[0].startswith("-") and args[0] not in ("--help", "-h"):
            verb = next((word for word in args if word in self.commands), "show")
            args = [verb, *(word for word in args if word != verb)]
        return super().parse_args(ctx, args)


@click.group(cls=_ByModel)
def experiments() -> None:
    """Show what an experiment has found out: the verdict, and the numbers under it.

    An experiment is a rollout that splits the traffic. `fairlead experiments M` is short for
    `fairlead experiments show M`.

    \b
      fairlead experiments shop
      fairlead experiments shop --metric revenue/orders --window 7d
      fairlead experiments plan --baseline 0.1 --lift 0.15 --units-per-day 1000
    """


@experiments.command("show", talks_to=("admin",))
@click.argument("model")
@click.argument("experiment", required=False)
@click.option("--list", "listed", is_flag=True, help="List the model's experiments.")
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME",
    help="An outcome to compare beside the rollout's own, or two as in revenue/orders. Repeatable.",
)  # fmt: skip
@click.option("--window", metavar="SPAN", help="How long after its first exposure a unit's outcomes count.")
@click.option("--lower-is-better", is_flag=True, help="Less of those metrics is better.")
@click.option("--audit", is_flag=True, help="Hold every record against the assignment of its plan.")
@click.option(
    "--export", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write the exposures to a file that ends in .parquet or .csv.",
)  # fmt: skip
@click.pass_obj
def show(
    shell: Shell,
    /,
    model: str,
    experiment: str | None,
    listed: bool,
    metrics: tuple[str, ...],
    window: str | None,
    lower_is_better: bool,
    audit: bool,
    export: Path | None,
) -> int:
    """Show what an experiment has found out.

    Without its name it is the model's latest. The verdict holds however often one looks.

    \b
      fairlead experiments shop
      fairlead experiments shop --metric revenue/orders --window 7d
      fairlead experiments shop --audit
      fairlead experiments shop --export exposures.parquet
    """
    if sum((listed, audit, export is not None)) > 1:
        raise click.UsageError("--list, --audit and --export are commands of their own: give one.")
    if audit:
        return _audit(shell, model, experiment or "latest")
    if export is not None:
        return _export(shell, model, experiment or "latest", export)
    if listed:
        found = shell.admin.experiments(model)
        from datetime import UTC, datetime

        from fairlead.cli.tables import ago, table

        now = datetime.now(UTC)
        rows = [
            [one.id, one.candidate, one.stable or "", one.strategy, one.state.replace("_", " "),
             one.goal or "", ago(one.started_at, now)]
            for one in found
        ]  # fmt: skip
        names = ["experiment", "candidate", "stable", "strategy", "state", "goal", "began"]
        shell.show(found, table(names, rows))
        return DONE
    told = shell.admin.experiment(
        model,
        experiment or "latest",
        metrics=metrics,
        window=window,
        higher_is="worse" if lower_is_better else "better",
    )
    shell.show(told, *_report(told))
    return DONE


def _audit(shell: Shell, model: str, experiment: str) -> int:
    from rich.markup import escape

    from fairlead.cli.tables import facts, table

    found = shell.admin.audit_experiment(model, experiment)
    told = found.audit
    sign = "[red]✗[/]" if told.differing else "[green]✓[/]"
    shown: list[RenderableType] = [f"{sign} [bold]{escape(told.sentence)}[/]"]
    shown.append(facts({kind: f"{count:,}" for kind, count in told.kinds.items()}))
    if told.not_recomputed:
        shown.append("Only counted, for the log does not tell what decided:")
        shown.append(facts({what: f"{count:,}" for what, count in told.not_recomputed.items()}))
    if told.different:
        rows = [
            [str(one.generation), escape(one.unit or ""), one.arm or "", one.expected_arm or "none",
             f"{one.records:,}", escape(one.request_id)]
            for one in told.different
        ]  # fmt: skip
        columns = ["generation", "unit", "logged", "by the plan", "records", "request"]
        shown.append(table(columns, rows, right=("records",)))
    shell.show(found, *shown)
    return REFUSED if told.differing else DONE


def _export(shell: Shell, model: str, experiment: str, file: Path) -> int:
    kinds: dict[str, Literal["csv", "parquet"]] = {".csv": "csv", ".parquet": "parquet"}
    kind = kinds.get(file.suffix.lower())
    if kind is None:
        raise click.BadParameter(f"{file.name} ends in neither .parquet nor .csv.", param_hint="--export")
    data = shell.admin.exposures(model, experiment, format=kind)
    made = file.with_name(f".{file.name}.part")
    try:
        made.write_bytes(data)
        made.replace(file)
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror}.") from error
    shell.show({"file": str(file), "bytes": len(data)}, f"[green]✓[/] {file} ({len(data):,} bytes)")
    return DONE


_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


@experiments.command("plan")
@click.option("--baseline", type=float, required=True, metavar="RATE", help="Control's rate, or its mean.")
@click.option("--lift", type=float, required=True, metavar="SHARE", help="Relative change to find: 0.15.")
@click.option("--deviation", type=float, metavar="SD", help="Of a mean: how much units differ.")
@click.option("--units-per-day", type=float, metavar="N", help="New units that come in a day.")
@click.option("--traffic", type=float, default=1.0, show_default=True, help="Part of them that takes part.")
@click.option("--share", type=_SHARE, default=0.5, show_default=True, help="The candidate's part of those.")
@click.option("--alpha", type=float, default=0.05, show_default=True, help="Chance of a false alarm.")
@click.option("--power", type=float, default=0.8, show_default=True, help="Chance to find what is there.")
@click.pass_obj
def plan(shell: Shell, /, baseline: float, lift: float, deviation: float | None, **more: Any) -> int:
    """Say how many units an experiment takes, and how many days.

    Watched: one may look at any time and stop as soon as there is a verdict. Fixed: one looks once, at the
    end.

    \b
      fairlead experiments plan --baseline 0.1 --lift 0.15 --units-per-day 1000
    """
    from fairlead.cli.tables import table

    found = _planned(baseline, lift, deviation, **more)
    rows = [[name, f"{one['units']:,}", "" if one["days"] is None else f"{one['days']:,}"]
            for name, one in found.items()]  # fmt: skip
    shell.show(found, table(["", "units of both arms", "days"], rows, right=("units of both arms", "days")))
    return DONE


def _planned(
    baseline: float,
    lift: float,
    deviation: float | None,
    *,
    units_per_day: float | None,
    traffic: float,
    share: float,
    alpha: float,
    power: float,
) -> dict[str, dict[str, int | None]]:
    """Units and days, watched and fixed."""
    from fairlead.experiments.planning import days_needed, units_for_means, units_for_proportions

    found: dict[str, dict[str, int | None]] = {}
    for name, watched in (("watched", True), ("fixed", False)):
        options: dict[str, Any] = {"alpha": alpha, "power": power, "share": share, "watched": watched}
        try:
            if deviation is None:
                units = units_for_proportions(baseline, baseline * (1.0 + lift), **options)
            else:
                units = units_for_means(deviation, baseline * lift, **options)
            days = (
                None if units_per_day is None else days_needed(units, units_per_day, share_of_traffic=traffic)
            )
        except ValueError as error:
            raise click.UsageError(f"{error}.") from error
        found[name] = {"units": units, "days": days}
    return found


def _report(told: FoundOut) -> Iterator[RenderableType]:
    from rich.markup import escape

    from fairlead.cli.tables import facts, table, time_text

    report, one = told.report, told.experiment
    yield f"{_SIGNS.get(report.finding, '[yellow]?[/]')} [bold]{escape(report.sentence)}[/]"
    if report.metrics:
        columns = ["metric", "kind", report.control, report.treated, "difference", "lift", "p", "better", ""]
        yield table(columns, [_row(metric) for metric in report.metrics], right=columns[2:8])
    yield facts(_facts(told))
    if len(one.phases) > 1:
        rows = [
            [str(phase.generation), "" if phase.since is None else time_text(phase.since),
             ", ".join(f"{arm} {weight:g} %" for arm, weight in phase.weights.items()),
             f"{phase.control_units:,}", f"{phase.treated_units:,}"]
            for phase in one.phases
        ]  # fmt: skip
        yield table(["generation", "since", "weights", report.control, report.treated], rows)


def _row(metric: MetricResult) -> list[str]:
    from rich.markup import escape

    belief = "" if metric.belief is None else f"{metric.belief.better:.1%}"
    kept = {True: "kept", False: "[red]broken[/]", None: ""}[metric.kept]
    return [
        escape(metric.metric),
        metric.kind,
        _mean(metric, metric.control.adjusted),
        _mean(metric, metric.treated.adjusted),
        _range(metric.difference, 100 if metric.shape == "proportion" else 1, ""),
        _range(metric.lift, 100, " %"),
        f"{metric.p_adjusted:.3g}",
        belief,
        kept or metric.finding,
    ]


def _mean(metric: MetricResult, mean: float | None) -> str:
    if mean is None:
        return ""
    return f"{100 * mean:.3g} %" if metric.shape == "proportion" else f"{mean:.4g}"


def _range(found: Range, factor: int, unit: str) -> str:
    if found.estimate is None or found.low is None or found.high is None:
        return ""
    return f"{factor * found.estimate:+.3g} ({factor * found.low:+.3g} to {factor * found.high:+.3g}){unit}"


def _facts(told: FoundOut) -> dict[str, str | None]:
    report, one = told.report, told.experiment
    removed = ", ".join(
        f"{metric.metric} {metric.removed:.0%} (of {metric.foreseen:,} units something was known)"
        for metric in report.metrics
        if metric.foreseen
    )
    return {
        "experiment": f"{one.id}, {one.strategy}, {one.state}",
        "split": f"{report.split_sentence} {_tests(report)}",
        "switched": f"{report.switched:,} units met the other arm later" if report.switched else None,
        "foreseen": f"variance taken out: {removed}" if removed else None,
        "losses": _losses(report),
        "alpha": f"{report.alpha:g}; intervals hold at every look",
    }


def _tests(report: ExperimentReport) -> str:
    split = report.split
    evidence = "proof" if split.log_e is None else f"e-value {10 ** min(split.log_e / 2.302585, 99):.3g}"
    return f"(at every look: {evidence}; chi-square p {split.p:.3g})"


def _losses(report: ExperimentReport) -> str | None:
    told = []
    for metric in report.metrics:
        if metric.belief is not None:
            shipped, kept = metric.belief.loss_if_shipped, metric.belief.loss_if_kept
            told.append(f"{metric.metric} {shipped:.3g} if shipped, {kept:.3g} if not")
    return "; ".join(told) or None
