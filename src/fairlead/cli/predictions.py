"""Commands about predictions: ask for one, look them up, report what became of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from fairlead.cli.shell import Command, Group, Shell
from fairlead.cli.syncs import sync_command, syncs_command
from fairlead.cli.tables import facts, table

__all__ = ["outcomes", "predict", "predictions"]


@click.command(cls=Command, talks_to=("gateway",), json=False)
@click.argument("model")
@click.option(
    "--json",
    "features",
    required=True,
    metavar="FEATURES",
    help="The features as a JSON object; - reads them.",
)
@click.option("--unit", metavar="U", help="User or entity that traffic is split by.")
@click.option("--entity", metavar="E", help="Entity that the features are about.")
@click.option("--request-id", metavar="ID", help="Name of the request; else one is made.")
@click.option("--probabilities", is_flag=True, help="Answer the probability of each class, too.")
@click.option("--explain", is_flag=True, help="Answer the leading features, too, where that is cheap.")
@click.option("--pin", metavar="V", help="Ask this live version, whatever the traffic says.")
@click.option("--use-case", metavar="NAME", help="What the prediction is for; noted in the log.")
@click.pass_obj
def predict(
    shell: Shell,
    /,
    model: str,
    features: str,
    unit: str | None,
    entity: str | None,
    request_id: str | None,
    probabilities: bool,
    explain: bool,
    pin: str | None,
    use_case: str | None,
) -> None:
    """Ask a model for one prediction.

    The answer is the whole envelope as JSON. Here --json takes the features:

    \b
      fairlead predict shop --json '{"age": 31, "country": "DE"}' --unit user-42
    """
    text = sys.stdin.read() if features == "-" else features
    try:
        document = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise click.BadParameter(f"{error}.", param_hint="--json") from error
    if not isinstance(document, dict):
        raise click.BadParameter('features are an object, as in {"age": 31}.', param_hint="--json")
    prediction = shell.client.predict(
        model,
        document,
        unit=unit,
        entity=entity,
        request_id=request_id,
        return_probabilities=probabilities,
        explain="top" if explain else None,
        version=pin,
        use_case=use_case,
    )
    shell.print_json(prediction)


# --- the log ------------------------------------------------------------------------------------------------


@click.group(cls=Group)
def predictions() -> None:
    """Query the prediction log.

    \b
      fairlead predictions sql "SELECT count(*) FROM predictions"
    """


@predictions.command("sql", talks_to=("admin",))
@click.argument("query", metavar="SELECT")
@click.pass_obj
def sql(shell: Shell, /, query: str) -> None:
    """Run a SELECT over the tables predictions and outcomes.

    \b
      fairlead predictions sql "SELECT served_version, count(*) FROM predictions GROUP BY 1"
    """
    answer = shell.admin.sql(query)
    rows = [[_cell(value) for value in row] for row in answer.rows]
    more = ["[dim]There are more rows than are shown: add a LIMIT or a WHERE.[/]"] if answer.truncated else []
    shell.show(answer, table(answer.columns, rows), *more)


@predictions.command("find", talks_to=("admin",))
@click.argument("request_id", metavar="REQUEST_ID")
@click.pass_obj
def find(shell: Shell, /, request_id: str) -> None:
    """Show the records of one request, and what became of it.

    \b
      fairlead predictions find 0192f7c1-…
    """
    records = shell.admin.record(request_id)
    shell.show(records, *(facts(record) for record in records))


def _cell(value: Any) -> str:
    if value is None:
        return "[dim]null[/]"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


# --- outcomes -----------------------------------------------------------------------------------------------


@click.group(cls=Group)
def outcomes() -> None:
    """Report what became of predictions, or let control read it.

    \b
      fairlead outcomes import sales.csv --model shop
    """


@outcomes.command("import", talks_to=("gateway",))
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", metavar="M", help="The model that all outcomes are about; else a field of each.")
@click.option(
    "--from-line", type=click.IntRange(1), default=1, metavar="N", help="Begin at this line of the file."
)
@click.pass_obj
def import_(shell: Shell, /, file: Path, model: str | None, from_line: int) -> None:
    """Report the outcomes in a file of JSON lines or CSV.

    \b
      fairlead outcomes import sales.csv --model shop

    Each line has request_id or unit, metric and value, and if wanted row, at, outcome_id, mode and model.
    Lines are sent in portions, each accepted as a whole or not at all. When one is refused, the command says
    from which line to go on; lines with an outcome_id count once however often they are sent.
    """
    from fairlead.cli.importing import import_outcomes

    with shell.progress(f"outcomes of {file.name}") as advance:
        accepted = import_outcomes(shell.client, file, model=model, from_line=from_line, advance=advance)
    shell.show({"accepted": accepted}, f"[green]✓[/] {accepted:,} outcomes accepted.")


outcomes.command("sync", talks_to=("admin",))(sync_command)
outcomes.command("syncs", talks_to=("admin",))(syncs_command)
