"""The command that writes the files which a team's repository needs to release a model."""

from __future__ import annotations

from pathlib import Path

import click

from fairlead.cli.shell import Command, Shell

__all__ = ["init"]

_TEMPLATES = Path(__file__).parent / "templates"
_FILES = {
    "gate.toml": "gate.toml",
    "rollout.yaml": "rollout.yaml",
    ".github/workflows/MODEL.yml": "workflow.yml",
}
_NAME = "MODEL"


@click.command(cls=Command)
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--model", required=True, metavar="M", help="The model that the repository is about.")
@click.pass_obj
def init(shell: Shell, /, folder: Path, model: str) -> None:
    """Write a contract, a gate, a rollout and the workflow that uses them.

    \b
      fairlead init --model shop

    They are examples of a model that says whether somebody buys: change features, target and margins to your
    own. Nothing that is there is overwritten, and then nothing is written.
    """
    from fairlead.registry.versions import verify_name

    verify_name("model", model)
    texts = {"contract.toml": _contract(model)}
    for name, template in _FILES.items():
        text = (_TEMPLATES / template).read_text("utf-8")
        texts[name.replace(_NAME, model)] = text.replace(_NAME, model)
    there = [name for name in texts if (folder / name).exists()]
    if there:
        raise click.BadParameter(
            f"{', '.join(there)} is there already. Choose another folder, or move it away.", param_hint="DIR"
        )
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    lines = [f"[green]✓[/] {folder / name}" for name in texts]
    note = (
        "Change features and target to your own, then push a tag; or run the commands of the workflow here."
        f" The first version is deployed by hand: fairlead deploy {model} v1 --strategy direct"
    )
    shell.show({"files": [str(folder / name) for name in texts]}, *lines, f"[dim]{note}[/]")


def _contract(model: str) -> str:
    from fairlead.contracts.contract import Contract, Field, Output
    from fairlead.contracts.document import to_toml

    example = Contract(
        inputs=(
            Field(name="age", type="float", minimum=0.0, maximum=120.0),
            Field(name="country", type="string", categories=("DE", "FR", "IT"), slice=True),
            Field(name="orders", type="int", minimum=0.0),
        ),
        output=Output(kind="class", classes=(0, 1)),
    )
    said = f"# What {model} takes and answers, and what becomes of values that break a rule."
    return f"{said}\n\n{to_toml(example)}"
