"""Where the microseconds of a prediction go, in one process and without sockets.

    python bench/stages.py [--turn 16] [--requests 20000]

The forest of bench/gateway.py, all of the walk from request bytes to answer bytes with the record written,
first whole, by how many requests come in one turn of the loop, then stage by stage in tight loops. Stages add
up to less than the whole: between them a processor finds its caches filled with something else. Prints JSON:
medians of processor time, in microseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.peers.fairlead_folder import lay_folder
from bench.peers.models import MODELS, features, make_models, rows_of

from fairlead.contracts.fingerprint import encode_row, feature_hash
from fairlead.gateway.faces import Faces
from fairlead.gateway.inference.repository import Repository
from fairlead.gateway.protocol import HttpServer, Limits
from fairlead.gateway.rest import RestApp
from fairlead.predictions.segments import SegmentWriter
from fairlead.serving.answers import envelope
from fairlead.serving.asks import Ask, new_prediction_id
from fairlead.serving.cache import PredictionCache
from fairlead.serving.caches import Caches
from fairlead.serving.dataplane import DataPlane
from fairlead.serving.envelope import encode
from fairlead.serving.folder import DataFolder
from fairlead.serving.journal import Journal
from fairlead.serving.recording import record_frame
from fairlead.serving.refresh import Refresher
from fairlead.telemetry.counters import ArmKey, CounterBlock

MODEL = MODELS["forest"]
REPEATS = 5


class Wire:
    """A transport that goes nowhere."""

    def write(self, data: bytes) -> None:
        """Forgets what is written."""

    def is_closing(self) -> bool:
        """Never."""
        return False

    def get_write_buffer_size(self) -> int:
        """Nothing waits."""
        return 0

    def get_extra_info(self, name: str) -> None:
        """Knows nothing."""


class Walk:
    """A gateway in this process, and requests for it."""

    def __init__(self, root: Path, requests: int) -> None:
        made = Path(__file__).parent / "peers" / "made"
        make_models(made, [MODEL.name])
        lay_folder(root, made, MODEL)
        folder = DataFolder(root)
        writer = SegmentWriter(folder.log / "g")
        self.plane = DataPlane(Journal(writer, "shed"), Caches(PredictionCache(2**20)), "g")
        counters = CounterBlock(folder.counters / "g")
        self.refresher = Refresher(
            self.plane, folder, counters, slot=0, address="127.0.0.1:0", trust_pickle=False
        )
        repository = Repository(self.plane, folder, self.refresher.warm, control=False)
        faces = Faces(self.plane, folder, repository, body_bytes=2**20)
        app = RestApp(self.plane, folder, counters.row(ArmKey()), faces)
        limits = Limits(body_bytes=2**20, header_bytes=2**15, connections=1_000, idle_seconds=75.0)
        self.server = HttpServer(app.handle, app.refuse, limits, self.plane.turns)
        self.bodies = [
            json.dumps({"features": features(MODEL, row), "unit": f"user-{index}"}, separators=(",", ":"))
            for index, row in enumerate(rows_of(MODEL)[:requests])
        ]
        head = (
            f"POST /v1/models/{MODEL.name}/predict HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json"
        )
        self.requests = [
            f"{head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode() for body in self.bodies
        ]

    def whole(self, turn: int, requests: list[bytes]) -> float:
        """Processor microseconds per request when `turn` of them come at a time."""
        connections = [self.server() for _ in range(turn)]
        for connection in connections:
            connection.connection_made(Wire())  # type: ignore[arg-type]
        started = time.process_time()
        for first in range(0, len(requests) - turn + 1, turn):
            for offset, connection in enumerate(connections):
                connection.data_received(requests[first + offset])
            self.plane.turns._open()
        taken = time.process_time() - started
        for connection in connections:
            connection.connection_lost(None)
        return taken / len(requests) * 1e6

    def stages(self, turn: int) -> dict[str, float]:
        """Each stage in a tight loop, for one row; the model for a turn of rows, per row."""
        model = self.plane.model(MODEL.name)
        reader, body = model.reader, self.bodies[0].encode()
        reading = reader.read(body)
        arm = model.arms[0]
        binding, engine = arm.version.binding, arm.version.engine
        rows = [reader.read(text.encode()).row(arm.compiled)[0] for text in self.bodies[:turn]]
        feed = binding.encode(rows)
        outputs = engine.run_now(feed)
        ask = Ask.of(reading, received=time.perf_counter(), unit="user-1")
        ask.assigned = ask.arm = arm
        ask.read(arm.compiled)
        self.plane.caches.look_up(ask, arm)
        ask.prediction = binding.decode(outputs, turn)[0]
        encoded = ask.encoded = encode_row(ask.row)
        key = self.plane.caches.local.key(arm.cache_secret, encoded)
        answer = envelope(model, arm, ask)
        framed = record_frame(model, ask, "g")
        write = self.plane.journal.write_now
        local = self.plane.caches.local
        found: dict[str, Callable[[], Any]] = {
            "decode and check the body": lambda: reader.read(body),
            "the row as a tuple": lambda: reading.row(arm.compiled),
            "an id": new_prediction_id,
            "the ask": lambda: Ask.of(reading, received=0.0),
            "slot and arm": lambda: model.route("user-1"),
            "encode and hash the row": lambda: feature_hash(arm.compiled.id, encode_row(ask.row)),
            "cache key (keyed BLAKE2b)": lambda: local.key(arm.cache_secret, encoded),
            "cache look-up": lambda: local.get(key, 0.0),
            "envelope to JSON": lambda: encode(answer),
            "record to bytes": lambda: record_frame(model, ask, "g"),
            "count": lambda: arm.counters.answered("ok", 0.0001),
        }
        per_turn: dict[str, Callable[[], Any]] = {
            "rows to a tensor": lambda: binding.encode(rows),
            "session.run": lambda: engine.run_now(feed),
            "tensors to predictions": lambda: binding.decode(outputs, turn),
            "write to the log": lambda: write([framed] * turn),
        }
        timed = {name: _microseconds(call) for name, call in found.items()}
        timed |= {
            f"{name}, a row of {turn}": round(_microseconds(call) / turn, 2)
            for name, call in per_turn.items()
        }
        return timed


def _microseconds(call: Callable[[], Any], count: int = 5_000) -> float:
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        for _ in range(count):
            call()
        times.append((time.process_time() - started) / count * 1e6)
    return round(statistics.median(times), 2)


async def measure(turn: int, requests: int) -> dict[str, Any]:
    """The whole and its stages."""
    with tempfile.TemporaryDirectory() as scratch:
        walk = Walk(Path(scratch) / "data", requests)
        await walk.refresher.refresh()
        same = walk.requests[:1] * requests
        whole: dict[str, float] = {}
        for size in (1, turn, 64):
            for name, load in (("distinct", walk.requests), ("hits", same)):
                walk.whole(size, load[:1_000])
                times = [walk.whole(size, load) for _ in range(REPEATS)]
                whole[f"{name}, {size} in a turn"] = round(statistics.median(times), 1)
        return {"whole_us": whole, "stages_us": walk.stages(turn)}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--turn", type=int, default=16)
    options.add_argument("--requests", type=int, default=20_000)
    given = options.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(json.dumps(asyncio.run(measure(given.turn, given.requests)), indent=2))


if __name__ == "__main__":
    main()
