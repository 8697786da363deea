"""The comparison with other servers, its pure parts: medians, ratios, the table, and what counts as right."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bench.peers.dialects import DIALECTS, is_right
from bench.peers.entrants import ENTRANTS, chosen
from bench.peers.load import read_report
from bench.peers.models import MODELS, rows_of
from bench.peers.summary import starved, summarise, table
from hypothesis import given
from hypothesis import strategies as st

RAW = [{"rows_1": 1000.0, "rows_32": 4000.0}]


def load(per_second: float) -> dict[str, float]:
    return {"per_second": per_second, "p50_ms": 1.0, "p99_ms": 2.0, "errors": 0, "cores": 1.0}


def did(*rates: float, faults: tuple[str, ...] = ()) -> dict[str, Any]:
    loads = {count: load(rate) for count, rate in zip(("1", "16"), rates, strict=True)}
    return {"start_s": 1.0, "memory_mib": 50, "loads": loads, "faults": list(faults)}


def test_the_ratio_compares_each_server_at_what_suits_it_best() -> None:
    found = summarise([{"fairlead": did(100, 600), "peer": did(300, 200)}], RAW)["servers"]["peer"]
    assert found["ratio"]["median"] == 2.0
    assert found["ratio"]["by_connections"] == {"1": 0.33, "16": 3.0}


def test_the_ratio_tells_how_far_single_rounds_differed() -> None:
    rounds = [{"fairlead": did(1, rate), "peer": did(1, 100)} for rate in (100, 200, 400)]
    ratio = summarise(rounds, RAW)["servers"]["peer"]["ratio"]
    assert (ratio["median"], ratio["least"], ratio["most"]) == (2.0, 1.0, 4.0)


def test_the_share_of_the_raw_model_is_that_of_the_best_load() -> None:
    assert summarise([{"fairlead": did(100, 600)}], RAW)["servers"]["fairlead"]["percent_of_raw"] == 60.0


def test_a_fault_in_one_round_keeps_a_server_out_of_the_ranking() -> None:
    rounds = [{"fairlead": did(1, 10), "peer": did(1, 99)}, {"fairlead": did(1, 10), "peer": did(1, 99)}]
    rounds[1]["peer"]["faults"] = ["3 errors at 16 connections"]
    text = table(summarise(rounds, RAW), {"peer": "Peer"})
    assert "| Peer |" not in text
    assert "Not ranked: Peer: 3 errors at 16 connections" in text


def test_a_server_that_never_answered_is_named_with_the_reason() -> None:
    silent = {"loads": {}, "faults": ["no right answer in 90 s"]}
    text = table(summarise([{"fairlead": did(1, 10), "peer": silent}], RAW), {})
    assert "Not ranked: peer: no right answer in 90 s" in text
    assert "| fairlead |" in text


def test_nobody_is_compared_with_a_faulty_fairlead() -> None:
    rounds = [{"fairlead": did(1, 10, faults=("a wrong answer",)), "peer": did(1, 5)}]
    assert "ratio" not in summarise(rounds, RAW)["servers"]["peer"]


def test_the_table_puts_the_quickest_first() -> None:
    text = table(summarise([{"fairlead": did(1, 10), "slow": did(1, 5), "quick": did(40, 2)}], RAW), {})
    order = [line.split("|")[1].strip() for line in text.splitlines()[2:]]
    assert order == ["quick", "fairlead", "slow"]


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=7))
def test_a_median_lies_between_the_least_and_the_most_round(rates: list[float]) -> None:
    rounds = [{"fairlead": did(1, rate)} for rate in rates]
    row = summarise(rounds, RAW)["servers"]["fairlead"]["loads"]["16"]
    assert row["least"] - 0.001 <= row["per_second"] <= row["most"] + 0.001


def test_a_server_that_was_not_alone_on_its_core_is_named() -> None:
    busy = did(1, 10)
    busy["loads"]["16"]["cores"] = 0.6
    assert starved(summarise([{"fairlead": did(1, 10), "peer": busy}], RAW)) == ["peer"]


ANSWERS = {
    "named": {"probabilities": [0.25, 0.75]},
    "v2": {"outputs": [{"name": "probabilities", "shape": [1, 2], "datatype": "FP32", "data": [0.25, 0.75]}]},
    "rows": [[0.25, 0.75]],
    "mlflow": {"predictions": {"label": [1], "probabilities": [[0.25, 0.75]]}},
    "fairlead": {"prediction": 1, "probabilities": {"0": 0.25, "1": 0.75}, "model_version": "v1"},
}


@pytest.mark.parametrize("name", DIALECTS)
def test_every_servers_own_answer_is_read_as_the_same_numbers(name: str) -> None:
    raw = json.dumps(ANSWERS[name]).encode()
    assert DIALECTS[name].answer(MODELS["forest"], raw) == ("v1", [0.25, 0.75])


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b"{}", b'{"detail": "Not Found"}', b"<html>"])
@pytest.mark.parametrize("name", DIALECTS)
def test_what_is_no_answer_is_never_right(name: str, raw: bytes) -> None:
    assert not is_right(DIALECTS[name].answer(MODELS["forest"], raw), {"v1": [0.25, 0.75]})


def test_an_answer_is_compared_with_the_version_that_gave_it() -> None:
    wanted = {"v1": [0.25, 0.75], "v2": [0.5, 0.5]}
    assert is_right(("v2", [0.5, 0.5]), wanted)
    assert not is_right(("v1", [0.5, 0.5]), wanted)
    assert not is_right(("v1", [0.25]), wanted)
    assert not is_right(("v3", [0.25, 0.75]), wanted)


@pytest.mark.parametrize("name", MODELS)
def test_all_servers_are_asked_the_same_rows_and_no_row_twice(name: str) -> None:
    model = MODELS[name]
    rows = rows_of(model)
    assert len({tuple(row) for row in rows}) == model.rows
    assert all(len(row) == model.width for row in rows)
    for dialect in DIALECTS.values():
        body = dialect.body(model, rows[0], 0)
        assert all(json.dumps(number) in body for number in rows[0])


def test_naming_a_peer_takes_all_its_rows_and_always_fairlead() -> None:
    assert [entrant.name for entrant in chosen("triton")] == ["fairlead", "triton-1", "triton-8"]
    assert [entrant.name for entrant in chosen("triton-8,ray")] == ["fairlead", "triton-8", "ray"]
    assert chosen(None) == list(ENTRANTS)
    with pytest.raises(ValueError, match="tritn"):
        chosen("tritn")


def test_every_kind_of_error_that_wrk_saw_counts() -> None:
    report = (
        'REPORT{"requests":300,"microseconds":1500000,"status":1,"connect":2,"read":3,"write":4,"timeout":5,'
        '"p50":1500,"p99":20000,"longest":30000}'
    )
    found = read_report(f"Running 1s test\n{report}\n")
    assert (found["errors"], found["per_second"], found["p50_ms"]) == (15, 200.0, 1.5)
    with pytest.raises(ValueError, match="unable to connect"):
        read_report("unable to connect to 127.0.0.1")
