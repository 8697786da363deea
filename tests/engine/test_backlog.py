"""The queue before a model: bounded, in order, joined and cut apart without mixing anybody up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.engine.backlog import Backlog, Block, Job, cut, join
from fairlead.engine.frames import Terms


def job(
    number: int,
    rows: int = 1,
    *,
    owner: str = "g",
    deadline: float = math.inf,
    priority: int = 0,
    width: int = 1,
) -> Job:
    block = Block({"x": np.full((rows, width), number)})
    return Job(owner, number, block, 0, rows, deadline, priority)


def filled(*jobs: Job, terms: Terms | None = None) -> Backlog:
    backlog = Backlog(terms or Terms())
    for one in jobs:
        assert backlog.add(one, 10, 0.0)
    return backlog


def taken(backlog: Backlog, now: float = 0.0) -> list[int]:
    return [one.id for one in backlog.take(now)[0]]


def test_priority_then_arrival_decide_who_is_next() -> None:
    backlog = filled(
        *(job(n, priority=p) for n, p in enumerate([0, 2, 1, 0, 1])), terms=Terms(max_batch_rows=1)
    )
    assert [taken(backlog)[0] for _ in range(5)] == [2, 4, 1, 0, 3]
    assert taken(backlog) == []


def test_a_run_has_no_more_rows_than_it_may_and_a_longer_job_comes_alone() -> None:
    backlog = filled(job(1, 3), job(2, 2), job(3, 9), job(4, 1), terms=Terms(max_batch_rows=5))
    assert [taken(backlog) for _ in range(3)] == [[1, 2], [3], [4]]


def test_only_tensors_of_one_kind_are_joined_and_the_others_keep_their_place() -> None:
    backlog = filled(job(1), job(2, width=2), job(3), job(4, width=2))
    assert [taken(backlog) for _ in range(2)] == [[1, 3], [2, 4]]


def test_what_is_late_is_not_run_and_said_so() -> None:
    backlog = filled(job(1, deadline=1.0), job(2, deadline=3.0))
    batch, late = backlog.take(2.0)
    assert ([one.id for one in batch], [one.id for one in late]) == ([2], [1])
    assert (len(backlog), backlog.rows, backlog.bytes) == (0, 0, 0)


def test_what_is_cancelled_leaves_and_only_its_owners_cancelling_counts() -> None:
    backlog = filled(job(1), job(1, owner="h"), job(2), job(3, owner="h"))
    assert backlog.cancel("g", [1, 3, 7]) == [1]
    backlog.forget("h")
    assert taken(backlog) == [2]
    assert backlog.cancel("g", [2]) == []


@pytest.mark.parametrize("terms", [Terms(max_queue_rows=4), Terms(max_queue_bytes=40)])
def test_what_is_full_takes_no_more_and_an_empty_one_takes_anything(terms: Terms) -> None:
    backlog = Backlog(terms)
    assert backlog.add(job(1, 100), 1_000, 0.0)
    assert not backlog.add(job(2), 10, 0.0)
    backlog.take(0.0)
    assert [backlog.add(job(n), 10, 0.0) for n in range(6)] == [True] * 4 + [False] * 2


def test_a_delay_lets_the_oldest_wait_and_no_longer() -> None:
    backlog = Backlog(Terms(queue_delay=2.0, max_batch_rows=3))
    assert backlog.due(0.0) == math.inf
    backlog.add(job(1), 1, 10.0)
    backlog.add(job(2, priority=1), 1, 11.0)
    assert backlog.due(11.5) == pytest.approx(0.5)
    assert backlog.due(12.5) == 0
    backlog.add(job(3), 1, 11.5)
    assert backlog.due(11.5) == 0


_JOBS = st.lists(st.tuples(st.sampled_from("gh"), st.integers(1, 4), st.booleans()), min_size=1, max_size=12)


@given(_JOBS)
def test_joined_rows_are_cut_apart_as_they_came(wanted: list[Any]) -> None:
    jobs: list[Job] = []
    blocks: dict[str, Block] = {}
    places: dict[str, int] = {}
    for number, (owner, rows, same_block) in enumerate(wanted):
        values = np.arange(rows) + 100.0 * number
        if same_block and owner in blocks:
            block = blocks[owner]
            start = len(block.tensors["x"])
            block.tensors["x"] = np.concatenate([block.tensors["x"], values])  # type: ignore[index]
        else:
            block, start = Block({"x": values}), 0
        blocks[owner] = block
        places[owner] = start
        jobs.append(Job(owner, number, block, start, rows, math.inf, 0))
    feed = join(jobs)
    expected = [np.arange(rows) + 100.0 * number for number, (_, rows, _) in enumerate(wanted)]
    assert feed["x"].tolist() == np.concatenate(expected).tolist()
    found: dict[int, list[float]] = {}
    for owner, owned, outputs in cut({"y": feed["x"] * 2}, jobs):
        assert all(one.owner == owner for one in owned)
        start = 0
        for one in owned:
            found[one.id] = outputs["y"][start : start + one.rows].tolist()
            start += one.rows
        assert start == len(outputs["y"])
    assert found == {number: (values * 2).tolist() for number, values in enumerate(expected)}
