"""Hours that are kept from look to look are what they would be if they were asked for anew."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.monitoring.asking import Asked
from fairlead.monitoring.hours import Hours
from fairlead.monitoring.performing import Performing
from fairlead.predictions.labelled_counts import Labelled
from fairlead.predictions.segments import frame
from tests.monitoring.served import CLASSES, START, Served
from tests.predictions.records import AT, make_outcome

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    made.register()
    yield made
    made.close()


@pytest.fixture
def asked(served: Served) -> Asked:
    return Asked(served.client, "shop", "v1", CLASSES)


def plain(hours: list[Labelled]) -> list[Any]:
    """Without the order of cells, which says nothing."""
    return [msgspec.structs.replace(hour, classes=tuple(sorted(hour.classes, key=repr))) for hour in hours]


def calls(served: Served) -> list[tuple[datetime, datetime]]:
    """Notes which stretches are asked for from now on."""
    noted: list[tuple[datetime, datetime]] = []
    real = served.client.call

    def call(op: str, **arguments: Any) -> Any:
        if op == "labelled":
            noted.append((arguments["asked"]["since"], arguments["asked"]["until"]))
        return real(op, **arguments)

    served.client.call = call  # type: ignore[method-assign]
    return noted


def by_unit(served: Served, unit: str, value: int, received: timedelta) -> None:
    told = make_outcome(
        metric="label", value=value, request_id=None, row=None, unit=unit, at=AT,
        received_at=AT + int(received.total_seconds() * 1e6),
    )  # fmt: skip
    served.writer.append(frame(told))


def test_only_hours_that_have_changed_are_asked_for_again(served: Served, asked: Asked) -> None:
    for hour in (0, 1, 5):
        served.serve([1, 0, 1], [1, 1, None], at=hour * HOUR)
    hours = Hours()
    noted = calls(served)
    first = hours.of(asked, START, START + DAY)
    assert [hour.labelled for hour in first] == [2, 2, 2]
    noted.clear()
    assert hours.of(asked, START, START + DAY) == first
    assert noted == []
    served.late(HOUR, 2, 0)  # comes late
    served.late(5 * HOUR, 0, 0)  # is corrected
    served.serve([0], [0], at=3 * HOUR)  # an hour that had nothing
    then = hours.of(asked, START, START + DAY)
    assert [begin for begin, _ in noted] == [START + HOUR, START + 3 * HOUR, START + 5 * HOUR]
    assert plain(then) == plain(Hours().of(asked, START, START + DAY))
    assert [hour.labelled for hour in then] == [2, 3, 1, 2]


def test_a_label_that_comes_twice_or_is_said_of_a_unit_is_noticed(served: Served, asked: Asked) -> None:
    served.serve([1, 0], [1, None], at=timedelta(0))
    hours = Hours()
    noted = calls(served)
    hours.of(asked, START, START + DAY)
    noted.clear()
    served.late(timedelta(0), 0, 1)  # says the same again
    hours.of(asked, START, START + DAY)
    assert len(noted) == 1
    (mark,) = asked.marks(START, START + DAY)
    assert (mark.start, mark.answers, mark.events) == (START, 2, 2)
    by_unit(served, "a unit that nobody is", 1, DAY)
    assert asked.marks(START, START + DAY) == [mark]


def test_what_is_far_apart_is_asked_for_apart_in_a_few_stretches(served: Served, asked: Asked) -> None:
    for hour in range(20):
        served.serve([1], [1], at=hour * HOUR)
    hours = Hours()
    hours.of(asked, START, START + DAY)
    noted = calls(served)
    for hour in (1, 2, 5, 9, 13, 14, 19):
        served.late(hour * HOUR, 0, 0)
    then = hours.of(asked, START, START + DAY)
    assert len(noted) == 4
    assert sum(hour.labelled for hour in then) == 20
    assert plain(then) == plain(Hours().of(asked, START, START + DAY))


@given(changed=st.lists(st.integers(0, 200), max_size=30, unique=True))
def test_stretches_hold_every_hour_that_changed_and_do_not_overlap(changed: list[int]) -> None:
    from fairlead.monitoring.hours import _stretches

    found = _stretches(START + place * HOUR for place in changed)
    assert len(found) <= 4
    for place in changed:
        assert sum(first <= START + place * HOUR <= last for first, last in found) == 1
    assert all(one[1] < other[0] for one, other in itertools.pairwise(found))


def test_the_first_hours_do_not_slide_however_old_the_version_is(served: Served, asked: Asked) -> None:
    for day in (0, 40):
        for hour in range(3):
            served.serve([1] * 500, [int(day == 0)] * 500, at=day * DAY + hour * HOUR, every=5.0)
    hours = Hours()
    first = hours.first(asked, START, START + 41 * DAY)
    assert [hour.start for hour in first] == [START, START + HOUR]
    assert hours.first(asked, START, START + 60 * DAY) == first
    # Who asks about the past is told of the past.
    assert hours.first(asked, START, START + HOUR) == []
    seen = Performing(served.registry, served.client).seen("shop", "v1", START + 40 * DAY, START + 41 * DAY)
    assert seen.reference is not None
    assert (seen.reference.start, seen.reference.labelled) == (START, 1000)
    assert seen.steps[0].start == START + 40 * DAY


def test_models_that_labels_say_nothing_of_have_no_hours(served: Served) -> None:
    contract = msgspec.structs.replace(
        CLASSES, output=msgspec.structs.replace(CLASSES.output, kind="vector", classes=())
    )
    asked = Asked(served.client, "shop", "v1", contract)
    assert Hours().of(asked, START, START + DAY) == []
    assert Hours().first(asked, START, START + DAY) == []
