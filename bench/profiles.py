"""How fast does recorded traffic become Parquet and profiles, on one core?

    python bench/profiles.py [--records 200000] [--features 30] [--live 30]

Records have 30 features: 24 numbers and 6 texts, three of which cut the traffic into slices (of 3, 4 and 6
values); two versions answer, and a reference is noted as the agent notes it. First 5,000 records a second are
written while a real ingest process follows, and it is asked twice a second how far behind it is. Then this
process, held to one core, ingests recorded segments as the ingest process does, three times without profiles
and with them in turn. Prints JSON: records per second (medians), the lag in seconds, milliseconds to read all
that was counted, and by how much the process's peak memory grew while the second half was ingested. The
kernel's page cache is warm.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parent))

from record_lookup import records

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.contracts.profile import profile
from fairlead.contracts.table import read_table
from fairlead.errors import StoreUnavailable
from fairlead.predictions.ask import IngestClient
from fairlead.predictions.binning import ContractNote
from fairlead.predictions.ingest import Ingest
from fairlead.predictions.manifest import DataFile
from fairlead.predictions.profiles import Profiles
from fairlead.predictions.record import SchemaFrame
from fairlead.predictions.segments import SegmentWriter, frame
from fairlead.process import RESOLVED
from fairlead.serving.folder import DataFolder
from fairlead.settings import Settings

_MODEL = "product-recommendations"
_TEXTS = 6
_SLICES = (3, 4, 6)
_FLUSH_ROWS = 100_000
_LIVE_RATE = 5_000
_ROUNDS = 3
_START = datetime.fromtimestamp(1_763_683_200, UTC)


class WithoutProfiles(Ingest):
    """Ingestion as it would be if nothing were counted."""

    def _write_profiles(self, model: str, table: pa.Table) -> list[DataFile]:
        return []


def contract_of(width: int) -> Contract:
    numbers = [Field(name=f"number_{index}", type="float") for index in range(width - _TEXTS)]
    texts = [
        Field(name=f"text_{index}", type="string", slice=index < len(_SLICES)) for index in range(_TEXTS)
    ]
    return Contract(inputs=(*numbers, *texts), output=Output(kind="class", classes=(0, 1)))


def features(width: int, chance: random.Random) -> list[object]:
    values: list[object] = [chance.gauss(50, 12) for _ in range(width - _TEXTS)]
    kinds = (*_SLICES, 10, 40, 100)
    return [*values, *(f"value {chance.randrange(kind)}" for kind in kinds)]


def schema_of(contract: Contract, width: int) -> SchemaFrame:
    kinds = ("float",) * (width - _TEXTS) + ("string",) * _TEXTS
    return SchemaFrame(contract.id, contract.names, kinds)


def write(folder: Path, count: int, width: int, contract: Contract) -> None:
    writer = SegmentWriter(folder / "log" / "g0")
    writer.register_schema(schema_of(contract, width))
    chance, encode, batch = random.Random(3), msgspec.msgpack.Encoder().encode, []
    rows = [msgspec.Raw(encode(features(width, chance))) for _ in range(20_000)]
    for number, record in enumerate(records(count, 1, random.Random(1))):
        changed = msgspec.structs.replace(record, contract_id=contract.id, features=rows[number % len(rows)])
        batch.append(frame(changed))
        if len(batch) == 1_000:
            writer.append(*batch)
            batch = []
    writer.append(*batch)
    writer.close()


def note(folder: Path, contract: Contract, width: int) -> None:
    chance, count = random.Random(4), 5_000
    columns = dict(
        zip(
            contract.names,
            map(list, zip(*(features(width, chance) for _ in range(count)), strict=True)),
            strict=True,
        )
    )
    scores = np.random.default_rng(5).random(count)
    reference = profile(
        read_table(columns),
        contract,
        predictions=(scores > 0.5).astype(int).tolist(),
        probabilities=np.stack([1 - scores, scores], axis=1),
    )
    path = folder / "bins" / _MODEL / f"{contract.id}.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(msgspec.json.encode(ContractNote(contract=contract, version="v1", reference=reference)))


def ingest_all(ingest: Ingest, count: int) -> tuple[float, int]:
    """Seconds until the whole log is in Parquet, and bytes that the second half added to the peak memory."""
    began, half = time.perf_counter(), 0
    while ingest.poll():
        if ingest.status().fresh_rows >= _FLUSH_ROWS:
            ingest.flush()
            if not half and ingest.status().rows >= count // 2:
                half = peak()
    ingest.flush()
    return time.perf_counter() - began, max(0, peak() - half)


def follow_live(width: int, contract: Contract, seconds: int) -> dict[str, float]:
    """How far a real ingest process is behind at 5,000 records a second; it flushes every ten seconds."""
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as name:
        folder = Path(name)
        note(folder, contract, width)
        settings = Settings(data=name, ingest_flush_seconds=10.0)
        process = subprocess.Popen(
            [sys.executable, "-m", "fairlead.process", "ingest"],
            env={**os.environ, RESOLVED: msgspec.json.encode(settings).decode()},
        )
        try:
            client = IngestClient(DataFolder(folder).ingest_socket)
            wait_for(client)
            return written_live(folder, client, contract, width, seconds)
        finally:
            process.terminate()
            process.wait(60)


def wait_for(client: IngestClient) -> None:
    for _ in range(300):
        try:
            client.call("status")
        except StoreUnavailable:
            time.sleep(0.1)
        else:
            return


def written_live(
    folder: Path, client: IngestClient, contract: Contract, width: int, seconds: int
) -> dict[str, float]:
    writer = SegmentWriter(folder / "log" / "g0")
    writer.register_schema(schema_of(contract, width))
    chance, encode = random.Random(3), msgspec.msgpack.Encoder().encode
    count, at = seconds * _LIVE_RATE, time.time_ns() // 1_000
    rows = [msgspec.Raw(encode(features(width, chance))) for _ in range(20_000)]
    frames = [
        frame(
            msgspec.structs.replace(
                record, at=at + number * 1_000_000 // _LIVE_RATE, contract_id=contract.id,
                features=rows[number % len(rows)],
            )
        )
        for number, record in enumerate(records(count, 1, random.Random(1)))
    ]  # fmt: skip
    lags, began, written = [], time.monotonic(), 0
    while written < count:
        due = min(count, int((time.monotonic() - began) * _LIVE_RATE))
        if due > written:
            writer.append(*frames[written:due])
            written = due
        if len(lags) < 2 * (time.monotonic() - began):
            lags.append(client.call("status")["lag_seconds"])
        time.sleep(0.005)
    writer.close()
    taken = time.monotonic() - began
    return {
        "records_per_second": round(count / taken),
        "lag_p50_seconds": round(statistics.median(lags), 2),
        "lag_max_seconds": round(max(lags), 2),
    }


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--features", type=int, default=30)
    parser.add_argument("--live", type=int, default=30)
    asked = parser.parse_args()
    contract, found = contract_of(asked.features), {}
    live = follow_live(asked.features, contract, asked.live)
    gc.set_threshold(100_000, 50, 50)  # as the ingest process does
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    speeds: dict[str, list[tuple[float, float]]] = {"parquet_alone": [], "with_profiles": []}
    grown = []
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as recorded:
        write(Path(recorded), asked.records, asked.features, contract)
        for _ in range(_ROUNDS):
            for name, kind in (("parquet_alone", WithoutProfiles), ("with_profiles", Ingest)):
                with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as folder:
                    shutil.copytree(f"{recorded}/log", f"{folder}/log")
                    note(Path(folder), contract, asked.features)
                    ingest = kind(folder, flush_seconds=3_600)
                    gc.collect()
                    began = time.process_time()
                    seconds, more = ingest_all(ingest, asked.records)
                    speeds[name].append(
                        (asked.records / seconds, asked.records / (time.process_time() - began))
                    )
                    grown.append(more)
                    if kind is Ingest:
                        reading = read(ingest, asked.records)
                        profiles = [file for file in ingest._manifest.files if file.dataset == "profiles"]
                    ingest.close()
    for place, unit in enumerate(("second", "cpu_second")):
        found[f"records_per_{unit}"] = {
            name: round(statistics.median(pair[place] for pair in pairs)) for name, pairs in speeds.items()
        }
    print(
        json.dumps(
            {
                "records": asked.records,
                "features": asked.features,
                "slices": sum(_SLICES),
                **found,
                "live": live,
                "profile_rows": sum(file.rows for file in profiles),
                "profile_bytes": sum(file.size for file in profiles),
                "read_everything_ms": reading,
                "memory_grown_in_second_half_mb": round(max(grown[1:]) / 1e6, 1),
            },
            indent=2,
        )
    )


def read(ingest: Ingest, count: int) -> dict[str, float]:
    """Milliseconds to read all that was counted: as one window, by the minute, and by slice."""
    profiles = Profiles(ingest)
    taken = {}
    for name, asked in (("whole", {}), ("by_minute", {"step": 60}), ("by_slice", {"slice": None})):
        times = []
        for _ in range(5):
            began = time.perf_counter()
            windows = profiles.windows(_MODEL, _START, _START + timedelta(days=1), **asked)
            times.append((time.perf_counter() - began) * 1e3)
        if name != "by_slice":
            assert sum(window.rows for window in windows) == count
        taken[name] = round(statistics.median(times), 1)
    return taken


if __name__ == "__main__":
    main()
