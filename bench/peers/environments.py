"""An environment for each peer below `bench/peers/venvs/`, made with uv from `requirements/<name>.txt`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

__all__ = ["NotInstallable", "install", "python_of", "versions"]

HERE = Path(__file__).parent
_VERSIONS = """
import importlib.metadata, json, sys
print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))
"""


class NotInstallable(Exception):
    """The peer's packages cannot be had here; the text says what the installer said."""


def python_of(name: str | None) -> Path:
    """The interpreter of a peer's environment; of Fairlead's own for None."""
    return Path(sys.executable) if name is None else HERE / "venvs" / name / "bin" / "python"


def install(name: str) -> None:
    """Makes the environment, unless it is there for these very requirements. Raises `NotInstallable`."""
    wanted = (HERE / "requirements" / f"{name}.txt").read_text()
    stamp = HERE / "venvs" / name / ".installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    uv = os.environ.get("UV", "uv")
    folder, python = HERE / "venvs" / name, python_of(name)
    commands: list[list[str | Path]] = [
        [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, folder],
        [uv, "pip", "install", "--quiet", "--python", python, "-r", HERE / "requirements" / f"{name}.txt"],
    ]
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise NotInstallable(f"{uv} is not there; `make bench-peers` names it") from error
        if done.returncode:
            lines = [line.strip(" ×╰─▶") for line in done.stderr.splitlines() if line.strip()]
            raise NotInstallable("; ".join(lines[-3:])[:300] or f"{uv} ended with {done.returncode}")
    stamp.write_text(wanted)


def versions(name: str | None) -> dict[str, str]:
    """The installed versions of what the peer's requirements name."""
    if name is None:
        wanted = ["fairlead", "onnxruntime", "uvloop", "httptools", "numpy"]
    else:
        text = (HERE / "requirements" / f"{name}.txt").read_text()
        wanted = re.findall(r"^([A-Za-z][A-Za-z0-9-]*)", text, re.MULTILINE)
    command: list[str | Path] = [python_of(name), "-c", _VERSIONS, *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))
