"""The shared cache by itself: what it gives, and what it never does to those who ask."""

import asyncio
import itertools
import logging
import socket
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import InvalidSetting, StoreUnavailable
from fairlead.runtimes.binding import Prediction
from fairlead.serving.shared import Breaker, SharedCache, open_shared
from fairlead.stores.keyvalue import MemoryKeyValue, RedisKeyValue

ONE = Prediction(1, [0.25, 0.75])


class Troubled(MemoryKeyValue):
    """A store that fails or hangs while it is told to."""

    def __init__(self):
        super().__init__()
        self.failing = False
        self.hanging = False
        self.asked = 0

    async def get(self, key):
        self.asked += 1
        await self._trouble()
        return await super().get(key)

    async def put(self, key, value, seconds):
        await self._trouble()
        await super().put(key, value, seconds)

    async def _trouble(self):
        if self.hanging:
            await asyncio.Event().wait()
        if self.failing:
            raise StoreUnavailable("It is away.")


async def settled():
    """Lets every task that has nothing to wait for run to its end."""
    for _ in range(10):
        await asyncio.sleep(0)


def put_and_get(prediction: Prediction) -> Prediction:
    async def walk():
        shared = SharedCache(MemoryKeyValue(), timeout=10)
        shared.put(b"k", prediction, 60)
        await settled()
        found = await shared.get(b"k")
        assert found is not None
        return found[0]

    return asyncio.run(walk())


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1)
ranking = st.fixed_dictionaries({"id": st.text() | st.integers(0, 2**60), "score": st.floats(-1, 1)})


@given(
    st.booleans() | st.text() | numbers | st.lists(numbers) | st.lists(ranking),
    st.none() | st.lists(st.floats(0, 1), max_size=5),
)
def test_an_answer_comes_back_as_it_was_to_the_last_bit(value, probabilities):
    prediction = Prediction(value, probabilities)
    found = put_and_get(prediction)
    assert found == prediction
    assert type(found.value) is type(value)


def test_an_answer_lives_on_elsewhere_for_the_time_it_has_left():
    async def walk():
        store = MemoryKeyValue()
        SharedCache(store, wall=lambda: 1_000.0).put(b"k", ONE, 60)
        await settled()
        assert await SharedCache(store, timeout=10, wall=lambda: 1_045.0).get(b"k") == (ONE, 15.0)
        # A machine whose clock is ahead may use the answer, since the store still has it, and not keep it.
        assert await SharedCache(store, timeout=10, wall=lambda: 9_999.0).get(b"k") == (ONE, 0.0)

    asyncio.run(walk())


@given(st.sampled_from([b"", b"\x01", b"\x02"]), st.binary() | st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
).map(msgspec.msgpack.encode))  # fmt: skip
def test_whatever_lies_there_nobody_is_harmed(mark, rest):
    async def walk():
        store = MemoryKeyValue()
        shared = SharedCache(store, timeout=10)
        await store.put(b"k", mark + rest, 60)
        return await shared.get(b"k"), shared.available

    found, available = asyncio.run(walk())
    assert available
    # Nothing here is a whole triple of the right types.
    assert found is None


@pytest.mark.parametrize(
    "held",
    [
        [2e9, b"bytes are no answer", None],
        [2e9, msgspec.msgpack.Ext(5, b"x"), None],
        [2e9, {"id": 1}, None],
        [2e9, 1, ["half"]],
        [2e9, 1],
        [2e9, 1, None, "more"],
        ["soon", 1, None],
        {"until": 2e9, "value": 1, "probabilities": None},
    ],
)
def test_a_value_of_another_shape_is_a_miss(held):
    async def walk():
        store = MemoryKeyValue()
        await store.put(b"k", b"\x01" + msgspec.msgpack.encode(held), 60)
        assert await SharedCache(store, timeout=10).get(b"k") is None
        await store.put(b"k", b"\x01" + msgspec.msgpack.encode([2e9, 1, None]), 60)
        assert (await SharedCache(store, timeout=10).get(b"k"))[0] == Prediction(1)

    asyncio.run(walk())


def test_an_answer_that_cannot_be_written_is_dropped():
    async def walk():
        shared = SharedCache(MemoryKeyValue())
        for value in (object(), 2**70, "\ud800"):
            shared.put(b"k", Prediction(value), 60)
        assert shared.dropped == 3

    asyncio.run(walk())


# --- trouble ------------------------------------------------------------------------------------------------


def test_after_five_failures_the_store_is_left_alone_and_then_tried_again(caplog):
    now = 0.0

    async def walk():
        nonlocal now
        store = Troubled()
        shared = SharedCache(store, timeout=10, clock=lambda: now)
        shared.put(b"k", ONE, 60)
        await settled()
        store.failing = True
        for _ in range(5):
            assert shared.available
            assert await shared.get(b"k") is None
        assert not shared.available
        for _ in range(20):
            assert await shared.get(b"k") is None
        shared.put(b"other", ONE, 60)
        assert (store.asked, shared.dropped) == (5, 1)
        now = 1.0
        assert await shared.get(b"k") is None  # the one that tries
        store.failing = False
        assert await shared.get(b"k") is None  # the next waits for two seconds
        assert store.asked == 6
        now = 3.0
        assert (await shared.get(b"k"))[0] == ONE
        assert shared.available

    with caplog.at_level(logging.INFO, "fairlead.serving.shared"):
        asyncio.run(walk())
    begun, ended = (record.getMessage() for record in caplog.records)
    assert "left alone" in begun
    assert "It is away" in begun
    assert "answers again" in ended


def test_one_success_among_failures_keeps_it_in_use():
    async def walk():
        store = Troubled()
        shared = SharedCache(store, timeout=10)
        for _ in range(3):
            store.failing = True
            for _ in range(4):
                assert await shared.get(b"k") is None
            store.failing = False
            assert await shared.get(b"k") is None
        assert shared.available

    asyncio.run(walk())


def test_a_store_that_hangs_is_waited_for_no_longer_than_the_timeout():
    async def walk():
        store = Troubled()
        store.hanging = True
        shared = SharedCache(store, timeout=0.001)
        async with asyncio.timeout(10):
            while shared.available:
                assert await shared.get(b"k") is None
        await shared.close()

    asyncio.run(walk())


def test_a_server_that_takes_connections_and_never_answers_is_left_alone():
    with socket.create_server(("127.0.0.1", 0)) as silent:

        async def walk():
            # The socket's own limit would come far too late: it is the cache that gives up.
            store = RedisKeyValue(f"redis://127.0.0.1:{silent.getsockname()[1]}?socket_timeout=60")
            shared = SharedCache(store)
            async with asyncio.timeout(10):
                while shared.available:
                    assert await shared.get(b"k") is None
            walk_on = shared.get(b"k")
            with pytest.raises(StopIteration):  # nothing to wait for any more
                walk_on.send(None)
            async with asyncio.timeout(10):
                await shared.close()

        asyncio.run(walk())


def test_an_answer_that_lay_unread_while_this_loop_was_busy_is_no_failure():
    def run_a_model_inline():
        time.sleep(0.1)

    class Stalled(MemoryKeyValue):
        async def get(self, key):
            run_a_model_inline()
            for _ in range(10):
                await asyncio.sleep(0)
            return await super().get(key)

    async def walk():
        shared = SharedCache(Stalled(), timeout=0.05)
        shared.put(b"k", ONE, 60)
        await settled()
        for _ in range(3):
            found = await shared.get(b"k")
            assert found is not None

    asyncio.run(walk())


def test_a_loop_that_is_always_busy_does_not_put_the_blame_on_the_store():
    async def walk():
        store = Troubled()
        store.hanging = True
        late = itertools.count()
        shared = SharedCache(store, timeout=0.001, clock=lambda: float(next(late)))  # every timer is late
        for _ in range(10):
            assert await shared.get(b"k") is None
        assert shared.available
        store.failing, store.hanging = True, False
        for _ in range(5):
            assert await shared.get(b"k") is None
        assert not shared.available  # an error is an error, however late it is heard
        await shared.close()

    asyncio.run(walk())


def test_writes_and_look_ups_under_way_are_bounded():
    async def walk():
        store = Troubled()
        shared = SharedCache(store, timeout=0.001, under_way=4)
        store.hanging = True
        for index in range(10):
            shared.put(b"%d" % index, ONE, 60)
        assert shared.dropped == 6
        await asyncio.gather(*(shared.get(b"%d" % index) for index in range(10)))
        assert store.asked == 4
        await shared.close()

    asyncio.run(walk())


def test_who_gives_up_while_looking_takes_nothing_along():
    async def walk():
        store = Troubled()
        store.hanging = True
        shared = SharedCache(store, timeout=60)
        asking = asyncio.create_task(shared.get(b"k"))
        await settled()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        store.hanging = False
        shared.put(b"k", ONE, 60)
        await settled()
        assert (await shared.get(b"k"))[0] == ONE
        await shared.close()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(walk())


# --- the breaker --------------------------------------------------------------------------------------------


def test_pauses_double_up_to_the_longest():
    breaker = Breaker()
    for _ in range(5):
        breaker.failed(0.0)
    now, pauses = 0.0, []
    for _ in range(8):
        begun = now
        while not breaker.allows(now):
            now += 0.25
        pauses.append(now - begun)
        breaker.failed(now)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    breaker.succeeded()
    assert not breaker.open
    for _ in range(5):
        assert breaker.allows(now)
        breaker.failed(now)
    assert not breaker.allows(now + 0.99)
    assert breaker.allows(now + 1.0)


def test_stragglers_that_fail_while_it_is_open_lengthen_nothing():
    breaker = Breaker()
    for _ in range(50):
        breaker.failed(0.0)
    assert not breaker.allows(0.99)
    assert breaker.allows(1.0)


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=200))
def test_while_open_no_two_tries_are_closer_than_the_shortest_pause(steps):
    breaker = Breaker()
    now, last_try = 0.0, None
    for pause, works in steps:
        now += pause
        was_open = breaker.open
        if not breaker.allows(now):
            assert was_open
            continue
        if was_open:
            assert last_try is None or now - last_try >= 0.999
            last_try = now
        if works:
            breaker.succeeded()
            last_try = None
        else:
            breaker.failed(now)


# --- which one ----------------------------------------------------------------------------------------------


def test_memory_is_not_shared_and_an_unknown_store_is_refused():
    assert open_shared("memory://") is None
    assert isinstance(open_shared("redis://127.0.0.1:1"), SharedCache)
    with pytest.raises(InvalidSetting):
        open_shared("memcached://127.0.0.1")
