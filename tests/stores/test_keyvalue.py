"""One suite that every key-value store passes, and what each has of its own."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import InvalidSetting, StoreUnavailable
from fairlead.stores.keyvalue import KeyValue, MemoryKeyValue, RedisKeyValue, open_keyvalue
from tests.redis_server import RedisServer
from tests.servers import free_port


@pytest.fixture(scope="module")
def redis(tmp_path_factory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
def url(request) -> str:
    return "memory://" if request.param == "memory" else request.getfixturevalue("redis").url


def within(url: str, walk: Callable[[KeyValue], Awaitable[None]]) -> None:
    """Runs a test's steps against the store at a URL, in a loop of their own."""

    async def run() -> None:
        store = open_keyvalue(url)
        try:
            await walk(store)
        finally:
            await store.close()

    asyncio.run(run())


async def ended(store: KeyValue, key: bytes) -> None:
    async with asyncio.timeout(10):
        while True:
            if await store.get(key) is None:
                return
            await asyncio.sleep(0.005)


# --- what every store does ----------------------------------------------------------------------------------


def test_what_was_put_is_there_and_what_was_not_is_none(url):
    async def walk(store):
        await store.put(b"a", b"one", 60)
        assert await store.get(b"a") == b"one"
        assert await store.get(b"never put") is None

    within(url, walk)


def test_the_last_value_of_a_key_counts(url):
    async def walk(store):
        for value in (b"first", b"second, and longer", b"3"):
            await store.put(b"overwritten", value, 60)
        assert await store.get(b"overwritten") == b"3"

    within(url, walk)


def test_a_value_ends_with_its_time(url):
    async def walk(store):
        await store.put(b"lasting", b"x", 60)
        await store.put(b"brief", b"x", 0.05)
        await ended(store, b"brief")
        assert await store.get(b"lasting") == b"x"

    within(url, walk)


def test_a_later_put_sets_the_time_anew(url):
    async def walk(store):
        await store.put(b"extended", b"x", 0.05)
        await store.put(b"extended", b"y", 60)
        await store.put(b"brief", b"x", 0.1)
        await ended(store, b"brief")
        assert await store.get(b"extended") == b"y"

    within(url, walk)


def test_keys_and_values_are_any_bytes_the_empty_ones_included(url):
    every = bytes(range(256))

    async def walk(store):
        await store.put(every, every[::-1], 60)
        await store.put(b"", b"the empty key", 60)
        await store.put(b"empty value", b"", 60)
        await store.put(b"\r\n*1\r\n$8\r\nFLUSHALL\r\n", b"\r\n$-1\r\n", 60)
        assert await store.get(every) == every[::-1]
        assert await store.get(b"") == b"the empty key"
        assert await store.get(b"empty value") == b""
        assert await store.get(b"\r\n*1\r\n$8\r\nFLUSHALL\r\n") == b"\r\n$-1\r\n"

    within(url, walk)


def test_a_large_value_comes_back_whole(url):
    large = bytes(range(256)) * 2**14  # 4 MiB

    async def walk(store):
        await store.put(b"large", large, 60)
        assert await store.get(b"large") == large

    within(url, walk)


def test_many_at_once_each_get_their_own(url):
    async def walk(store):
        await asyncio.gather(*(store.put(b"k%d" % n, b"v%d" % n, 60) for n in range(300)))
        found = await asyncio.gather(*(store.get(b"k%d" % n) for n in range(300)))
        assert found == [b"v%d" % n for n in range(300)]

    within(url, walk)


# --- in memory ----------------------------------------------------------------------------------------------


def test_the_longest_unused_values_make_room():
    async def walk():
        store = MemoryKeyValue(1_000)
        for key in (b"a", b"b", b"c"):
            await store.put(key, bytes(100), 60)
        await store.get(b"a")
        await store.put(b"d", bytes(100), 60)
        assert [await store.get(key) is not None for key in (b"a", b"b", b"c", b"d")] == [
            True,
            False,
            True,
            True,
        ]
        await store.put(b"too large", bytes(1_000), 60)
        assert await store.get(b"too large") is None
        assert await store.get(b"d") is not None

    asyncio.run(walk())


@given(
    st.lists(
        st.tuples(st.binary(max_size=1), st.binary(max_size=300), st.floats(0.1, 20), st.floats(0, 10)),
        max_size=40,
    )
)
def test_memory_is_bounded_and_never_gives_what_has_ended(steps):
    async def walk():
        now = 0.0
        store = MemoryKeyValue(1_000, lambda: now)
        known = {}
        for key, value, seconds, pause in steps:
            await store.put(key, value, seconds)
            known[key] = value, now + seconds
            now += pause
            for each, (last, until) in known.items():
                found = await store.get(each)
                assert found is None or (found == last and now < until)
            assert 0 <= store.size_bytes <= 1_000
        await store.close()
        assert store.size_bytes == 0

    asyncio.run(walk())


# --- in Valkey or Redis -------------------------------------------------------------------------------------


def test_keys_begin_with_the_name_of_the_program(redis):
    from redis.asyncio import Redis

    async def walk(store):
        await store.put(b"mine", b"x", 60)
        async with Redis.from_url(redis.url) as client:
            assert await client.get("fairlead:mine") == b"x"
            assert all(key.startswith(b"fairlead:") for key in await client.keys())
            assert 0 < await client.pttl("fairlead:mine") <= 60_000

    within(redis.url, walk)


def test_two_clients_see_the_same(redis):
    async def walk(store):
        other = open_keyvalue(redis.url)
        await store.put(b"common", b"x", 60)
        assert await other.get(b"common") == b"x"
        await other.close()

    within(redis.url, walk)


def test_a_server_that_is_not_there_is_an_error_and_back_again_it_is_used(tmp_path):
    async def walk(store):
        await store.put(b"a", b"x", 60)
        server.kill()
        with pytest.raises(StoreUnavailable):
            await store.get(b"a")
        with pytest.raises(StoreUnavailable):
            await store.put(b"a", b"x", 60)
        server.start()
        assert await store.get(b"a") is None
        await store.put(b"a", b"y", 60)
        assert await store.get(b"a") == b"y"

    with RedisServer(tmp_path) as server:
        within(server.url, walk)


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_opening_needs_no_server(scheme):
    async def walk(store):
        with pytest.raises(StoreUnavailable):
            await store.get(b"a")

    within(f"{scheme}://127.0.0.1:{free_port()}", walk)


# --- which store --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["", "redis", "http://127.0.0.1", "unix:///run/redis.sock", "memcached://h", "://"]
)
def test_any_other_url_is_refused_and_the_known_ones_are_named(url):
    with pytest.raises(InvalidSetting, match=r"memory://, redis://, rediss://"):
        open_keyvalue(url)


@pytest.mark.parametrize("rest", ["h:port/0", "h:99999999", "h/?db=first", "h/?no_such_option=1"])
def test_a_url_that_cannot_be_read_is_refused_without_repeating_its_password(rest):
    with pytest.raises(InvalidSetting) as caught:
        RedisKeyValue(f"redis://ada:geheim@{rest}")
    assert "geheim" not in str(caught.value)
    assert "redis://user:password@" in str(caught.value)


def test_without_redis_py_the_error_says_what_to_install():
    script = """
import sys
sys.modules["redis"] = None
from fairlead.errors import MissingExtra
from fairlead.stores.keyvalue import open_keyvalue
open_keyvalue("memory://")
try:
    open_keyvalue("redis://127.0.0.1")
except MissingExtra as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install 'fairlead[redis]'" in done.stdout
