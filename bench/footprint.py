"""What Fairlead costs before it does anything: start-up, memory, disk.

    python bench/footprint.py [--rounds 5] [--no-install] [--imports]

Prints JSON. `--imports` only measures what candidate libraries would cost a process. The installation sizes
need a package index and take a minute; `--no-install` leaves them out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.models import SAMPLE, iris_contract, iris_onnx
from tests.servers import Servers

IMPORTS = (
    "msgspec", "numpy", "onnxruntime", "uvloop, httptools, xxhash", "sqlalchemy", "pydantic", "fastapi",
    "click", "rich", "duckdb", "pyarrow",
)  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--no-install", action="store_true")
    options.add_argument("--imports", action="store_true")
    given = options.parse_args()
    if given.imports:
        found: dict[str, Any] = {"imports": imports(given.rounds)}
    else:
        found = {
            "help_ms": help_ms(given.rounds),
            **up(given.rounds),
            **({} if given.no_install else installed()),
        }
    print(json.dumps(found, indent=2))


def imports(rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds and megabytes that importing each library adds to an empty process (medians)."""
    empty = [_import("pass") for _ in range(rounds)]
    base = [statistics.median(column) for column in zip(*empty, strict=True)]
    table = {}
    for name in IMPORTS:
        runs = [_import(f"import {name}") for _ in range(rounds)]
        seconds, megabytes = (statistics.median(column) for column in zip(*runs, strict=True))
        table[name] = {"ms": round(1000 * (seconds - base[0]), 1), "MB": round(megabytes - base[1], 1)}
    return table


def _import(statement: str) -> tuple[float, float]:
    # Not ru_maxrss: that survives exec, and would be the size of this process.
    script = f"{statement}\nprint(open('/proc/self/statm').read())"
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    pages = int(done.stdout.split()[1])
    return time.perf_counter() - started, pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def help_ms(rounds: int) -> dict[str, Any]:
    """`fairlead --help`, in milliseconds."""
    times = []
    for _ in range(max(rounds, 10)):
        started = time.perf_counter()
        subprocess.run([Path(sys.executable).parent / "fairlead", "--help"], capture_output=True, check=True)
        times.append(1000 * (time.perf_counter() - started))
    return _summary(times)


def up(rounds: int) -> dict[str, Any]:
    """From `fairlead up` on a folder with a model in production to the first right answer; memory then."""
    import fairlead

    seconds, resident = [], []
    with tempfile.TemporaryDirectory() as scratch:
        servers = Servers(Path(scratch) / "data", workers=2)
        with servers:
            fairlead.register(
                iris_onnx(), "iris", "v1", contract=iris_contract(), set_production=True,
                admin_url=servers.admin_url,
            )  # fmt: skip
        for _ in range(rounds):
            started = time.perf_counter()
            starting = subprocess.Popen(
                [sys.executable, "-m", "fairlead", "up", *servers._flags],
                env=servers.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            servers.process = starting
            with fairlead.Client(servers.url) as client:
                while True:
                    try:
                        answer = client.predict("iris", SAMPLE)
                    except fairlead.FairleadError:
                        time.sleep(0.01)
                    else:
                        break
            assert answer.prediction == 0
            seconds.append(time.perf_counter() - started)
            time.sleep(1.0)
            for report in servers.gateways():
                models = sum(report.models["iris"].loaded.values())
                resident.append((_resident(report.pid) - models) / 2**20)
            servers.stop()
    return {"up_to_first_answer_s": _summary(seconds), "gateway_MB_beside_models": _summary(resident)}


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def installed() -> dict[str, Any]:
    """Megabytes on disk of a full installation, and of what a gateway alone needs."""
    uv = shutil.which("uv") or str(ROOT / ".venv" / "uv" / "bin" / "uv")
    sizes = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, arguments in {
            "install_full_MB": ["-c", "requirements/dev.txt", "."],
            "install_gateway_MB": ["-r", "requirements/gateway.txt"],
        }.items():
            target = Path(scratch) / name
            subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(target)], check=True, cwd=ROOT)
            python = str(target / "bin" / "python")
            command = [uv, "pip", "install", "-q", "--link-mode=copy", "--python", python]
            subprocess.run([*command, *arguments], check=True, cwd=ROOT)
            if name == "install_gateway_MB":
                subprocess.run([*command, "--no-deps", "."], check=True, cwd=ROOT)
                check = "import fairlead.supervise, fairlead.gateway.process"
                subprocess.run([python, "-c", check], check=True)
            files = (path for path in target.rglob("*") if path.is_file() and not path.is_symlink())
            sizes[name] = round(sum(path.stat().st_size for path in files) / 1e6, 1)
    return sizes


def _summary(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "least": round(min(values), 3),
        "most": round(max(values), 3),
    }


if __name__ == "__main__":
    main()
