"""A version of lately over HTTP: without steps, unless the body says how it begins."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.admin import rollouts
from tests.admin.conftest import Api

PLAN = {"steps": [{"weight": 5}]}


@pytest.mark.parametrize(
    ("more", "strategy", "bake"),
    [
        ({}, "blue-green", 600.0),
        ({"bake": "1h"}, "blue-green", 3600.0),
        ({"shadow": False}, "blue-green", 600.0),
        ({"steps": [5.0, 100.0]}, "canary", 600.0),
        ({"weight": 5.0}, "canary", 600.0),
        ({"plan": PLAN}, "canary", 600.0),
        ({"strategy": "shadow"}, "shadow", 0.0),
    ],
)
def test_a_version_of_lately_skips_the_steps_where_nothing_says_how_it_begins(
    shop: Api, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], strategy: str, bake: float
) -> None:
    monkeypatch.setattr(rollouts, "_SETTLE_SECONDS", 0.0)  # no controller runs here
    assert shop.call("POST", "/models/shop/deploy", {"version": "v2", "strategy": "direct"})[0] == 200
    status, made = shop.call("POST", "/models/shop/rollouts", {"version": "v1", **more})
    assert (status, made["strategy"], made["spec"]["bake"]) == (200, strategy, bake)
    skipped = strategy == "blue-green"
    assert bool(made["note"]) is skipped
    assert (made["steps"] == []) is skipped
