"""Models, aliases, stages, contracts and the audit log, over HTTP."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from tests.admin.conftest import Api, plain
from tests.rollouts.shop import CONTRACT


def test_models_are_listed_with_what_serves(shop: Api) -> None:
    shop.versions("v1", model="another")
    status, models = shop.call("GET", "/models")
    assert status == 200
    assert [(m["name"], m["production"], m["versions"]) for m in models] == [
        ("another", None, ["v1"]),
        ("shop", "v1", ["v1", "v2", "v3"]),
    ]
    assert shop.call("GET", "/models/shop")[1] == models[1]
    assert shop.refused("GET", "/models/shopp") == (404, "model_not_found")


def test_aliases_move_and_go(shop: Api) -> None:
    path = "/models/shop/aliases/champion"
    assert shop.refused("GET", path) == (404, "alias_not_found")
    moved = {"model": "shop", "alias": "champion", "version": "v2"}
    assert shop.call("PUT", path, {"version": "v2", "why": "best"}) == (200, moved)
    assert shop.call("GET", path) == (200, moved)
    assert shop.call("GET", "/models/shop/versions/champion")[1]["version"] == "v2"
    assert shop.call("PUT", path, {"version": None})[1]["version"] is None
    assert shop.refused("GET", path) == (404, "alias_not_found")
    assert shop.refused("PUT", path, {"version": "v9"}) == (404, "version_not_found")
    assert shop.refused("PUT", path, {"versoin": "v2"}) == (400, "malformed_request")


def test_who_served_at_a_moment_is_one_call(shop: Api) -> None:
    before = datetime.now(UTC)
    shop.call("POST", "/models/shop/deploy", {"version": "v2", "strategy": "direct"})
    assert shop.call("GET", "/models/shop/production")[1]["version"] == "v2"
    path = f"/models/shop/production?at={quote(before.isoformat())}"
    assert shop.call("GET", path)[1]["version"] == "v1"
    early = quote((before - timedelta(days=1)).isoformat())
    assert shop.call("GET", f"/models/shop/production?at={early}")[1]["version"] is None
    for wrong in ("2026-11-21T12:00:00", "yesterday", quote("0001-01-01T00:00:00+23:00")):
        refused = shop.refused("GET", f"/models/shop/production?at={wrong}")
        assert refused == (400, "malformed_request")
    _, stages = shop.call("GET", "/models/shop/stages")
    assert [(change["version"], change["to_stage"]) for change in stages] == [
        ("v1", "production"),
        ("v1", "none"),
        ("v2", "production"),
    ]


def test_the_contract_of_a_model_is_that_of_production(shop: Api) -> None:
    assert shop.call("GET", "/models/shop/contract") == (200, plain(CONTRACT))


def test_a_contract_may_be_declared_before_there_is_a_version(api: Api) -> None:
    contract = plain(CONTRACT)
    assert api.call("PUT", "/models/soon/contract", {"contract": contract}) == (200, contract)
    assert api.call("GET", "/models/soon/contract") == (200, contract)
    wrong = copy.deepcopy(contract)
    wrong["inputs"] = []
    assert api.refused("PUT", "/models/soon/contract", {"contract": wrong}) == (400, "invalid_contract")


def test_the_audit_log_tells_of_all_models_newest_first(shop: Api) -> None:
    shop.versions("v1", model="another")
    _, entries = shop.call("GET", "/audit?limit=2")
    assert [(entry["action"], entry["model"]) for entry in entries] == [
        ("register", "another"),
        ("deploy", "shop"),
    ]
    assert shop.refused("GET", "/audit?limit=0") == (400, "malformed_request")
