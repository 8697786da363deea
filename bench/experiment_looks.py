"""How long does a look at an experiment take over a million records, and whom does it hold up?

    python bench/experiment_looks.py [--records 1000000] [--outcomes 100000] [--rounds 5] [--folder FOLDER]

Writes a log in which every request belongs to an experiment of two arms, with five requests a unit on average
and outcomes that come by unit and by request, and brings it to Parquet. Then it times what the judge asks at
a look, and what the report asks per metric. While reports go on one after the other it times a small query by
somebody else, and how long a record takes from a gateway's segment until queries see it. Prints JSON,
milliseconds. With `--folder` the log is kept there for the next time.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from fairlead.experiments.question import Question
from fairlead.predictions.ingest import Ingest
from fairlead.predictions.operations import Operations
from fairlead.predictions.query import Queries
from fairlead.predictions.record import Outcome, PredictionRecord, SchemaFrame
from fairlead.predictions.segments import SegmentWriter, frame
from fairlead.rollouts.exposed import evidence_of, exposed
from fairlead.rollouts.logged import outcome_of, units_of
from fairlead.rollouts.reading import read_spec
from fairlead.rollouts.spec import Metric
from fairlead.rollouts.states import Rollout

_START = 1_763_683_200_000_000
_STEP = 500_000  # two requests a second: a million are nearly six days
_BATCH = 1_000
_FEATURES = ("age", "visits", "basket", "days", "discount")
_DAY = 86_400.0
_METRICS = ("conversion", "revenue", "accuracy")


def record(number: int, unit: int, request_id: str, chance: random.Random, at: int) -> PredictionRecord:
    canary = unit % 2 == 0
    version = "v2" if canary else "v1"
    score = chance.random()
    return PredictionRecord(
        prediction_id=((at // 1000) << 80 | 7 << 76 | 2 << 62 | number).to_bytes(16, "big"),
        request_id=request_id,
        row=0,
        source="online",
        at=at,
        model="shop",
        arm="canary" if canary else "control",
        role="canary" if canary else "control",
        assigned_version=version,
        served_version=version,
        generation=2,
        contract_id="c0",
        unit=f"customer-{unit}",
        unit_kind="given",
        use_case=None,
        status="ok",
        error_code=None,
        degraded=None,
        cached=False,
        latency_ms=0.4,
        feature_hash=f"{chance.getrandbits(64):016x}",
        feature_snapshot=None,
        features=msgspec.Raw(msgspec.msgpack.encode([chance.random() for _ in _FEATURES])),
        prediction="1" if score > 0.5 else "0",
        probabilities=f'{{"0":{1 - score:.6f},"1":{score:.6f}}}',
        flags=None,
        violations=None,
        experiment="e1",
        variant=None,
        training_data="cdnow-1997-06",
        trace_id=None,
        runtime="onnx",
        gateway="g0",
    )


def log_of(records: int, outcomes: int) -> Iterator[PredictionRecord | Outcome]:
    """Requests in order of time, and behind some of them what became of them within two days."""
    chance = random.Random(1)
    for number in range(records):
        at = _START + number * _STEP
        unit = chance.randrange(max(records // 5, 1))
        request_id = str(uuid.UUID(int=chance.getrandbits(128)))
        yield record(number, unit, request_id, chance, at)
        if chance.random() >= outcomes / records:
            continue
        later = at + round(chance.random() * 2 * _DAY * 1e6)
        drawn = chance.random()
        metric = "conversion" if drawn < 0.4 else "revenue" if drawn < 0.8 else "label"
        yield Outcome(
            received_at=later,
            model="shop",
            metric=metric,
            value=round(chance.lognormvariate(3.0, 0.6), 2) if metric == "revenue" else 1.0,
            at=later,
            request_id=None if metric == "conversion" else request_id,
            row=None if metric == "conversion" else 0,
            unit=f"customer-{unit}" if metric == "conversion" else None,
            outcome_id=str(number),
            mode="add" if metric == "revenue" else "set",
        )


def write(folder: Path, records: int, outcomes: int) -> None:
    writer = SegmentWriter(folder / "log" / "g0")
    writer.register_schema(SchemaFrame("c0", _FEATURES, ("float",) * len(_FEATURES)))
    batch = []
    for entry in log_of(records, outcomes):
        batch.append(frame(entry))
        if len(batch) == _BATCH:
            writer.append(*batch)
            batch = []
    writer.append(*batch)
    writer.close()
    ingest = Ingest(folder, flush_seconds=3_600)
    while ingest.poll():
        ingest.flush()
    while ingest.compact():
        pass
    ingest.close()


def taken(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


def middle(work: Callable[[], Any], rounds: int) -> float:
    """The median of so many times, in milliseconds."""
    return round(statistics.median(taken(work) for _ in range(rounds)), 1)


class Log:
    """The log as ingest answers for it, in this process."""

    def __init__(self, ingest: Ingest, seconds: float) -> None:
        self.ingest = ingest
        self._operations = Operations(Queries(ingest, seconds=seconds))

    def rows(self, sql: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self._operations.answer("sql", {"sql": sql}))["rows"]
        return rows


def report(log: Log, now: datetime) -> None:
    """What `fairlead experiments` asks of the log."""
    exposed(log.rows, "shop", "e1")
    for name in _METRICS:
        evidence_of(log.rows, "shop", "e1", Question(name=name, window=_DAY), lambda came: 0.5, now)


def beside(log: Log, work: Callable[[], None], samples: int) -> dict[str, float]:
    """Milliseconds that others wait while `work` is done again and again: for a small query, and until a new
    record is seen by queries. Medians and the longest."""
    stopping = threading.Event()
    times: list[float] = []

    def again() -> None:
        while not stopping.is_set():
            times.append(taken(work))

    thread = threading.Thread(target=again)
    thread.start()
    writer = SegmentWriter(log.ingest.root.parent / "log" / "g1")
    chance = random.Random(3)
    query, seen = [], []
    try:
        for number in range(samples):
            query.append(taken(lambda: log.rows("SELECT sum(\"count\") FROM windows WHERE model = 'shop'")))
            one = record(number, 1, f"late-{number}", chance, _START)
            writer.append(frame(msgspec.structs.replace(one, model="shoes", contract_id=None)))
            seen.append(taken(log.ingest.catch_up))
    finally:
        stopping.set()
        thread.join()
        writer.close()
    return {
        "reports": len(times),
        "report_p50": round(statistics.median(times), 1),
        "query_p50": round(statistics.median(query), 1),
        "query_max": round(max(query), 1),
        "seen_p50": round(statistics.median(seen), 1),
        "seen_max": round(max(seen), 1),
    }


def measure(folder: Path, records: int, outcomes: int, rounds: int) -> dict[str, Any]:
    if not (folder / "predictions").exists():
        write(folder, records, outcomes)
    ingest = Ingest(folder, flush_seconds=3_600)
    log = Log(ingest, 120.0)
    began = datetime.fromtimestamp(_START / 1e6, UTC)
    now = began + timedelta(microseconds=records * _STEP, seconds=_DAY)
    rollout = Rollout(
        id="e1",
        model="shop",
        stable="v1",
        candidate="v2",
        spec=read_spec({"strategy": "canary", "steps": [{"weight": 50}, {"weight": 100}]}),
        started_at=began,
        entered_at=began,
        state="canary",
        generation=2,
    )
    metrics = {name: Metric(name=name, kind="goal", higher_is="better", window=_DAY) for name in _METRICS}
    idle = beside(log, lambda: time.sleep(0.05), 4 * rounds)
    found = {
        "records": records,
        "outcomes": log.rows("SELECT count(*) AS n FROM outcome_events")[0]["n"],
        "judge": {
            "units": middle(lambda: units_of(log.rows, rollout), rounds),
            **{
                name: middle(lambda m=metric: outcome_of(log.rows, rollout, m, now), rounds)
                for name, metric in metrics.items()
            },
        },
        "report": {
            "units": middle(lambda: exposed(log.rows, "shop", "e1"), rounds),
            **{
                name: middle(
                    lambda n=name: evidence_of(
                        log.rows, "shop", "e1", Question(name=n, window=_DAY), lambda came: 0.5, now
                    ),
                    rounds,
                )
                for name in _METRICS
            },
        },
        "others_while_idle": {name: value for name, value in idle.items() if not name.startswith("report")},
        "others_beside_reports": beside(log, lambda: report(log, now), 4 * rounds),
    }
    ingest.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--outcomes", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as name:
        folder = asked.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        print(json.dumps(measure(folder, asked.records, asked.outcomes, asked.rounds), indent=2))


if __name__ == "__main__":
    main()
