"""One gateway worker on a core of its own: answers per second with everything on, and what the cache gives.

    python bench/gateway.py [--rounds 5] [--seconds 3]

A forest (100 trees, depth 6, 30 named features as JSON), two versions with sticky units, contract, cache, and
a record written before each answer. wrk on the other core. Prints JSON: medians over interleaved rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.models import lay_plan, plan_of

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.process import RESOLVED
from fairlead.registry.artifacts import manifest_of
from fairlead.registry.versions import VersionSpec
from fairlead.runtimes.base import OutputNames, RuntimeSpec, Tensor
from fairlead.serving.folder import DataFolder
from fairlead.settings import Settings

BODIES = 20_000


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=3)
    given = options.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("bench: wrk is not installed; install it from the system's packages.")
    cases = {
        "distinct inputs, 16 connections": (16, BODIES),
        "distinct inputs, 64 connections": (64, BODIES),
        "distinct inputs, 1 connection": (1, BODIES),
        "one input (all cache hits), 16 connections": (16, 1),
    }
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    with tempfile.TemporaryDirectory() as scratch:
        folder = lay_forest(Path(scratch) / "data")
        scripts = {count: write_bodies(Path(scratch), count) for count in (BODIES, 1)}
        for _ in range(given.rounds):
            for name, (connections, count) in cases.items():
                rows[name].append(measure(folder, scripts[count], connections, given.seconds))
                shutil.rmtree(folder.log)
    table = {
        name: {key: round(statistics.median(row[key] for row in found), 3) for key in found[0]}
        for name, found in rows.items()
    }
    print(json.dumps(table, indent=2))


def lay_forest(root: Path) -> DataFolder:
    import numpy as np
    from skl2onnx import to_onnx
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import RandomForestClassifier

    folder = DataFolder(root).make()
    data = load_breast_cancer()
    names = [name.replace(" ", "_") for name in data.feature_names]
    specs = []
    for seed, version in enumerate(("v1", "v2")):
        forest = RandomForestClassifier(100, max_depth=6, random_state=seed).fit(data.data, data.target)
        sample = data.data[:1].astype(np.float32)
        onnx = to_onnx(forest, sample, options={id(forest): {"zipmap": False}}, target_opset=17)
        scratch = root / "scratch" / version
        scratch.mkdir(parents=True)
        (scratch / "model.onnx").write_bytes(onnx.SerializeToString())
        manifest = manifest_of(scratch)
        scratch.rename(folder.versions / manifest.digest)
        fields = [Field(name=name, type="float", minimum=-1e6, maximum=1e6) for name in names]
        specs.append(
            VersionSpec(
                model="forest",
                version=version,
                manifest=manifest,
                runtime=RuntimeSpec(
                    kind="onnx",
                    entry="model.onnx",
                    binding="matrix",
                    inputs=(Tensor(name="X", dtype="float32", shape=(-1, 30)),),
                    outputs=OutputNames(label="label", probabilities="probabilities"),
                ),
                contract=Contract(inputs=tuple(fields), output=Output(kind="class", classes=(0, 1))),
            )
        )
    arms = {"stable": ("v1", "stable", 50), "canary": ("v2", "canary", 50)}
    lay_plan(folder, plan_of(arms, model="forest"), *specs)
    return folder


def write_bodies(folder: Path, count: int) -> Path:
    import numpy as np
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    names = [name.replace(" ", "_") for name in data.feature_names]
    noise = np.random.default_rng(0).normal(1, 0.01, (count, 30))
    lines = ["local bodies = {}"]
    for index in range(count):
        row = (data.data[index % len(data.data)] * noise[index]).round(5).tolist()
        body = {"features": dict(zip(names, row, strict=True)), "unit": f"user-{index}"}
        lines.append(f"bodies[{index + 1}] = [[{json.dumps(body, separators=(',', ':'))}]]")
    # The requests are made before the clock runs: wrk must not be what is measured.
    lines += [
        "local requests, next = {}, 0",
        "init = function()",
        "  local headers = {['Content-Type'] = 'application/json'}",
        "  for i, body in ipairs(bodies) do",
        "    requests[i] = wrk.format('POST', '/v1/models/forest/predict', headers, body)",
        "  end",
        "end",
        f"request = function() next = next % {count} + 1; return requests[next] end",
    ]
    path = folder / f"bodies-{count}.lua"
    path.write_text("\n".join(lines))
    return path


def measure(folder: DataFolder, script: Path, connections: int, seconds: int) -> dict[str, float]:
    cores = sorted(os.sched_getaffinity(0))
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port = listener.getsockname()[1]
    # A cache that holds nothing but what it was asked just now: distinct inputs are misses.
    settings = Settings(data=str(folder.root), grpc_port=0, cache_max_bytes=2**20, log_level="warning")
    command = [sys.executable, "-m", "fairlead.process", "gateway", "0", str(listener.fileno())]
    gateway = subprocess.Popen(
        ["taskset", "-c", str(cores[0]), *command],
        env={**os.environ, RESOLVED: msgspec.json.encode(settings).decode()},
        pass_fds=(listener.fileno(),),
    )  # fmt: skip
    try:
        wrk = ["wrk", "-t1", f"-c{connections}", "-s", str(script), "--latency", f"http://127.0.0.1:{port}"]
        pinned = ["taskset", "-c", str(cores[-1])]
        subprocess.run([*pinned, *wrk, "-d1s"], capture_output=True, check=True)
        done = subprocess.run([*pinned, *wrk, f"-d{seconds}s"], capture_output=True, text=True, check=True)
    finally:
        gateway.send_signal(signal.SIGTERM)
        gateway.wait(30)
        listener.close()
    assert "Non-2xx" not in done.stdout, done.stdout
    assert "Socket errors" not in done.stdout, done.stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    assert rate is not None
    return {
        "per_second": float(rate[1]),
        "p50_ms": percentile(done.stdout, "50%"),
        "p99_ms": percentile(done.stdout, "99%"),
    }


def percentile(text: str, which: str) -> float:
    found = re.search(rf"^\s+{which}\s+([\d.]+)(us|ms|s)", text, re.MULTILINE)
    assert found is not None, text
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]


if __name__ == "__main__":
    main()
