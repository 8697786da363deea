"""Findings of two windows are the same thing when what was looked at is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from fairlead.monitoring.findings import Finding

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
FINDING = Finding(
    model="shop", kind="drift", subject="age", status="alarm", sentence="…", start=NOON,
    end=NOON + timedelta(hours=1), measure="psi", against="training", value=0.3,
)  # fmt: skip


def test_a_later_window_is_about_the_same_thing_and_another_slice_is_not() -> None:
    later = msgspec.structs.replace(FINDING, start=FINDING.end, value=0.1, status="ok")
    assert later.key == FINDING.key
    assert msgspec.structs.replace(FINDING, slice="country=DE").key != FINDING.key


def test_a_finding_comes_back_from_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(FINDING), type=Finding) == FINDING
