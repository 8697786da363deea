"""BentoML: starts `bentoml serve` for the service beside this file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
os.environ |= {
    "BENTOML_HOME": str(Path.cwd() / "bentoml"),
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
command = [
    sys.executable, "-m", "bentoml", "serve", "bentoml_service:Model", "--working-dir", str(HERE),
    "--host", "127.0.0.1", "--port", os.environ["BENCH_PORT"],
]  # fmt: skip
os.execv(sys.executable, command)
