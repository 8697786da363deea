"""Files, registration and what is known about versions, over HTTP."""

from __future__ import annotations

import hashlib
from typing import Any

from fairlead.registry import levels
from tests.admin.conftest import Api, tiny_model


def names_in_run(api: Api) -> list[str]:
    return [path.name for path in api.folder.run.iterdir() if path.is_file() or path.name.startswith("probe")]


# --- files --------------------------------------------------------------------------------------------------


def test_a_file_is_stored_under_its_digest(api: Api) -> None:
    content = b"weights" * 1000
    digest = hashlib.sha256(content).hexdigest()
    assert api.refused("GET", f"/blobs/{digest}") == (404, "blob_not_found")
    assert api.http.head(f"/api/v1/blobs/{digest}").status_code == 404
    assert api.upload(content) == api.upload(content) == digest
    assert api.call("GET", f"/blobs/{digest}") == (200, {"sha256": digest, "size": 7000})
    assert api.http.head(f"/api/v1/blobs/{digest}").status_code == 200
    assert names_in_run(api) == []


def test_a_file_whose_bytes_have_another_digest_is_not_stored(api: Api) -> None:
    wrong = hashlib.sha256(b"right").hexdigest()
    response = api.http.put(f"/api/v1/blobs/{wrong}", content=b"wrong")
    assert (response.status_code, response.json()["code"]) == (400, "digest_mismatch")
    assert response.json()["found"] == hashlib.sha256(b"wrong").hexdigest()
    assert not api.blobs.has(wrong)
    assert names_in_run(api) == []


def test_an_empty_file_is_a_file(api: Api) -> None:
    assert api.blobs.size(api.upload(b"")) == 0


def test_what_is_no_digest_is_refused(api: Api) -> None:
    for digest in ("0" * 63, "0" * 65, "G" * 64, "A" * 64):
        response = api.http.put(f"/api/v1/blobs/{digest}", content=b"x")
        assert (response.status_code, response.json()["code"]) == (400, "malformed_request")
    assert api.http.put("/api/v1/blobs/..%2F..%2Fetc", content=b"x").status_code == 404


def test_a_file_above_the_limit_is_refused_whether_its_length_is_told_or_not(api: Api) -> None:
    content = b"x" * 1_000_001
    path = f"/api/v1/blobs/{hashlib.sha256(content).hexdigest()}"
    told = api.http.put(path, content=content)
    streamed = api.http.put(path, content=iter([content[:500_000], content[500_000:]]))
    for response in (told, streamed):
        assert (response.status_code, response.json()["code"]) == (413, "payload_too_large")
    assert names_in_run(api) == []


# --- registration -------------------------------------------------------------------------------------------


def test_a_version_is_registered_and_put_into_production(api: Api) -> None:
    content = tiny_model(2.0)
    api.upload(content)
    more: dict[str, Any] = {
        "metrics": {"accuracy": 0.91},
        "tags": {"team": "größe"},
        "lineage": {"training_data": "cdnow"},
        "set_production": True,
        "why": "the first",
    }
    status, answer = api.call(
        "POST", "/models/shop/versions", api.registration(content, **more), x_fairlead_user="ann"
    )
    assert status == 201
    version = answer["version"]
    assert (version["version"], version["stage"], version["created_by"]) == ("v1", "production", "ann")
    assert (version["metrics"], version["tags"]) == ({"accuracy": 0.91}, {"team": "größe"})
    assert version["probe"]["run_microseconds"] > 0
    assert version["probe"]["library"].startswith("onnxruntime ")
    assert "microseconds" in api.http.get("/api/v1/models/shop/versions/v1/card").text
    assert answer["confirmation"]["weights"] == {"v1": 100.0}
    assert "No gateway is live" in answer["confirmation"]["note"]
    assert api.call("GET", "/models/shop/versions/v1") == (200, version)
    assert api.call("GET", "/models/shop/versions")[1] == [version]
    assert names_in_run(api) == []


def test_what_lets_intervals_follow_labels_is_kept_beside_the_version_and_shown_nowhere(api: Api) -> None:
    content = tiny_model()
    api.upload(content)
    said = {"kind": "interval", "quantile": 2.0, "n": 9}
    body = api.registration(content, uncertainty=said, scores=[0.5, 1.0, 2.0])
    wrong = {**body, "scores": [2.0, 1.0]}
    assert api.refused("POST", "/models/shop/versions", wrong) == (400, "malformed_request")
    status, answer = api.call("POST", "/models/shop/versions", body)
    assert status == 201
    assert "scores" not in answer["version"]
    assert answer["version"]["spec"]["uncertainty"] == {**said, "coverage": 0.9, "optimistic": False}
    with api.database.read() as connection:
        level = levels.level_of(connection, "shop", "v1")
    assert level is not None
    assert level.scores == (0.5, 1.0, 2.0)


def test_registering_the_same_version_twice_is_refused(api: Api) -> None:
    content = tiny_model()
    api.upload(content)
    body = api.registration(content)
    assert api.call("POST", "/models/shop/versions", body)[0] == 201
    assert api.refused("POST", "/models/shop/versions", body) == (409, "version_exists")


def test_a_corrupt_file_is_refused_with_nothing_half_done(api: Api) -> None:
    content = tiny_model()[:-20]
    api.upload(content)
    status, problem = api.call("POST", "/models/shop/versions", api.registration(content))
    assert (status, problem["code"]) == (400, "invalid_model_file")
    assert problem["remedy"]
    assert api.refused("GET", "/models/shop") == (404, "model_not_found")
    assert api.call("GET", "/audit")[1] == []
    assert names_in_run(api) == []


def test_a_file_that_was_not_uploaded_is_named(api: Api) -> None:
    content = tiny_model()
    status, problem = api.call("POST", "/models/shop/versions", api.registration(content))
    assert (status, problem["code"]) == (404, "blob_not_found")
    assert hashlib.sha256(content).hexdigest() in problem["detail"]


def test_a_contract_that_does_not_fit_the_model_is_refused(api: Api) -> None:
    content = tiny_model()
    api.upload(content)
    body = api.registration(content)
    body["contract"]["inputs"].append({"name": "more", "type": "float"})
    assert api.refused("POST", "/models/shop/versions", body) == (400, "invalid_contract")


def python_version(api: Api, **more: Any) -> dict[str, Any]:
    content = b"a pickle"
    api.upload(content)
    body = api.registration(content, **more)
    body["runtime"] = {**body["runtime"], "kind": "python"}
    return body


def test_a_pickle_needs_the_servers_setting_and_the_callers_flag(api: Api) -> None:
    for trusted in (False, True):
        body = python_version(api, trust_pickle=trusted)
        assert api.refused("POST", "/models/shop/versions", body) == (403, "trust_required")


def test_names_that_break_the_rule_are_refused(api: Api) -> None:
    content = tiny_model()
    api.upload(content)
    for name in ("", "a b", ".hidden", "x" * 101, "größe"):
        refused = api.refused("POST", "/models/shop/versions", api.registration(content, version=name))
        assert refused == (400, "invalid_name")


def test_a_version_that_gets_no_traffic_is_registered_all_the_same_and_says_so(shop: Api) -> None:
    shop.call("POST", "/models/shop/deploy", {"version": "v2"})
    content = tiny_model()
    shop.upload(content)
    status, problem = shop.call(
        "POST", "/models/shop/versions", shop.registration(content, "v4", set_production=True)
    )
    assert (status, problem["code"]) == (409, "rollout_in_progress")
    assert problem["detail"].startswith("The version is registered, but got no traffic: ")
    assert shop.call("GET", "/models/shop/versions/v4")[1]["stage"] == "none"


# --- what is known ------------------------------------------------------------------------------------------


def test_the_card_is_markdown(shop: Api) -> None:
    shop.call("PUT", "/models/shop/description", {"description": "Will they buy again?"})
    shop.call("PUT", "/models/shop/aliases/champion", {"version": "v1"})
    response = shop.http.get("/api/v1/models/shop/versions/champion/card")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/markdown; charset=utf-8"
    assert response.text.startswith("# shop v1\n")
    assert "Will they buy again?" in response.text


def test_what_a_version_goes_by_is_told_as_far_as_it_came_with_it(shop: Api) -> None:
    assert shop.refused("GET", "/models/shop/versions/v9/features") == (404, "version_not_found")
    status, known = shop.call("GET", "/models/shop/versions/v1/features")
    assert (status, known["importance"], known["leading"]["scale"]) == (200, None, None)
    assert "registered with a reference" in known["leading"]["reason"]
    card = shop.http.get("/api/v1/models/shop/versions/v1/card").text
    assert known["leading"]["reason"] in card


def test_stages_are_set_by_hand_where_no_plan_sets_them(shop: Api) -> None:
    status, version = shop.call("POST", "/models/shop/versions/v2/stage", {"stage": "staging"})
    assert (status, version["stage"]) == (200, "staging")
    archive = {"stage": "archived", "why": "old"}
    assert shop.refused("POST", "/models/shop/versions/v1/stage", archive) == (409, "in_use")
    assert shop.refused("POST", "/models/shop/versions/v2/stage", {"stage": "production"}) == (
        400,
        "malformed_request",
    )


def test_settings_of_a_version_win_over_its_models(shop: Api) -> None:
    shop.call("PUT", "/models/shop/settings", {"settings": {"timeout_ms": 100, "cache_seconds": 0}})
    shop.call("PUT", "/models/shop/versions/v1/settings", {"settings": {"timeout_ms": 50}})
    assert shop.call("GET", "/models/shop/settings")[1]["timeout_ms"] == 100
    own = shop.call("GET", "/models/shop/versions/v1/settings")[1]
    assert (own["timeout_ms"], own["cache_seconds"]) == (50, 0)
    shop.call("PUT", "/models/shop/versions/v1/settings", {"settings": {"timeout_ms": None}})
    assert shop.call("GET", "/models/shop/versions/v1/settings")[1]["timeout_ms"] == 100
    unknown = shop.call("PUT", "/models/shop/settings", {"settings": {"timeout": 1}})
    assert (unknown[0], unknown[1]["code"]) == (400, "unknown_setting")
    assert "timeout_ms" in unknown[1]["remedy"]
