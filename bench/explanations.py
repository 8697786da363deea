"""What explanations cost: leading features beside an answer, explaining one request, and importance.

    python bench/explanations.py [--rows 5000] [--repeats 5]

Models of 30 and 200 features on made-up rows. Prints JSON, for each model: microseconds of a run of one row
and of reading its leading features off it; bytes of the document that this takes; seconds in which it and
the importance are found at registration; milliseconds of explaining
one request as `fairlead explain` does, of these those in which the model's process starts, and how many rows
it was asked. Medians over repeats.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from fairlead.client.importances import importance_of_onnx
from fairlead.client.leadings import leading_of_onnx
from fairlead.client.packing import packed
from fairlead.evaluation.scoring import Limits, Scorer
from fairlead.explanations.asked import scores
from fairlead.explanations.attribution import attribute
from fairlead.explanations.background import background_rows
from fairlead.explanations.measure import measure
from fairlead.registry.artifacts import manifest_of
from fairlead.registry.versions import VersionSpec
from fairlead.runtimes.binding import Binding
from fairlead.runtimes.leading import Leader
from fairlead.runtimes.onnx import OnnxRuntime


def _forest() -> Any:
    return RandomForestClassifier(100, max_depth=10, random_state=0)


MODELS: dict[str, tuple[int, Callable[[], Any]]] = {
    "logistic regression, 30 features": (30, LogisticRegression),
    "100 boosted trees of depth 3, 30 features": (30, lambda: GradientBoostingClassifier(random_state=0)),
    "100 trees of depth 10, 30 features": (30, _forest),
    "logistic regression, 200 features": (200, LogisticRegression),
    "100 trees of depth 10, 200 features": (200, _forest),
}


def measured(features: int, model: Any, rows: int, repeats: int) -> dict[str, Any]:
    """All figures of one model."""
    generator = np.random.default_rng(0)
    table = generator.normal(size=(rows, features))
    answers = (table[:, 0] * table[:, 1] + table[:, 2] > 0).astype(int)
    with packed(model.fit(table, answers), reference=table) as package:
        path = package.files[package.runtime.entry]
        folder, contract, profile = path.parent, package.contract, package.profile
        assert profile is not None
        session, binding = OnnxRuntime(folder, package.runtime), Binding(contract, package.runtime)
        began = time.perf_counter()
        leading = leading_of_onnx(folder, package.runtime, contract, profile, table)
        found_in = time.perf_counter() - began
        assert leading is not None
        began = time.perf_counter()
        importance = importance_of_onnx(folder, package.runtime, contract, profile, table)
        weighed_in = time.perf_counter() - began
        asked = [tuple(row) for row in table[:200].tolist()]
        ran = _microseconds(lambda row: binding.decode(session.run(binding.encode([row])), 1), asked, repeats)
        leader = Leader(leading, contract)
        read = None if leading.reason else _microseconds(lambda row: leader.top(row, 1), asked, repeats)
        explained = [_explained(package, folder, contract, profile, row) for row in asked[:repeats]]
    return {
        "run_us": ran,
        "leading_us": read,
        "document_bytes": len(msgspec.json.encode(leading)),
        "reason": leading.reason or None,
        "found_seconds": round(found_in, 2),
        "importance_seconds": round(weighed_in, 2),
        "importance_was_found": importance is not None,
        "explain_ms": round(statistics.median(one[0] for one in explained)),
        "explain_start_ms": round(statistics.median(one[1] for one in explained)),
        "explain_rows": round(statistics.median(one[2] for one in explained)),
    }


def _explained(package: Any, folder: Path, contract: Any, profile: Any, row: Any) -> tuple[float, float, int]:
    began = time.perf_counter()
    spec = VersionSpec(
        model="m", version="v", manifest=manifest_of(folder), runtime=package.runtime, contract=contract
    )
    generator = np.random.default_rng(0)
    background = background_rows(contract, profile, generator)
    with Scorer(spec, folder, Limits(), frozenset()) as scorer:
        started = time.perf_counter()
        _, read = measure(contract.output, 1, {"0": 0.5, "1": 0.5})
        found = attribute(row, background, scores(scorer, read), generator)
    assert found is not None
    return (time.perf_counter() - began) * 1e3, (started - began) * 1e3, found.runs


def _microseconds(call: Callable[[Any], Any], rows: list[Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        began = time.process_time()
        for row in rows:
            call(row)
        times.append((time.process_time() - began) / len(rows) * 1e6)
    return round(statistics.median(times), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    found = {
        name: measured(features, make(), given.rows, given.repeats)
        for name, (features, make) in MODELS.items()
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
