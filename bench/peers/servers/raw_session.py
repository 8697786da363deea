"""The physical limit: `session.run` in a loop, in this process, with 1 row and with 32. Prints JSON."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
from onnx_model import DTYPE, OnnxModel

_BATCHES = 64
model = OnnxModel()
rows = np.array(json.loads(Path(os.environ["BENCH_ROWS"]).read_text()), DTYPE)
seconds = float(os.environ["BENCH_SECONDS"])
found = {}
for count in (1, 32):
    batches = [np.roll(rows, -index, axis=0)[:count].copy() for index in range(_BATCHES)]
    for batch in batches[:3]:
        model.run(batch)
    calls, started, now = 0, time.perf_counter(), 0.0
    while now < seconds:
        model.run(batches[calls % _BATCHES])
        calls += 1
        now = time.perf_counter() - started
    found[f"rows_{count}"] = round(calls * count / now, 1)
print(json.dumps(found))
