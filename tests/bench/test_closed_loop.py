"""The closed loop, in short: on a stream that turns round once, the trigger begins then, and not before."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from bench.closed_loop import LIVE, WEEK, WINDOW, Fits, Stream, by_clock, by_trigger
from numpy.typing import NDArray

TURN, DAYS, ROWS = 60, 110, 200


@pytest.fixture
def stream() -> Stream:
    """Whether a flight is late is what its feature says, save one in ten, and the opposite after the turn."""
    generator = np.random.default_rng(3)
    day = np.repeat(np.arange(DAYS), ROWS)
    said = generator.integers(0, 2, day.size)
    wrong = generator.random(day.size) < 0.1
    late = said ^ wrong ^ (day >= TURN)
    return Stream(said[:, None].astype(float), late.astype(np.int64), day, generator.random(day.size) < 0.25)


class Rule:
    """Answers what was mostly so."""

    def __init__(self, opposite: bool) -> None:
        self.opposite = opposite

    def predict(self, features: NDArray[Any]) -> NDArray[np.int64]:
        return features[:, 0].astype(np.int64) ^ self.opposite


class Learnt:
    """Rules of the four weeks before a day."""

    def __init__(self, data: Stream) -> None:
        self.data = data

    def at(self, today: int) -> Rule:
        rows = self.data.days(today - WINDOW, today) & ~self.data.held
        return Rule(bool(np.mean(self.data.features[rows, 0] != self.data.late[rows]) > 0.5))


def test_the_trigger_begins_after_the_turn_and_its_first_candidate_that_has_learnt_goes_live(
    stream: Stream,
) -> None:
    fits = cast("Fits", Learnt(stream))
    never, weekly = by_clock(stream, fits, None), by_clock(stream, fits, WEEK)
    triggered = by_trigger(stream, fits)
    assert never.trained == []
    assert min(triggered.trained) > TURN
    assert len(triggered.live) == 1
    assert never.accuracy < triggered.accuracy
    assert len(triggered.trained) < len(weekly.trained)
    assert triggered.errors[-WEEK:].mean() < 0.2
    assert len(triggered.errors) == DAYS - LIVE


def test_on_a_stream_that_stays_as_it_is_nothing_begins(stream: Stream) -> None:
    calm = stream._replace(late=np.where(stream.day >= TURN, 1 - stream.late, stream.late))
    assert by_trigger(calm, cast("Fits", Learnt(calm))).trained == []
