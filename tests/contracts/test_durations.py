"""Spans of time as people write them."""

from __future__ import annotations

import pytest

from fairlead.contracts.durations import seconds_of
from fairlead.errors import InvalidRollout


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (90, 90.0),
        (0.5, 0.5),
        ("90s", 90.0),
        ("10m", 600.0),
        ("1h 30m", 5400.0),
        ("2d", 172800.0),
        ("1.5 h", 5400.0),
    ],
)
def test_durations_are_numbers_or_words(said: float | str, seconds: float) -> None:
    assert seconds_of("bake", said, InvalidRollout) == seconds


@pytest.mark.parametrize("said", ["", "10", "ten m", "10m!", "-5m", True, None, [3]])
def test_what_is_no_duration_is_refused(said: object) -> None:
    with pytest.raises(InvalidRollout, match="duration"):
        seconds_of("bake", said, InvalidRollout)
