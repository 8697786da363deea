"""Whatever goes wrong is a problem document of one form, and no traceback leaves the process."""

from __future__ import annotations

import pytest

from fairlead.errors import StoreUnavailable
from tests.admin.conftest import Api


def test_every_refusal_has_the_same_form(api: Api) -> None:
    status, problem = api.call("GET", "/models/none", x_request_id="mine-1")
    assert status == 404
    assert problem == {
        "type": "urn:fairlead:error:model_not_found",
        "title": "Not Found",
        "status": 404,
        "code": "model_not_found",
        "detail": "There is no model 'none'.",
        "remedy": "There is none yet.",
        "retryable": False,
        "request_id": "mine-1",
        "model": "none",
    }


def test_every_answer_names_its_request(api: Api) -> None:
    given = api.http.get("/api/v1/models", headers={"x-request-id": "mine"})
    assert given.headers["x-request-id"] == "mine"
    made = {api.http.get("/api/v1/models").headers["x-request-id"] for _ in range(2)}
    assert len(made) == 2
    hostile = api.http.get("/api/v1/models", headers={"x-request-id": "x" * 201})
    assert len(hostile.headers["x-request-id"]) == 32


def test_an_unknown_path_and_a_wrong_method_are_told_apart(api: Api) -> None:
    assert api.refused("GET", "/nothing") == (404, "route_not_found")
    assert api.call("GET", "/anything", root="")[1]["code"] == "route_not_found"
    response = api.http.delete("/api/v1/models")
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
    assert response.headers["allow"] == "GET"


MALFORMED = [
    (b'{"version": "v1", "weight": NaN}', "invalid JSON"),
    (b'{"version": "v1"', "invalid JSON"),
    (b"\xff\xfe", "invalid JSON"),
    (b'{"version": "\\ud800"}', "invalid JSON"),
    (b"[" * 100_000, "invalid JSON"),
    (b'{"version": 1}', "$.version"),
    (b'{"version": "v1", "wieght": 5}', "wieght"),
    (b'{"version": "v1", "weight": 101}', "$.weight"),
    (b'["v1"]', "Expected `object`"),
    (b"", "required"),
]


def test_a_body_that_is_not_what_the_route_takes_says_where(api: Api) -> None:
    for body, says in MALFORMED:
        response = api.http.post(
            "/api/v1/models/shop/deploy", content=body, headers={"content-type": "application/json"}
        )
        assert (response.status_code, response.json()["code"]) == (400, "malformed_request")
        assert says in response.json()["detail"]


def test_a_body_above_the_limit_is_refused_whether_its_length_is_told_or_not(api: Api) -> None:
    json = {"content-type": "application/json"}
    told = api.http.post("/api/v1/models/shop/deploy", content=b" " * 100_001, headers=json)
    parts = iter([b" " * 60_000, b" " * 60_000])
    streamed = api.http.post("/api/v1/models/shop/deploy", content=parts, headers=json)
    for response in (told, streamed):
        assert (response.status_code, response.json()["code"]) == (413, "payload_too_large")


def test_a_bug_is_a_500_that_tells_nothing_but_the_request_id(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down() -> None:
        raise RuntimeError("secret of the house")

    monkeypatch.setattr(api.registry, "models", break_down)
    status, problem = api.call("GET", "/models")
    assert (status, problem["code"]) == (500, "internal")
    assert "secret" not in str(problem)
    assert "Traceback" not in str(problem)
    assert problem["request_id"]


def test_a_store_that_is_away_is_a_503_with_a_time_to_try_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise StoreUnavailable("The database does not answer.")

    monkeypatch.setattr(api.registry, "models", away)
    response = api.http.get("/api/v1/models")
    assert (response.status_code, response.json()["code"]) == (503, "store_unavailable")
    assert response.headers["retry-after"] == "1"
