"""The client of the data plane against a real server on a real socket."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fairlead.client import session
from fairlead.client.http import AsyncClient, Client
from fairlead.errors import (
    AdminUnreachable,
    DataContractViolation,
    DeadlineExceeded,
    FairleadError,
    InvalidSetting,
    MalformedRequest,
    ModelNotFound,
    Overloaded,
    every_error,
)
from tests.client.listening import Answer, Asked, listening, problem

ENVELOPE: dict[str, Any] = {
    "prediction": 1,
    "probabilities": None,
    "uncertainty": None,
    "explanation": None,
    "model": "shop",
    "model_version": "v2",
    "stage": "production",
    "experiment": None,
    "variant": None,
    "training_data": "cdnow-1997",
    "contract_id": "c123",
    "feature_hash": "ab",
    "feature_snapshot": None,
    "request_id": "r-1",
    "cached": False,
    "degraded": None,
    "flags": [{"field": "age", "rule": "range", "value": 200}],
    "latency_ms": 0.4,
    "something_of_a_later_release": {},
}


def always(document: Any, status: int = 200) -> Callable[[Asked], Answer]:
    return lambda asked: Answer(status, document)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FAIRLEAD_URL", "FAIRLEAD_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def closed_port(free_port: int) -> str:
    return f"http://127.0.0.1:{free_port}"


def test_a_prediction_carries_its_whole_envelope() -> None:
    with listening(always(ENVELOPE)) as server, Client(server.url) as client:
        found = client.predict("shop", {"age": np.int64(200), "income": np.nan}, unit="user-42")
    assert (found.prediction, found.model_version, found.request_id) == (1, "v2", "r-1")
    assert found.flags[0].rule == "range"
    asked = server.asked[0]
    assert (asked.method, asked.path) == ("POST", "/v1/models/shop/predict")
    assert asked.document == {"features": {"age": 200, "income": None}, "unit": "user-42"}


def test_everything_that_may_be_said_with_a_request_arrives() -> None:
    with listening(always(ENVELOPE)) as server, Client(server.url, api_key="k") as client:
        client.predict(
            "shop",
            {"größe": "日本"},
            unit=np.int64(7),
            entity="e",
            request_id="r-9",
            return_probabilities=True,
            explain="top",
            version="v3",
            use_case="homepage",
        )
    asked = server.asked[0]
    assert asked.document == {
        "features": {"größe": "日本"},
        "unit": 7,
        "entity": "e",
        "request_id": "r-9",
        "return_probabilities": True,
        "explain": "top",
    }
    assert asked.headers["authorization"] == "Bearer k"
    assert asked.headers["x-model-version"] == "v3"
    assert asked.headers["x-use-case"] == "homepage"


def test_a_ranking_is_a_list_of_ids_with_scores() -> None:
    ranking = [{"id": "sku-1", "score": 0.9}, {"id": 7, "score": 0.1}]
    with listening(always({**ENVELOPE, "prediction": ranking})) as server, Client(server.url) as client:
        assert client.predict("shop", {"age": 1}).prediction == ranking


def test_a_header_cannot_be_smuggled_in() -> None:
    with listening(always(ENVELOPE)) as server, Client(server.url) as client:
        with pytest.raises(MalformedRequest, match="x-use-case"):
            client.predict("shop", {}, use_case="home\r\nx-model-version: v9")
        assert server.asked == []


def test_a_model_name_cannot_lead_to_another_path() -> None:
    with listening(always(ENVELOPE)) as server, Client(server.url) as client:
        client.predict("../health?x=", {})
    assert server.asked[0].path == "/v1/models/..%2Fhealth%3Fx%3D/predict"


def test_a_batch_is_a_frame_with_one_unit_per_row() -> None:
    rows = [{"row": 0, "prediction": 1, "model_version": "v2"}, {"row": 1, "error": {"code": "x"}}]
    answer = {"predictions": rows, "model": "shop", "batch_size": 2, "failed": 1, "request_id": "r-2"}
    with listening(always(answer)) as server, Client(server.url) as client:
        batch = client.predict_batch("shop", pd.DataFrame({"age": [31, 32]}), units=["a", "b"])
    assert [row.prediction for row in batch] == [1, None]
    assert batch[1].error == {"code": "x"}
    assert (len(batch), batch.failed) == (2, 1)
    assert server.asked[0].document == {
        "instances": [{"features": {"age": 31}, "unit": "a"}, {"features": {"age": 32}, "unit": "b"}]
    }


def test_units_must_be_as_many_as_rows() -> None:
    with Client("http://127.0.0.1:1") as client, pytest.raises(MalformedRequest, match=r"1 units .* 2 rows"):
        client.predict_batch("shop", [{}, {}], units=["a"])


# --- outcomes -----------------------------------------------------------------------------------------------


def _shop(asked: Asked) -> Answer:
    if asked.path.endswith("/outcomes"):
        return Answer(200, {"accepted": len(asked.document)})
    return Answer(200, {**ENVELOPE, "request_id": asked.document.get("request_id", "r-1")})


def test_an_outcome_needs_no_model_for_a_request_of_this_client() -> None:
    with listening(_shop) as server, Client(server.url) as client:
        found = client.predict("shop", {})
        assert client.outcome(found.request_id, "conversion", np.float32(1)) == 1
    asked = server.asked[-1]
    assert asked.path == "/v1/models/shop/outcomes"
    assert asked.document == [{"request_id": "r-1", "metric": "conversion", "value": 1.0, "mode": "set"}]


def test_an_outcome_of_an_unknown_request_asks_for_the_model() -> None:
    with (
        Client("http://127.0.0.1:1") as client,
        pytest.raises(MalformedRequest, match="r-unknown") as refused,
    ):
        client.outcome("r-unknown", "conversion", 1)
    assert "model=" in refused.value.remedy


def test_an_outcome_may_be_about_a_unit_a_row_and_a_time() -> None:
    at = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    with listening(_shop) as server, Client(server.url) as client:
        client.outcome(None, "revenue", 9.5, unit="user-1", mode="add", outcome_id="o-1", model="shop", at=at)
        client.outcome("r-7", "label", "churned", row=3, model="shop", at=1_700_000_000)
    first, second = (asked.document[0] for asked in server.asked)
    assert first == {
        "unit": "user-1",
        "metric": "revenue",
        "value": 9.5,
        "mode": "add",
        "outcome_id": "o-1",
        "at": "2026-01-02T03:04:00+00:00",
    }
    assert (second["row"], second["value"], second["at"]) == (3, "churned", 1_700_000_000)


def test_a_time_without_a_zone_is_refused() -> None:
    with Client("http://127.0.0.1:1") as client, pytest.raises(MalformedRequest, match="no time zone"):
        client.outcomes("shop", [{"unit": "u", "metric": "m", "value": 1, "at": datetime(2026, 1, 1)}])


def test_only_the_latest_requests_are_remembered() -> None:
    with Client("http://127.0.0.1:1") as client:
        for number in range(10_001):
            client.recent.note(f"r-{number}", "shop")
        assert client.recent.model_of("r-0") is None
        assert client.recent.model_of("r-10000") == "shop"


# --- what is there ------------------------------------------------------------------------------------------


def test_models_contract_and_health_are_read() -> None:
    arm = {"name": "stable", "version": "v2", "role": "stable", "stage": "production", "share": 1.0}
    models = {"models": [{"model": "shop", "generation": 4, "arms": [{**arm, "contract_id": "c1"}]}]}

    def answer(asked: Asked) -> Answer:
        match asked.path:
            case "/v1/models":
                return Answer(200, models)
            case "/v1/models/shop/contract":
                return Answer(200, {"type": "object"})
        return Answer(200, {"status": "not ready: No model is loaded.", "fairlead": "0.1.0", "models": {}})

    with listening(answer) as server, Client(server.url) as client:
        assert client.models()[0].arms[0].share == 1.0
        assert client.contract("shop") == {"type": "object"}
        assert not client.health().ready


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", every_error(), ids=lambda cls: cls.code)
def test_a_refusal_becomes_the_same_error_class_with_its_remedy(cls: type[FairleadError]) -> None:
    answer = problem(400, cls.code, "What.", remedy="Do that.", violations=[{"field": "age"}], choices=["a"])
    with (
        listening(lambda _: answer) as server,
        Client(server.url) as client,
        pytest.raises(FairleadError) as refused,
    ):
        client.predict("shop", {})
    assert type(refused.value) is cls
    assert (refused.value.message, refused.value.remedy) == ("What.", "Do that.")
    assert refused.value.details["choices"] == ["a"]


def test_a_violated_contract_names_each_field() -> None:
    violations = [{"field": "age", "rule": "missing", "value": None, "expected": "a value of type int"}]
    answer = problem(400, "data_contract_violation", violations=violations)
    with (
        listening(lambda _: answer) as server,
        Client(server.url) as client,
        pytest.raises(DataContractViolation) as refused,
    ):
        client.predict("shop", {})
    assert refused.value.violations == violations


def test_a_code_of_a_later_release_is_still_an_error_with_its_code() -> None:
    with (
        listening(lambda _: problem(418, "teapot", "Short and stout.")) as server,
        Client(server.url) as client,
        pytest.raises(FairleadError, match="Short and stout") as refused,
    ):
        client.predict("shop", {})
    assert refused.value.details["code"] == "teapot"
    assert refused.value.details["status"] == 418


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"", b"[1]", b'{"error": "no"}', b"\xff\xfe"])
def test_an_answer_of_somebody_else_is_no_answer(body: bytes) -> None:
    with (
        listening(lambda _: Answer(502, body)) as server,
        Client(server.url) as client,
        pytest.raises(AdminUnreachable, match="502"),
    ):
        client.predict("shop", {})


def test_a_success_that_is_no_envelope_names_the_address() -> None:
    with (
        listening(always({"hello": "world"})) as server,
        Client(server.url) as client,
        pytest.raises(AdminUnreachable, match=server.url),
    ):
        client.predict("shop", {})


def test_a_server_that_is_away_is_named_together_with_how_to_start_it(closed_port: str) -> None:
    with Client(closed_port) as client, pytest.raises(AdminUnreachable, match=closed_port) as refused:
        client.predict("shop", {})
    assert "fairlead up" in refused.value.remedy
    assert "FAIRLEAD_URL" in refused.value.remedy


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "http://", "::"])
def test_what_is_no_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidSetting, match="no address"):
        Client(url)


def test_address_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(always(ENVELOPE)) as server:
        monkeypatch.setenv("FAIRLEAD_URL", server.url + "/")
        monkeypatch.setenv("FAIRLEAD_API_KEY", "secret")
        with Client() as client:
            client.predict("shop", {})
    assert server.asked[0].headers["authorization"] == "Bearer secret"


def test_no_proxy_of_the_environment_stands_between_a_client_and_its_own_machine(
    monkeypatch: pytest.MonkeyPatch, closed_port: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", closed_port)
    with listening(always(ENVELOPE)) as server, Client(server.url) as client:
        assert client.predict("shop", {}).prediction == 1


# --- asking again -------------------------------------------------------------------------------------------


class Busy:
    """Refuses the first requests and answers the next."""

    def __init__(self, refusals: int, headers: dict[str, str]) -> None:
        self.refusals, self.headers = refusals, headers

    def __call__(self, asked: Asked) -> Answer:
        self.refusals -= 1
        if self.refusals >= 0:
            return problem(503, "overloaded")._replace(headers=self.headers)
        return Answer(200, ENVELOPE)


def test_a_full_server_is_asked_again_after_the_time_it_names() -> None:
    with listening(Busy(2, {"retry-after": "0"})) as server, Client(server.url) as client:
        assert client.predict("shop", {}).prediction == 1
    assert len(server.asked) == 3
    assert len({asked.body for asked in server.asked}) == 1


def test_a_server_that_stays_full_is_asked_three_times_at_most() -> None:
    with listening(Busy(9, {"retry-after": "0"})) as server, Client(server.url) as client:
        with pytest.raises(Overloaded):
            client.predict("shop", {})
        assert len(server.asked) == 3


@pytest.mark.parametrize("headers", [{}, {"retry-after": "soon"}, {"retry-after": "-1"}])
def test_a_refusal_without_a_time_is_final(headers: dict[str, str]) -> None:
    with listening(Busy(1, headers)) as server, Client(server.url) as client:
        with pytest.raises(Overloaded):
            client.predict("shop", {})
        assert len(server.asked) == 1


def test_a_long_pause_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(session.time, "sleep", slept.append)
    with listening(Busy(1, {"retry-after": "3600"})) as server, Client(server.url) as client:
        client.predict("shop", {})
    assert slept == [5.0]


def test_a_broken_connection_is_tried_again_for_reading_and_never_for_a_prediction() -> None:
    with listening(lambda _: None) as server, Client(server.url) as client:
        with pytest.raises(AdminUnreachable):
            client.predict("shop", {})
        assert len(server.asked) == 1
        with pytest.raises(AdminUnreachable):
            client.models()
        assert len(server.asked) == 4


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_prediction_that_timed_out_is_not_repeated(silent_server: str) -> None:
    with Client(silent_server, timeout=0.05) as client, pytest.raises(DeadlineExceeded, match=r"0\.05 s"):
        client.predict("shop", {})


# --- the twin -----------------------------------------------------------------------------------------------


def test_the_asynchronous_client_does_the_same() -> None:
    async def ask(url: str) -> None:
        async with AsyncClient(url) as client:
            found = await asyncio.gather(
                *(client.predict("shop", {}, request_id=f"r-{i}") for i in range(20))
            )
            assert {prediction.request_id for prediction in found} == {f"r-{i}" for i in range(20)}
            assert await client.outcome("r-3", "conversion", 1) == 1

    with listening(_shop) as server:
        asyncio.run(ask(server.url))
    assert server.asked[-1].path == "/v1/models/shop/outcomes"


def test_the_asynchronous_client_refuses_and_retries_like_its_twin(closed_port: str) -> None:
    async def ask(url: str) -> None:
        async with AsyncClient(url) as client:
            assert (await client.predict("shop", {})).prediction == 1
        async with AsyncClient(closed_port) as client:
            with pytest.raises(AdminUnreachable, match="fairlead up"):
                await client.health()

    with listening(Busy(2, {"retry-after": "0"})) as server:
        asyncio.run(ask(server.url))
    assert len(server.asked) == 3


def test_both_clients_offer_the_same_operations() -> None:
    operations = ["predict", "predict_batch", "outcome", "outcomes", "models", "contract", "health"]
    for name in operations:
        assert getattr(Client, name).__doc__ == getattr(AsyncClient, name).__doc__ is not None


def test_one_client_serves_many_threads() -> None:
    answers: list[str] = []

    def ask(client: Client, number: int) -> None:
        answers.append(client.predict("shop", {}, request_id=f"r-{number}").request_id)

    with listening(_shop) as server, Client(server.url) as client:
        threads = [threading.Thread(target=ask, args=(client, number)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(answers) == sorted(f"r-{number}" for number in range(16))


def test_a_model_that_is_not_there_is_named() -> None:
    answer = problem(404, "model_not_found", "There is no model 'shpo'.", remedy="Did you mean 'shop'?")
    with listening(lambda _: answer) as server, Client(server.url) as client:
        with pytest.raises(ModelNotFound, match="Did you mean 'shop'"):
            client.contract("shpo")
        assert len(server.asked) == 1
