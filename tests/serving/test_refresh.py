import asyncio
import threading
import time

import msgspec
import pytest

from fairlead.contracts.uncertainty import Uncertainty
from fairlead.errors import NotReady
from fairlead.registry.versions import ModelSettings
from fairlead.runtimes.machine import cpu_name
from fairlead.runtimes.placement import note
from fairlead.serving import loading
from fairlead.serving.folder import DataFolder, FolderWatch, ModelPlans, Override, ServingPlan
from fairlead.serving.refresh import require_ready
from tests.models import iris_onnx, lay_plan, lay_version, plan_of
from tests.serving.conftest import Gateway

STABLE = {"stable": ("v1", "stable", 100)}


def two_versions(gateway: Gateway, onnx):
    return lay_version(gateway.folder, "v1", onnx[0]), lay_version(gateway.folder, "v2", onnx[1])


def test_a_gateway_with_nothing_loaded_is_not_ready(gateway, onnx):
    with pytest.raises(NotReady):
        require_ready(gateway.plane)
    lay_plan(gateway.folder, plan_of(STABLE), lay_version(gateway.folder, "v1", onnx[0]))
    gateway.follow()
    require_ready(gateway.plane)
    gateway.plane.draining = True
    with pytest.raises(NotReady):
        require_ready(gateway.plane)


def test_what_is_to_be_prepared_is_loaded_and_takes_no_traffic(gateway, onnx):
    one, two = two_versions(gateway, onnx)
    active = ServingPlan(plan=plan_of(STABLE), versions={"v1": one})
    prepare = ServingPlan(plan=plan_of({"stable": ("v2", "stable", 100)}, generation=2), versions={"v2": two})
    gateway.folder.write_plans(ModelPlans(model="iris", active=active, prepare=prepare))
    gateway.follow()
    report = gateway.report()
    assert (report.prepared, report.active) == (2, 1)
    assert gateway.plane.model("iris").generation == 1
    gateway.folder.write_plans(ModelPlans(model="iris", active=prepare))
    gateway.follow()
    assert gateway.report().active == 2


def test_a_version_that_cannot_be_loaded_leaves_what_is_served(gateway, onnx):
    one, two = two_versions(gateway, onnx)
    lay_plan(gateway.folder, plan_of(STABLE), one)
    gateway.follow()
    (gateway.folder.versions / two.manifest.digest / "model.onnx").write_bytes(b"tampered with")
    lay_plan(gateway.folder, plan_of({"stable": ("v2", "stable", 100)}, generation=2), two)
    gateway.follow()
    report = gateway.report()
    assert (report.active, report.failed_generation) == (1, 2)
    assert "model.onnx" in report.error
    assert gateway.plane.model("iris").stable_version() == "v1"


def test_a_broken_plan_of_one_model_does_not_disturb_another(gateway, onnx):
    lay_plan(gateway.folder, plan_of(STABLE), lay_version(gateway.folder, "v1", onnx[0]))
    (gateway.folder.plans / "other.json").write_text('{"model": 3')
    gateway.follow()
    assert gateway.plane.model("iris").generation == 1


def test_a_kept_version_is_loaded_for_a_rollback(gateway, onnx):
    one, two = two_versions(gateway, onnx)
    lay_plan(gateway.folder, plan_of({"stable": ("v2", "stable", 100)}, generation=2), one, two, keep=("v1",))
    gateway.follow()
    assert set(gateway.report().loaded) == {"v1", "v2"}


def override(folder: DataFolder, version="v1", generation=2, secret=None) -> Override:
    made = Override(
        model="iris", version=version, base_generation=generation, at=time.time(), who="ann", why="fire"
    )
    return made.signed(secret or folder.secret())


def test_a_signed_local_override_wins_until_a_newer_generation(gateway, onnx):
    one, two = two_versions(gateway, onnx)
    lay_plan(gateway.folder, plan_of({"stable": ("v2", "stable", 100)}, generation=2), one, two, keep=("v1",))
    gateway.follow()
    gateway.folder.write_override(override(gateway.folder))
    gateway.follow()
    assert gateway.report().override == "v1"
    assert gateway.plane.model("iris").stable_version() == "v1"
    lay_plan(gateway.folder, plan_of({"stable": ("v2", "stable", 100)}, generation=3), one, two)
    gateway.follow()
    assert gateway.report().override is None
    assert gateway.plane.model("iris").stable_version() == "v2"


def test_an_override_that_nobody_signed_or_that_names_the_unknown_is_ignored(gateway, onnx):
    one, two = two_versions(gateway, onnx)
    lay_plan(gateway.folder, plan_of({"stable": ("v2", "stable", 100)}, generation=2), one, two, keep=("v1",))
    for wrong in (override(gateway.folder, secret=b"x" * 32), override(gateway.folder, version="v9")):
        gateway.folder.write_override(wrong)
        gateway.follow()
        assert gateway.report().override is None
        assert gateway.plane.model("iris").stable_version() == "v2"


def test_an_override_is_taken_back_by_removing_it(gateway, onnx):
    one, two = two_versions(gateway, onnx)
    lay_plan(gateway.folder, plan_of({"stable": ("v2", "stable", 100)}, generation=2), one, two, keep=("v1",))
    gateway.folder.write_override(override(gateway.folder))
    gateway.follow()
    gateway.folder.remove_override("iris")
    gateway.follow()
    assert gateway.plane.model("iris").stable_version() == "v2"


def test_new_settings_take_hold_without_a_new_generation(gateway, onnx):
    one = lay_version(gateway.folder, "v1", onnx[0])
    lay_plan(gateway.folder, plan_of(STABLE), one)
    gateway.follow()
    assert gateway.plane.model("iris").arms[0].cache_seconds == 300
    changed = msgspec.structs.replace(one, settings=ModelSettings(cache_seconds=7))
    lay_plan(gateway.folder, plan_of(STABLE), changed)
    gateway.follow()
    assert gateway.plane.model("iris").arms[0].cache_seconds == 7
    assert gateway.report().active == 1


def test_a_change_of_bounds_wraps_the_loaded_model_anew_and_loads_nothing(gateway, onnx, monkeypatch):
    loads = []
    load = loading.load_inline
    monkeypatch.setattr(loading, "load_inline", lambda *given: loads.append(given) or load(*given))
    one = lay_version(gateway.folder, "v1", onnx[0])
    lay_plan(gateway.folder, plan_of(STABLE), one)
    gateway.follow()
    engine = gateway.plane.model("iris").arms[0].version.engine
    settings = ModelSettings(timeout_ms=1, max_queue_rows=3, latency_target_ms=5, memory_limit_mb=99)
    lay_plan(gateway.folder, plan_of(STABLE), msgspec.structs.replace(one, settings=settings))
    gateway.follow()
    version = gateway.plane.model("iris").arms[0].version
    assert version.spec.settings.max_queue_rows == 3
    assert version.engine is engine
    assert len(loads) == 1


def test_intervals_and_sets_that_reach_further_are_told_at_once_and_nothing_is_wrapped_anew(gateway, onnx):
    one = lay_version(gateway.folder, "v1", onnx[0])
    said = [Uncertainty(kind="set", quantile=share, n=100) for share in (0.5, 0.9)]
    lay_plan(gateway.folder, plan_of(STABLE), msgspec.structs.replace(one, uncertainty=said[0]))
    gateway.follow()
    (before,) = gateway.plane.model("iris").arms
    lay_plan(gateway.folder, plan_of(STABLE), msgspec.structs.replace(one, uncertainty=said[1]))
    gateway.follow()
    (after,) = gateway.plane.model("iris").arms
    assert after.version is before.version
    assert [before.uncertainty, after.uncertainty] == said
    assert after.stamp.runtime != before.stamp.runtime
    assert gateway.report().active == 1


def test_without_a_model_host_even_a_heavy_version_is_served_by_the_gateway_itself(gateway, onnx):
    one = lay_version(gateway.folder, "v1", onnx[0])
    found = {"run_microseconds": 1e6, "memory_bytes": 1, "library": f"onnxruntime 1 {cpu_name()}"}
    assert note(gateway.folder.measured, one.manifest.digest, found) is not None
    lay_plan(gateway.folder, plan_of(STABLE), one)
    gateway.follow()
    assert gateway.plane.model("iris").arms[0].version.engine.inline


def test_a_model_that_takes_long_to_load_delays_no_other(gateway, onnx, monkeypatch):
    one, two = two_versions(gateway, onnx)
    slow = lay_version(gateway.folder, "slow", iris_onnx(2), model="slow")
    lay_plan(gateway.folder, plan_of(STABLE), one)
    gateway.follow()
    going_on = threading.Event()
    load = loading.load_inline

    def load_slowly(spec, path):
        if spec.model == "slow":
            assert going_on.wait(20)
        return load(spec, path)

    monkeypatch.setattr(loading, "load_inline", load_slowly)

    async def story() -> None:
        following = asyncio.get_running_loop().create_task(gateway.refresher.run())
        try:
            plan = plan_of({"stable": ("slow", "stable", 100)}, model="slow")
            lay_plan(gateway.folder, plan, slow)
            lay_plan(gateway.folder, plan_of({"stable": ("v2", "stable", 100)}, generation=2), two)
            await until(lambda: gateway.plane.models["iris"].generation == 2)
            assert "slow" not in gateway.plane.models
            going_on.set()
            await until(lambda: "slow" in gateway.plane.models)
        finally:
            going_on.set()
            following.cancel()

    asyncio.run(story())


def test_a_damaged_report_hides_no_other(gateway, onnx):
    lay_plan(gateway.folder, plan_of(STABLE), lay_version(gateway.folder, "v1", onnx[0]))
    gateway.follow()
    (gateway.folder.reports / "broken.json").write_text('{"name":')
    assert [report.name for report in gateway.folder.read_reports()] == ["g-0"]


def test_a_model_whose_plan_is_gone_is_not_served(gateway, onnx):
    lay_plan(gateway.folder, plan_of(STABLE), lay_version(gateway.folder, "v1", onnx[0]))
    gateway.follow()
    (gateway.folder.plans / "iris.json").unlink()
    gateway.follow()
    assert gateway.plane.models == {}


def test_the_follower_sees_a_change_and_beats(gateway, onnx):
    one, two = two_versions(gateway, onnx)

    async def story() -> None:
        following = asyncio.get_running_loop().create_task(gateway.refresher.run())
        try:
            lay_plan(gateway.folder, plan_of(STABLE), one)
            await until(lambda: "iris" in gateway.plane.models)
            first = gateway.folder.read_reports()[0].at
            lay_plan(gateway.folder, plan_of({"stable": ("v2", "stable", 100)}, generation=2), two)
            await until(lambda: gateway.plane.models["iris"].generation == 2)
            await until(lambda: gateway.folder.read_reports()[0].at > first + 1)
        finally:
            following.cancel()

    asyncio.run(story())


async def until(predicate) -> None:
    deadline = time.monotonic() + 10
    while not predicate():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def test_a_watch_notices_every_replacement_however_quick(tmp_path):
    folder = DataFolder(tmp_path).make()
    watch = FolderWatch(folder.plans)
    while watch.changed():
        time.sleep(0.005)
    for _ in range(20):
        (folder.plans / "a.json").write_text("x")
        (folder.plans / "a.json").rename(folder.plans / "b.json")
        assert watch.changed()


def test_the_secret_is_made_once_and_kept_private(tmp_path):
    folder = DataFolder(tmp_path)
    secret = folder.secret()
    assert len(secret) == 32
    assert DataFolder(tmp_path).secret() == secret
    assert (tmp_path / "secret").stat().st_mode & 0o077 == 0


def test_a_rollback_target_that_cannot_be_loaded_keeps_nobody_from_being_served(gateway, onnx):
    sound = lay_version(gateway.folder, "v2", onnx[1])
    lost = lay_version(gateway.folder, "v1", onnx[0])
    (gateway.folder.versions / lost.manifest.digest / "model.onnx").unlink()
    lay_plan(gateway.folder, plan_of({"stable": ("v2", "stable", 100)}), sound, lost, keep=("v1",))
    gateway.follow()
    assert gateway.report().error is None
    assert set(gateway.plane.model("iris").pins) == {"v2"}


def test_of_many_models_only_those_whose_files_changed_are_read_again(gateway, onnx, monkeypatch):
    specs = {name: lay_version(gateway.folder, name, onnx[0], model=name) for name in ("a", "b", "c")}
    for name, spec in specs.items():
        lay_plan(gateway.folder, plan_of({"stable": (name, "stable", 100)}, model=name), spec)
    settled = time.time_ns() + 200_000_000
    while time.time_ns() < settled:
        gateway.follow()
    read = []
    read_plans = DataFolder.read_plans
    monkeypatch.setattr(DataFolder, "read_plans", lambda *given: read.append(given[1]) or read_plans(*given))
    plan = plan_of({"stable": ("b", "stable", 100)}, model="b", generation=2)
    lay_plan(gateway.folder, plan, specs["b"])
    gateway.follow()
    assert set(read) == {"b"}
    assert gateway.plane.model("b").generation == 2
