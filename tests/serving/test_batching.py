"""Rows on their way to a model: joined, bounded, shared, given up, and refused when they would be too late.

The engine is a real one in these tests: a runtime inside an engine that the test lets answer when it likes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.engine.base import Ticket
from fairlead.engine.inline import InlineEngine
from fairlead.errors import DeadlineExceeded, Overloaded, RuntimeFailed
from fairlead.runtimes.base import Array, OutputNames, RuntimeSpec, Tensor, Tensors
from fairlead.runtimes.binding import Binding
from fairlead.serving.batching import Batcher, Bounds

CONTRACT = Contract(inputs=(Field(name="x", type="float"),), output=Output(kind="number"))
SPEC = RuntimeSpec(
    kind="onnx",
    entry="m",
    binding="matrix",
    inputs=(Tensor(name="X", dtype="float64", shape=(-1, 1)),),
    outputs=OutputNames(value="y"),
)


class Doubling:
    """Doubles; raises on runs with a negative number, and answers NaN for 1313."""

    def run(self, feed: Tensors) -> dict[str, Array]:
        values = feed["X"].reshape(-1)
        if (values < 0).any():
            raise RuntimeFailed("negative")
        return {"y": np.where(values == 1313, np.nan, values * 2)}

    def close(self) -> None:
        pass


class Later(InlineEngine):
    """An engine that holds what is posted until `answer()`."""

    inline = False  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__(Doubling())
        self.posted: list[tuple[Tensors, Sequence[Ticket]]] = []
        self.cancelled: list[Ticket] = []
        self.resized: list[int] = []

    def post(self, feed: Tensors, tickets: Sequence[Ticket]) -> int:
        self.posted.append((feed, tickets))
        return sum(array.nbytes for array in feed.values())

    def cancel(self, tickets: Sequence[Ticket]) -> None:
        self.cancelled += tickets

    def resize(self, rows: int) -> None:
        self.resized.append(rows)

    def answer(self, seconds: float = 0.001, waiting: int = 0) -> None:
        """Runs what was posted first, as if it had taken that long."""
        feed, tickets = self.posted.pop(0)
        sink = tickets[0].sink
        try:
            outputs = self.run_now(feed)
        except RuntimeFailed as error:
            sink.failed(tickets, error)
            return
        sink.observed(sum(ticket.rows for ticket in tickets), seconds, waiting, True)
        kept = [ticket for ticket in tickets if ticket not in self.cancelled]
        index = [n for n, ticket in enumerate(tickets) if ticket in kept]
        if kept:
            sink.answered(
                kept, {name: array[index] for name, array in outputs.items()} if len(tickets) > 1 else outputs
            )


def batcher(engine: InlineEngine, **bounds: Any) -> Batcher:
    return Batcher(engine, Binding(CONTRACT, SPEC), Bounds(**{"timeout": 5.0, **bounds}))


async def asked(made: Batcher, *rows: float, **how: Any) -> list[asyncio.Task[Any]]:
    """A request for each row, all in one turn of the loop; returned once they have left."""
    tasks = [asyncio.create_task(made.predict((row,), how.get("key"), how.get("deadline"))) for row in rows]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


def test_rows_of_one_turn_leave_together_and_a_lone_one_at_once() -> None:
    async def story() -> None:
        engine = Later()
        made = batcher(engine)
        lone = await asked(made, 1.0)
        three = await asked(made, 2.0, 3.0, 4.0)
        assert [len(tickets) for _, tickets in engine.posted] == [1, 3]
        assert made.waiting == 4
        engine.answer()
        engine.answer()
        assert [task.value for task in await asyncio.gather(*lone, *three)] == [2, 4, 6, 8]
        assert made.waiting == 0

    asyncio.run(story())


def test_rows_with_one_key_share_a_run_until_the_last_caller_gives_up() -> None:
    async def story() -> None:
        engine = Later()
        made = batcher(engine)
        first, second = await asked(made, 1.0, 1.0, key=b"k")
        assert [len(tickets) for _, tickets in engine.posted] == [1]
        first.cancel()
        await asyncio.wait([first])
        assert engine.cancelled == []
        engine.answer()
        assert (await second).value == 2
        (third,) = await asked(made, 1.0, key=b"k")
        third.cancel()
        await asyncio.wait([third])
        assert len(engine.cancelled) == 1
        assert made.waiting == 0
        engine.answer()
        (fourth,) = await asked(made, 1.0, key=b"k")
        engine.answer()
        assert (await fourth).value == 2

    asyncio.run(story())


def test_a_row_that_is_late_when_it_comes_never_leaves() -> None:
    async def story() -> None:
        engine = Later()
        made = batcher(engine)
        with pytest.raises(DeadlineExceeded):
            await made.predict((1.0,), None, time.monotonic() - 0.01)
        await asyncio.sleep(0)
        assert (engine.posted, made.waiting) == ([], 0)

    asyncio.run(story())


def test_an_answer_that_breaks_the_contract_fails_its_own_row_alone() -> None:
    async def story() -> None:
        engine = Later()
        made = batcher(engine)
        tasks = await asked(made, 1.0, 1313.0, 3.0)
        engine.answer()
        good, bad, other = await asyncio.gather(*tasks, return_exceptions=True)
        assert (good.value, other.value) == (2, 6)
        assert isinstance(bad, RuntimeFailed)

    asyncio.run(story())


def test_rows_that_came_together_are_answered_in_order_and_each_fails_for_itself() -> None:
    async def story() -> None:
        made = batcher(InlineEngine(Doubling()))
        answers = await made.submit_rows([(1.0,), (-1.0,), (1313.0,), (4.0,)])
        assert [getattr(answer, "value", None) for answer in answers] == [2, None, None, 8]
        assert isinstance(answers[1], RuntimeFailed)
        assert isinstance(answers[2], RuntimeFailed)
        assert isinstance((await made.submit_rows([(-1.0,)]))[0], RuntimeFailed)

    asyncio.run(story())


def test_runs_are_counted_where_the_engine_says_so() -> None:
    async def story() -> None:
        engine = Later()
        made = batcher(engine)
        counted: list[tuple[int, float]] = []
        made.ran = lambda rows, seconds: counted.append((rows, seconds))
        await asked(made, 1.0, 2.0)
        engine.answer(0.25)
        made.observed(7, 0.5, 0, False)
        assert counted == [(2, 0.25)]

    asyncio.run(story())


def test_a_deadline_is_kept_and_the_row_taken_back() -> None:
    async def story() -> None:
        engine = Later()
        made = batcher(engine)
        with pytest.raises(DeadlineExceeded):
            await made.predict((1.0,), None, time.monotonic() + 0.02)
        assert len(engine.cancelled) == 1
        with pytest.raises(DeadlineExceeded):
            await batcher(Later(), timeout=0.02).predict((1.0,), None)

    asyncio.run(story())


def test_who_shares_a_run_that_was_given_up_as_late_gets_one_of_his_own() -> None:
    async def story() -> None:
        engine = Later()
        made = batcher(engine)
        hasty = (await asked(made, 1.0, key=b"k", deadline=time.monotonic() + 0.5))[0]
        patient = (await asked(made, 1.0, key=b"k"))[0]
        (_, tickets) = engine.posted.pop()
        made.failed(tickets, DeadlineExceeded("late"))
        for _ in range(4):
            await asyncio.sleep(0)
        assert len(engine.posted) == 1
        engine.answer()
        assert (await patient).value == 2
        with pytest.raises(DeadlineExceeded):
            await hasty

    asyncio.run(story())


def test_more_rows_or_bytes_than_may_wait_are_refused_at_once() -> None:
    async def story() -> None:
        for bounds in ({"max_rows": 3, "max_batch_rows": 1}, {"max_bytes": 24}):
            engine = Later()
            made = batcher(engine, **bounds)
            held = await asked(made, 1.0, 2.0, 3.0, 4.0)
            with pytest.raises(Overloaded):
                await made.predict((5.0,), None)
            engine.answer()
            assert [task.value for task in await asyncio.gather(*held)] == [2, 4, 6, 8]
            (again,) = await asked(made, 6.0)
            engine.answer()
            assert (await again).value == 12

    asyncio.run(story())


def test_what_cannot_be_answered_in_time_is_refused_at_once() -> None:
    async def story() -> None:
        engine = Later()
        made = batcher(engine, max_batch_rows=10)
        for count in (1, 2, 4):
            tasks = await asked(made, *map(float, range(count)))
            engine.answer(0.1 + 0.05 * count)
            await asyncio.gather(*tasks)
        held = await asked(made, *map(float, range(20)))
        # Twenty rows are ahead: three runs with this one, 1.35 s.
        assert made.expected_wait(1, time.monotonic()) == pytest.approx(1.35, rel=0.1)
        with pytest.raises(Overloaded, match=r"would take about 1\.\d s and may take 1 s"):
            await made.predict((1.0,), None, time.monotonic() + 1.0)
        (patient,) = await asked(made, 1.0)
        engine.answer(1.0)
        engine.answer(0.15)
        await asyncio.gather(*held, patient)
        assert made.expected_wait(1, time.monotonic()) == 0

    asyncio.run(story())


def test_rows_of_other_gateways_count_for_the_wait() -> None:
    async def story() -> None:
        engine = Later()
        made = batcher(engine, max_batch_rows=100)
        for count in (1, 2, 4):
            tasks = await asked(made, *map(float, range(count)))
            engine.answer(0.01 * count, waiting=40)
            await asyncio.gather(*tasks)
        assert made.expected_wait(1, time.monotonic()) == pytest.approx(0.41, rel=0.1)

    asyncio.run(story())


def test_a_latency_target_sizes_the_runs() -> None:
    async def story() -> None:
        engine = Later()
        made = batcher(engine, latency_target=0.1)
        for count in (1, 5, 9):
            tasks = await asked(made, *map(float, range(count)))
            engine.answer(0.002 * count + 0.01)
            await asyncio.gather(*tasks)
        assert engine.resized[-1] == pytest.approx(20, abs=1)

    asyncio.run(story())
