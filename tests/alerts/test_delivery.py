"""Messages are delivered once to a receiver that honours keys, and none is lost, whatever is killed when."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fairlead.alerts import ledger
from fairlead.alerts.delivery import Deliveries
from fairlead.alerts.messages import trial
from fairlead.alerts.reading import Config, read_config
from fairlead.errors import AlertNotFound, DeliveryFailed
from fairlead.stores.database import Database
from tests.alerts.receiver import Receiver
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent
T0 = datetime(2026, 11, 1, 12, tzinfo=UTC)
POINTS = [
    "before the message is written", "after the message is written", "after the look is told",
    "before the reminder is written", "after the reminder is written", "after the reminder is told",
    "after it is sent", "after it is marked",
]  # fmt: skip
"""All before the transaction that they stand in is over, except that the look is told after its own."""


def configured(*names: str) -> Config:
    return read_config(
        {
            "channels": {name: {"type": "webhook", "url_env": f"{name.upper()}_URL"} for name in names},
            "delivery": {"hosts": ["127.0.0.1"], "private": ["127.0.0.0/8"]},
        }
    )


class Post:
    """Deliveries of a real database, by hand."""

    def __init__(self, database: Database, config: Config) -> None:
        self.database = database
        self.config = config
        self.now = T0
        self.deliveries = self.control("a")

    def control(self, name: str) -> Deliveries:
        return Deliveries(self.database, self.config, name=name, clock=lambda: self.now)

    def queue(self, number: int = 1, channel: str = "ops") -> list[str]:
        with self.database.write() as connection:
            return [ledger.queue(connection, channel, trial("ops", T0), self.now) for _ in range(number)]

    def states(self) -> Counter[str]:
        with self.database.read() as connection:
            return Counter(one.state for one in ledger.deliveries(connection))


@pytest.fixture
def post(database: Database) -> Post:
    return Post(database, configured("ops", "other"))


def test_what_waits_is_delivered_in_order_and_once(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    first = post.queue()
    post.now += timedelta(seconds=1)
    second = post.queue()
    with Receiver() as receiver:
        monkeypatch.setenv("OPS_URL", receiver.url)
        assert post.deliveries.deliver("ops") == 2
        assert post.deliveries.deliver("ops") == 0
    assert receiver.keys() == [*first, *second]
    assert post.states() == {"delivered": 2}


def test_what_fails_is_tried_again_under_its_key_after_pauses_that_double(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    (key,) = post.queue()
    with Receiver(500, 500, 500) as receiver:
        monkeypatch.setenv("OPS_URL", receiver.url)
        for pause in (2, 4, 8):
            assert post.deliveries.deliver("ops") == 1
            post.now += timedelta(seconds=pause - 0.5)
            assert post.deliveries.deliver("ops") == 0
            post.now += timedelta(seconds=0.5)
        assert post.deliveries.deliver("ops") == 1
    assert receiver.keys() == [key] * 4
    with post.database.read() as connection:
        (delivery,) = ledger.deliveries(connection)
    assert (delivery.state, delivery.attempts, delivery.error) == ("delivered", 4, None)


def test_what_was_not_delivered_for_a_day_is_given_up_and_forgotten_after_a_month(post: Post) -> None:
    post.queue()
    with post.database.write() as connection:
        assert ledger.tidy(connection, T0 + timedelta(hours=23)) == []
        (given_up,) = ledger.tidy(connection, T0 + timedelta(hours=24))
        assert ledger.tidy(connection, T0 + timedelta(hours=25)) == []
    assert given_up.channel == "ops"
    assert post.states() == {"given-up": 1}
    with post.database.write() as connection:
        ledger.tidy(connection, T0 + timedelta(days=32))
    assert post.states() == {}


def test_a_message_is_taken_by_one_control_at_a_time(post: Post) -> None:
    post.queue()
    until = T0 + timedelta(seconds=60)
    with post.database.write() as connection:
        taken = ledger.claim(connection, "ops", "a", now=T0, until=until)
        assert taken is not None
        assert ledger.claim(connection, "ops", "b", now=T0 + timedelta(seconds=59), until=until) is None
        again = ledger.claim(connection, "ops", "b", now=until, until=until + timedelta(seconds=60))
    assert again is not None
    assert again.id == taken.id


def test_a_channel_that_hangs_keeps_no_other_waiting(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    post.queue(channel="ops")
    post.queue(channel="other")
    with Receiver() as receiver, Receiver(*[500] * 100) as broken:
        monkeypatch.setenv("OPS_URL", broken.url)
        monkeypatch.setenv("OTHER_URL", receiver.url)
        post.deliveries.start()
        try:
            wait_until(lambda: receiver.posts and broken.posts)
        finally:
            post.deliveries.stop()
    assert post.states() == {"waiting": 1, "delivered": 1}


def test_channels_that_come_or_go_while_it_delivers_are_told_or_are_not(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver() as receiver, Receiver() as other:
        monkeypatch.setenv("OPS_URL", receiver.url)
        monkeypatch.setenv("NEW_URL", other.url)
        post.deliveries.start()
        try:
            post.deliveries.follow(configured("new"))
            post.queue(channel="new")
            post.queue(channel="ops")
            post.deliveries.wake()
            wait_until(lambda: other.posts, 20)
            assert receiver.posts == []
            post.deliveries.follow(configured("new", "ops"))
            wait_until(lambda: receiver.posts, 20)
            wait_until(lambda: post.states() == {"delivered": 2}, 20)
        finally:
            post.deliveries.stop()


def test_a_trial_goes_at_once_and_a_channel_that_there_is_not_is_refused(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver(200, 500) as receiver:
        monkeypatch.setenv("OPS_URL", receiver.url)
        assert post.deliveries.try_out("ops") == "[TEST] A trial of channel ops"
        with pytest.raises(DeliveryFailed, match="answered 500"):
            post.deliveries.try_out("ops")
    with pytest.raises(AlertNotFound, match="no channel 'opps'"):
        post.deliveries.try_out("opps")


@pytest.fixture(scope="module")
def processes() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.alerts.delivering"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as made:
        yield made
        assert made.stdin is not None
        made.stdin.close()


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_point_loses_no_message_and_sends_none_under_two_keys(
    point: str, processes: subprocess.Popen[str], tmp_path: Path
) -> None:
    number = 2
    with Receiver() as receiver:

        def run(minutes: int, kill_at: str = "") -> int:
            variables = {"OPS_URL": receiver.url, "FAIRLEAD_KILL_AT": kill_at}
            asked = [variables, [f"sqlite:///{tmp_path}/fairlead.db", number, minutes]]
            assert processes.stdin is not None
            assert processes.stdout is not None
            processes.stdin.write(json.dumps(asked) + "\n")
            processes.stdin.flush()
            return int(processes.stdout.readline())

        assert run(2, point) == -signal.SIGKILL
        # The killed control's lease would end by itself in a while.
        database = Database(f"sqlite:///{tmp_path}/fairlead.db")
        with database.write() as connection:
            connection.exec_driver_sql("DELETE FROM leases")
        database.close()
        assert run(10) == 0
    by_key = {headers["idempotency-key"]: body for _, headers, body in receiver.posts}
    told = Counter((message["model"], message["told"]) for message in map(_decoded, by_key.values()))
    assert told == {(f"m{each}", told): 1 for each in range(number) for told in ("firing", "reminder")}, (
        "each once by its key, and none is lost"
    )
    twice = [key for key, times in Counter(receiver.keys()).items() if times > 1]
    assert len(twice) == (1 if point in ("after it is sent", "after it is marked") else 0)


def _decoded(body: bytes) -> dict[str, str]:
    found: dict[str, str] = json.loads(body)
    return found
