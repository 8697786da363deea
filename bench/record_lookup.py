"""How fast is the log read, and how fast is one record found among a million?

    python bench/record_lookup.py [--records 1000000] [--features 30] [--lookups 300]

Writes the records through a gateway's segment writer, ingests them as the ingest process does (decode, sort,
Parquet, windows, index, synchronised to the disk), then looks request ids up at random. Prints JSON: rates
per second, latencies in milliseconds. `ingested_per_second` is from segments to Parquet;
`ingested_and_merged_per_second` includes merging files until none is small. The kernel's page cache is warm,
as after writing.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from fairlead.predictions.ingest import Ingest
from fairlead.predictions.query import Queries
from fairlead.predictions.record import PredictionRecord, SchemaFrame
from fairlead.predictions.segments import SegmentWriter, frame
from fairlead.predictions.summaries import Summaries

_START = 1_763_683_200_000_000
_BATCH = 1_000


def records(count: int, width: int, chance: random.Random) -> Iterator[PredictionRecord]:
    """Records as a gateway writes them: 100 a second, 30 features with 53 random bits each."""
    encode = msgspec.msgpack.Encoder().encode
    for number in range(count):
        at = _START + number * 10_000
        canary = chance.random() < 0.05
        version = "v2" if canary else "v1"
        score = chance.random()
        yield PredictionRecord(
            prediction_id=((at // 1000) << 80 | 7 << 76 | 2 << 62 | number).to_bytes(16, "big"),
            request_id=str(uuid.UUID(int=chance.getrandbits(128))),
            row=0,
            source="online",
            at=at,
            model="product-recommendations",
            arm="canary" if canary else "stable",
            role="canary" if canary else "stable",
            assigned_version=version,
            served_version=version,
            generation=7,
            contract_id="c0",
            unit=f"customer-{chance.randrange(20_000)}",
            unit_kind="given",
            use_case=None,
            status="ok",
            error_code=None,
            degraded=None,
            cached=chance.random() < 0.4,
            latency_ms=chance.lognormvariate(-1.0, 0.6),
            feature_hash=f"{chance.getrandbits(64):016x}",
            feature_snapshot=None,
            features=msgspec.Raw(encode([chance.gauss(50, 12) for _ in range(width)])),
            prediction="1" if score > 0.5 else "0",
            probabilities=f'{{"0":{1 - score:.6f},"1":{score:.6f}}}',
            flags=None,
            violations=None,
            experiment=None,
            variant=None,
            training_data="cdnow-1997-06",
            trace_id=None,
            runtime="onnx",
            gateway="g0",
        )


def write(folder: Path, count: int, width: int) -> list[str]:
    """Writes the log; returns its request ids."""
    writer = SegmentWriter(folder / "log" / "g0")
    names = tuple(f"feature_{number}" for number in range(width))
    writer.register_schema(SchemaFrame("c0", names, ("float",) * width))
    written, batch = [], []
    for record in records(count, width, random.Random(1)):
        written.append(record.request_id)
        batch.append(frame(record))
        if len(batch) == _BATCH:
            writer.append(*batch)
            batch = []
    if batch:
        writer.append(*batch)
    writer.close()
    return written


def ingest_all(ingest: Ingest, flush_rows: int) -> tuple[float, float]:
    """Seconds until the whole log is in Parquet, and seconds of merging after that."""
    began = time.perf_counter()
    while ingest.poll():
        if ingest.status().fresh_rows >= flush_rows:
            ingest.flush()
    ingest.flush()
    stored = time.perf_counter()
    while ingest.compact():
        pass
    return stored - began, time.perf_counter() - stored


def timed(work: Callable[[], Any], times: int) -> dict[str, float]:
    """Latencies in milliseconds."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1e3)
    ordered = sorted(taken)
    return {
        "first": round(taken[0], 2),
        "p50": round(ordered[len(ordered) // 2], 2),
        "p99": round(ordered[int(len(ordered) * 0.99) - 1], 2),
        "max": round(ordered[-1], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=30)
    parser.add_argument("--lookups", type=int, default=300)
    asked = parser.parse_args()
    gc.set_threshold(100_000, 50, 50)  # as the ingest process does
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as name:
        folder = Path(name)
        began = time.perf_counter()
        request_ids = write(folder, asked.records, asked.features)
        writing = time.perf_counter() - began
        log_bytes = sum(path.stat().st_size for path in folder.rglob("*.seg"))
        ingest = Ingest(folder, flush_seconds=3_600)
        ingesting, merging = ingest_all(ingest, 100_000)
        status = ingest.status()
        queries = Queries(ingest)
        summaries = Summaries(queries)
        chance = random.Random(2)
        found = timed(lambda: _must_find(queries, chance.choice(request_ids)), asked.lookups)
        absent = timed(lambda: queries.find(str(uuid.UUID(int=chance.getrandbits(128)))), asked.lookups)
        end = datetime.fromisoformat("2025-11-21T01:00:00+00:00")
        print(
            json.dumps(
                {
                    "records": asked.records,
                    "features": asked.features,
                    "written_per_second": round(asked.records / writing),
                    "log_bytes_per_record": round(log_bytes / asked.records),
                    "ingested_per_second": round(asked.records / ingesting),
                    "ingested_and_merged_per_second": round(asked.records / (ingesting + merging)),
                    "files": status.files,
                    "parquet_bytes_per_record": round(status.bytes / asked.records),
                    "find_ms": found,
                    "find_nothing_ms": absent,
                    "count_by_version_ms": timed(
                        lambda: queries.sql(
                            "SELECT served_version, count(*), avg(latency_ms) FROM predictions GROUP BY ALL"
                        ),
                        10,
                    ),
                    "mean_of_a_feature_ms": timed(
                        lambda: queries.sql("SELECT avg(features.feature_3) FROM predictions"), 10
                    ),
                    "metrics_of_an_hour_ms": timed(
                        lambda: summaries.version_metrics("product-recommendations", "v2", 3_600, now=end), 10
                    ),
                },
                indent=2,
            )
        )
        ingest.close()


def _must_find(queries: Queries, request_id: str) -> None:
    (record,) = queries.find(request_id)
    assert record["request_id"] == request_id


if __name__ == "__main__":
    main()
