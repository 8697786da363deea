"""What a model worker costs and brings: a dense model of some milliseconds, and a forest of microseconds.

    python bench/workers.py [--rounds 3] [--seconds 1]

Raw runs in this process are what all else is compared with, measured in turn with it. Then the same rows go
through a gateway's batcher to a worker that a model host keeps: one caller at a time, 64 at once, and three
times as many as it can answer. Prints JSON: medians over the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import uvloop

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.heavy import dense_onnx

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.engine.frames import WorkerSpec
from fairlead.engine.inline import InlineEngine
from fairlead.engine.leases import Leases
from fairlead.engine.paths import listening
from fairlead.engine.worker import WorkerEngine
from fairlead.errors import DeadlineExceeded, Overloaded
from fairlead.process import RESOLVED
from fairlead.runtimes.base import OutputNames, RuntimeSpec, Tensor
from fairlead.runtimes.binding import Binding
from fairlead.runtimes.onnx import OnnxRuntime
from fairlead.serving.batching import Batcher, Bounds
from fairlead.settings import Settings

OUTPUTS = OutputNames(label="label", probabilities="probabilities")
CALLERS = 64
PATIENCE = 0.5


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=1.0)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch)
        (data / "run").mkdir()
        listener = listening(data / "run" / "models.sock")
        host = subprocess.Popen(
            [sys.executable, "-m", "fairlead.process", "models", str(listener.fileno())],
            env={RESOLVED: msgspec.json.encode(Settings(data=str(data), log_level="warning")).decode()},
            pass_fds=(listener.fileno(),),
        )
        try:
            found = {
                "dense, 110 MB, 512 inputs": uvloop.run(compare(data, "dense", 512, 16, given)),
                "forest, 100 trees, 30 inputs": uvloop.run(compare(data, "forest", 30, 2, given)),
            }
        finally:
            host.terminate()
            host.wait(30)
            listener.close()
    print(json.dumps(found, indent=2))


async def compare(
    data: Path, name: str, inputs: int, classes: int, given: argparse.Namespace
) -> dict[str, float]:
    folder = data / name
    folder.mkdir()
    (folder / "model.onnx").write_bytes(dense_onnx(512, 3_584, 2, 16) if name == "dense" else forest_onnx())
    fields = tuple(Field(name=f"f{index}", type="float") for index in range(inputs))
    contract = Contract(inputs=fields, output=Output(kind="class", classes=tuple(range(classes))))
    spec = RuntimeSpec(
        kind="onnx",
        entry="model.onnx",
        binding="matrix",
        inputs=(Tensor(name="X", dtype="float32", shape=(-1, inputs)),),
        outputs=OUTPUTS,
    )
    binding = Binding(contract, spec)
    runtime = OnnxRuntime(folder, spec)
    described = WorkerSpec(
        digest=name,
        kind="onnx",
        folder=str(folder),
        entry="model.onnx",
        outputs={"label": "label", "probabilities": "probabilities"},
        names=contract.names,
    )
    leases = Leases(data / "run" / "models.sock")
    engine = WorkerEngine(leases, described)
    await engine.start()
    rows = [tuple(row) for row in np.random.default_rng(0).random((256, inputs)).tolist()]
    rounds: list[dict[str, float]] = []
    for _ in range(given.rounds):
        found: dict[str, float] = {}
        for size in (1, 32):
            rate = raw(runtime, binding, rows[:size], given.seconds)
            found[f"raw batch {size}, rows/s"] = rate * size
            found[f"raw batch {size}, ms"] = 1000 / rate
        batcher = Batcher(engine, binding, Bounds(timeout=60.0, max_batch_rows=32))
        for callers in (1, CALLERS):
            counted: list[tuple[int, float]] = []
            batcher.ran = lambda rows, seconds, counted=counted: counted.append((rows, seconds))
            rate, p50 = await ask(batcher, rows, callers, given.seconds)
            found[f"worker, {callers} at a time, rows/s"] = rate
            found[f"worker, {callers} at a time, p50 ms"] = p50
            found[f"worker, {callers} at a time, rows per run"] = statistics.mean(n for n, _ in counted)
            found[f"worker, {callers} at a time, run ms"] = 1000 * statistics.median(s for _, s in counted)
        inline = Batcher(InlineEngine(runtime), binding, Bounds(timeout=60.0))
        _, found["inline, 1 at a time, p50 ms"] = await ask(inline, rows, 1, given.seconds)
        if name == "dense":
            capacity = found[f"worker, {CALLERS} at a time, rows/s"]
            batcher = Batcher(engine, binding, Bounds(timeout=PATIENCE))
            found |= await flood(batcher, rows, 3 * capacity, 2 * given.seconds)
            found["in time of what is possible, three times too much asked, %"] = (
                100 * found["three times too much asked, answered in time per second"] / capacity
            )
        rounds.append(found)
    await engine.stop()
    await leases.close()
    table = {key: round(statistics.median(found[key] for found in rounds), 3) for key in rounds[0]}
    # What is not the model: a worker's run can be quicker than a raw one, whose weights lie on small pages.
    table["worker, 1 at a time, beside the run, ms"] = round(
        statistics.median(
            f["worker, 1 at a time, p50 ms"] - f["worker, 1 at a time, run ms"] for f in rounds
        ),
        3,
    )
    # Medians of ratios within a round: the machine's mood is the same on both sides.
    table["added latency, 1 at a time, %"] = round(
        100 * statistics.median(f["worker, 1 at a time, p50 ms"] / f["raw batch 1, ms"] - 1 for f in rounds),
        1,
    )
    table["of raw batch 32, 64 at a time, %"] = round(
        100
        * statistics.median(
            f[f"worker, {CALLERS} at a time, rows/s"] / f["raw batch 32, rows/s"] for f in rounds
        ),
        1,
    )
    return table


def raw(runtime: OnnxRuntime, binding: Binding, rows: list[Any], seconds: float) -> float:
    """Runs per second in this thread, without encoding and decoding."""
    feed = binding.encode(rows)
    times = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        before = time.perf_counter()
        runtime.run(feed)
        times.append(time.perf_counter() - before)
    return 1 / statistics.median(times)


async def ask(batcher: Batcher, rows: list[Any], callers: int, seconds: float) -> tuple[float, float]:
    """Rows per second and median latency in ms of callers that each ask again when they are answered."""
    times: list[float] = []
    until = time.perf_counter() + seconds

    async def caller(number: int) -> None:
        while (before := time.perf_counter()) < until:
            number += 1
            await batcher.predict(rows[number % len(rows)], None)
            times.append(time.perf_counter() - before)

    started = time.perf_counter()
    await asyncio.gather(*(caller(7 * number) for number in range(callers)))
    return len(times) / (time.perf_counter() - started), 1000 * statistics.median(times)


async def flood(batcher: Batcher, rows: list[Any], rate: float, seconds: float) -> dict[str, float]:
    """Asks at that rate, whatever comes back, each with half a second's patience."""
    fates: dict[str, int] = {"answered": 0, "refused": 0, "late": 0}

    async def one(number: int) -> None:
        try:
            await batcher.predict(rows[number % len(rows)], None)
            fates["answered"] += 1
        except Overloaded:
            fates["refused"] += 1
        except DeadlineExceeded:
            fates["late"] += 1

    tasks: set[asyncio.Task[None]] = set()
    started = time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        for _ in range(int(passed * rate) - sum(fates.values()) - len(tasks)):
            task = asyncio.create_task(one(len(tasks)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(0.002)
    if tasks:
        await asyncio.wait(tasks)
    seconds = time.perf_counter() - started
    asked = sum(fates.values())
    return {
        "three times too much asked, answered in time per second": fates["answered"] / seconds,
        "three times too much asked, refused at once, %": 100 * fates["refused"] / asked,
        "three times too much asked, accepted and late, %": 100 * fates["late"] / asked,
    }


def forest_onnx() -> bytes:
    from skl2onnx import to_onnx
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import RandomForestClassifier

    data = load_breast_cancer()
    forest = RandomForestClassifier(100, max_depth=6, random_state=0).fit(data.data, data.target)
    sample = data.data[:1].astype(np.float32)
    onnx = to_onnx(forest, sample, options={id(forest): {"zipmap": False}}, target_opset=17)
    renamed: bytes = onnx.SerializeToString()
    return renamed


if __name__ == "__main__":
    main()
