"""What a gateway has written is there after its death; what it could not write is not there by half."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from fairlead.errors import Overloaded
from fairlead.predictions.framing import MAGIC, read_frames
from fairlead.predictions.record import Outcome, PredictionRecord, SchemaFrame
from fairlead.predictions.segments import SegmentWriter, frame
from tests.predictions.records import SCHEMA, make_outcome, make_record

_decode = msgspec.msgpack.Decoder(PredictionRecord | Outcome | SchemaFrame).decode


def segments_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.seg"))


def read(segment: Path) -> list[PredictionRecord | Outcome | SchemaFrame]:
    data = segment.read_bytes()
    assert data.startswith(MAGIC)
    found = read_frames(data, len(MAGIC))
    assert found.state == "whole"
    return [_decode(payload) for payload in found.payloads]


def is_held(segment: Path) -> bool:
    with segment.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_records_and_outcomes_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path)
    writer.register_schema(SCHEMA)
    written = [make_record(), make_record(None, contract_id=None, unit="Zoë ☃"), make_outcome()]
    writer.append(*map(frame, written))
    (segment,) = segments_of(tmp_path)
    assert read(segment) == [SCHEMA, *written]


def test_a_segment_begins_with_every_schema_and_a_late_schema_precedes_its_records(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, segment_bytes=1)
    late = SchemaFrame("c2", ("x",), ("float",))
    writer.register_schema(SCHEMA)
    writer.append(frame(make_record()))
    writer.register_schema(late)
    writer.register_schema(late)
    writer.append(frame(make_record((1.0,), contract_id="c2")))
    heads = [[type(item).__name__ for item in read(segment)] for segment in segments_of(tmp_path)]
    assert heads == [
        ["SchemaFrame", "PredictionRecord"],
        ["SchemaFrame", "SchemaFrame"],
        ["SchemaFrame", "SchemaFrame", "PredictionRecord"],
    ]


def test_a_full_segment_is_followed_by_a_higher_number(tmp_path: Path) -> None:
    record = frame(make_record())
    writer = SegmentWriter(tmp_path, segment_bytes=3 * len(record) + len(MAGIC))
    for _ in range(10):
        writer.append(record)
    assert [len(read(segment)) for segment in segments_of(tmp_path)] == [3, 3, 3, 1]


def test_a_batch_larger_than_a_segment_is_written_whole_and_leaves_no_empty_segment(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, segment_bytes=100)
    writer.append(*[frame(make_record()) for _ in range(5)])
    assert [len(read(segment)) for segment in segments_of(tmp_path)] == [5]


def test_an_old_segment_is_followed_by_the_next(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, segment_seconds=0.0)
    writer.append(frame(make_record()))
    writer.append(frame(make_record()))
    assert [len(read(segment)) for segment in segments_of(tmp_path)] == [1, 1]


def test_numbers_rise_even_when_the_clock_falls(tmp_path: Path) -> None:
    for now in (2_000.0, 1_000.0, 0.0):
        SegmentWriter(tmp_path, clock=lambda now=now: now).append(frame(make_record()))  # type: ignore[misc]
    assert [int(path.stem) for path in segments_of(tmp_path)] == [2_000_000, 2_000_001, 2_000_002]


def test_a_successor_never_appends_to_what_a_killed_writer_left(tmp_path: Path) -> None:
    SegmentWriter(tmp_path).append(frame(make_record()))
    (first,) = segments_of(tmp_path)
    with first.open("ab") as file:
        file.write(frame(make_record())[:-5])
    torn = first.read_bytes()
    writer = SegmentWriter(tmp_path)
    writer.append(frame(make_record()))
    assert first.read_bytes() == torn
    assert [len(read(segment)) for segment in segments_of(tmp_path)[1:]] == [1]


def test_a_segment_is_held_exactly_as_long_as_it_may_grow(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, segment_bytes=1)
    writer.append(frame(make_record()))
    writer.append(frame(make_record()))
    first, second = segments_of(tmp_path)
    assert (is_held(first), is_held(second)) == (False, True)
    writer.close()
    assert not is_held(second)
    writer.append(frame(make_record()))
    assert len(segments_of(tmp_path)) == 3


@pytest.mark.parametrize("fsync", ["interval", "always"])
def test_synchronised_segments_hold_the_same_and_are_let_go(tmp_path: Path, fsync: str) -> None:
    writer = SegmentWriter(tmp_path, segment_bytes=1, fsync=fsync, fsync_seconds=0.01)  # type: ignore[arg-type]
    for _ in range(3):
        writer.append(frame(make_record()))
    writer.close()
    assert [len(read(segment)) for segment in segments_of(tmp_path)] == [1, 1, 1]
    assert not any(is_held(segment) for segment in segments_of(tmp_path))


def test_a_folder_that_cannot_be_written_is_named_with_a_remedy(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "log")
    (tmp_path / "log").rmdir()
    with pytest.raises(Overloaded, match="No such file") as refused:
        writer.append(frame(make_record()))
    assert str(tmp_path / "log") in refused.value.message
    assert refused.value.remedy
    (tmp_path / "log").mkdir()
    writer.append(frame(make_record()))
    assert [len(read(segment)) for segment in segments_of(tmp_path / "log")] == [1]


_FULL_DISK = """
import resource, sys
from fairlead.errors import Overloaded
from fairlead.predictions.segments import SegmentWriter, frame
from tests.predictions.records import SCHEMA, make_record

def allow(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

writer = SegmentWriter(sys.argv[1])
writer.register_schema(SCHEMA)
frames = [frame(make_record()) for _ in range(4)]
writer.append(frames[0])
# room for one and a half more: the kernel writes what fits, then refuses
allow(8 + len(frame(SCHEMA)) + len(frames[0]) + len(frames[1]) + len(frames[2]) // 2)
for _ in range(3):
    try:
        writer.append(frames[1], frames[2])
    except Overloaded as refused:
        print(refused.details["folder"])
allow(resource.RLIM_INFINITY)
writer.append(frames[3])
"""


def test_a_disk_that_fills_up_within_a_frame_leaves_no_torn_frame_in_the_living_segment(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(tmp_path)] * 3
    (segment,) = segments_of(tmp_path)
    kinds = [type(item).__name__ for item in read(segment)]
    # the frame that fitted whole stays, for a reader may have taken it; nothing after it is torn
    assert kinds == ["SchemaFrame"] + ["PredictionRecord"] * 3


_KILLED = """
import sys
from fairlead.predictions.segments import SegmentWriter, frame
from tests.predictions.records import make_record

writer = SegmentWriter(sys.argv[1], segment_bytes=20_000)
while True:
    record = make_record()
    writer.append(frame(record))
    print(record.request_id, flush=True)
"""


def test_what_was_acknowledged_before_kill_9_is_in_the_log(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline().strip() for _ in range(300)]
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged += writer.stdout.read().split("\n")[:-1]
    found = []
    for segment in segments_of(tmp_path):
        for payload in read_frames(segment.read_bytes(), len(MAGIC)).payloads:
            record = _decode(payload)
            assert isinstance(record, PredictionRecord)
            found.append(record.request_id)
    assert set(acknowledged) <= set(found)
    assert len(found) == len(set(found))
    assert not any(is_held(segment) for segment in segments_of(tmp_path))
