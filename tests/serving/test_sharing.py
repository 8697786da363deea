"""Gateways that share a cache in a real Redis: one works an answer out, the other gives it, come what may."""

import asyncio
import json
import time
from collections.abc import Iterator

import pytest

from fairlead.contracts.fingerprint import encode_row
from fairlead.registry.versions import ModelSettings
from fairlead.serving.asks import Ask, BatchAsk
from fairlead.serving.cache import PredictionCache
from fairlead.serving.shared import SharedCache
from fairlead.stores.keyvalue import MemoryKeyValue, open_keyvalue
from fairlead.telemetry.counters import read_counters
from tests.models import FEATURES, SAMPLE, data_folder, lay_plan, lay_version, plan_of
from tests.redis_server import RedisServer
from tests.serving.conftest import Gateway, Sink

BORDERLINE = {"sepal_length": 6.0, "sepal_width": 2.7, "petal_length": 5.0, "petal_width": 1.7}
PATIENT = 10.0  # seconds: where the test is not about time, a slow machine must not change its outcome


@pytest.fixture
def redis(tmp_path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def machine(tmp_path, onnx):
    """Makes gateways, each on a data folder of its own, that serve v1 (and v2 when pinned)."""
    made = []

    def make(shared: SharedCache | None, secret: bytes = b"s" * 32, **options) -> Gateway:
        folder = data_folder(tmp_path / f"data-{len(made)}")
        (folder.root / "secret").write_bytes(secret)
        specs = [lay_version(folder, f"v{n + 1}", onnx[n], **options) for n in range(2)]
        lay_plan(folder, plan_of({"stable": ("v1", "stable", 100), "b": ("v2", "variant", 0)}), *specs)
        gateway = Gateway(folder, shared=shared)
        gateway.follow()
        made.append(gateway)
        return gateway

    yield make
    for gateway in made:
        gateway.plane.journal.close()


def asking(gateway: Gateway, features=SAMPLE, pin=None):
    model = gateway.plane.model("iris")
    body = json.dumps({"features": features, "return_probabilities": True}).encode()
    return gateway.plane.infer(model, Ask.of(model.reader.read(body), received=time.perf_counter(), pin=pin))


async def ask(gateway: Gateway, features=SAMPLE, pin=None):
    return (await asking(gateway, features, pin))[0]


def key_of(gateway: Gateway, features=SAMPLE, pin="v1") -> bytes:
    row = tuple(features[name] for name in FEATURES)
    return PredictionCache.key(gateway.plane.model("iris").pinned(pin).cache_secret, encode_row(row))


async def written(gateway: Gateway, features=SAMPLE, pin="v1") -> None:
    """Waits until the shared cache has the answer: nobody waits for a write."""
    async with asyncio.timeout(10):
        while True:
            if await gateway.plane.caches.shared.get(key_of(gateway, features, pin)) is not None:
                return
            await asyncio.sleep(0.002)


def cells(gateway: Gateway) -> dict[str, int]:
    total: dict[str, int] = {}
    for arm in read_counters(gateway.folder.counters):
        for name, value in arm.cells.items():
            total[name] = total.get(name, 0) + value
    return total


def row(index: int) -> dict[str, float]:
    return SAMPLE | {"sepal_length": round(1 + index / 50, 3), "petal_length": round(index % 60 / 10, 1)}


def test_what_one_gateway_worked_out_the_other_answers(redis, machine):
    async def walk():
        first = await ask(one)
        await written(one)
        second, third = await ask(two), await ask(two)
        assert (first.cached, second.cached, third.cached) == (False, True, True)
        assert second.prediction == first.prediction
        assert second.probabilities == first.probabilities
        assert second.feature_hash == first.feature_hash
        await one.plane.caches.shared.close()
        await two.plane.caches.shared.close()

    one, two = (machine(SharedCache(open_keyvalue(redis.url), timeout=PATIENT)) for _ in range(2))
    asyncio.run(walk())
    counted = cells(two)
    # The third came from the gateway's own memory: what was found elsewhere is kept.
    assert (counted["cache_hits"], counted["cache_shared_hits"], counted["cache_misses"]) == (2, 1, 0)
    assert counted["runs"] == 0
    assert [record.cached for record in two.records()] == [True, True]


def test_hits_and_misses_together_are_the_look_ups(redis, machine):
    async def walk():
        for index in range(30):
            await ask(one, row(index % 12))
        for index in range(12):
            await written(one, row(index))
        for index in range(40):
            await ask(two, row(index % 20))
        await one.plane.caches.shared.close()
        await two.plane.caches.shared.close()

    one, two = (machine(SharedCache(open_keyvalue(redis.url), timeout=PATIENT)) for _ in range(2))
    asyncio.run(walk())
    counted = cells(two)
    assert (counted["cache_hits"], counted["cache_misses"]) == (32, 8)
    assert (counted["cache_shared_hits"], counted["runs"]) == (12, 8)


def test_versions_never_mix(redis, machine):
    async def walk():
        answers = {}
        for gateway in (one, two):
            for pin in ("v1", "v2"):
                envelope = await ask(gateway, BORDERLINE, pin)
                await written(gateway, BORDERLINE, pin)
                answers[gateway, pin] = envelope.cached, envelope.probabilities
        assert [cached for cached, _ in answers.values()] == [False, False, True, True]
        assert answers[one, "v1"][1] == answers[two, "v1"][1]
        assert answers[one, "v2"][1] == answers[two, "v2"][1]
        assert answers[one, "v1"][1] != answers[one, "v2"][1]
        await one.plane.caches.shared.close()
        await two.plane.caches.shared.close()

    one, two = (machine(SharedCache(open_keyvalue(redis.url), timeout=PATIENT)) for _ in range(2))
    asyncio.run(walk())


def test_deployments_with_different_secrets_share_nothing(machine):
    async def walk():
        await ask(one)
        await written(one)
        assert not (await ask(other)).cached

    shared = SharedCache(MemoryKeyValue(), timeout=PATIENT)
    one, other = machine(shared), machine(shared, secret=b"t" * 32)
    asyncio.run(walk())


def test_an_answer_found_elsewhere_does_not_outlive_its_time_here(machine):
    async def walk():
        await ask(one)
        await written(one)
        assert (await ask(two)).cached

    store = MemoryKeyValue()
    settings = ModelSettings(cache_seconds=300)
    one = machine(SharedCache(store, timeout=PATIENT), settings=settings)
    later = SharedCache(store, timeout=PATIENT, wall=lambda: time.time() + 250)
    two = machine(later, settings=settings)
    asyncio.run(walk())
    cache, key = two.plane.caches.local, key_of(two)
    assert cache.get(key, time.monotonic()) is not None
    assert cache.get(key, time.monotonic() + 51) is None


def test_a_version_without_a_cache_and_a_batch_leave_it_alone(machine):
    class Counting(MemoryKeyValue):
        asked = 0

        async def get(self, key):
            self.asked += 1
            return await super().get(key)

    async def walk():
        assert not (await ask(without)).cached
        model = batching.plane.model("iris")
        body = json.dumps({"instances": [{"features": SAMPLE}] * 3}).encode()
        await batching.plane.infer_batch(
            model, BatchAsk(model.reader.read_batch(body), received=time.perf_counter())
        )
        await asyncio.sleep(0)
        assert (store.asked, store.size_bytes) == (0, 0)

    store = Counting()
    without = machine(SharedCache(store), settings=ModelSettings(cache_seconds=0))
    batching = machine(SharedCache(store))
    asyncio.run(walk())


def test_a_redis_killed_in_the_middle_of_traffic_changes_no_answer(redis, machine):
    ahead = 0.0
    flowing = asyncio.Event()

    async def traffic(first: int, last: int) -> None:
        for index in range(first, last):
            here, there = await ask(sharing, row(index)), await ask(alone, row(index))
            assert (here.prediction, here.probabilities) == (there.prediction, there.probabilities)
            if index == 20:
                flowing.set()

    async def walk():
        nonlocal ahead
        background = asyncio.create_task(traffic(0, 150))
        await flowing.wait()
        redis.kill()
        await background
        assert not shared.available
        sink = Sink()  # left alone: a prediction has nothing to wait for
        sharing.plane.turns.start(asking(sharing, row(150)), sink)
        await asyncio.sleep(0)
        assert sink.task is None
        assert sink.answer is not None
        redis.start()
        ahead += 60.0  # the longest pause is over
        await traffic(151, 155)
        assert shared.available
        await written(sharing, row(154))
        sharing.plane.caches.local = PredictionCache(1 << 20)  # as after a restart of the gateway
        assert (await ask(sharing, row(154))).cached
        await shared.close()

    shared = SharedCache(open_keyvalue(redis.url), timeout=PATIENT, clock=lambda: time.monotonic() + ahead)
    sharing, alone = machine(shared), machine(None)
    asyncio.run(walk())
    counted = cells(sharing)
    assert counted["ok"] == counted["cache_hits"] + counted["cache_misses"] == 156
    assert counted["cache_shared_hits"] == 1


def test_garbage_under_every_key_changes_no_answer(redis, machine):
    from redis.asyncio import Redis

    async def walk():
        clean = [await ask(one, row(index)) for index in range(20)]
        for index in range(20):
            await written(one, row(index))
        async with Redis.from_url(redis.url) as client:
            for number, key in enumerate(await client.keys("fairlead:*")):
                held = await client.get(key)
                await client.set(key, [b"", b"\x01", held[:-1], held + b"\x00", held[::-1]][number % 5])
        for index, expected in enumerate(clean):
            found = await ask(two, row(index))
            assert not found.cached
            assert (found.prediction, found.probabilities) == (expected.prediction, expected.probabilities)
        await one.plane.caches.shared.close()
        await two.plane.caches.shared.close()

    one, two = (machine(SharedCache(open_keyvalue(redis.url), timeout=PATIENT)) for _ in range(2))
    asyncio.run(walk())


def test_many_at_once_are_answered_whether_or_not_the_cache_keeps_up(redis, machine):
    async def walk():
        found = await asyncio.gather(*(ask(sharing, row(index % 100)) for index in range(400)))
        for index, envelope in enumerate(found[:100]):
            assert envelope.probabilities == (await ask(alone, row(index))).probabilities
        await shared.close()

    shared = SharedCache(open_keyvalue(redis.url))
    sharing, alone = machine(shared), machine(None)
    asyncio.run(walk())
    counted = cells(sharing)
    assert counted["ok"] == counted["cache_hits"] + counted["cache_misses"] == 400
