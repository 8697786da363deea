"""Commands of traffic over HTTP: headers are conditions, answers are confirmations."""

from __future__ import annotations

import pytest

from tests.admin.conftest import Api


@pytest.fixture(params=["sqlite", "postgres"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """Traffic is what a shop stands on: here the whole way to the database is walked."""
    return str(request.param)


def test_a_canary_is_deployed_promoted_and_rolled_back(shop: Api) -> None:
    status, deployed = shop.call(
        "POST", "/models/shop/deploy", {"version": "v2", "weight": 10}, x_fairlead_user="ann"
    )
    assert status == 200
    assert deployed["weights"] == {"v1": 90.0, "v2": 10.0}
    assert (deployed["confirmed"], deployed["unconfirmed"]) == (["g0"], [])
    assert shop.call("POST", "/models/shop/promote")[1]["weights"] == {"v2": 100.0}
    assert shop.call("POST", "/models/shop/rollback", {"why": "fell"})[1]["weights"] == {"v1": 100.0}
    _, audit = shop.call("GET", "/audit?model=shop&limit=3")
    assert [(entry["action"], entry["who"], entry["why"]) for entry in audit] == [
        ("rollback", "anonymous", "fell"),
        ("promote", "anonymous", ""),
        ("deploy", "ann", ""),
    ]


def test_traffic_tells_arms_weights_and_where_a_rollback_goes(shop: Api) -> None:
    shop.call("POST", "/models/shop/deploy", {"version": "v2", "strategy": "blue-green"})
    shop.call("POST", "/models/shop/deploy", {"version": "v3", "weight": 10})
    status, traffic = shop.call("GET", "/models/shop/traffic")
    assert status == 200
    assert traffic == {
        "model": "shop",
        "generation": 3,
        "arms": [
            {"name": "stable", "version": "v2", "role": "stable", "share": 0.8},
            {"name": "control", "version": "v2", "role": "control", "share": 0.1},
            {"name": "canary", "version": "v3", "role": "canary", "share": 0.1},
        ],
        "weights": {"v2": 90.0, "v3": 10.0},
        "preparing": None,
        "previous": "v1",
    }
    assert shop.http.get("/api/v1/models/shop/traffic").headers["etag"] == '"3"'
    _, plans = shop.call("GET", "/models/shop/plans?limit=2")
    assert [(plan["generation"], plan["state"], plan["command"]) for plan in plans] == [
        (3, "active", "deploy"),
        (2, "superseded", "deploy"),
    ]


def test_a_model_without_traffic_is_at_generation_zero(api: Api) -> None:
    api.versions("v1")
    _, traffic = api.call("GET", "/models/shop/traffic")
    assert (traffic["generation"], traffic["arms"], traffic["weights"]) == (0, [], {})


def test_weights_are_set_by_put(shop: Api) -> None:
    status, answer = shop.call("PUT", "/models/shop/traffic", {"weights": {"v1": 60, "v2": 30, "v3": 10}})
    assert status == 200
    assert answer["weights"] == {"v1": 60.0, "v2": 30.0, "v3": 10.0}
    assert shop.refused("PUT", "/models/shop/traffic", {"weights": {"v1": 60}}) == (400, "invalid_plan")
    assert shop.refused("PUT", "/models/shop/traffic", {"weights": {"v1": -1, "v2": 101}}) == (
        400,
        "malformed_request",
    )


def test_a_command_under_a_condition_that_no_longer_holds_is_refused(shop: Api) -> None:
    deploy = ("POST", "/models/shop/deploy", {"version": "v2"})
    assert shop.refused(*deploy, if_match='"7"') == (412, "generation_conflict")
    assert shop.refused(*deploy, if_match="seven") == (400, "malformed_request")
    assert shop.refused(*deploy, if_match="9" * 400) == (400, "malformed_request")
    assert shop.call(*deploy, if_match='W/"1"')[0] == 200
    assert shop.call("POST", "/models/shop/promote", if_match="*")[0] == 200


def test_a_command_repeated_under_its_key_gets_the_first_answer(shop: Api) -> None:
    first = shop.call("POST", "/models/shop/deploy", {"version": "v2"}, idempotency_key="k")
    again = shop.call("POST", "/models/shop/deploy", {"version": "v2"}, idempotency_key="k")
    assert first == again
    other = shop.refused("POST", "/models/shop/deploy", {"version": "v3"}, idempotency_key="k")
    assert other == (400, "malformed_request")


def test_refusals_of_traffic_have_their_codes(shop: Api) -> None:
    assert shop.refused("POST", "/models/none/promote") == (404, "model_not_found")
    assert shop.refused("POST", "/models/shop/deploy", {"version": "v9"}) == (404, "version_not_found")
    assert shop.refused("POST", "/models/shop/promote") == (400, "invalid_plan")
    assert shop.refused("POST", "/models/shop/rollback") == (409, "nothing_to_roll_back")
    shop.call("POST", "/models/shop/deploy", {"version": "v2"})
    refused = shop.refused("POST", "/models/shop/deploy", {"version": "v3"})
    assert refused == (409, "rollout_in_progress")
    superseding = {"version": "v3", "supersede": True}
    assert shop.call("POST", "/models/shop/deploy", superseding)[1]["weights"] == {"v1": 95.0, "v3": 5.0}


def test_text_that_a_database_cannot_hold_is_the_callers_fault(shop: Api) -> None:
    status, answer = shop.call("POST", "/models/shop/deploy", {"version": "v2", "why": "nul \x00"})
    if shop.database.is_sqlite:
        assert status == 200
    else:
        assert (status, answer["code"]) == (400, "malformed_request")
    assert shop.refused("GET", "/models/sh%00p")[0] in (400, 404)
