"""Pins every dependency with its hashes: dev.txt for work, gateway.txt for a gateway alone, data.txt for the
packages of which only the data are read.

No file may name an index host: where packages come from is the reader's configuration, not ours.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
UV = shutil.which("uv") or str(ROOT / ".venv" / "uv" / "bin" / "uv")
COMMON = [
    "--universal", "--python-version", "3.11", "--generate-hashes",
    "--no-emit-index-url", "--no-emit-find-links", "--no-header", "--quiet",
]  # fmt: skip
GROUPS = ("test", "demo", "check", "bench", "build")


def main() -> None:
    groups = [argument for name in GROUPS for argument in ("--group", f"pyproject.toml:{name}")]
    compile_lock("pyproject.toml", "dev.txt", "--extra", "all", *groups)
    compile_lock("requirements/gateway.in", "gateway.txt")
    compile_lock("requirements/data.in", "data.txt", "--no-deps")


def compile_lock(source: str, target: str, *options: str) -> None:
    command = [UV, "pip", "compile", source, "-o", f"requirements/{target}", *COMMON, *options, *sys.argv[1:]]
    subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
