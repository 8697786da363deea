"""Commands about models and their versions: look at them, name them, set them."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import RenderableType
from rich.markup import escape
from rich.text import Text

from fairlead.cli.shell import Command, Shell
from fairlead.cli.tables import facts, proof_text, stage_text, sureness_text, table, time_text
from fairlead.client.explanations import VersionFeatures
from fairlead.client.registered import Model, Version

__all__ = ["alias", "archive", "card", "configure", "contract", "models", "show", "versions"]

_NORMAL_95 = 1.959964


def _reference(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[str, str | None]:
    """`M` or `M@V`: a model, or a version of it by name or alias."""
    model, at, version = value.partition("@")
    version_required = parameter.metavar == "M@V"
    if not model or (at and not version) or (version_required and not version):
        wanted = "MODEL@VERSION" if version_required else "MODEL or MODEL@VERSION"
        raise click.BadParameter(f"{value!r} is not {wanted}, as in shop@v2.")
    return model, version or None


_MODEL = click.argument("reference", metavar="M[@V]", callback=_reference)
_VERSION = click.argument("reference", metavar="M@V", callback=_reference)
_why = click.option("--why", default="", metavar="TEXT", help="Why; noted in the audit log.")


@click.command(cls=Command, talks_to=("admin",))
@click.pass_obj
def models(shell: Shell, /) -> None:
    """List the models.

    \b
      fairlead models
    """
    found = shell.admin.models()
    rows = [
        [
            f"[bold]{model.name}[/]",
            f"[green]{model.production}[/]" if model.production else "[dim]none[/]",
            str(len(model.versions)),
            ", ".join(f"{name} → {version}" for name, version in model.aliases.items()),
            escape(model.description),
        ]
        for model in found
    ]
    columns = ("model", "production", "versions", "aliases", "description")
    example = "[bold]fairlead register model.onnx --model M --version V[/]"
    empty = f"No model is registered yet. Register one: {example}"
    shell.show(found, table(columns, rows, right=("versions",)) if rows else empty)


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model")
@click.pass_obj
def versions(shell: Shell, /, model: str) -> None:
    """List the versions of a model.

    \b
      fairlead versions shop
    """
    found = shell.admin.versions(model)
    rows: list[list[RenderableType]] = [
        [
            f"[bold]{version.version}[/]",
            stage_text(version.stage),
            escape(version.framework),
            ", ".join(f"{escape(name)} {value:g}" for name, value in version.metrics.items()),
            time_text(version.created_at),
            escape(version.created_by),
        ]
        for version in found
    ]
    shell.show(found, table(("version", "stage", "framework", "metrics", "registered (UTC)", "by"), rows))


@click.command(cls=Command, talks_to=("admin",))
@_MODEL
@click.pass_obj
def show(shell: Shell, /, reference: tuple[str, str | None]) -> None:
    """Show a model, or one version of it.

    \b
      fairlead show shop
      fairlead show shop@v2
    """
    model, name = reference
    if name is None:
        found = shell.admin.model(model)
        shell.show(found, _model_facts(found))
    else:
        version = shell.admin.version(model, name)
        known = shell.admin.version_features(model, version.version)
        import msgspec

        document = {**msgspec.to_builtins(version), "features": msgspec.to_builtins(known)}
        shell.show(document, _version_facts(version, known))


@click.command(cls=Command, talks_to=("admin",))
@_VERSION
@click.pass_obj
def card(shell: Shell, /, reference: tuple[str, str]) -> None:
    """Print the model card of a version as Markdown.

    \b
      fairlead card shop@v2 > card.md
    """
    text = shell.admin.card(*reference)
    if shell.json:
        shell.print_json({"card": text})
    else:
        click.echo(text, nl=False)


@click.command(cls=Command, talks_to=("admin",))
@_MODEL
@click.pass_obj
def contract(shell: Shell, /, reference: tuple[str, str | None]) -> None:
    """Print the data contract of a model as TOML.

    \b
      fairlead contract shop > contract.toml

    What is printed can be edited and given to `fairlead register --contract`.
    """
    from fairlead.contracts.document import to_toml

    found = shell.admin.contract(*reference)
    if shell.json:
        shell.print_json(found)
    else:
        click.echo(to_toml(found), nl=False)


@click.command(cls=Command, talks_to=("admin",))
@click.argument("model")
@click.argument("name")
@click.argument("version", required=False)
@click.option("--remove", is_flag=True, help="Take the alias away.")
@_why
@click.pass_obj
def alias(shell: Shell, /, model: str, name: str, version: str | None, remove: bool, why: str) -> None:
    """Point an alias at a version.

    \b
      fairlead alias shop champion v2

    Without a version it says what the alias means.
    """
    if remove and version:
        raise click.UsageError("--remove takes no version.")
    if version or remove:
        shell.admin.alias(model, name, version, why=why)
        said = f"[bold]{name}[/] means [bold]{version}[/] now." if version else f"[bold]{name}[/] is gone."
    else:
        version = shell.admin.resolve_alias(model, name)
        said = version
    shell.show({"model": model, "alias": name, "version": version}, said)


@click.command(cls=Command, talks_to=("admin",))
@_VERSION
@click.option("--undo", is_flag=True, help="Take it out again.")
@_why
@click.pass_obj
def archive(shell: Shell, /, reference: tuple[str, str], undo: bool, why: str) -> None:
    """Put a version away that takes no traffic.

    \b
      fairlead archive shop@v1
    """
    model, version = reference
    shell.admin.stage(model, version, "none" if undo else "archived", why=why)
    said = f"[green]✓[/] [bold]{version}[/] of {model} is {'no longer ' * undo}archived."
    shell.show({"model": model, "version": version, "stage": "none" if undo else "archived"}, said)


@click.command(cls=Command, talks_to=("admin",))
@_MODEL
@click.argument("changes", nargs=-1, metavar="[KEY=VALUE ...]")
@_why
@click.pass_obj
def configure(shell: Shell, /, reference: tuple[str, str | None], changes: tuple[str, ...], why: str) -> None:
    """Set serving settings of a model or a version.

    \b
      fairlead configure shop cache_seconds=60 timeout_ms=250
      fairlead configure shop@v2 cache_seconds=      (takes the value back)

    Without changes it shows what holds.
    """
    model, version = reference
    wanted = dict(map(_change, changes))
    if wanted:
        settings = shell.admin.configure(model, version, wanted, why=why)
    else:
        settings = shell.admin.settings(model, version)
    shell.show(settings, facts({**settings}))


def _change(text: str) -> tuple[str, Any]:
    """`key=value` with the value as JSON where it is JSON, else as text; empty is null."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE, as in cache_seconds=60.", param_hint="changes")
    if not value:
        return key, None
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _model_facts(model: Model) -> Any:
    return facts(
        {
            "model": Text(model.name, style="bold"),
            "description": model.description or None,
            "production": model.production or "none",
            "versions": model.versions,
            "aliases": [f"{name} → {version}" for name, version in model.aliases.items()] or None,
            "created": f"{time_text(model.created_at)} UTC by {model.created_by}",
        }
    )


def _version_facts(version: Version, known: VersionFeatures) -> Any:
    lineage = version.spec.get("lineage", {})
    runtime = version.spec.get("runtime", {})
    files = version.spec.get("manifest", {}).get("files", [])
    return facts(
        {
            "version": Text(f"{version.model} {version.version}", style="bold"),
            "stage": stage_text(version.stage),
            "digest": version.digest,
            "framework": version.framework,
            "runtime": runtime.get("kind"),
            "files": [f"{file['path']} ({file['size']:,} bytes)" for file in files] or None,
            **{f"metric {name}": value for name, value in version.metrics.items()},
            **{f"tag {name}": value for name, value in version.tags.items()},
            **lineage,
            "uncertainty": sureness_text(version.spec),
            "proof": proof_text(version.proof),
            "goes by": _goes_by(known),
            "leading features": known.leading.scale or known.leading.reason,
            "registered": f"{time_text(version.created_at)} UTC by {version.created_by}",
        }
    )


def _goes_by(known: VersionFeatures) -> list[str] | None:
    """The features that move its answers most, on its training data."""
    if known.importance is None:
        return None
    ranked = sorted(known.importance.features.items(), key=lambda item: -item[1].share)[:5]
    told = [f"{name} {one.share:.0%} ± {_NORMAL_95 * one.error:.0%}" for name, one in ranked if one.share]
    return told or None
