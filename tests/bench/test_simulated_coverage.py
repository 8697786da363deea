"""The simulation of coverage, in short: following holds what split conformal prediction loses."""

from __future__ import annotations

import copy

import numpy as np
from bench.simulated_coverage import broken, calibrated, simulate, table, told


def test_following_holds_in_the_long_run_what_is_lost_otherwise() -> None:
    found = simulate(1, 3, hours=400, months=20)
    assert broken(found) == []
    split, usual, _ = found["streams"]["errors twice as large at once"]
    assert split["within"] < 0.85 < 0.89 < usual["within"]
    assert usual["width"] > 1.2
    assert "90% promised" in table(found)
    assert [one["rang"] for one in found["kept"]] == [0, 0, 0]
    assert found["lost"][2]["worst"] <= 500
    worse = copy.deepcopy(found)
    for one in worse["streams"]["nothing changes"]:
        one.update(within=0.5, rang=1, rang_at=3.0)
    worse["kept"][0]["rang"] = 2
    worse["streams"]["errors twice as large at once"][0].update(rang=0, rang_at=None)
    assert [fault.split(":")[0] for fault in broken(worse)] == [
        "nothing changes", "nothing changes", "errors twice as large at once", "kept, on 100 rows",
    ]  # fmt: skip


def test_answers_are_told_by_labels_of_the_hours_before_and_none_later() -> None:
    said, scores = calibrated(np.linspace(0.01, 1.0, 100))
    stream = np.concatenate([np.full(200, 0.5), np.full(100, 50.0), np.full(100, 2.0)])
    following, split = (told(said, scores, stream, rate)["within"] for rate in (0.05, 0.0))
    assert told(said, scores, stream[:300], 0.05)["within"] == 200 / 300
    assert (split, following) == (200 / 400, 300 / 400)
