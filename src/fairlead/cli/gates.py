"""Commands of gates: a version is judged before it gets traffic, in a team's own build as well."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

import click
from rich.console import RenderableType
from rich.markup import escape
from rich.text import Text

from fairlead.cli.documents import document_of
from fairlead.cli.shell import DONE, REFUSED, Command, Shell
from fairlead.cli.tables import table, time_text
from fairlead.client.gates import GateCheck, GateRun

__all__ = ["gate", "gates"]

_LOOK_SECONDS = 0.2
_EXAMPLES, _FIELDS = 2, 5
_SHORT = 100
_STYLES = {
    "passed": "green",
    "failed": "red",
    "inconclusive": "yellow",
    "overridden": "yellow",
    "error": "red",
    "interrupted": "yellow",
}
_junit = click.option(
    "--junit", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write JUnit XML there."
)
_html = click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a page there."
)
_WORDS = {"inconclusive": "not told", "too_small": "too small"}


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model")
@click.argument("version")
@click.option(
    "--file", "-f", "path", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default="gate.toml", show_default=True, metavar="FILE", help="What is asked: TOML, YAML or JSON.",
)  # fmt: skip
@click.option(
    "--data", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="TABLE",
    help="The held-out rows, .csv or .parquet, in place of the file's own `data`.",
)  # fmt: skip
@click.option("--against", metavar="V", help="Compare with this version.  [default: the one in production]")
@_junit
@_html
@click.option("--why", default="", metavar="TEXT", help="Why; noted with the run.")
@click.pass_obj
def gate(
    shell: Shell,
    /,
    model: str,
    version: str,
    path: Path,
    data: Path | None,
    against: str | None,
    junit: Path | None,
    html: Path | None,
    why: str,
) -> int:
    """Judge a version beside the one in production, before it gets traffic.

    \b
      fairlead gate shop v2 --junit gate.xml --html gate.html

    Both versions answer the same held-out rows on the server; `fairlead init` writes a gate.toml to begin
    with. The status is 0 when the version passed, else 1. A version whose latest gate failed is not deployed.
    """
    document = document_of(path, "--file")
    rows = data or _rows_of(document, path)
    if data is not None:
        document = {**document, "data": data.name}
    with shell.progress(f"uploading {rows.name}" if rows else "asking") as advance:
        run = shell.admin.run_gate(
            model, version, document, data=rows, against=against, why=why, advance=advance
        )
    run = _until_over(shell, run)
    _documents(shell, run, junit, html)
    shell.show(run, *_shown(run))
    return DONE if run.state == "passed" else REFUSED


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model")
@click.argument("version", required=False)
@click.option(
    "--limit", type=click.IntRange(1, 1_000), default=20, show_default=True, metavar="N",
    help="How many to show.",
)  # fmt: skip
@click.option("--run", metavar="ID", help="One run, with everything that it found.")
@_junit
@_html
@click.pass_obj
def gates(
    shell: Shell, /, model: str, version: str | None, limit: int, run: str | None, junit: Path | None,
    html: Path | None,
) -> None:  # fmt: skip
    """Show the gate runs of a model, or all that one of them found.

    \b
      fairlead gates shop v2
      fairlead gates shop --run 4f1c2e7a --html gate.html

    The newest first; of one version, if it is named.
    """
    if run is not None:
        one = shell.admin.gate(model, run)
        _documents(shell, one, junit, html)
        shell.show(one, *_shown(one))
        return
    if junit or html:
        raise click.UsageError("--junit and --html are of one run: name it with --run.")
    found = shell.admin.gates(model, version=version, limit=limit)
    rows: list[list[RenderableType]] = [
        [
            run.id,
            escape(run.version),
            escape(run.against or "–"),
            Text(run.state, style=_STYLES.get(run.state, "")),
            time_text(run.created_at),
            escape(
                _short(
                    run.report.summary if run.report and run.state != "overridden" else run.reason or run.why
                )
            ),
        ]
        for run in found
    ]
    if not rows:
        shell.show(found, f"[dim]No gate was run for {escape(model)}.[/]")
        return
    shell.show(found, table(("run", "version", "against", "state", "when (UTC)", "found"), rows))


def _short(text: str) -> str:
    """As much of a text as a table of runs bears; with --json it is whole."""
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 1].rsplit(' ', 1)[0]} …"


def _rows_of(document: dict[str, Any], path: Path) -> Path | None:
    """The file that the gate names, which lies beside it."""
    named = document.get("data")
    if not isinstance(named, str):
        return None  # the server says what is wrong with it, if anything is
    found = path.parent / named
    if not found.is_file():
        raise click.BadParameter(f"There is no {found}, which it names as data.", param_hint="--file")
    return found


def _until_over(shell: Shell, run: GateRun) -> GateRun:
    shell.note(f"Gate run {run.id} goes on by itself, whether or not this command waits.")
    while not run.over:
        time.sleep(_LOOK_SECONDS)
        run = shell.admin.gate(run.model, run.id)
    return run


def _documents(shell: Shell, run: GateRun, junit: Path | None, html: Path | None) -> None:
    """Writes the forms of the report that were asked for."""
    if run.report is not None:
        _write(shell, run, junit, "junit")
        _write(shell, run, html, "page")


def _write(shell: Shell, run: GateRun, target: Path | None, form: Literal["page", "junit"]) -> None:
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(shell.admin.gate_document(run.model, run.id, form), "utf-8")
        shell.note(f"Wrote {target}.")


# --- how a run is shown -------------------------------------------------------------------------------------


def _shown(run: GateRun) -> list[RenderableType]:
    mark = "[green]✓[/]" if run.state == "passed" else "[red]✗[/]"
    report = run.report
    if report is None:
        return [f"{mark} The gate ended: {run.state}. {escape(run.reason or '')}"]
    rows = [_row(check) for check in sorted(report.checks, key=lambda check: not check.closes)]
    lines: list[RenderableType] = [f"{mark} {escape(report.summary)}", table(("", "check", "found"), rows)]
    for check in report.checks:
        if check.closes:
            examples = check.examples[:_EXAMPLES]
            lines += [f"[red]✗[/] {escape(check.name)}: {escape(_example(each))}" for each in examples]
            if more := len(check.examples) - len(examples):
                lines.append(f"  {more} more in --json, and whole rows in --html.")
    return lines


def _example(example: dict[str, Any]) -> str:
    """What of a case fits a terminal: of its rows only the fields that were changed, or the first few."""
    changed = example.get("changed") or {}
    said = [str(example["why"])] if example.get("why") else []
    for key, value in example.items():
        if key == "why":
            continue
        if isinstance(value, dict):
            kept = {name: value[name] for name in (changed or value) if name in value}
            shown = dict(list(kept.items())[:_FIELDS])
            left = len(kept) - len(shown)
            value = ", ".join(f"{name} {each}" for name, each in shown.items()) + (", …" if left else "")
        said.append(f"{key}: {value}")
    return "; ".join(said)


def _row(check: GateCheck) -> list[RenderableType]:
    style = "bold red" if check.closes else _STYLES.get(check.status, "dim")
    return [
        Text(_WORDS.get(check.status, check.status), style=style),
        escape(check.group),
        escape(check.text),
    ]
