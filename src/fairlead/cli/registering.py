"""`fairlead register`: a model file or folder becomes a version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fairlead.cli.shell import Command, Shell
from fairlead.cli.tables import facts, proof_text

__all__ = ["register"]


def _pairs(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE.")
        if key in pairs:
            raise click.BadParameter(f"{key!r} is given twice.")
        pairs[key] = value
    return pairs


def _numbers(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, float]:
    try:
        return {key: float(value) for key, value in _pairs(ctx, parameter, given).items()}
    except ValueError as error:
        raise click.BadParameter(f"{error}; a metric is a number.") from error


@click.command(cls=Command, talks_to=("admin",))
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--model", required=True, metavar="M", help="The model that it is a version of; made if new.")
@click.option("--version", required=True, metavar="V", help="The version's name; versions never change.")
@click.option("--reference", metavar="TABLE", help="Rows of the training data, .parquet or .csv.")
@click.option("--target", metavar="COLUMN", help="The column of the reference that is the answer.")
@click.option(
    "--calibration",
    metavar="TABLE",
    help="Rows that it was not trained on, .parquet or .csv, with the --target: how sure its answers are.",
)
@click.option("--contract", metavar="TOML", help="The data contract, .toml or .json; else it is inferred.")
@click.option(
    "--metric", "metrics", multiple=True, callback=_numbers, metavar="K=V", help="A training metric."
)
@click.option("--tag", "tags", multiple=True, callback=_pairs, metavar="K=V", help="A tag.")
@click.option("--training-data", metavar="TAG", help="Name of the data that it was trained on.")
@click.option("--run", metavar="URI", help="Address of the training run.")
@click.option("--description", metavar="TEXT", help="What the model is for.")
@click.option(
    "--tolerance", type=float, default=1e-5, show_default=True, help="How far a conversion may be off."
)
@click.option("--trust-pickle", is_flag=True, help="Upload a pickle as it is; the server has to allow it.")
@click.option("--set-production", is_flag=True, help="Give it all traffic at once.")
@click.option("--why", default="", metavar="TEXT", help="Why; noted in the audit log.")
@click.pass_obj
def register(shell: Shell, /, file: Path, reference: str | None, contract: str | None, **given: Any) -> None:
    """Register a model file or folder as a version.

    \b
      fairlead register model.onnx --model shop --version v2 --reference rows.parquet

    FILE is an .onnx file, a folder with one and whatever belongs to it, or a .pkl or .joblib file of a fitted
    scikit-learn model. Such a pickle is opened here, which runs its code on this machine, converted to ONNX,
    and the conversion is proven on the rows of --reference; the pickle itself is not sent. With
    --trust-pickle it is sent as it is and runs in an isolated process of the server.

    With --target the answers say how sure they are; rows of --calibration, which the model was not trained
    on, make that honest.

    The reference names the features of a model whose input is a matrix, in column order.
    """
    from fairlead.client.pickles import PICKLES
    from fairlead.client.register import register as send
    from fairlead.contracts.table import read_table_file

    if file.suffix.lower() in PICKLES and not given["trust_pickle"]:
        shell.note(f"Opening {file.name} here, on this machine: that runs the code of whoever made it.")
    apart = given.pop("calibration")
    if apart is not None and given["target"] is None:
        raise click.UsageError("--calibration needs --target: the column that is the answer.")
    table = None if reference is None else read_table_file(reference)
    with shell.progress(f"uploading {given['version']}") as advance:
        done = send(
            file,
            given.pop("model"),
            given.pop("version"),
            reference=table,
            calibration=None if apart is None else (read_table_file(apart), given["target"]),
            contract=None if contract is None else Path(contract),
            admin_url=shell.admin_url,
            advance=advance,
            **given,
        )
    inputs = [field["name"] for field in done.spec["contract"]["inputs"]]
    told = {
        "digest": done.digest,
        "framework": done.framework,
        "features": inputs if len(inputs) <= 12 else [*inputs[:12], f"… {len(inputs) - 12} more"],
        "proof": proof_text(done.proof),
        "stage": done.stage,
        "next": None if done.stage == "production" else f"fairlead deploy {done.model} {done.version}",
    }
    shell.show(done, f"[green]✓[/] [bold]{done.model} {done.version}[/] is registered.", facts(told))
