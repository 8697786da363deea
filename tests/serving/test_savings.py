"""How many runs of a model the cache saves on a shop's product pages, by the model's own count of runs."""

import asyncio
import json
from collections import OrderedDict

import numpy as np
import pytest

from fairlead.predictions.segments import SegmentWriter
from fairlead.serving.asks import Ask
from fairlead.serving.cache import PredictionCache
from fairlead.serving.caches import Caches
from fairlead.serving.dataplane import DataPlane
from fairlead.serving.journal import Journal
from fairlead.serving.near import NearCache
from fairlead.serving.refresh import Refresher
from fairlead.telemetry.counters import CounterBlock, read_counters
from tests.models import SAMPLE, lay_plan, lay_version, plan_of

PAGES, SEGMENTS, PER_SECOND, LIFETIME, ENTRIES = 10_000, 20, 50.0, 300.0, 5_000
REQUESTS = 60_000  # 20 minutes
ENTRY_BYTES = 400


class Shop:
    """Requests for product pages: Zipf 1.0 over the pages, any customer segment, evenly in time."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        weights = 1 / np.arange(1, PAGES + 1)
        self.pages = random.choice(PAGES, REQUESTS, p=weights / weights.sum())
        self.segments = random.integers(0, SEGMENTS, REQUESTS)
        self.workers = random.integers(0, 2, REQUESTS)
        self.now = 0.0

    def features(self, index: int) -> dict[str, float]:
        """What the model sees of the page and the segment."""
        page, segment = int(self.pages[index]), int(self.segments[index])
        return {**SAMPLE, "sepal_length": page / 1000, "sepal_width": segment / 2}


class Worker:
    """One gateway worker, whose models count their own rows."""

    def __init__(self, folder, shop: Shop, name: str, near: NearCache | None) -> None:
        caches = Caches(PredictionCache(ENTRIES * ENTRY_BYTES), near=near, clock=lambda: shop.now)
        self.counters = CounterBlock(folder.counters / name)
        self.plane = DataPlane(Journal(SegmentWriter(folder.log / name), "shed"), caches, name)
        refresher = Refresher(
            self.plane, folder, self.counters, slot=0, address="127.0.0.1:0", trust_pickle=False
        )
        asyncio.run(refresher.refresh())
        self.model = self.plane.model("iris")
        self.rows_run = 0
        for arm in self.model.arms:
            self._count(arm.version.engine)

    def _count(self, engine) -> None:
        run_now = engine.run_now

        def counted(feed):
            self.rows_run += len(next(iter(feed.values())))
            return run_now(feed)

        engine.run_now = counted

    async def ask(self, features: dict[str, float], unit: str) -> None:
        body = json.dumps({"features": features, "unit": unit}).encode()
        await self.plane.infer(self.model, Ask.of(self.model.reader.read(body), received=0.0))


def saved(folder, shop: Shop, workers: list[Worker]) -> float:
    """The share of the requests that needed no run; the metrics must say the same."""

    async def walk() -> None:
        for index in range(REQUESTS):
            shop.now = index / PER_SECOND
            worker = workers[shop.workers[index] % len(workers)]
            await worker.ask(shop.features(index), f"customer-{index}")

    asyncio.run(walk())
    runs = sum(worker.rows_run for worker in workers)
    counted = [row.cells for row in read_counters(folder.counters)]
    assert sum(cells["run_rows"] for cells in counted) == runs
    assert sum(cells["cache_misses"] for cells in counted) == runs
    assert sum(cells["cache_hits"] for cells in counted) == REQUESTS - runs
    return 1 - runs / REQUESTS


def unbounded(shop: Shop, arms: list[str]) -> float:
    """What one cache without a bound would save; `arms` is who answers each request."""
    ends: OrderedDict[tuple[int, int, str], float] = OrderedDict()
    hits = 0
    for index in range(REQUESTS):
        key = (int(shop.pages[index]), int(shop.segments[index]), arms[index])
        now = index / PER_SECOND
        if ends.get(key, -1.0) > now:
            hits += 1
        else:
            ends[key] = now + LIFETIME
    return hits / REQUESTS


@pytest.fixture
def specs(folder, onnx):
    return [lay_version(folder, f"v{number + 1}", onnx[number]) for number in range(2)]


def test_one_worker_saves_two_runs_in_five(folder, specs):
    lay_plan(folder, plan_of({"stable": ("v1", "stable", 100)}), specs[0])
    shop = Shop()
    assert saved(folder, shop, [Worker(folder, shop, "g-0", None)]) >= 0.40


def test_two_workers_and_two_versions_save_nine_tenths_of_what_could_be_saved(folder, specs):
    arms = {"stable": ("v1", "stable", 90), "canary": ("v2", "canary", 10)}
    lay_plan(folder, plan_of(arms), *specs)
    shop = Shop()

    def near() -> NearCache:
        return NearCache(folder.run / "cache", 2 * ENTRIES * ENTRY_BYTES, clock=lambda: shop.now)

    workers = [Worker(folder, shop, name, near()) for name in ("g-0", "g-1")]
    answered_by = [workers[0].model.route(f"customer-{index}").name for index in range(REQUESTS)]
    possible = unbounded(shop, answered_by)
    found = saved(folder, shop, workers)
    assert found >= 0.9 * possible, (found, possible)
