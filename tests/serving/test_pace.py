"""A gateway knows how old what it reads may be, and takes on no more than what is answered in time."""

from hypothesis import given
from hypothesis import strategies as st

from fairlead.serving.pace import Pace

TURN = 0.02


def after(pass_seconds: float, requests: int) -> Pace:
    """A pace at second 10, right after a pass of so many requests; the next pass begins now."""
    pace = Pace(TURN)
    pace.begin(10.0 - pass_seconds)
    for _ in range(requests):
        pace.has_room(10.0 - pass_seconds, 0, None, 0.0, 0.0)
    pace.end(10.0)
    pace.begin(10.0)
    return pace


def test_what_was_read_after_a_rest_is_young():
    pace = after(0.3, 1_000)
    pace.end(10.0)
    pace.begin(60.0)
    assert pace.arrival(60.0, since=1.0) == 60.0
    assert pace.has_room(60.0, 0, 60.001, 1.0, 0.0)


def test_what_is_read_after_a_long_pass_may_be_as_old_as_that():
    pace = after(0.3, 1_000)
    assert pace.arrival(10.0, since=1.0) == 9.7
    assert pace.arrival(10.0, since=9.95) == 9.95, "its connection was read in between"


def test_what_waited_for_longer_than_five_turns_is_refused_while_passes_are_long():
    pace = after(0.3, 1_000)
    assert not pace.has_room(10.0, 0, None, 1.0, 0.0)
    assert pace.has_room(10.0, 0, None, 9.95, 0.0)
    assert not pace.has_room(10.0, 0, None, 9.95, 9.8), "it had to wait"


def test_a_long_pass_with_few_requests_refuses_nobody():
    pace = after(0.3, 10)
    assert pace.has_room(10.0, 0, None, 1.0, 0.0)


def test_a_deadline_counts_from_when_it_may_have_arrived_and_includes_those_that_wait():
    pace = after(0.05, 10)
    assert pace.has_room(10.0, 0, 10.06, 1.0, 0.0)
    assert not pace.has_room(10.0, 0, 10.04, 1.0, 0.0)
    for _ in range(100):
        pace.opened(10.0, 10.002, 20)  # 0.1 ms for each
    assert not pace.has_room(10.0, 200, 10.06, 1.0, 0.0)
    assert pace.has_room(10.0, 200, 10.03, 1.0, 9.99), "that deadline counts from its arrival already"


def test_gates_open_early_when_who_waits_there_has_waited_for_a_turn():
    pace = after(0.001, 1)
    assert not pace.is_enough(10.0, 1)
    assert pace.is_enough(10.03, 1)
    assert not pace.is_enough(10.03, 0), "nobody waits"
    pace.opened(10.03, 10.031, 1)
    assert not pace.is_enough(10.032, 1), "a new turn has begun"


@given(
    passes=st.lists(st.tuples(st.floats(0, 0.5), st.floats(0, 0.5), st.integers(0, 300)), min_size=1),
    since=st.floats(0, 20),
    elapsed=st.floats(0, 1),
)
def test_nothing_is_taken_to_have_arrived_before_its_connection_was_read_or_later_than_now(
    passes, since, elapsed
):
    pace, now = Pace(TURN), 0.0
    for gap, seconds, requests in passes:
        now += gap
        pace.begin(now)
        for _ in range(requests):
            pace.has_room(now, 0, None, 0.0, 0.0)
        now += seconds
        pace.end(now)
    pace.begin(now)
    now += elapsed
    assert min(since, now) <= pace.arrival(now, since) <= max(since, now)
