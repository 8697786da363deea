"""`fairlead doctor`: looks at everything that Fairlead stands on and says what to mend."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import msgspec

from fairlead.app import verify_configured
from fairlead.cli.shell import DONE, REFUSED, Command, Shell
from fairlead.errors import FairleadError, PortInUse
from fairlead.serving.folder import DataFolder
from fairlead.settings import Settings, load_settings

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fairlead.stores.database import Database

__all__ = ["Finding", "doctor", "examine"]

_LIVE_SECONDS = 5.0
_SCARCE_BYTES = 2**30
_CLOCK_SECONDS = 2.0
_ANSWER_SECONDS = 2.0
_NO_BLOB = "0" * 64
_EXTRAS = {
    "sklearn": ("scikit-learn", "skl2onnx", "onnx", "onnxmltools"),
    "postgres": ("psycopg",),
    "redis": ("redis",),
}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at. `remedy` says what to do where the state is not `ok`."""

    about: str
    state: Literal["ok", "warning", "failed"]
    found: str
    remedy: str = ""


@click.command(cls=Command)
@click.option("--data", metavar="DIR", help="Folder that holds all state of this machine.")
@click.pass_obj
def doctor(shell: Shell, /, data: str | None) -> int:
    """Check this machine and its Fairlead, and say what to mend.

    \b
      fairlead doctor

    Changes nothing. The status is 1 when something is broken; warnings alone leave it 0.
    """
    findings = list(examine({"data": data}))
    shell.show(findings, _page(findings))
    return REFUSED if any(finding.state == "failed" for finding in findings) else DONE


def examine(flags: dict[str, Any]) -> Iterator[Finding]:
    """All findings, one after the other; what cannot be looked at is a finding, too."""
    yield _python()
    yield _libraries()
    try:
        settings = load_settings(flags)
        verify_configured(settings)
    except FairleadError as error:
        yield Finding(about="settings", state="failed", found=error.message, remedy=error.remedy)
        return
    yield Finding(about="settings", state="ok", found="all known, all valid")
    folder = DataFolder(settings.folder)
    looks: tuple[Callable[[Settings, DataFolder], Finding], ...] = (
        _data_folder,
        _disk,
        _port,
        _admin_port,
        _database,
        _artifacts,
        _gateways,
        _clock,
    )
    for look in looks:
        try:
            yield look(settings, folder)
        except (FairleadError, OSError) as error:
            about = look.__name__.strip("_").replace("_", " ")
            remedy = error.remedy if isinstance(error, FairleadError) else ""
            found = error.message if isinstance(error, FairleadError) else str(error)
            yield Finding(about=about, state="failed", found=found, remedy=remedy)


# --- the installation ---------------------------------------------------------------------------------------


def _python() -> Finding:
    found = f"{'.'.join(map(str, sys.version_info[:3]))} at {sys.executable}"
    return Finding(about="python", state="ok", found=found)


def _libraries() -> Finding:
    needed, optional = _requirements()
    missing = [name for name in needed if _version(name) is None]
    if missing:
        return Finding(
            about="libraries",
            state="failed",
            found=f"missing: {', '.join(missing)}",
            remedy="Run `pip install --upgrade fairlead`.",
        )
    extras = [name for name, parts in optional.items() if all(map(_version, parts))]
    found = f"onnxruntime {_version('onnxruntime')}; extras: {', '.join(extras) or 'none'}"
    protobuf = _version("protobuf")
    if "sklearn" in extras and protobuf and int(protobuf.partition(".")[0]) >= 7:
        return Finding(
            about="libraries",
            state="warning",
            found=f"protobuf {protobuf} breaks the conversion of some models",
            remedy="Run `pip install 'protobuf>=6.33,<7'`.",
        )
    return Finding(about="libraries", state="ok", found=found)


def _requirements() -> tuple[list[str], dict[str, tuple[str, ...]]]:
    lines = metadata.requires("fairlead") or []
    plain = [line for line in lines if ";" not in line]
    return [re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in plain], _EXTRAS


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


# --- this machine -------------------------------------------------------------------------------------------


def _data_folder(settings: Settings, folder: DataFolder) -> Finding:
    root = folder.root
    if not root.exists():
        return Finding(
            about="data folder", state="ok", found=f"{root} is not there yet; `fairlead up` makes it"
        )
    if not root.is_dir() or not os.access(root, os.W_OK | os.X_OK):
        return Finding(
            about="data folder",
            state="failed",
            found=f"{root} cannot be written",
            remedy="Change its owner, or choose another folder with --data.",
        )
    secret = root / "secret"
    if secret.exists() and secret.stat().st_mode & 0o077:
        return Finding(
            about="data folder",
            state="warning",
            found=f"{secret} can be read by others",
            remedy=f"Run `chmod 600 {secret}`.",
        )
    return Finding(about="data folder", state="ok", found=str(root))


def _disk(settings: Settings, folder: DataFolder) -> Finding:
    root = folder.root
    while not root.exists():
        root = root.parent
    free = shutil.disk_usage(root).free
    found = f"{free / 2**30:.1f} GiB free"
    if free < _SCARCE_BYTES:
        remedy = "Free some space: a full disk stops the prediction log, and then the gateways (log_on_full)."
        return Finding(about="disk", state="warning", found=found, remedy=remedy)
    return Finding(about="disk", state="ok", found=found)


def _port(settings: Settings, folder: DataFolder) -> Finding:
    return _listener("port", settings.host, settings.port, "/health/live")


def _admin_port(settings: Settings, folder: DataFolder) -> Finding:
    return _listener("admin port", settings.admin_host, settings.admin_port, "/health/live")


def _listener(about: str, host: str, port: int, path: str) -> Finding:
    from fairlead.supervise import require_free_port

    setting = about.replace(" ", "_")
    try:
        require_free_port(host, port, setting)
    except PortInUse as error:
        if _is_fairlead(host, port, path):
            return Finding(about=about, state="ok", found=f"a Fairlead answers on {host}:{port}")
        return Finding(about=about, state="failed", found=error.message, remedy=error.remedy)
    return Finding(about=about, state="ok", found=f"{host}:{port} is free")


def _is_fairlead(host: str, port: int, path: str) -> bool:
    """Whether what listens there answers HTTP as ours does."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        with socket.create_connection((address, port), _ANSWER_SECONDS) as connection:
            connection.sendall(request)
            head = connection.recv(64)
    except OSError:
        return False
    return head.startswith(b"HTTP/1.1 200")


def _clock(settings: Settings, folder: DataFolder) -> Finding:
    ahead = max((report.at for report in folder.read_reports()), default=0.0) - time.time()
    if ahead > _CLOCK_SECONDS:
        return Finding(
            about="clock",
            state="failed",
            found=f"this machine's clock went back: a gateway reported {ahead:.0f} s from now",
            remedy="Synchronise it (chrony or systemd-timesyncd), then restart Fairlead.",
        )
    if settings.database_url.startswith("postgres") and (away := _away_from_database(settings)) is not None:
        found = f"{abs(away):.1f} s {'ahead of' if away > 0 else 'behind'} the database's"
        if abs(away) > _CLOCK_SECONDS:
            remedy = "Synchronise both machines' clocks: who is live is decided by time."
            return Finding(about="clock", state="failed", found=found, remedy=remedy)
        return Finding(about="clock", state="ok", found=found)
    return Finding(about="clock", state="ok", found=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))


def _away_from_database(settings: Settings) -> float | None:
    import sqlalchemy as sa

    with _opened(settings) as database, database.read() as connection:
        there = connection.scalar(sa.select(sa.func.clock_timestamp()))
        return None if there is None else time.time() - there.timestamp()


# --- the stores ---------------------------------------------------------------------------------------------


class _opened:  # noqa: N801
    """The database of the settings, closed at the end."""

    def __init__(self, settings: Settings) -> None:
        from fairlead.stores.database import Database

        self._database = Database(settings.database)

    def __enter__(self) -> Database:
        return self._database

    def __exit__(self, *_: object) -> None:
        self._database.close()


def _database(settings: Settings, folder: DataFolder) -> Finding:
    with _opened(settings) as database:
        shown = database.url.render_as_string(hide_password=True)
        if database.is_sqlite and not Path(str(database.url.database)).exists():
            return Finding(
                about="database", state="ok", found=f"{shown} is not there yet; `fairlead up` makes it"
            )
        if not database.is_current():
            return Finding(
                about="database",
                state="failed",
                found=f"{shown} has another schema than this release",
                remedy="Run `fairlead migrate`, or upgrade this Fairlead if the database is newer.",
            )
        return Finding(about="database", state="ok", found=f"{shown} is current")


def _artifacts(settings: Settings, folder: DataFolder) -> Finding:
    from fairlead.stores.blobs import Blobs

    url = settings.artifacts
    if url.startswith("file://") and not Path(url.removeprefix("file://")).exists():
        return Finding(about="artifacts", state="ok", found=f"{url} is not there yet; `fairlead up` makes it")
    Blobs(url).has(_NO_BLOB)
    return Finding(about="artifacts", state="ok", found=f"{url} answers")


# --- what runs ----------------------------------------------------------------------------------------------


def _gateways(settings: Settings, folder: DataFolder) -> Finding:
    reports = folder.read_reports()
    if not reports:
        return Finding(about="gateways", state="ok", found="none runs on this folder")
    now = time.time()
    silent = [report.name for report in reports if now - report.at >= _LIVE_SECONDS]
    if silent:
        return Finding(
            about="gateways",
            state="warning",
            found=f"silent: {', '.join(silent)}",
            remedy="If Fairlead is running, look at its log; else this is what is left of the last run.",
        )
    overridden = {
        f"{model} is overridden to {state.override}"
        for report in reports
        for model, state in report.models.items()
        if state.override
    }
    if overridden:
        remedy = "It holds until the next change of traffic through control."
        return Finding(about="gateways", state="warning", found="; ".join(sorted(overridden)), remedy=remedy)
    failing = {
        f"{model}: {state.error}"
        for report in reports
        for model, state in report.models.items()
        if state.error
    }
    if failing:
        return Finding(
            about="gateways",
            state="failed",
            found="; ".join(sorted(failing)),
            remedy="They serve what they had before. Correct the version, or deploy another.",
        )
    return Finding(about="gateways", state="ok", found=f"{len(reports)} live: {_named(reports)}")


def _named(reports: list[Any]) -> str:
    return ", ".join(report.name for report in reports)


# --- for a person -------------------------------------------------------------------------------------------

_MARKS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "failed": "[red]✗[/]"}


def _page(findings: list[Finding]) -> RenderableType:
    from rich.markup import escape
    from rich.table import Table

    page = Table.grid(padding=(0, 1))
    page.add_column()
    page.add_column(style="bold")
    page.add_column(overflow="fold")
    for finding in findings:
        remedy = f"\n[dim]{escape(finding.remedy)}[/]" if finding.remedy else ""
        page.add_row(_MARKS[finding.state], finding.about, escape(finding.found) + remedy)
    return page
