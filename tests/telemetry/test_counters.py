import os
import signal
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from fairlead.telemetry.counters import CAPACITY, ArmKey, CounterBlock, read_counters
from fairlead.telemetry.latency import BOUNDS, PROMETHEUS_BOUNDS, bucket_of, quantile
from fairlead.telemetry.metrics import METRICS, Gauge, render

KEY = ArmKey("shop", "v1", "stable", "stable")


def test_the_counters_of_all_workers_add_up(tmp_path):
    for slot in range(3):
        row = CounterBlock(tmp_path / f"gateway-{slot}").row(KEY)
        for _ in range(slot + 1):
            row.answered("ok", 0.001)
        row.looked_up(hit=True)
    (total,) = read_counters(tmp_path)
    assert total.key == KEY
    assert total.cells["ok"] == total.answered == 6
    assert total.cells["cache_hits"] == 3
    assert sum(total.latency) == 6


def test_a_replacement_goes_on_where_a_killed_worker_stopped(tmp_path):
    script = (
        "import sys, os, signal\n"
        "from pathlib import Path\n"
        "from fairlead.telemetry.counters import *\n"
        "row = CounterBlock(Path(sys.argv[1])).row(ArmKey('shop', 'v1', 'stable', 'stable'))\n"
        "for _ in range(100): row.answered('ok', 0.001)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "gateway-0"
    for _ in range(2):
        ended = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
        assert ended.returncode == -signal.SIGKILL
    assert read_counters(tmp_path)[0].answered == 200


def test_more_arms_than_room_are_counted_together_instead_of_lost(tmp_path):
    block = CounterBlock(tmp_path / "gateway-0")
    for index in range(CAPACITY + 50):
        block.row(ArmKey("shop", f"v{index}", "stable", "stable")).answered("ok", 0.001)
    found = read_counters(tmp_path)
    assert sum(arm.answered for arm in found) == CAPACITY + 50
    assert any(arm.key.model == "(others)" for arm in found)


def test_a_name_too_long_for_a_row_is_counted_with_the_others(tmp_path):
    CounterBlock(tmp_path / "g").row(ArmKey("m" * 600, "v", "a", "stable")).answered("failed", 1.0)
    assert read_counters(tmp_path)[0].cells["failed"] == 1


def test_a_file_that_is_no_block_is_left_out_and_replaced_on_open(tmp_path):
    (tmp_path / "gateway-0").write_bytes(b"something else")
    assert read_counters(tmp_path) == []
    CounterBlock(tmp_path / "gateway-0").row(KEY).answered("ok", 0.1)
    assert read_counters(tmp_path)[0].answered == 1
    assert read_counters(tmp_path / "nowhere") == []


def test_every_bound_that_prometheus_sees_is_a_bound_that_we_count():
    assert set(PROMETHEUS_BOUNDS) <= set(BOUNDS)
    assert list(BOUNDS) == sorted(BOUNDS)


@settings(max_examples=50)
@given(st.lists(st.floats(1e-5, 90), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_from_buckets_is_within_a_bucket_of_the_truth(latencies, q):
    counts = [0] * (len(BOUNDS) + 1)
    for latency in latencies:
        counts[bucket_of(latency)] += 1
    rank = max(1, -(-int(q * len(latencies) * 1000) // 1000))
    truth = sorted(latencies)[min(rank, len(latencies)) - 1]
    found = quantile(counts, q)
    neighbours = sorted(latencies)
    low = neighbours[max(0, rank - 2)] * 0.8
    high = neighbours[min(len(latencies) - 1, rank)] * 1.2
    assert found is not None
    assert low <= found <= high or abs(found - truth) <= 0.16 * truth + 1e-5


def test_no_observation_has_no_quantile():
    assert quantile([0] * 10, 0.5) is None


def test_the_exposition_is_what_prometheus_parses(tmp_path):
    row = CounterBlock(tmp_path / "g").row(ArmKey('sh"op\\', "v1", "stable", "stable"))
    for seconds in (0.0004, 0.02, 0.02, 30):
        row.answered("ok", seconds)
    row.answered("rejected", 0.001)
    row.looked_up(hit=True)
    row.looked_up(hit=True)
    row.add("cache_shared_hits")
    gauges = [Gauge("model_loaded", ('sh"op\\', "v1", "g"), 1)]
    text = render(read_counters(tmp_path), gauges).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    samples = {
        (sample.name, sample.labels.get("status"), sample.labels.get("le")): sample.value
        for family in families.values()
        for sample in family.samples
        if sample.labels.get("model_name", 'sh"op\\') == 'sh"op\\'
    }
    assert samples["model_prediction_requests_total", "ok", None] == 4
    assert samples["model_prediction_requests_total", "rejected", None] == 1
    assert samples["model_prediction_latency_seconds_bucket", None, "0.025"] == 4
    assert samples["model_prediction_latency_seconds_bucket", None, "10"] == 4
    assert samples["model_prediction_latency_seconds_bucket", None, "+Inf"] == 5
    assert samples["prediction_cache_hits_total", None, None] == 2
    assert samples["prediction_cache_shared_hits_total", None, None] == 1
    assert samples["model_loaded", None, None] == 1
    assert len(families) == len(METRICS)


def test_the_required_bucket_bounds_are_there():
    assert {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5} <= set(PROMETHEUS_BOUNDS)


def test_counting_happens_in_the_shared_file_at_once(tmp_path):
    row = CounterBlock(tmp_path / "g").row(KEY)
    row.ran(8, 0.5)
    row.add("shed", 3)
    cells = read_counters(tmp_path)[0].cells
    assert (cells["runs"], cells["run_rows"], cells["shed"]) == (1, 8, 3)
    assert os.path.getsize(tmp_path / "g") > 0
