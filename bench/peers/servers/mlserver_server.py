"""MLServer without workers of its own: writes the settings of one model and starts it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from onnx_model import BATCH, BATCH_ROWS, FILE, NAME, PORT

folder = Path.cwd() / "mlserver"
folder.mkdir(exist_ok=True)
grpc, metrics = (int(port) for port in os.environ["BENCH_MORE_PORTS"].split(","))
settings = {
    "host": "127.0.0.1", "http_port": PORT, "grpc_port": grpc, "metrics_port": metrics, "parallel_workers": 0,
    "debug": False,
}  # fmt: skip
model = {"name": NAME, "implementation": "mlserver_model.Onnx", "parameters": {"uri": FILE, "version": "v1"}}
if BATCH:
    model |= {"max_batch_size": BATCH_ROWS, "max_batch_time": 0.001}
(folder / "settings.json").write_text(json.dumps(settings))
(folder / "model-settings.json").write_text(json.dumps(model))
os.environ["PYTHONPATH"] = str(Path(__file__).parent)
program = str(Path(sys.executable).parent / "mlserver")
os.execv(program, [program, "start", str(folder)])
