"""Every metric that `/metrics` shows: one table, and its rendering in Prometheus' text format 0.0.4."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from fairlead.telemetry.counters import ArmCounters
from fairlead.telemetry.latency import BOUNDS, PROMETHEUS_BOUNDS

__all__ = ["METRICS", "Gauge", "Metric", "render"]


class Metric(msgspec.Struct, frozen=True):
    """A metric's name, kind, labels and meaning."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str


_VERSION = ("model_name", "model_version")

METRICS: tuple[Metric, ...] = (
    Metric(
        "model_prediction_requests_total",
        "counter",
        (*_VERSION, "status"),
        "Rows answered, by status: ok, rejected (the caller's fault) or failed (ours).",
    ),
    Metric("model_prediction_latency_seconds", "histogram", _VERSION, "Time from request to answer."),
    Metric("model_runs_total", "counter", _VERSION, "Runs of the model; a batch is one run."),
    Metric("model_run_rows_total", "counter", _VERSION, "Rows that the model ran."),
    Metric("model_run_seconds_total", "counter", _VERSION, "Time spent in the model."),
    Metric(
        "model_loaded",
        "gauge",
        (*_VERSION, "gateway"),
        "1 where a gateway holds the version in memory, 0 where it loads it when it is asked.",
    ),
    Metric("model_loads_total", "counter", _VERSION, "Times that a gateway loaded the version."),
    Metric("model_load_seconds_total", "counter", _VERSION, "Time spent loading and warming it up."),
    Metric("model_evictions_total", "counter", _VERSION, "Times that it left memory: idle, or for another."),
    Metric("model_memory_bytes", "gauge", (*_VERSION, "gateway"), "Memory of a loaded version."),
    Metric("model_plan_generation", "gauge", ("model_name", "gateway"), "Generation that a gateway serves."),
    Metric("prediction_cache_hits_total", "counter", ("model_name",), "Rows answered from the cache."),
    Metric("prediction_cache_misses_total", "counter", ("model_name",), "Rows looked up in vain."),
    Metric(
        "prediction_cache_shared_hits_total",
        "counter",
        ("model_name",),
        "Those of the hits that came from the cache that gateways share.",
    ),
    Metric(
        "model_faults_total",
        "counter",
        _VERSION,
        "Rows that the version could not answer: it failed, was late, absent or full, whoever then answered.",
    ),
    Metric(
        "model_degraded_total",
        "counter",
        (*_VERSION, "how"),
        "Rows that something stood in for: stale_cache, fallback_version or contract_default.",
    ),
    Metric(
        "model_shadow_rows_total",
        "counter",
        (*_VERSION, "result"),
        "Copies of rows for a shadow: answered same or different, rejected by its contract, failed, or "
        "dropped because there was no room or time.",
    ),
    Metric("requests_cancelled_total", "counter", ("model_name",), "Rows whose callers went away."),
    Metric("requests_shed_total", "counter", ("model_name",), "Rows refused because the server was full."),
    Metric("prediction_log_unlogged_total", "counter", ("model_name",), "Answers without a record."),
    Metric(
        "fairlead_alerts_firing",
        "gauge",
        ("model_name", "rule", "severity"),
        "Alerts that fire, as control last wrote them; those about the server have no model.",
    ),
    Metric(
        "model_price_per_core_hour",
        "gauge",
        ("model_name",),
        "What an hour of one core costs for the model; times its seconds of runs and loads, its cost.",
    ),
    Metric("gateway_up", "gauge", ("gateway",), "1 for each gateway worker with a fresh heartbeat."),
)

_SHADOW = "shadow"
_SHADOW_RESULTS = {
    "same": "shadow_same",
    "different": "shadow_different",
    "rejected": "rejected",
    "failed": "failed",
    "dropped": "shadow_dropped",
}

_BY_NAME = {metric.name: metric for metric in METRICS}


class Gauge(msgspec.Struct, frozen=True):
    """One value of a gauge, which somebody else knows."""

    name: str
    labels: tuple[str, ...]
    value: float


def render(counters: Sequence[ArmCounters], gauges: Iterable[Gauge]) -> bytes:
    """The exposition of all counters (summed over arms and workers) and gauges."""
    samples: dict[str, list[str]] = {metric.name: [] for metric in METRICS}

    def put(name: str, labels: tuple[str, ...], value: float, suffix: str = "", extra: str = "") -> None:
        pairs = ",".join(
            f'{key}="{_escaped(text)}"' for key, text in zip(_BY_NAME[name].labels, labels, strict=True)
        )
        samples[name].append(f"{name}{suffix}{{{pairs}{extra}}} {value:.17g}")

    for shadow in _per_version([arm for arm in counters if arm.key.role == _SHADOW]):
        for result, cell in _SHADOW_RESULTS.items():
            put(
                "model_shadow_rows_total",
                (shadow.key.model, shadow.key.version, result),
                shadow.cells[cell],
            )
    for version in _per_version([_as_answering(arm) for arm in counters]):
        labels = (version.key.model, version.key.version)
        cells = version.cells
        for status in ("ok", "rejected", "failed"):
            put("model_prediction_requests_total", (*labels, status), cells[status])
        _put_histogram(put, labels, version)
        put("model_runs_total", labels, cells["runs"])
        put("model_run_rows_total", labels, cells["run_rows"])
        put("model_run_seconds_total", labels, cells["run_ns"] / 1e9)
        put("model_loads_total", labels, cells["loads"])
        put("model_load_seconds_total", labels, cells["load_ns"] / 1e9)
        put("model_evictions_total", labels, cells["evictions"])
        put("model_faults_total", labels, cells["faults"])
        for how in ("stale_cache", "fallback_version", "contract_default"):
            put("model_degraded_total", (*labels, how), cells[how])
    for model, total in _per_model(counters).items():
        put("prediction_cache_hits_total", (model,), total["cache_hits"])
        put("prediction_cache_misses_total", (model,), total["cache_misses"])
        put("prediction_cache_shared_hits_total", (model,), total["cache_shared_hits"])
        put("requests_cancelled_total", (model,), total["cancelled"])
        put("requests_shed_total", (model,), total["shed"])
        put("prediction_log_unlogged_total", (model,), total["unlogged"])
    for gauge in gauges:
        put(gauge.name, gauge.labels, gauge.value)

    lines = []
    for metric in METRICS:
        lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"]
        lines += samples[metric.name]
    return ("\n".join(lines) + "\n").encode()


def _put_histogram(put: object, labels: tuple[str, ...], version: ArmCounters) -> None:
    assert callable(put)
    name = "model_prediction_latency_seconds"
    below = 0
    index = 0
    for bound in PROMETHEUS_BOUNDS:
        while index < len(BOUNDS) and BOUNDS[index] <= bound:
            below += version.latency[index]
            index += 1
        put(name, labels, below, "_bucket", f',le="{bound:g}"')
    total = sum(version.latency)
    put(name, labels, total, "_bucket", ',le="+Inf"')
    put(name, labels, version.cells["latency_ns"] / 1e9, "_sum")
    put(name, labels, total, "_count")


def _as_answering(arm: ArmCounters) -> ArmCounters:
    """The counters without answers that nobody asked for: those of a shadow went to no caller."""
    if arm.key.role != _SHADOW:
        return arm
    unanswered = dict.fromkeys(("ok", "rejected", "failed", "latency_ns"), 0)
    return ArmCounters(key=arm.key, cells={**arm.cells, **unanswered}, latency=[0] * len(arm.latency))


def _per_version(counters: Sequence[ArmCounters]) -> list[ArmCounters]:
    """Counters summed over the arms that hold the same version."""
    found: dict[tuple[str, str], ArmCounters] = {}
    for arm in counters:
        held = found.get((arm.key.model, arm.key.version))
        if held is None:
            found[arm.key.model, arm.key.version] = ArmCounters(
                key=arm.key, cells=dict(arm.cells), latency=list(arm.latency)
            )
        else:
            held.cells = {name: value + arm.cells[name] for name, value in held.cells.items()}
            held.latency = [a + b for a, b in zip(held.latency, arm.latency, strict=True)]
    return list(found.values())


def _per_model(counters: Sequence[ArmCounters]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for arm in counters:
        total = found.setdefault(arm.key.model, dict.fromkeys(arm.cells, 0))
        for name, value in arm.cells.items():
            total[name] += value
    return found


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
