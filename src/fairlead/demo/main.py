"""`fairlead demo`: starts a whole Fairlead on free ports and an empty folder, and tells the story on it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from fairlead.demo.screen import Screen
from fairlead.errors import FairleadError, InvalidSetting

__all__ = ["main"]

_START_SECONDS = 30.0
_MARK = "made-by-the-demo"


def main(*, leave: bool = False, folder: Path = Path("demo-data")) -> int:
    """Tells the story; 0 when every step held. Without `leave` the servers then run on until Ctrl-C."""
    screen = Screen()
    _empty(folder)
    port, admin_port = _free_port(8000), _free_port(8080)
    url, admin_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}"
    screen.title(
        "Fairlead: from a fitted model to a watched canary",
        f"Data plane {url}, admin API {admin_url}/docs, everything in ./{folder}/",
    )
    started = time.perf_counter()
    servers = _start(folder, port, admin_port)
    try:
        _await(servers, admin_url)
        screen.holds(
            f"gateways, agent, control and ingest are up after {time.perf_counter() - started:.1f} s", True
        )
        from fairlead.demo.story import Story

        Story(screen, url, admin_url).tell()
    except FairleadError as error:
        screen.holds(f"the story broke off: {error}", False)
    except KeyboardInterrupt:
        screen.holds("the story was interrupted", False)
    else:
        if not screen.broken and not leave:
            _stay(screen, url, admin_url, folder, servers)
    finally:
        _stop(servers)
    seconds = time.perf_counter() - started
    if screen.broken:
        screen.say(f"\n[bold red]{len(screen.broken)} steps did not hold[/] (see {folder}/server.log).")
        return 1
    screen.say(f"\n[bold green]Every step held.[/] {seconds:.0f} s in all.")
    return 0


def _empty(folder: Path) -> None:
    """Makes the folder anew. What is there is removed only if an earlier demo made it."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / _MARK).exists():
            raise InvalidSetting(
                f"The folder {folder} holds something that no demo made.",
                remedy="Name another with --data, or remove it yourself.",
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).write_text(
        "Made by `fairlead demo`, which will remove this folder when it runs again.\n"
    )


def _start(folder: Path, port: int, admin_port: int) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD_")}
    command = [
        sys.executable, "-m", "fairlead", "up", "--data", str(folder), "--port", str(port),
        "--admin-port", str(admin_port), "--grpc-port", str(_free_port(8001)), "--workers", "2",
    ]  # fmt: skip
    with (folder / "server.log").open("wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, process_group=0)


def _await(servers: subprocess.Popen[bytes], admin_url: str) -> None:
    from fairlead.client.admin import Admin
    from fairlead.errors import AdminUnreachable

    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            Admin(admin_url).status()
        except AdminUnreachable:
            if servers.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return


def _stay(screen: Screen, url: str, admin_url: str, folder: Path, servers: subprocess.Popen[bytes]) -> None:
    screen.say(
        "\n[bold]Look around[/] (in another terminal; Ctrl-C here ends it):\n"
        f"  export FAIRLEAD_URL={url} FAIRLEAD_ADMIN_URL={admin_url}\n"
        "  fairlead status\n"
        "  fairlead audit buys-again\n"
        "  fairlead card buys-again@v2\n"
        '  fairlead predictions sql "SELECT arm, served_version, count(*) FROM predictions GROUP BY ALL"\n'
        f"  {admin_url}/docs   {url}/metrics   {url}/v1/models/buys-again/openapi.json\n"
        f"  server log: {folder}/server.log"
    )
    try:
        servers.wait()
    except KeyboardInterrupt:
        screen.say("")


def _stop(servers: subprocess.Popen[bytes]) -> None:
    if servers.poll() is None:
        servers.send_signal(signal.SIGTERM)
        servers.wait(60)


def _free_port(wanted: int) -> int:
    """The wanted port when nobody has it, else any free one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no port is free")
