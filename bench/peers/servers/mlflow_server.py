"""`mlflow models serve` with one worker; `prepare` saves the model in MLflow's own form first."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from onnx_model import FILE, PORT

saved = Path(os.environ["BENCH_PREPARED"]) / "model"
os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
if "prepare" in sys.argv:
    import mlflow.onnx
    import onnx

    mlflow.onnx.save_model(
        onnx.load(FILE),
        saved,
        onnx_execution_providers=["CPUExecutionProvider"],
        onnx_session_options={"intra_op_num_threads": 1, "inter_op_num_threads": 1},
        pip_requirements=["onnxruntime"],
    )
else:
    programs = Path(sys.executable).parent
    os.environ["PATH"] = f"{programs}:{os.environ['PATH']}"
    mlflow_program = str(programs / "mlflow")
    command = [
        mlflow_program, "models", "serve", "--model-uri", str(saved), "--env-manager", "local",
        "--host", "127.0.0.1", "--port", str(PORT), "--workers", "1",
    ]  # fmt: skip
    os.execv(mlflow_program, command)
