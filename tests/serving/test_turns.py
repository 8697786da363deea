"""Walks of one turn of the event loop meet at the gates, whatever drives them."""

import asyncio

from fairlead.serving.turns import Turns
from tests.serving.conftest import Sink


class Steps:
    """Two gates, and what passed them in which order."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.turns = Turns(lambda: self.seen.append("run"), lambda: self.seen.append("write"))

    async def walk(self, name: str, *, light: bool = True, pause: float | None = None) -> bytes:
        if pause is not None:
            await asyncio.sleep(pause)
        if light:
            await self.turns.ran
        self.seen.append(f"{name} ran")
        await self.turns.written
        self.seen.append(f"{name} written")
        return name.encode()


def test_walks_of_one_turn_pass_each_gate_together():
    steps = Steps()
    sinks = [Sink(), Sink()]

    async def turn():
        for name, sink in zip("ab", sinks, strict=True):
            steps.turns.start(steps.walk(name), sink)
        assert steps.seen == []
        await asyncio.sleep(0)

    asyncio.run(turn())
    assert steps.seen == ["run", "a ran", "b ran", "write", "a written", "b written"]
    assert [(sink.answer, sink.task) for sink in sinks] == [(b"a", None), (b"b", None)]


def test_a_walk_that_needs_no_run_shares_the_write():
    steps = Steps()

    async def turn():
        steps.turns.start(steps.walk("hit", light=False), Sink())
        steps.turns.start(steps.walk("miss"), Sink())
        await asyncio.sleep(0)

    asyncio.run(turn())
    assert steps.seen == ["hit ran", "run", "miss ran", "write", "hit written", "miss written"]


def test_a_walk_that_waits_for_something_else_becomes_a_task_and_still_passes_the_gates():
    steps = Steps()
    sink = Sink()

    async def turn():
        steps.turns.start(steps.walk("far", pause=0.001), sink)
        await sink.task

    asyncio.run(turn())
    assert sink.answer == b"far"
    assert steps.seen == ["run", "far ran", "write", "far written"]


def test_a_walk_in_a_task_of_its_own_passes_the_gates():
    steps = Steps()

    async def both():
        return await asyncio.gather(steps.walk("a"), steps.walk("b"))

    assert asyncio.run(both()) == [b"a", b"b"]
    assert steps.seen == ["run", "a ran", "b ran", "write", "a written", "b written"]


def test_a_cancelled_walk_holds_up_nobody():
    steps = Steps()

    async def turn():
        given_up = asyncio.get_running_loop().create_task(steps.walk("given up"))
        stays = asyncio.get_running_loop().create_task(steps.walk("stays"))
        await asyncio.sleep(0)
        given_up.cancel()
        return await stays

    assert asyncio.run(turn()) == b"stays"
    assert "given up ran" not in steps.seen


def test_a_walk_that_never_waits_is_answered_at_once():
    async def short() -> bytes:
        return b"done"

    sink = Sink()
    Steps().turns.start(short(), sink)
    assert sink.answer == b"done"


def test_a_task_may_follow_a_walk_and_gets_its_result_or_its_error():
    steps = Steps()

    async def fails() -> bytes:
        await steps.turns.ran
        raise ValueError("no")

    async def both():
        return await asyncio.gather(
            steps.turns.follow(steps.walk("a")), steps.turns.follow(fails()), return_exceptions=True
        )

    answer, error = asyncio.run(both())
    assert answer == b"a"
    assert isinstance(error, ValueError)


def test_a_follower_that_is_cancelled_gives_up_a_walk_that_became_a_task():
    steps = Steps()

    async def turn():
        following = asyncio.get_running_loop().create_task(steps.turns.follow(steps.walk("far", pause=60)))
        await asyncio.sleep(0.01)
        following.cancel()
        await asyncio.wait([following])
        await asyncio.sleep(0)
        return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    assert asyncio.run(turn()) == []


def test_a_walk_hears_that_it_was_cancelled_before_its_task_began():
    steps = Steps()
    sink = Sink()

    async def walk() -> bytes:
        try:
            await asyncio.create_task(asyncio.sleep(10))
        except asyncio.CancelledError:
            steps.seen.append("cancelled")
            raise
        return b""

    async def turn():
        steps.turns.start(walk(), sink)
        sink.task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    assert asyncio.run(turn()) == 1
    assert steps.seen == ["cancelled"]
    assert sink.answer is None
