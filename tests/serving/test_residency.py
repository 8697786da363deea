"""Models that need not be in memory, with real ONNX: loaded by who asks first, evicted, loaded again."""

import asyncio
import json
import threading
import time

import msgspec
import numpy as np
import pytest

from fairlead.engine.host import ModelHost
from fairlead.engine.paths import listening
from fairlead.errors import CircuitOpen, DeadlineExceeded, FairleadError, NotReady
from fairlead.registry import artifacts
from fairlead.registry.versions import ModelSettings
from fairlead.runtimes.machine import cpu_name, resident_bytes
from fairlead.runtimes.placement import note
from fairlead.serving import loading
from fairlead.serving.asks import Ask, BatchAsk
from fairlead.serving.folder import ModelPlans, ServingPlan
from fairlead.serving.refresh import require_ready
from fairlead.serving.tables import TableAsk, infer_table
from fairlead.telemetry.counters import read_counters
from tests.many import lay_many, numbered_onnx
from tests.models import SAMPLE, lay_plan, lay_version, plan_of
from tests.serving.conftest import Gateway

MB = 1_000_000
NO_CACHE = ModelSettings(cache_seconds=0)


class Server(Gateway):
    """A gateway with a memory budget in megabytes, whose loop the test runs."""

    def __init__(self, folder, budget: float = 0.0) -> None:
        super().__init__(folder, memory_budget=int(budget * MB))

    async def ask(self, name: str, *, deadline: float | None = None, **features) -> int:
        model = self.plane.model(name)
        body = json.dumps({"features": {**SAMPLE, **features}}).encode()
        until = None if deadline is None else time.perf_counter() + deadline
        ask = Ask.of(model.reader.read(body), received=time.perf_counter(), deadline=until)
        envelope, _ = await self.plane.infer(model, ask)
        return envelope.prediction

    def resident(self) -> set[str]:
        return {
            name
            for name, model in self.plane.models.items()
            if any(arm.version.resident for arm in model.arms)
        }

    def taken(self) -> int:
        versions = [arm.version for model in self.plane.models.values() for arm in model.arms]
        return sum(version.engine.memory_bytes() for version in versions)

    def cells(self, model: str) -> dict[str, int]:
        rows = [row.cells for row in read_counters(self.folder.counters) if row.key.model == model]
        return {name: sum(row[name] for row in rows) for name in rows[0]}


@pytest.fixture
def loads(monkeypatch) -> list[str]:
    """The names of the models that were really loaded, in order; the library's own start is none."""
    found: list[str] = []
    load = loading.load_inline

    def counted(spec, path):
        found.append(spec.model)
        return load(spec, path)

    monkeypatch.setattr(loading, "load_inline", counted)
    return found


def test_without_a_budget_all_is_loaded_at_once_as_ever(folder):
    lay_many(folder, 3)
    server = Server(folder)
    server.follow()
    assert server.resident() == {"m0", "m1", "m2"}


def test_with_a_budget_a_gateway_is_ready_with_nothing_loaded_and_loads_what_is_asked(folder, loads):
    lay_many(folder, 3)
    server = Server(folder, budget=50)

    async def story() -> None:
        await server.refresher.refresh()
        require_ready(server.plane)
        assert server.resident() == set()
        assert not loads
        assert await server.ask("m2") == 2
        assert server.resident() == {"m2"}

    asyncio.run(story())


def test_one_load_serves_all_who_wait_and_each_gets_an_answer(folder, loads):
    lay_many(folder, 1, settings=NO_CACHE)
    server = Server(folder, budget=50)

    async def story() -> None:
        await server.refresher.refresh()
        answers = await asyncio.gather(*(server.ask("m0", sepal_length=i / 100) for i in range(200)))
        assert answers == [0] * 200

    asyncio.run(story())
    assert server.cells("m0")["loads"] == 1
    assert server.cells("m0")["ok"] == 200
    assert len(loads) == 2  # with the start of the library


def test_the_budget_holds_and_what_was_asked_least_recently_leaves(folder):
    lay_many(folder, 6, kilobytes=1_000, settings=NO_CACHE)
    server = Server(folder, budget=3.6)

    async def story() -> None:
        await server.refresher.refresh()
        for number in (0, 1, 2):
            assert await server.ask(f"m{number}") == number % 3
        assert server.resident() == {"m0", "m1", "m2"}
        await server.ask("m0")
        await server.ask("m3")
        assert server.resident() == {"m0", "m2", "m3"}
        for number in (4, 5, 1):
            assert await server.ask(f"m{number}") == number % 3
            assert server.taken() <= 3.6 * MB

    asyncio.run(story())
    assert server.cells("m1")["loads"] == 2
    assert server.cells("m1")["evictions"] == 1


def test_a_model_larger_than_the_whole_budget_is_served_alone_and_said_so(folder, caplog):
    lay_many(folder, 2, kilobytes=1_000, settings=NO_CACHE)
    big = lay_version(folder, "vbig", numbered_onnx(1, 5_000), model="big", settings=NO_CACHE)
    lay_plan(folder, plan_of({"stable": ("vbig", "stable", 100)}, model="big"), big)
    server = Server(folder, budget=3)

    async def story() -> None:
        await server.refresher.refresh()
        await server.ask("m0")
        assert await server.ask("big") == 1
        assert server.resident() == {"big"}
        await server.ask("m1")
        assert server.resident() == {"m1"}

    asyncio.run(story())
    assert "served alone" in caplog.text


def test_a_version_is_not_evicted_while_a_request_is_with_it(folder):
    lay_many(folder, 2, kilobytes=1_000, settings=ModelSettings(cache_seconds=0, max_batch_rows=1))
    server = Server(folder, budget=1.5)

    async def story() -> None:
        await server.refresher.refresh()
        model = server.plane.model("m0")
        rows = np.full((300, 4), 1.0, np.float32)
        ask = TableAsk({"X": rows}, outputs=(), received=time.perf_counter())
        table = asyncio.create_task(infer_table(server.plane, model, ask))
        version = model.arms[0].version
        await until(lambda: version.resident and version.holds)
        other = asyncio.create_task(server.ask("m1"))
        while not table.done():
            assert version.resident
            await asyncio.sleep(0)
        assert table.result().rows == 300
        assert await other == 1
        assert server.resident() == {"m1"}

    asyncio.run(story())


def test_a_row_that_was_gathered_for_its_turn_is_run_before_its_model_leaves(folder):
    lay_many(folder, 2, kilobytes=1_000, settings=NO_CACHE)
    server = Server(folder, budget=1.5)

    async def story() -> None:
        await server.refresher.refresh()
        for turn in range(20):
            asked = [server.ask(f"m{number}", sepal_length=turn / 10) for number in (0, 1, 0, 1)]
            assert await asyncio.gather(*asked) == [0, 1, 0, 1]
            assert server.taken() <= 1.5 * MB

    asyncio.run(story())


def test_an_idle_model_leaves_memory_and_the_next_request_loads_it(folder):
    lay_many(folder, 1, settings=ModelSettings(cache_seconds=0, idle_unload_seconds=5))
    server = Server(folder)

    async def story() -> None:
        await server.refresher.refresh()
        assert await server.ask("m0") == 0
        version = server.plane.model("m0").arms[0].version
        await server.refresher.residents.sweep(version.engine.used + 4.9)
        assert version.resident
        await server.refresher.residents.sweep(version.engine.used + 5.1)
        assert not version.resident
        assert version.engine.healthy
        assert await server.ask("m0") == 0
        assert version.resident

    asyncio.run(story())
    assert server.cells("m0")["evictions"] == 1


def test_an_idle_time_takes_hold_of_what_was_loaded_for_good_and_loads_nothing_for_it(folder, loads):
    (spec,) = lay_many(folder, 1, settings=NO_CACHE)
    server = Server(folder)

    async def story() -> None:
        await server.refresher.refresh()
        changed = msgspec.structs.replace(spec, settings=ModelSettings(idle_unload_seconds=1))
        lay_plan(folder, plan_of({"stable": ("v0", "stable", 100)}, model="m0"), changed)
        await server.refresher.refresh()
        version = server.plane.model("m0").arms[0].version
        assert version.resident
        await server.refresher.residents.sweep(time.monotonic() + 2)
        assert not version.resident
        assert await server.ask("m0") == 0

    asyncio.run(story())
    assert loads == ["m0", "m0"]


def test_what_is_prepared_is_warm_and_cannot_be_evicted_before_it_has_its_traffic(folder):
    (active, *_) = lay_many(folder, 3, kilobytes=1_000, settings=NO_CACHE)
    server = Server(folder, budget=2.4)
    canary = lay_version(folder, "next", numbered_onnx(7, 1_000), model="m0", settings=NO_CACHE)
    old = ServingPlan(plan=plan_of({"stable": ("v0", "stable", 100)}, model="m0"), versions={"v0": active})
    new = ServingPlan(
        plan=plan_of({"stable": ("next", "stable", 100)}, model="m0", generation=2), versions={"next": canary}
    )

    async def story() -> None:
        await server.refresher.refresh()
        await server.ask("m1")
        await server.ask("m2")
        folder.write_plans(ModelPlans(model="m0", active=old, prepare=new))
        await server.refresher.refresh()
        report = server.report("m0")
        assert (report.prepared, report.active) == (2, 1)
        assert set(report.loaded) == {"next"}
        for turn in range(3):
            for name in ("m1", "m2"):
                await server.ask(name, sepal_length=turn)
        folder.write_plans(ModelPlans(model="m0", active=new))
        await server.refresher.refresh()
        assert server.plane.model("m0").arms[0].version.resident
        assert await server.ask("m0") == 1

    asyncio.run(story())
    assert server.cells("m0")["loads"] == 1


def test_a_caller_whose_time_is_over_is_told_so_and_the_load_goes_on(folder, monkeypatch):
    lay_many(folder, 1, settings=NO_CACHE)
    server = Server(folder, budget=50)
    going_on = threading.Event()
    load = loading.load_inline

    def slowly(spec, path):
        assert going_on.wait(20)
        return load(spec, path)

    monkeypatch.setattr(loading, "load_inline", slowly)

    async def story() -> None:
        await server.refresher.refresh()
        with pytest.raises(DeadlineExceeded):
            await server.ask("m0", deadline=0.05)
        patient = asyncio.create_task(server.ask("m0"))
        await asyncio.sleep(0)
        going_on.set()
        assert await patient == 0

    asyncio.run(story())
    assert server.cells("m0")["loads"] == 1


def test_a_load_that_fails_is_the_versions_fault_and_is_not_tried_for_each_request(folder, monkeypatch):
    (spec,) = lay_many(folder, 1, settings=NO_CACHE)
    server = Server(folder, budget=50)
    tried = []
    monkeypatch.setattr(loading, "verify", lambda *given: tried.append(given) or artifacts.verify(*given))

    async def story() -> None:
        await server.refresher.refresh()
        path = folder.versions / spec.manifest.digest / "model.onnx"
        sound = path.read_bytes()
        path.write_bytes(sound[:-1] + b"?")
        for _ in range(4):
            with pytest.raises(NotReady, match=r"cannot be loaded.*model\.onnx"):
                await server.ask("m0")
        assert len(tried) == 1
        # After a while one more request tries again, and finds the file in order.
        for _ in range(20):
            with pytest.raises((NotReady, CircuitOpen)):
                await server.ask("m0")
        path.write_bytes(sound)
        assert await eventually(server, "m0") == 0
        assert len(tried) == 2
        assert not server.plane.model("m0").arms[0].version.breaker.failures

    asyncio.run(story())
    assert server.cells("m0")["loads"] == 1


async def eventually(server: Server, name: str) -> int:
    over = time.monotonic() + 20
    while True:
        try:
            return await server.ask(name)
        except FairleadError:
            assert time.monotonic() < over
            await asyncio.sleep(0.05)


async def until(predicate) -> None:
    over = time.monotonic() + 20
    while not predicate():
        assert time.monotonic() < over
        await asyncio.sleep(0)


def test_another_version_stands_in_for_one_that_cannot_be_loaded(folder):
    server = Server(folder, budget=50)
    settings = ModelSettings(cache_seconds=0, fallback_version="stable")
    sound = lay_version(folder, "v1", numbered_onnx(1), settings=NO_CACHE)
    broken = lay_version(folder, "v2", numbered_onnx(2), settings=settings)
    plan = plan_of({"stable": ("v1", "stable", 0), "canary": ("v2", "canary", 100)})
    lay_plan(folder, plan, sound, broken)

    async def story() -> None:
        await server.refresher.refresh()
        path = folder.versions / broken.manifest.digest / "model.onnx"
        path.write_bytes(b"x" * path.stat().st_size)
        model = server.plane.model("iris")
        reading = model.reader.read(json.dumps({"features": SAMPLE}).encode())
        envelope, _ = await server.plane.infer(model, Ask.of(reading, received=time.perf_counter()))
        assert (envelope.model_version, envelope.prediction, envelope.degraded) == (
            "v1",
            1,
            "fallback_version",
        )

    asyncio.run(story())


def test_files_that_are_not_there_are_noticed_before_a_plan_is_served(folder):
    (spec,) = lay_many(folder, 1)
    (folder.versions / spec.manifest.digest / "model.onnx").unlink()
    server = Server(folder, budget=50)
    server.follow()
    assert server.report("m0").failed_generation == 1
    assert "m0" not in server.plane.models


def test_digests_are_compared_once_however_often_a_model_is_loaded(folder, monkeypatch):
    lay_many(folder, 2, kilobytes=1_000, settings=NO_CACHE)
    server = Server(folder, budget=1.5)
    verified = []
    monkeypatch.setattr(loading, "verify", lambda *given: verified.append(given))

    async def story() -> None:
        await server.refresher.refresh()
        for turn in range(4):
            await server.ask("m0", sepal_length=turn)
            await server.ask("m1", sepal_length=turn)

    asyncio.run(story())
    assert server.cells("m0")["loads"] == 4
    assert len(verified) == 2


def test_a_batch_and_a_table_wait_for_a_cold_model_too(folder):
    lay_many(folder, 2, kilobytes=1_000, settings=NO_CACHE)
    server = Server(folder, budget=1.5)

    async def story() -> None:
        await server.refresher.refresh()
        model = server.plane.model("m1")
        body = json.dumps({"instances": [{"features": SAMPLE}] * 3}).encode()
        batch = BatchAsk(model.reader.read_batch(body), received=time.perf_counter())
        envelope = await server.plane.infer_batch(model, batch)
        assert len(envelope.predictions) == 3
        cold = server.plane.model("m0")
        ask = TableAsk({"X": np.ones((5, 4), np.float32)}, outputs=(), received=time.perf_counter())
        answer = await infer_table(server.plane, cold, ask)
        assert answer.outputs["label"].tolist() == [0] * 5

    asyncio.run(story())


def test_a_replacement_loads_what_its_predecessor_had_in_memory(folder):
    lay_many(folder, 5, kilobytes=1_000, settings=NO_CACHE)

    async def first() -> None:
        server = Server(folder, budget=2.4)
        await server.refresher.refresh()
        for name in ("m1", "m3", "m4"):
            await server.ask(name)
        await server.refresher.close(draining=True)
        server.plane.journal.close()

    async def second() -> None:
        server = Server(folder, budget=2.4)
        await server.refresher.refresh()
        assert server.resident() == set()
        following = asyncio.create_task(server.refresher.run())
        await until(lambda: server.resident() == {"m3", "m4"})
        following.cancel()

    asyncio.run(first())
    asyncio.run(second())


def test_the_report_says_what_is_loaded_and_what_is_cold(folder):
    lay_many(folder, 2, kilobytes=1_000, settings=NO_CACHE)
    server = Server(folder, budget=1.5)

    async def story() -> None:
        await server.refresher.refresh()
        following = asyncio.create_task(server.refresher.run())
        await server.ask("m1")
        await until(lambda: not server.report("m1").cold)
        assert server.report("m1").loaded["v1"] > 1_000_000
        assert server.report("m0").cold == ("v0",)
        following.cancel()

    asyncio.run(story())


def test_an_idle_model_worker_ends_and_the_next_request_starts_another(folder):
    (spec,) = lay_many(folder, 1, settings=ModelSettings(cache_seconds=0, idle_unload_seconds=5))
    heavy = {"run_microseconds": 1e6, "memory_bytes": 1, "library": f"onnxruntime 1 {cpu_name()}"}
    assert note(folder.measured, spec.manifest.digest, heavy) is not None
    server = Server(folder)

    async def story() -> None:
        host = ModelHost(folder.run)
        await host.start(listening(folder.models_socket))
        try:
            await server.refresher.refresh()
            assert not server.resident()
            assert await server.ask("m0") == 0
            engine = server.plane.model("m0").arms[0].version.engine
            assert not engine.inline
            first = engine.inner.pid
            await server.refresher.residents.sweep(engine.used + 6)
            assert not server.resident()
            await until(lambda: resident_bytes(first) == 0)
            assert (
                await asyncio.gather(*(server.ask("m0", sepal_length=i / 9) for i in range(50))) == [0] * 50
            )
            assert engine.inner.pid != first
        finally:
            await server.refresher.close(draining=True)
            await host.stop()

    asyncio.run(story())
    assert server.cells("m0")["loads"] == 2
