"""Copies for shadows: the same rows, after the answer, when nothing else is to do, and nobody's trouble."""

import asyncio
import json
import os
import signal
import time

import msgspec
import pytest
import uvloop

from fairlead.contracts.contract import Contract
from fairlead.contracts.fingerprint import decode_row
from fairlead.engine.host import ModelHost
from fairlead.engine.paths import listening
from fairlead.errors import RuntimeFailed
from fairlead.predictions.sameness import is_same
from fairlead.registry.versions import ModelSettings
from fairlead.runtimes.machine import cpu_name
from fairlead.runtimes.placement import note
from fairlead.serving.asks import Ask, BatchAsk
from fairlead.serving.refresh import require_ready
from fairlead.serving.shadowing import MOST_ROWS
from fairlead.telemetry.counters import read_counters
from tests.engine.conftest import until
from tests.models import FEATURES, SAMPLE, faulty_onnx, iris_contract, lay_plan, lay_version, plan_of
from tests.serving.conftest import Gateway, Sink

BORDERLINE = {"sepal_length": 6.0, "sepal_width": 2.7, "petal_length": 5.0, "petal_width": 1.7}


def lay(gateway: Gateway, onnx, percent=100, shadow=None, **options) -> None:
    """v1 answers everybody, and v2 shadows it."""
    one = lay_version(gateway.folder, "v1", onnx[0])
    two = lay_version(gateway.folder, "v2", shadow or onnx[1], **options)
    plan = plan_of({"shadow": ("v2", "shadow", percent), "stable": ("v1", "stable", 100)})
    lay_plan(gateway.folder, plan, one, two)


def ask_for(gateway: Gateway, features=SAMPLE, *, pin=None, **members) -> Ask:
    body = json.dumps({"features": features, **members}).encode()
    return Ask.of(gateway.plane.model("iris").reader.read(body), received=time.perf_counter(), pin=pin)


def infer(gateway: Gateway, features=SAMPLE, *, pin=None, **members):
    ask = ask_for(gateway, features, pin=pin, **members)
    return gateway.plane.infer(gateway.plane.model("iris"), ask)


async def settled(gateway: Gateway) -> None:
    """Returns once no copy waits any more."""
    await until(lambda: not gateway.plane.shadowing.waiting)


def play(story) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story)


def cells(gateway: Gateway, role: str = "shadow") -> dict[str, int]:
    (found,) = [arm.cells for arm in read_counters(gateway.folder.counters) if arm.key.role == role]
    return found


def shadows(gateway: Gateway):
    return [record for record in gateway.records() if record.source == "shadow"]


def test_a_shadow_gets_the_row_that_was_answered_and_its_record_says_so(gateway, onnx):
    lay(gateway, onnx)
    gateway.follow()

    async def story() -> None:
        envelope, _ = await infer(gateway, unit="user-42", request_id="r-1")
        assert envelope.model_version == "v1"
        assert [record.source for record in gateway.records()] == ["online"]
        await settled(gateway)

    play(story())
    answered, copied = gateway.records()
    assert (copied.source, copied.arm, copied.role) == ("shadow", "shadow", "shadow")
    assert (copied.assigned_version, copied.served_version, copied.status) == ("v2", "v2", "ok")
    for name in ("request_id", "row", "unit", "unit_kind", "feature_hash", "features", "generation"):
        assert getattr(copied, name) == getattr(answered, name)
    assert copied.prediction_id != answered.prediction_id
    counted = cells(gateway)
    assert (counted["ok"], counted["shadow_same"], counted["runs"]) == (1, 1, 1)
    assert cells(gateway, "stable")["ok"] == 1


def test_every_row_of_a_batch_is_copied_under_its_own_number(gateway, onnx):
    lay(gateway, onnx)
    gateway.follow()

    async def story() -> None:
        model = gateway.plane.model("iris")
        rows = [{"features": {**SAMPLE, "petal_length": 1 + n / 10}} for n in range(5)]
        rows[3] = {"features": {**SAMPLE, "petal_length": "long"}}
        body = json.dumps({"instances": rows, "request_id": "b-1"}).encode()
        ask = BatchAsk(model.reader.read_batch(body), received=time.perf_counter())
        await gateway.plane.infer_batch(model, ask)
        await settled(gateway)

    play(story())
    assert [(record.request_id, record.row) for record in shadows(gateway)] == [
        ("b-1", row) for row in (0, 1, 2, 4)
    ]


def test_answers_that_differ_are_counted_apart(gateway, onnx):
    lay(gateway, onnx, shadow=faulty_onnx())
    gateway.follow()

    async def story() -> None:
        await infer(gateway, SAMPLE)
        await infer(gateway, {**BORDERLINE, "petal_length": 6.0, "petal_width": 2.2})
        await settled(gateway)

    play(story())
    assert (cells(gateway)["shadow_same"], cells(gateway)["shadow_different"]) == (1, 1)


def test_a_share_of_the_units_is_copied_always_the_same_and_about_as_many_as_were_asked_for(gateway, onnx):
    lay(gateway, onnx, percent=30)
    gateway.follow()

    async def story() -> None:
        for start in range(0, 2_000, 100):
            for number in range(start, start + 100):
                await infer(gateway, unit=f"u{number % 1_000}")
            await settled(gateway)

    play(story())
    copied = [record.unit for record in shadows(gateway)]
    assert cells(gateway)["shadow_dropped"] == 0
    assert sorted(copied) == sorted([*set(copied)] * 2)
    assert 240 < len(set(copied)) < 360  # four standard deviations


def test_pinned_requests_and_rows_that_break_the_contract_are_not_copied(gateway, onnx):
    lay(gateway, onnx)
    gateway.follow()

    async def story() -> None:
        await infer(gateway, pin="v1")
        with pytest.raises(Exception, match="petal_width"):
            await infer(gateway, {**SAMPLE, "petal_width": -1})
        assert not gateway.plane.shadowing.waiting

    play(story())


def test_a_shadow_answers_nobody_even_when_it_is_pinned(gateway, onnx):
    lay(gateway, onnx)
    gateway.follow()
    with pytest.raises(Exception, match="takes no traffic"):
        asyncio.run(infer(gateway, pin="v2"))


def test_while_requests_come_in_every_pass_no_copy_runs_and_what_does_not_fit_is_dropped(gateway, onnx):
    lay(gateway, onnx)
    gateway.follow()
    count = MOST_ROWS + 50

    async def story() -> None:
        model = gateway.plane.model("iris")
        for _ in range(count):
            gateway.plane.admit(model, time.perf_counter(), None)
            gateway.plane.turns.start(infer(gateway), Sink())
            await asyncio.sleep(0)
        assert gateway.plane.shadowing.waiting == MOST_ROWS
        assert shadows(gateway) == []
        await settled(gateway)

    play(story())
    assert len(shadows(gateway)) == MOST_ROWS
    assert (cells(gateway)["shadow_dropped"], cells(gateway)["ok"]) == (50, MOST_ROWS)
    assert cells(gateway, "stable")["ok"] == count


def test_a_shadow_that_raises_fails_alone_and_changes_no_answer(gateway, onnx):
    lay(gateway, onnx, shadow=faulty_onnx())
    gateway.follow()

    async def story() -> None:
        for length in (9.0, 8.0, 5.0):
            envelope, _ = await infer(gateway, {**SAMPLE, "sepal_length": length})
            assert envelope.prediction == 0
        await settled(gateway)

    play(story())
    assert [(record.status, record.error_code) for record in shadows(gateway)] == [
        ("failed", "runtime_failed"),
        ("failed", "runtime_failed"),
        ("ok", None),
    ]
    assert cells(gateway, "stable")["ok"] == 3
    assert (cells(gateway)["failed"], cells(gateway)["shadow_same"]) == (2, 1)


def test_a_shadow_that_only_fails_is_left_alone_and_its_copies_are_dropped(gateway, onnx):
    lay(gateway, onnx, shadow=faulty_onnx())
    gateway.follow()

    async def story() -> None:
        for number in range(30):
            await infer(gateway, {**SAMPLE, "sepal_length": 9.0}, request_id=f"r{number}")
            await settled(gateway)

    play(story())
    counted = cells(gateway)
    assert counted["failed"] == 5
    assert counted["shadow_dropped"] == 25
    assert cells(gateway, "stable")["ok"] == 30


def test_what_breaks_around_a_shadow_stays_there(gateway, onnx, caplog):
    lay(gateway, onnx)
    gateway.follow()
    arm = gateway.plane.model("iris").shadows[0]
    arm.version.binding.texts = lambda prediction: 1 / 0

    async def story() -> None:
        for _ in range(2):
            assert (await infer(gateway))[0].prediction == 0
            await settled(gateway)

    play(story())
    assert shadows(gateway) == []
    assert "copies for iris v2 failed" in caplog.text


def test_a_request_that_its_version_failed_on_is_copied_too(gateway, onnx):
    lay(gateway, onnx)
    gateway.follow()
    binding = gateway.plane.model("iris").arms[0].version.binding
    binding.decode = lambda outputs, count: (_ for _ in ()).throw(RuntimeFailed("not finite"))

    async def story() -> None:
        with pytest.raises(RuntimeFailed):
            await infer(gateway, request_id="r-1")
        await settled(gateway)

    play(story())
    failed, copied = gateway.records()
    assert (failed.status, copied.status, copied.request_id) == ("failed", "ok", "r-1")
    assert (cells(gateway)["shadow_same"], cells(gateway)["shadow_different"]) == (0, 0)


def test_a_shadow_with_another_contract_reads_the_request_by_its_own(gateway, onnx):
    base = iris_contract()
    renamed = tuple(
        msgspec.structs.replace(field, name="petal_breadth") if field.name == "petal_width" else field
        for field in base.inputs
    )
    lay(gateway, onnx, contract=Contract(inputs=renamed, output=base.output))
    gateway.follow()

    async def story() -> None:
        await infer(gateway, {**SAMPLE, "petal_breadth": 0.3})
        await infer(gateway, SAMPLE)
        await settled(gateway)

    play(story())
    both, lacking = shadows(gateway)
    assert decode_row(both.features) == [*(SAMPLE[name] for name in FEATURES[:3]), 0.3]
    assert (lacking.status, lacking.error_code) == ("rejected", "data_contract_violation")
    assert cells(gateway)["rejected"] == 1
    assert cells(gateway, "stable")["ok"] == 2


def test_a_shadow_that_does_not_load_keeps_its_plan_from_being_prepared_but_not_a_gateway_from_serving(
    gateway, onnx
):
    lay(gateway, onnx, shadow=b"no model")
    gateway.follow()
    model = gateway.plane.model("iris")
    assert model.shadows == ()
    assert asyncio.run(infer(gateway))[0].model_version == "v1"
    require_ready(gateway.plane)
    plans = gateway.folder.read_plans("iris")
    plan = msgspec.structs.replace(plans.active.plan, generation=2)
    gateway.folder.write_plans(
        msgspec.structs.replace(plans, prepare=msgspec.structs.replace(plans.active, plan=plan))
    )
    gateway.follow()
    assert gateway.report().failed_generation == 2


def test_the_settings_of_a_shadow_bound_no_batch_of_others(gateway, onnx):
    lay(gateway, onnx, settings=ModelSettings(max_batch_rows=1))
    gateway.follow()
    model = gateway.plane.model("iris")
    body = json.dumps({"instances": [{"features": SAMPLE}] * 3}).encode()
    ask = BatchAsk(model.reader.read_batch(body), received=time.perf_counter())
    assert asyncio.run(gateway.plane.infer_batch(model, ask)).failed == 0


def test_a_heavy_shadow_runs_in_its_worker_and_may_hang_or_be_killed(gateway, onnx):
    lay(gateway, onnx, settings=ModelSettings(timeout_ms=300))
    plans = gateway.folder.read_plans("iris")
    heavy = {"run_microseconds": 1e6, "memory_bytes": 1, "library": f"onnxruntime 1 {cpu_name()}"}
    digest = plans.active.versions["v2"].manifest.digest
    assert note(gateway.folder.measured, digest, heavy) is not None

    async def ask(number: int) -> None:
        features = {**SAMPLE, "petal_length": 1 + number / 100}
        assert (await infer(gateway, features, request_id=f"r{number}"))[0].model_version == "v1"

    async def story() -> None:
        host = ModelHost(gateway.folder.run)
        await host.start(listening(gateway.folder.models_socket))
        try:
            await gateway.refresher.refresh()
            engine = gateway.plane.model("iris").shadows[0].version.engine
            assert not engine.inline
            for number in range(40):
                await ask(number)
            await settled(gateway)
            assert cells(gateway)["ok"] == 40
            os.kill(engine.pid, signal.SIGSTOP)
            await ask(40)
            await settled(gateway)
            assert shadows(gateway)[-1].error_code == "deadline_exceeded"
            os.kill(engine.pid, signal.SIGKILL)
            await ask(41)
            require_ready(gateway.plane)
            await settled(gateway)
        finally:
            await gateway.refresher.close(draining=True)
            await host.stop()

    play(story())
    assert [record.status for record in gateway.records() if record.source == "online"] == ["ok"] * 42
    assert cells(gateway)["ok"] + cells(gateway)["failed"] == 42
    assert shadows(gateway)[-1].status == "failed"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1, True),
        (1_000_000, 1_000_001, False),
        ("a", "b", False),
        (True, False, False),
        (0.5, 0.5000004, True),
        (0.5, 0.500001, False),
        (0.0, 1e-9, False),
        ([{"id": 1, "score": 0.9}, {"id": 2, "score": 0.1}], [{"id": 1, "score": 0.4}], True),
        ([{"id": 1, "score": 0.9}], [{"id": 2, "score": 0.9}], False),
        ([0.5, 1.0], [0.5000001, 1.0], True),
        ([0.5, 1.0], [0.5], False),
        ([], [], True),
        (None, 1, False),
    ],
)
def test_what_counts_as_the_same_answer(one, other, same):
    assert is_same(one, other) is same
