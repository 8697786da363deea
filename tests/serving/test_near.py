"""The cache that the workers of one machine share: what one keeps another finds; nothing torn is believed."""

import json
import multiprocessing
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fairlead.contracts.fingerprint import encode_row
from fairlead.runtimes.binding import Prediction
from fairlead.serving.asks import Ask
from fairlead.serving.cache import PredictionCache
from fairlead.serving.caches import Caches
from fairlead.serving.near import SLOT_BYTES, NearCache
from tests.models import SAMPLE, lay_plan, lay_version, plan_of

KEY = bytes(range(16))
values = st.integers(-(2**53), 2**53) | st.text(max_size=50) | st.booleans() | st.floats(allow_nan=False)


def test_what_one_worker_keeps_another_finds_with_the_time_it_has_left(tmp_path):
    now = 1000.0
    one = NearCache(tmp_path / "cache", 1 << 20, clock=lambda: now)
    two = NearCache(tmp_path / "cache", 1 << 20, clock=lambda: now)
    one.put(KEY, Prediction(1, [0.25, 0.75]), 60.0)
    now += 10.0
    assert two.get(KEY) == (Prediction(1, [0.25, 0.75]), 50.0)
    now += 50.0
    assert two.get(KEY) is None


def test_it_outlives_the_worker_that_wrote_it(tmp_path):
    one = NearCache(tmp_path / "cache", 1 << 20)
    one.put(KEY, Prediction("a"), 60.0)
    one.close()
    found = NearCache(tmp_path / "cache", 1 << 20).get(KEY)
    assert found is not None
    assert found[0] == Prediction("a")


@given(
    value=values | st.lists(values, max_size=5),
    probabilities=st.none() | st.lists(st.floats(0, 1), max_size=5),
)
def test_any_answer_comes_back_as_it_was(tmp_path_factory, value, probabilities):
    cache = NearCache(tmp_path_factory.getbasetemp() / "any", 1 << 16)
    cache.put(KEY, Prediction(value, probabilities), 60.0)
    found = cache.get(KEY)
    assert found is not None
    assert found[0] == Prediction(value, probabilities)


def test_an_answer_that_does_not_fit_is_not_shared_and_harms_nobody(tmp_path):
    cache = NearCache(tmp_path / "cache", SLOT_BYTES * 4)
    cache.put(KEY, Prediction("small"), 60.0)
    cache.put(b"\1" * 16, Prediction("x" * 1000), 60.0)
    assert cache.get(b"\1" * 16) is None
    assert cache.get(KEY) is not None


def test_a_full_set_gives_up_what_ends_first(tmp_path):
    cache = NearCache(tmp_path / "cache", SLOT_BYTES * 4)  # one set of four
    for number in range(5):
        cache.put(bytes([number]) * 16, Prediction(number), 60.0 + number)
    assert cache.get(bytes([0]) * 16) is None
    assert [cache.get(bytes([number]) * 16)[0].value for number in range(1, 5)] == [1, 2, 3, 4]


@given(damage=st.integers(0, SLOT_BYTES * 4 - 1), to=st.integers(0, 255))
def test_a_damaged_entry_is_a_miss_or_what_it_was(tmp_path_factory, damage, to):
    path: Path = tmp_path_factory.getbasetemp() / "damaged"
    cache = NearCache(path, SLOT_BYTES * 4)
    cache.put(KEY, Prediction(1, [0.5, 0.5]), 60.0)
    cache._map[64 + damage] = to
    found = cache.get(KEY)
    assert found is None or found[0] == Prediction(1, [0.5, 0.5])


def test_a_file_of_another_size_or_make_is_begun_anew(tmp_path):
    path = tmp_path / "cache"
    NearCache(path, 1 << 20).put(KEY, Prediction(1), 60.0)
    assert NearCache(path, 1 << 16).get(KEY) is None
    path.write_bytes(b"something else")
    cache = NearCache(path, 1 << 16)
    cache.put(KEY, Prediction(1), 60.0)
    assert cache.get(KEY) is not None


def _write(path: Path, worker: int) -> None:
    cache = NearCache(path, SLOT_BYTES * 8)
    for number in range(3_000):
        key = bytes([number % 16]) * 16
        cache.put(key, Prediction(f"{number % 16}-{worker}" * 20), 60.0)


def test_workers_that_write_the_same_entries_at_once_never_make_a_wrong_one(tmp_path):
    path = tmp_path / "cache"
    reader = NearCache(path, SLOT_BYTES * 8)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(path, worker)) for worker in range(2)]
    for writer in writers:
        writer.start()
    seen = 0
    while any(writer.is_alive() for writer in writers):
        for number in range(16):
            found = reader.get(bytes([number]) * 16)
            if found is not None:
                seen += 1
                assert found[0].value in {f"{number}-{worker}" * 20 for worker in range(2)}
    assert seen
    assert all(writer.exitcode == 0 for writer in writers)


def test_a_shared_cache_that_knows_nothing_is_asked_for_a_sample_only(tmp_path, gateway, onnx):
    near = NearCache(tmp_path / "cache", 1 << 20)
    caches = Caches(PredictionCache(1 << 20), near=near)
    spec = lay_version(gateway.folder, "v1", onnx[0])
    lay_plan(gateway.folder, plan_of({"stable": ("v1", "stable", 100)}), spec)
    gateway.follow()
    model = gateway.plane.model("iris")
    reading = model.reader.read(json.dumps({"features": SAMPLE}).encode())

    def look_up(number: int) -> Ask:
        ask = Ask.of(reading, received=0.0)
        ask.row = (5.1, 3.5, 1.4, number / 100_000)
        caches.look_up(ask, model.arms[0])
        return ask

    asked = []
    get = near.get
    near.get = lambda key: asked.append(key) or get(key)
    for number in range(8_000):
        look_up(number)
    before = len(asked)
    for number in range(8_000, 12_000):
        look_up(number)
    assert before > 2_500, "at first all are asked for"
    assert 0 < len(asked) - before < 600, "then one in sixteen"
    shared = NearCache(tmp_path / "cache", 1 << 20)
    for number in range(12_000, 20_000):  # another worker has them all
        ask = Ask.of(reading, received=0.0)
        ask.row = (5.1, 3.5, 1.4, number / 100_000)
        key = PredictionCache.key(model.arms[0].cache_secret, encode_row(ask.row))
        shared.put(key, Prediction(0), 60.0)
        look_up(number)
    assert caches._near_pays


def test_a_model_that_runs_elsewhere_is_always_worth_a_look(tmp_path, gateway, onnx, monkeypatch):
    near = NearCache(tmp_path / "cache", 1 << 20)
    caches = Caches(PredictionCache(1 << 20), near=near)
    spec = lay_version(gateway.folder, "v1", onnx[0])
    lay_plan(gateway.folder, plan_of({"stable": ("v1", "stable", 100)}), spec)
    gateway.follow()
    model = gateway.plane.model("iris")
    arm = model.arms[0]
    monkeypatch.setattr(arm.version.engine, "inline", False, raising=False)
    reading = model.reader.read(json.dumps({"features": SAMPLE}).encode())
    asked, get = [], near.get
    near.get = lambda key: asked.append(key) or get(key)
    for number in range(8_000):
        ask = Ask.of(reading, received=0.0)
        ask.row = (5.1, 3.5, 1.4, number / 100_000)
        caches.look_up(ask, arm)
    assert not caches._near_pays
    assert len(asked) == 8_000
