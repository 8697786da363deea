"""One role in a process of its own: `python -m fairlead.process ROLE`, started by the supervisor.

The resolved settings come in an environment variable, so that a child sees exactly what its parent decided.
"""

from __future__ import annotations

import ctypes
import importlib.abc
import os
import signal
import socket
import sys
from pathlib import Path

import msgspec

from fairlead.errors import FairleadError
from fairlead.settings import Settings
from fairlead.telemetry.logs import configure_logs

__all__ = ["RESOLVED", "main"]

RESOLVED = "_FAIRLEAD_RESOLVED"
_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Runs the role until it ends; 1 when it could not start."""
    role = arguments[0]
    settings = msgspec.json.decode(os.environ.pop(RESOLVED), type=Settings)
    configure_logs(role, level=settings.log_level, form=settings.log_format)
    _die_with_parent()
    _name_process(role)
    try:
        match role:
            case "gateway":
                from fairlead.gateway.process import run_gateway

                slot, descriptor = int(arguments[1]), int(arguments[2])
                run_gateway(settings, slot, socket.socket(fileno=descriptor))
            case "models":
                from fairlead.engine.host import run_host

                run_host(settings.folder / "run", socket.socket(fileno=int(arguments[1])))
            case "agent":
                from fairlead.agent import run_agent

                run_agent(settings)
            case "control":
                from fairlead.app import run_control

                run_control(settings)
            case "ingest":
                _hide("pandas")
                from fairlead.predictions.server import run_ingest

                run_ingest(settings)
            case _:
                raise ValueError(f"no such role: {role}")
    except FairleadError as error:
        print(f"fairlead {role}: {error}", file=sys.stderr)
        return 1
    return 0


def _hide(package: str) -> None:
    """Makes it as if the package were not installed. Arrow imports pandas where it is, to know its objects:
    none come to ingest, and the import takes longer than all that ingest needs.
    """

    class Hidden(importlib.abc.MetaPathFinder):
        def find_spec(self, fullname: str, path: object, target: object = None) -> None:
            if fullname == package:
                raise ModuleNotFoundError(f"{package} is not used in this process", name=package)

    sys.meta_path.insert(0, Hidden())


def _die_with_parent() -> None:
    """A child never outlives a supervisor that was killed: nobody would restart it or free its port."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _name_process(role: str) -> None:
    Path("/proc/self/comm").write_text(f"fl-{role}"[:15])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
