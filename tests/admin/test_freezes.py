"""Freeze windows and conditions of commands over HTTP."""

from __future__ import annotations

import pytest

from fairlead.rollouts.commands import Rollouts
from fairlead.rollouts.reading import preset
from fairlead.rollouts.traffic import Order
from tests.admin.conftest import Api

WINDOW = {
    "model": "shop",
    "starts_at": "2026-01-01T00:00:00+02:00",
    "ends_at": "2999-01-01T00:00:00Z",
    "reason": "Black Friday ☃",
}


def test_a_window_is_made_listed_felt_overridden_and_ended(shop: Api) -> None:
    status, made = shop.call("POST", "/freezes", WINDOW, x_fairlead_user="ann")
    assert (status, made["who"], made["starts_at"]) == (200, "ann", "2025-12-31T22:00:00Z")
    assert [one["id"] for one in shop.call("GET", "/freezes?model=shop")[1]] == [made["id"]]
    body = {"version": "v2", "strategy": "direct"}
    status, refused = shop.call("POST", "/models/shop/deploy", body)
    assert (status, refused["code"]) == (409, "frozen")
    assert "Black Friday ☃" in refused["detail"]
    status, refused = shop.call("POST", "/models/shop/rollouts", {"version": "v2"})
    assert (status, refused["code"]) == (409, "frozen")
    status, done = shop.call("POST", "/models/shop/deploy", body | {"override": "it burns"})
    assert (status, done["weights"]) == (200, {"v2": 100.0})
    assert shop.call("POST", "/models/shop/rollback")[0] == 200
    status, ended = shop.call("DELETE", f"/freezes/{made['id']}?why=over", x_fairlead_user="bob")
    assert (status, ended["ended_by"]) == (200, "bob")
    assert shop.call("GET", "/freezes")[1] == []
    assert len(shop.call("GET", "/freezes?over=true")[1]) == 1
    actions = [entry["action"] for entry in shop.call("GET", "/audit?model=shop")[1]]
    assert actions[:5] == ["unfreeze", "rollback", "deploy", "override", "freeze"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (WINDOW | {"model": "nope"}, 404, "model_not_found"),
        (WINDOW | {"reason": " "}, 422, "invalid_freeze"),
        (WINDOW | {"ends_at": "2026-01-01T00:00:00"}, 400, "malformed_request"),
        (WINDOW | {"until": "2026-01-01T00:00:00Z"}, 400, "malformed_request"),
        ({"reason": "sale"}, 400, "malformed_request"),
    ],
)
def test_a_window_that_is_none_is_refused(shop: Api, body: dict[str, object], status: int, code: str) -> None:
    found, problem = shop.call("POST", "/freezes", body)
    assert (found, problem["code"]) == (status, code)


def test_what_is_not_there_cannot_be_ended(shop: Api) -> None:
    status, problem = shop.call("DELETE", "/freezes/nope")
    assert (status, problem["code"]) == (404, "freeze_not_found")


def test_a_command_of_a_rollout_takes_a_key_and_a_generation(shop: Api) -> None:
    first = Rollouts(shop.database, shop.folder.counters).start("shop", "v2", preset(), Order(who="ann"))
    status, refused = shop.call("POST", "/models/shop/rollouts/present/pause", if_match='"7"')
    assert (status, refused["code"]) == (412, "generation_conflict")
    status, paused = shop.call("POST", "/models/shop/rollouts/present/pause", idempotency_key="lunch")
    assert (status, paused["state"]) == (200, "paused")
    again = shop.call("POST", "/models/shop/rollouts/present/pause", idempotency_key="lunch")[1]
    assert again["updated_at"] == paused["updated_at"]
    status, other = shop.call("POST", "/models/shop/rollouts/present/resume", idempotency_key="lunch")
    assert (status, other["code"]) == (400, "malformed_request")
    assert again["id"] == first.rollout.id
