"""Commands that run a server on this machine, and `version`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fairlead import __version__
from fairlead.cli.shell import Command, Shell

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fairlead.supervise import Supervisor

__all__ = ["control", "demo", "gateway", "ingest", "migrate", "up", "version"]

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = {
    "data": click.option("--data", metavar="DIR", help="Folder that holds all state of this machine."),
    "host": click.option("--host", metavar="H", help="Address that the gateways listen on."),
    "port": click.option("--port", type=int, metavar="P", help="Port of the data plane."),
    "grpc_port": click.option(
        "--grpc-port", type=int, metavar="P", help="Port of the data plane's gRPC; 0 switches it off."
    ),
    "admin_port": click.option("--admin-port", type=int, metavar="P", help="Port of the admin API."),
    "workers": click.option("--workers", type=int, metavar="N", help="Gateway workers; 0 is one per core."),
    "trust_pickle": click.option(
        "--trust-pickle",
        is_flag=True,
        default=None,
        help="Allow versions that run pickled code, each in a process of its own.",
    ),
    "default_model": click.option("--default-model", metavar="M", help="Model that plain /predict asks."),
}


def _settings_options(*names: str) -> Callable[[F], F]:
    def add(function: F) -> F:
        for name in reversed(names):
            function = _OPTIONS[name](function)
        return function

    return add


@click.command(cls=Command)
@_settings_options(
    "data", "host", "port", "grpc_port", "admin_port", "workers", "trust_pickle", "default_model"
)
@click.pass_obj
def up(shell: Shell, /, **flags: Any) -> None:
    """Run everything on this machine until Ctrl-C.

    \b
      fairlead up --data /srv/fairlead --workers 4

    Gateways answer predictions, control answers the admin API, ingest keeps the prediction log. All state
    lies in the data folder. Other settings come from `fairlead.toml` or the environment; see the reference.
    """
    _run(shell, flags, ("gateway", "agent", "control", "ingest"))


@click.command(cls=Command)
@_settings_options("data", "host", "port", "grpc_port", "workers", "trust_pickle", "default_model")
@click.pass_obj
def gateway(shell: Shell, /, **flags: Any) -> None:
    """Run the gateways and their agent alone, for a cluster.

    \b
      fairlead gateway --data /srv/fairlead

    They need the database and the artifact store of the cluster to learn what to serve, and neither to go on
    serving it.
    """
    _run(shell, flags, ("gateway", "agent"))


@click.command(cls=Command)
@_settings_options("data", "admin_port")
@click.pass_obj
def control(shell: Shell, /, **flags: Any) -> None:
    """Run the admin API alone, for a cluster.

    \b
      fairlead control --admin-port 8080
    """
    _run(shell, flags, ("control",))


@click.command(cls=Command)
@_settings_options("data")
@click.pass_obj
def ingest(shell: Shell, /, **flags: Any) -> None:
    """Run the ingestion of the prediction log alone, for a cluster.

    \b
      fairlead ingest --data /srv/fairlead

    One per machine that has gateways, on their data folder.
    """
    _run(shell, flags, ("ingest",))


@click.command(cls=Command)
@_settings_options("data")
@click.pass_obj
def migrate(shell: Shell, /, **flags: Any) -> None:
    """Bring the database to this release's schema.

    \b
      fairlead migrate

    `fairlead up` does it by itself. Doing it twice does nothing.
    """
    from fairlead.settings import load_settings
    from fairlead.stores.database import Database

    settings = load_settings(flags)
    settings.folder.mkdir(parents=True, exist_ok=True)
    database = Database(settings.database)
    try:
        database.migrate()
        shown = database.url.render_as_string(hide_password=True)
    finally:
        database.close()
    shell.show({"database": shown, "current": True}, f"[green]✓[/] {shown} has the schema of {__version__}.")


@click.command(cls=Command)
@click.option("--exit", "leave", is_flag=True, help="End by itself; status 0 only if every step held.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("demo-data"),
    show_default=True,
    metavar="DIR",
    help="Folder of its servers; what was there is removed.",
)
def demo(leave: bool, data: Path) -> int:
    """Show the whole story on real data.

    \b
      fairlead demo --exit

    Starts Fairlead, trains two versions of a model, registers and serves them, sends traffic, and runs a
    canary that is promoted and one that is rolled back. Then it stays up until Ctrl-C.
    """
    from fairlead.demo.main import main

    return main(leave=leave, folder=data)


@click.command(cls=Command)
@click.pass_obj
def version(shell: Shell) -> None:
    """Print the release of Fairlead.

    \b
      fairlead version
    """
    shell.show({"fairlead": __version__}, f"fairlead {__version__}")


# --- running ------------------------------------------------------------------------------------------------


def _run(shell: Shell, flags: dict[str, Any], roles: tuple[str, ...]) -> None:
    from fairlead.settings import load_settings
    from fairlead.supervise import Supervisor
    from fairlead.telemetry.logs import configure_logs

    settings = load_settings(flags)
    configure_logs("supervise", level=settings.log_level, form=settings.log_format)
    if "control" in roles:
        from fairlead.app import verify_configured

        verify_configured(settings)
    supervisor = Supervisor(settings, roles)
    supervisor.run(lambda running: shell.show(_addresses(running, roles), _banner(running, roles)))


def _addresses(supervisor: Supervisor, roles: tuple[str, ...]) -> dict[str, Any]:
    settings = supervisor.settings
    found: dict[str, Any] = {"fairlead": __version__, "data": str(settings.folder), "roles": list(roles)}
    if "gateway" in roles:
        found["url"] = f"http://{_reachable(settings.host)}:{supervisor.port}"
        found["workers"] = settings.gateway_workers
    if "control" in roles:
        found["admin_url"] = f"http://{_reachable(settings.admin_host)}:{settings.admin_port}"
    return found


def _banner(supervisor: Supervisor, roles: tuple[str, ...]) -> RenderableType:
    from rich.markup import escape
    from rich.panel import Panel
    from rich.table import Table

    found = _addresses(supervisor, roles)
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    if "url" in found:
        workers = found["workers"]
        facts.add_row("predictions", f"[bold cyan]{found['url']}[/]  {workers} worker{'s' * (workers != 1)}")
    if "admin_url" in found:
        facts.add_row("admin API", f"[bold cyan]{found['admin_url']}[/]  documented at /docs")
    facts.add_row("data folder", escape(found["data"]))
    facts.add_row("prediction log", escape(str(supervisor.folder.log)))
    facts.add_row("server's log", "here, on standard error")
    if "url" in found and "admin_url" in found:
        facts.add_row()
        for index, line in enumerate(_next_steps(found)):
            facts.add_row("" if index else "next", f"[bold]{line}[/]")
    return Panel(facts, title=f"[bold]Fairlead {__version__}[/] is up", title_align="left", expand=False)


def _next_steps(found: dict[str, Any]) -> list[str]:
    addresses = {"FAIRLEAD_URL": found["url"], "FAIRLEAD_ADMIN_URL": found["admin_url"]}
    usual = {"FAIRLEAD_URL": "http://127.0.0.1:8000", "FAIRLEAD_ADMIN_URL": "http://127.0.0.1:8080"}
    return [
        *(f"export {name}={url}" for name, url in addresses.items() if url != usual[name]),
        "fairlead register model.onnx --model shop --version v1",
        "fairlead deploy shop v1 --strategy direct",
        "fairlead status --watch",
    ]


def _reachable(host: str) -> str:
    """The address to call; one that stands for all of a machine's is no address to call."""
    if host in ("0.0.0.0", "::", ""):
        return "localhost"
    return f"[{host}]" if ":" in host else host
