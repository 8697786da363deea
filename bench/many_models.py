"""What a warm model's callers notice while others are loaded and evicted beside it, and what a load costs.

`python bench/many_models.py [megabytes]` starts one gateway process over models of that size (6), with a
budget for three.
"""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.gateway.conftest import GatewayProcess
from tests.many import lay_many
from tests.models import SAMPLE, data_folder

from fairlead.registry.versions import ModelSettings

BODY = json.dumps({"features": SAMPLE})
SECONDS = 8.0


def main() -> None:
    """Prints the table."""
    megabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 6.0
    with tempfile.TemporaryDirectory() as root:
        folder = data_folder(Path(root) / "data")
        lay_many(folder, 12, kilobytes=int(megabytes * 1000), settings=ModelSettings(cache_seconds=0))
        gateway = GatewayProcess(folder, memory_budget_mb=3.5 * megabytes, log_level="warning")
        try:
            asked(gateway.port, [0], 1.0)
            print(f"models of {megabytes:g} MB, one caller, milliseconds")
            show("a warm model, nothing else", asked(gateway.port, [0], SECONDS))
            ending = threading.Event()
            first: list[float] = []
            churn = threading.Thread(
                target=lambda: first.extend(asked(gateway.port, range(1, 12), 1e9, ending))
            )
            churn.start()
            show("a warm model, others loaded without a pause", asked(gateway.port, [0], SECONDS))
            ending.set()
            churn.join()
            show("the request that loads a model", first[11:])
        finally:
            gateway.close()


def asked(
    port: int, numbers: list[int] | range, seconds: float, ending: threading.Event | None = None
) -> list[float]:
    """Milliseconds of each answer, one after the other, of these models in turn."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    took: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until and not (ending is not None and ending.is_set()):
        started = time.perf_counter()
        connection.request("POST", f"/v1/models/m{numbers[len(took) % len(numbers)]}/predict", BODY)
        answer = connection.getresponse()
        answer.read()
        took.append(1000 * (time.perf_counter() - started))
        assert answer.status == 200
    return took


def show(what: str, took: list[float]) -> None:
    """One line: median, 99th percentile, longest, and how many."""
    took.sort()
    p99 = took[int(0.99 * len(took))]
    middle = statistics.median(took)
    print(f"{what:45} p50 {middle:7.2f}  p99 {p99:7.2f}  longest {took[-1]:7.2f}  ({len(took)})")


if __name__ == "__main__":
    main()
