"""The Open Inference Protocol: one row over gRPC, and a thousand rows of binary tensors over HTTP.

    python bench/inference.py [--rounds 5] [--seconds 3]

The forest of bench/gateway.py, one gateway on one core, h2load and wrk on the other, everything on. Beside
them in the same rounds: grpcio answering the same bytes and doing nothing, by asyncio and by threads (calls
are compared with the best of all), and the bare `session.run` of 1,000 rows. Needs wrk and h2load
(nghttp2-client). Prints JSON: medians and ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from bench.peers.fairlead_folder import lay_folder
from bench.peers.models import MODELS, make_models, rows_of, tensor
from bench.peers.processes import ServerProcess, cores, free_ports

MODEL = MODELS["forest"]
ROWS = 1_000
_LOADS = ((16, 1), (4, 16))
"""Connections, and streams on each."""
METHOD = "/inference.GRPCInferenceService/ModelInfer"
_METHODS = """
handler = grpc.unary_unary_rpc_method_handler(answer)
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(
    "inference.GRPCInferenceService", {"ModelInfer": handler})])
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
"""
_IDLE = {
    "asyncio": f"""
import sys, grpc, grpc.aio, uvloop
async def answer(request, context):
    return request
async def main():
    server = grpc.aio.server()
    {_METHODS.strip().replace(chr(10), chr(10) + "    ")}
    await server.start()
    await server.wait_for_termination()
uvloop.run(main())
""",
    "4 threads": f"""
import concurrent.futures, sys, grpc
def answer(request, context):
    return request
server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
{_METHODS.strip()}
server.start()
server.wait_for_termination()
""",
}
_SCRIPT = """
local file = io.open("%s", "rb")
local body = file:read("*a")
local head = {["Content-Type"] = "application/octet-stream", ["Inference-Header-Content-Length"] = "%d"}
request = function() return wrk.format("POST", "/v2/models/%s/infer", head, body) end
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=3)
    given = options.parse_args()
    for tool in ("wrk", "h2load"):
        if shutil.which(tool) is None:
            sys.exit(f"bench: {tool} is not installed; install it from the system's packages.")
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch), given.seconds)
        rounds = [bench.round() for _ in range(given.rounds)]
    medians = {name: round(statistics.median(found[name] for found in rounds), 1) for name in rounds[0]}
    tables = max(value for name, value in medians.items() if name.startswith("binary tensors"))
    calls = max(value for name, value in medians.items() if name.startswith("ModelInfer"))
    idle = max(value for name, value in medians.items() if name.startswith("idle grpcio"))
    ratios = {
        "ModelInfer of idle grpcio": round(calls / idle, 3),
        "binary tensors of session.run": round(tables / medians["session.run of 1,000, rows/s"], 3),
    }
    every = {name: sorted(round(found[name]) for found in rounds) for name in medians}
    print(json.dumps({"medians": medians, "ratios": ratios, "rounds": every}, indent=2))


class Bench:
    """The data folder, the bodies, and one measurement of each case."""

    def __init__(self, scratch: Path, seconds: int) -> None:
        self._scratch, self._seconds = scratch, seconds
        made = Path(__file__).parent / "peers" / "made"
        make_models(made, [MODEL.name])
        self._file = made / f"{MODEL.name}-v1.onnx"
        lay_folder(scratch / "data", made, MODEL)
        self._matrix = tensor(MODEL, rows_of(MODEL)[:ROWS])
        header = {
            "inputs": [
                {
                    "name": MODEL.input,
                    "shape": [ROWS, MODEL.width],
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": self._matrix.nbytes},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
        head = json.dumps(header).encode()
        (scratch / "table.bin").write_bytes(head + self._matrix.tobytes())
        (scratch / "table.lua").write_text(_SCRIPT % (scratch / "table.bin", len(head), MODEL.name))
        (scratch / "call.bin").write_bytes(_framed(self._matrix[:1]))

    def round(self) -> dict[str, float]:
        """Every case once."""
        found = {"session.run of 1,000, rows/s": self._raw()}
        for how, program in _IDLE.items():
            for connections, streams in _LOADS:
                name = f"idle grpcio ({how}), {connections} connections of {streams} streams, calls/s"
                found[name] = self._idle(program, connections, streams)
        with self._gateway() as (server, grpc):
            for connections in (1, 4):
                found[f"binary tensors, {connections} connections, rows/s"] = self._tables(
                    server, connections
                )
            for connections, streams in _LOADS:
                name = f"ModelInfer, {connections} connections of {streams} streams, calls/s"
                found[name] = self._calls(grpc, connections, streams)
        return found

    @contextmanager
    def _gateway(self) -> Iterator[tuple[ServerProcess, int]]:
        port, grpc = free_ports(2)
        environment = {
            "FAIRLEAD_DATA": str(self._scratch / "data"),
            "FAIRLEAD_PORT": str(port),
            "FAIRLEAD_GRPC_PORT": str(grpc),
            "FAIRLEAD_WORKERS": "1",
            "FAIRLEAD_LOG_LEVEL": "warning",
            # Every call asks the same: without a cache, each is a run.
            "FAIRLEAD_CACHE_MAX_BYTES": "0",
        }
        command = [sys.executable, "-m", "fairlead.supervise"]
        with ServerProcess(command, environment, self._scratch, port) as server:
            ready = f"/v2/models/{MODEL.name}/ready"
            server.await_right(ready, None, lambda raw: b"true" in raw)  # type: ignore[arg-type]
            yield server, grpc
        shutil.rmtree(self._scratch / "data" / "log", ignore_errors=True)

    def _tables(self, server: ServerProcess, connections: int) -> float:
        url = f"http://127.0.0.1:{server.port}"
        wrk = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{self._seconds}s",
            "-s",
            str(self._scratch / "table.lua"),
            url,
        ]
        done = subprocess.run(
            ["taskset", "-c", str(cores()[1]), *wrk], capture_output=True, text=True, check=True
        )
        rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
        if rate is None or "Non-2xx" in done.stdout:
            raise SystemExit(f"bench: binary tensors: {done.stdout[-300:]}")
        return float(rate[1]) * ROWS

    def _calls(self, port: int, connections: int, streams: int) -> float:
        h2load = [
            "h2load", f"-c{connections}", f"-m{streams}", "-t1", f"-D{self._seconds}", "--warm-up-time=1",
            "-d", str(self._scratch / "call.bin"), "-H", "content-type: application/grpc",
            "-H", "te: trailers", f"http://127.0.0.1:{port}{METHOD}",
        ]  # fmt: skip
        done = subprocess.run(["taskset", "-c", str(cores()[1]), *h2load], capture_output=True, text=True)
        rate = re.search(r"finished in .*?, ([\d.]+) req/s", done.stdout)
        failed = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", done.stdout)
        if rate is None or failed is None or int(failed[1]):
            raise SystemExit(f"bench: h2load: {done.stdout[-400:]}{done.stderr[-300:]}")
        return float(rate[1])

    def _idle(self, program: str, connections: int, streams: int) -> float:
        (port,) = free_ports(1)
        command = ["taskset", "-c", str(cores()[0]), sys.executable, "-c", program, str(port)]
        server = subprocess.Popen(command)
        try:
            time.sleep(1.0)
            return self._calls(port, connections, streams)
        finally:
            server.terminate()
            server.wait()

    def _raw(self) -> float:
        np.save(self._scratch / "rows.npy", self._matrix)
        code = (
            "import sys, time, numpy as np, onnxruntime as ort\n"
            "o = ort.SessionOptions(); o.intra_op_num_threads = 1\n"
            "s = ort.InferenceSession(sys.argv[1], o, providers=['CPUExecutionProvider'])\n"
            f"x = np.load(sys.argv[2]); names = ['label', 'probabilities']\n"
            f"n, t = 0, time.perf_counter()\n"
            f"while time.perf_counter() - t < 1: s.run(names, {{{MODEL.input!r}: x}}); n += len(x)\n"
            "print(n / (time.perf_counter() - t))\n"
        )
        command = ["taskset", "-c", str(cores()[0]), sys.executable, "-c", code, str(self._file)]
        done = subprocess.run(
            [*command, str(self._scratch / "rows.npy")], capture_output=True, text=True, check=True
        )
        return float(done.stdout)


def _framed(matrix: np.ndarray) -> bytes:  # type: ignore[type-arg]  # of float32
    """A ModelInferRequest with a raw tensor, in gRPC's length-prefixed frame."""
    from fairlead.gateway.inference.messages import message as message_type

    message = message_type("ModelInferRequest")(model_name=MODEL.name)
    message.inputs.add(name=MODEL.input, datatype="FP32", shape=matrix.shape)
    message.raw_input_contents.append(matrix.tobytes())
    body: bytes = message.SerializeToString()
    return b"\0" + len(body).to_bytes(4, "big") + body


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    main()
