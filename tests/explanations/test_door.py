"""Gateways ask control for explanations, at its socket, and hear at once how far it is."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from fairlead.errors import MalformedRequest, NotExplainable, Overloaded, RecordNotFound, StoreUnavailable
from fairlead.explanations import door as door_file
from fairlead.explanations.door import Door
from fairlead.explanations.explaining import Explaining
from fairlead.gateway.explanations import Explanations
from fairlead.gateway.protocol import Request
from fairlead.gateway.routes import Router
from fairlead.predictions.ask import reachable
from tests.evaluation.site import Site
from tests.explanations.test_explaining import explaining, served
from tests.models import SAMPLE, iris_contract, iris_onnx
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def onnx() -> bytes:
    return iris_onnx(0)


@pytest.fixture
def explainer(site: Site, onnx: bytes) -> Explaining:
    return served(site, onnx)


@pytest.fixture
def door(site: Site, explainer: Explaining) -> Iterator[Door]:
    made = Door(explainer, site.folder.explaining_socket)
    made.start()
    yield made
    made.stop()


def get(site: Site, request_id: str) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Status, headers and document of a GET whose path holds that id as it stands."""
    path = f"/v1/predictions/{request_id}/explanation".encode()
    request = Request(b"GET", path, {}, b"")
    handler = Explanations(site.folder.explaining_socket)
    answer = asyncio.run(handler.handle(request, Router("").find(b"GET", path)))
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(status.split(" ")[1]), headers, msgspec.json.decode(body)


def waited(site: Site, request_id: str) -> dict[str, Any]:
    """The explanation once it is there."""
    answers: list[tuple[int, Any, Any]] = []

    def there() -> bool:
        answers.append(get(site, request_id))
        return answers[-1][0] == 200

    wait_until(there, 60)
    return answers[-1][2]


def refused(site: Site, request_id: str, kind: type[Exception]) -> str:
    """What is said in the end."""

    def done() -> bool:
        try:
            return get(site, request_id)[0] != 202
        except kind:
            return True

    wait_until(done, 60)
    with pytest.raises(kind) as caught:
        get(site, request_id)
    return str(caught.value)


def test_who_asks_hears_where_to_look_and_then_gets_what_explain_says(
    site: Site, door: Door, explainer: Explaining
) -> None:
    site.ask(SAMPLE, request_id="ünï/1")
    status, headers, document = get(site, "%C3%BCn%C3%AF%2F1")
    assert (status, document["status"], headers["retry-after"]) == (202, "working", "1")
    assert headers["location"] == document["location"] == "/v1/predictions/%C3%BCn%C3%AF%2F1/explanation"
    found = waited(site, "%C3%BCn%C3%AF%2F1")
    same = msgspec.to_builtins(explainer.explain("ünï/1"))
    for part in same["features"]:
        del part["value"]  # values stay in the log
    assert found == msgspec.json.decode(msgspec.json.encode(same))
    moved = sum(part["contribution"] for part in found["features"])
    assert found["base"] + moved == pytest.approx(found["value"], abs=1e-9)


def test_a_row_of_a_batch_is_named_behind_the_id(site: Site, door: Door) -> None:
    site.ask_batch([SAMPLE, {**SAMPLE, "petal_width": 2.5}], "many")
    found = waited(site, "many%231")
    assert (found["request_id"], found["row"]) == ("many", 1)
    assert "%230 for the first" in refused(site, "many", MalformedRequest)
    assert "row 7" in refused(site, "many%237", RecordNotFound)


def test_an_id_that_looks_like_a_row_is_an_id_where_there_is_such_a_request(site: Site, door: Door) -> None:
    site.ask(SAMPLE, request_id="a")
    site.ask({**SAMPLE, "petal_width": 2.5}, request_id="a#0")
    assert waited(site, "a%230")["request_id"] == "a#0"


def test_what_is_not_in_the_log_and_what_cannot_be_explained_are_said(site: Site, door: Door) -> None:
    site.ask(SAMPLE, request_id="one")
    site.alter("one", features=[1.0, 2.0, 3.0, 4.0])
    assert "no record of request 'nobody'" in refused(site, "nobody", RecordNotFound)
    assert "Not explainable" in refused(site, "one-altered", NotExplainable)


def test_a_row_whose_sensitive_feature_is_not_in_the_log_is_not_explainable(site: Site, onnx: bytes) -> None:
    explainer = served(site, onnx, contract=iris_contract(sensitivity="sensitive"))
    site.ask(SAMPLE, request_id="secret")
    made = Door(explainer, site.folder.explaining_socket)
    made.start()
    try:
        assert "Not explainable" in refused(site, "secret", NotExplainable)
    finally:
        made.stop()


def test_many_who_ask_for_one_have_it_made_once(site: Site, door: Door, explainer: Explaining) -> None:
    site.ask(SAMPLE, request_id="one")
    made = []
    plain = explainer._made
    explainer._made = lambda record: made.append(record) or plain(record)  # type: ignore[method-assign, func-returns-value]
    threads = [threading.Thread(target=get, args=(site, "one")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    waited(site, "one")
    assert len(made) == 1


def test_an_explanation_for_somebody_else_is_waited_for(
    site: Site, door: Door, explainer: Explaining
) -> None:
    site.ask(SAMPLE, request_id="one")
    with explainer._alone():
        assert get(site, "one")[0] == 202
        assert get(site, "one")[0] == 202
    assert waited(site, "one")["request_id"] == "one"


def test_more_than_can_wait_are_refused(
    site: Site, door: Door, explainer: Explaining, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_file, "MOST_WAITING", 2)
    site.ask(SAMPLE, request_id="one")
    with explainer._alone():
        assert [get(site, "one")[0], get(site, "other")[0]] == [202, 202]
        with pytest.raises(Overloaded, match="2 explanations wait"):
            get(site, "third")
        assert get(site, "one")[0] == 202
    waited(site, "one")


def test_while_control_is_away_that_is_said_and_its_successor_begins_again(
    site: Site, explainer: Explaining
) -> None:
    site.ask(SAMPLE, request_id="one")
    with pytest.raises(StoreUnavailable, match="Control, which explains requests"):
        get(site, "one")
    first = Door(explainer, site.folder.explaining_socket)
    first.start()
    with explainer._alone():
        assert get(site, "one")[0] == 202
        first.stop()  # what was asked of it is forgotten
    second = Door(explaining(site), site.folder.explaining_socket)
    second.start()
    try:
        assert waited(site, "one")["request_id"] == "one"
    finally:
        second.stop()


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xff\xff\xff", b"\x02\x00\x00\x00{}", b"\x03\x00\x00\x00abc", b"\x00"]
)
def test_garbage_at_the_door_harms_nobody_else(site: Site, door: Door, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as stranger, reachable(site.folder.explaining_socket) as address:
        stranger.connect(address)
        stranger.sendall(data)
        stranger.shutdown(socket.SHUT_WR)
        stranger.settimeout(20)
        stranger.recv(1000)
    assert "no record" in refused(site, "nobody", RecordNotFound)


@pytest.mark.parametrize("request_id", ["x" * 201, "%20" * 201])
def test_ids_that_no_request_has_are_refused_here(site: Site, request_id: str) -> None:
    with pytest.raises(MalformedRequest, match="1 to 200"):
        get(site, request_id)


def test_paths_with_ids_are_not_remembered() -> None:
    router = Router("")
    for number in range(3):
        router.find(b"GET", f"/v1/predictions/{number}/explanation".encode())
    assert not router._known
