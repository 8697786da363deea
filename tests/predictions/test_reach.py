"""How far back the log and its counts reach: told by the names of files, and by rows that lie in none yet."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from fairlead.predictions.counted import Reach
from fairlead.predictions.ingest import Ingest
from fairlead.predictions.manifest import DataFile
from fairlead.predictions.operations import Operations
from fairlead.predictions.query import Queries
from fairlead.predictions.reach import reach_of, uncounted_models
from fairlead.predictions.segments import SegmentWriter, frame
from tests.predictions.records import AT, SCHEMA, make_record

HOUR = 3_600_000_000


def file(dataset: Any, first: int, *, model: str = "shop", rows: int = 5) -> DataFile:
    return DataFile(
        dataset=dataset, path=f"{dataset}/{first}", rows=rows, size=1, first_at=first, last_at=first + HOUR,
        model=model,
    )  # fmt: skip


def at(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1e6, UTC)


def test_a_model_of_which_nothing_came_reaches_nowhere() -> None:
    assert reach_of("shop", [file("predictions", AT, model="other")]) == Reach()
    assert not reach_of("shop", []).uncounted
    assert uncounted_models([]) == []


def test_what_was_logged_before_counting_began_is_uncounted() -> None:
    files = [file("predictions", AT), file("predictions", AT + 9 * HOUR), file("profiles", AT + 9 * HOUR)]
    reach = reach_of("shop", files)
    assert reach == Reach(logged=at(AT), counted=at(AT + 9 * HOUR))
    assert reach.uncounted
    assert uncounted_models([*files, file("predictions", AT, model="new")]) == ["new", "shop"]


def test_counts_that_begin_with_the_log_cover_it_and_empty_files_say_nothing() -> None:
    files = [file("predictions", AT + 30), file("profiles", AT), file("predictions", 0, rows=0)]
    assert not reach_of("shop", files).uncounted
    assert uncounted_models(files) == []


def test_ingest_tells_of_rows_in_files_and_of_those_that_are_in_none_yet(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "log" / "g0")
    writer.register_schema(SCHEMA)
    ingest = Ingest(tmp_path)
    operations = Operations(Queries(ingest))

    def reach() -> Reach:
        return msgspec.json.decode(operations.answer("reach", {"model": "shop"}), type=Reach)

    for flush in (False, True):
        writer.append(frame(make_record((31.5, 4, True, "DE", [1.0]), at=AT + HOUR, model="shop")))
        ingest.catch_up()
        if flush:
            ingest.flush()
        assert reach() == Reach(
            logged=at(AT + HOUR), counted=at(AT + HOUR - (AT + HOUR) % 60_000_000 * flush)
        )
    assert msgspec.json.decode(operations.answer("status", {}))["uncounted"] == []
    ingest.close()
