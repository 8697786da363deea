"""Far more models than fit into memory: a real gateway under a budget, random traffic, and a kill."""

import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.registry.versions import ModelSettings
from fairlead.runtimes.machine import resident_bytes
from fairlead.telemetry.counters import read_counters
from tests.gateway.conftest import GatewayProcess
from tests.many import lay_many
from tests.models import SAMPLE, data_folder
from tests.waiting import wait_until

NO_CACHE = ModelSettings(cache_seconds=0)
MB = 1_000_000


@pytest.fixture
def processes() -> Iterator[list[GatewayProcess]]:
    found: list[GatewayProcess] = []
    yield found
    for process in found:
        process.close()


def loaded(gateway: GatewayProcess) -> tuple[int, int]:
    """How many models the gateway says that it has in memory, and their bytes."""
    (report,) = gateway.folder.read_reports()
    sizes = [size for model in report.models.values() for size in model.loaded.values()]
    return len(sizes), sum(sizes)


def ask(gateway: GatewayProcess, number: int) -> None:
    status, _, answer = gateway.call("POST", f"/v1/models/m{number}/predict", {"features": SAMPLE})
    assert (status, answer.get("prediction")) == (200, number % 3), answer
    assert answer["model_version"] == f"v{number}"


def sums(gateway: GatewayProcess) -> dict[str, int]:
    rows = [row.cells for row in read_counters(gateway.folder.counters) if row.key.model]
    return {name: sum(row[name] for row in rows) for name in ("ok", "failed", "loads", "evictions")}


@pytest.mark.drill
def test_two_hundred_models_are_answered_within_a_budget_for_twenty(tmp_path: Path, processes):
    folder = data_folder(tmp_path / "data")
    lay_many(folder, 200, kilobytes=100, settings=NO_CACHE)
    gateway = GatewayProcess(folder, memory_budget_mb=4)
    processes.append(gateway)
    assert gateway.call("GET", "/health/ready")[0] == 200
    assert loaded(gateway) == (0, 0)
    stopping, wrong, seen = threading.Event(), [], []

    def call(seed: int) -> None:
        chance = random.Random(seed)
        while not stopping.is_set():
            # A few are asked often, most of them seldom.
            number = min(int(chance.expovariate(1 / 25)), 199)
            try:
                ask(gateway, number)
            except (AssertionError, OSError) as error:
                wrong.append(error)

    def look() -> None:
        while not stopping.is_set():
            seen.append(loaded(gateway))
            time.sleep(0.05)

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
    threads.append(threading.Thread(target=look))
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: sums(gateway)["ok"] > 500, 60)
        early = resident_bytes(gateway.process.pid)
        wait_until(lambda: sums(gateway)["ok"] > 3_000, 120)
        late = resident_bytes(gateway.process.pid)
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
    assert not wrong
    for number in range(200):
        ask(gateway, number)
    counted = sums(gateway)
    assert counted["failed"] == 0
    assert counted["evictions"] >= counted["loads"] - 40 > 150
    assert max(size for _, size in seen) <= 4 * MB
    assert 10 <= max(count for count, _ in seen) <= 30
    assert late - early < 30 * MB
    # Killed in the middle of it: what comes next knows what was in memory, and answers all.
    before = {number for number in range(200) if is_resident(gateway, number)}
    wait_until(lambda: listed(gateway) == before)
    gateway.stop(signal.SIGKILL)
    gateway.start()
    # What a model takes differs a little from load to load: the last ones may not fit.
    wait_until(lambda: sum(is_resident(gateway, number) for number in before) >= len(before) - 2, 30)
    for number in range(0, 200, 7):
        ask(gateway, number)


def listed(gateway: GatewayProcess) -> set[int]:
    """The models that a successor would find on the list."""
    (path,) = (gateway.folder.run / "resident").glob("*.json")
    return {int(model.removeprefix("m")) for model, _ in json.loads(path.read_bytes())}


def is_resident(gateway: GatewayProcess, number: int) -> bool:
    return bool(gateway.call("GET", f"/v1/models/m{number}")[2]["arms"][0]["resident"])


@pytest.mark.drill
def test_memory_is_given_back_when_fifty_large_models_come_and_go(tmp_path: Path, processes):
    folder = data_folder(tmp_path / "data")
    lay_many(folder, 50, kilobytes=6_000, settings=NO_CACHE)
    gateway = GatewayProcess(folder, memory_budget_mb=30)
    processes.append(gateway)
    for number in range(5):
        ask(gateway, number)
    few = resident_bytes(gateway.process.pid)
    most = 0
    for number in [*range(50), *range(50)]:
        ask(gateway, number)
        most = max(most, resident_bytes(gateway.process.pid))
    counted = sums(gateway)
    assert counted["loads"] > 90
    assert counted["evictions"] > 80
    # All fifty would take 300 MB. One that is on its way takes some more than what it needs afterwards.
    assert most - few < 60 * MB


@pytest.mark.drill
def test_what_is_asked_all_the_time_stays_while_others_come_and_go(tmp_path: Path, processes):
    folder = data_folder(tmp_path / "data")
    lay_many(folder, 20, kilobytes=6_000, settings=NO_CACHE)
    gateway = GatewayProcess(folder, memory_budget_mb=20)
    processes.append(gateway)
    ask(gateway, 0)

    def churn() -> None:
        for number in [*range(1, 20), *range(1, 20)]:
            ask(gateway, number)

    asked = 1
    thread = threading.Thread(target=churn)
    thread.start()
    try:
        while thread.is_alive():
            ask(gateway, 0)
            asked += 1
    finally:
        thread.join()
    # How long its answers take meanwhile is for `bench/many_models.py` to say.
    (often,) = (row.cells for row in read_counters(folder.counters) if row.key.model == "m0")
    assert often["ok"] == asked
    assert often["loads"] < 10
    assert sums(gateway)["loads"] > 30
    assert sums(gateway)["failed"] == 0
