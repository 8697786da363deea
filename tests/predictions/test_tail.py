"""Every whole record is read once; what is torn is awaited or final, what is corrupt is given up aloud."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.predictions import framing
from fairlead.predictions.record import PredictionRecord, SchemaFrame
from fairlead.predictions.segments import SegmentWriter, frame
from fairlead.predictions.tail import SegmentTail
from tests.predictions.records import SCHEMA, make_outcome, make_record


def write_raw(log: Path, name: str, data: bytes) -> Path:
    """A segment that no writer holds."""
    path = log / f"{name}.seg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def segment(*records: PredictionRecord) -> bytes:
    return framing.MAGIC + b"".join(map(frame, records))


def test_each_record_is_read_once(tmp_path: Path) -> None:
    writer, tail = SegmentWriter(tmp_path / "g0"), SegmentTail(tmp_path)
    assert tail.read() == []
    writer.register_schema(SCHEMA)
    records = [make_record() for _ in range(3)]
    writer.append(frame(records[0]))
    assert tail.read() == [SCHEMA, records[0]]
    writer.append(frame(records[1]), frame(records[2]), frame(outcome := make_outcome()))
    assert tail.lag_bytes() == sum(len(frame(item)) for item in (records[1], records[2], outcome))
    assert tail.read() == [records[1], records[2], outcome]
    assert tail.read() == []
    assert tail.lag_bytes() == 0


def test_many_gateways_and_segments_are_read_in_the_order_of_each(tmp_path: Path) -> None:
    tail = SegmentTail(tmp_path)
    writers = [SegmentWriter(tmp_path / name, segment_bytes=1) for name in ("g0", "g1")]
    for _ in range(4):
        for writer in writers:
            writer.append(frame(make_record(gateway=writer.folder.name)))
    found = [entry for entry in tail.read() if isinstance(entry, PredictionRecord)]
    assert len(found) == 8
    for name in ("g0", "g1"):
        own = [record.at for record in found if record.gateway == name]
        assert own == sorted(own)
        assert len(own) == 4


def test_positions_carry_over_a_restart(tmp_path: Path) -> None:
    writer, first = SegmentWriter(tmp_path / "g0"), SegmentTail(tmp_path)
    writer.append(frame(make_record()))
    first.read()
    writer.append(frame(second := make_record()))
    assert SegmentTail(tmp_path, first.positions).read() == [second]


def test_the_torn_tail_of_a_living_segment_is_awaited(tmp_path: Path) -> None:
    writer, tail = SegmentWriter(tmp_path / "g0"), SegmentTail(tmp_path)
    late = make_record()
    data = frame(late)
    writer.append(frame(first := make_record()))
    writer.append(data[:20])  # as a reader may see a write that is under way
    assert tail.read() == [first]
    assert tail.read() == []
    writer.append(data[20:])
    assert tail.read() == [late]
    assert (tail.torn, tail.finished()) == (0, [])


def test_the_torn_tail_that_a_dead_writer_left_is_final_and_counted_once(tmp_path: Path) -> None:
    record = make_record()
    write_raw(tmp_path, "g0/1", segment(record) + frame(make_record())[:-1])
    tail = SegmentTail(tmp_path)
    assert tail.read() == [record]
    assert tail.read() == []
    assert (tail.torn, tail.corrupt, tail.finished(), tail.lag_bytes()) == (1, 0, ["g0/1"], 0)


def test_a_torn_tail_between_two_segments_hides_nothing_after_it(tmp_path: Path) -> None:
    records = [make_record(), make_record()]
    write_raw(tmp_path, "g0/9", segment(records[0]) + b"\x10")
    write_raw(tmp_path, "g0/10", segment(records[1]))
    tail = SegmentTail(tmp_path)
    assert tail.read() == records
    assert tail.torn == 1


def test_a_corrupt_frame_ends_a_finished_segment_and_is_put_aside(tmp_path: Path) -> None:
    records = [make_record() for _ in range(3)]
    damaged = bytearray(segment(*records))
    damaged[len(segment(records[0])) + 40] ^= 1
    path = write_raw(tmp_path, "g0/1", bytes(damaged))
    tail = SegmentTail(tmp_path)
    assert tail.read() == [records[0]]
    assert tail.read() == []
    assert (tail.corrupt, tail.torn, tail.finished()) == (1, 0, ["g0/1"])
    tail.remove(["g0/1"])
    assert not path.exists()
    assert path.with_suffix(".corrupt").read_bytes() == bytes(damaged)
    assert tail.read() == []


def test_bytes_that_a_living_writer_took_back_are_not_corrupt(tmp_path: Path) -> None:
    writer, tail = SegmentWriter(tmp_path / "g0"), SegmentTail(tmp_path)
    writer.append(frame(first := make_record()))
    (path,) = (tmp_path / "g0").glob("*.seg")
    whole = path.stat().st_size
    with path.open("ab") as file:
        file.write(framing.frame(b"half old, half new")[:-1] + b"?")
    assert tail.read() == [first]
    with path.open("r+b") as file:
        file.truncate(whole)
    writer.append(frame(second := make_record()))
    assert tail.read() == [second]
    assert tail.corrupt == 0


def test_a_living_segment_that_stays_corrupt_is_given_up(tmp_path: Path) -> None:
    writer, tail = SegmentWriter(tmp_path / "g0"), SegmentTail(tmp_path)
    writer.append(bytes(64))
    assert [tail.read(), tail.corrupt] == [[], 0]
    assert [tail.read(), tail.corrupt] == [[], 1]
    writer.append(frame(make_record()))
    assert tail.read() == []
    writer.close()
    writer.append(frame(record := make_record()))
    assert tail.read() == [record]


def test_a_file_without_the_magic_is_corrupt(tmp_path: Path) -> None:
    write_raw(tmp_path, "g0/1", b"FLSEG999" + frame(make_record()))
    tail = SegmentTail(tmp_path)
    assert tail.read() == []
    assert (tail.corrupt, tail.torn) == (1, 0)


def test_a_file_with_half_the_magic_is_torn(tmp_path: Path) -> None:
    write_raw(tmp_path, "g0/1", framing.MAGIC[:3])
    tail = SegmentTail(tmp_path)
    assert tail.read() == []
    assert (tail.corrupt, tail.torn, tail.finished()) == (0, 1, ["g0/1"])


def test_a_whole_frame_that_holds_no_known_record_is_counted_and_passed(tmp_path: Path) -> None:
    record = make_record()
    strange = framing.frame(msgspec.msgpack.encode(["from a later release", 1]))
    write_raw(tmp_path, "g0/1", framing.MAGIC + strange + frame(record))
    tail = SegmentTail(tmp_path)
    assert tail.read() == [record]
    assert tail.unreadable == 1


def test_a_record_larger_than_a_read_is_read(tmp_path: Path) -> None:
    writer, tail = SegmentWriter(tmp_path / "g0"), SegmentTail(tmp_path)
    large = make_record(prediction="x" * 9_000_000)
    writer.append(frame(large), frame(small := make_record()))
    assert tail.read() + tail.read() == [large, small]


def test_a_large_backlog_comes_in_parts_and_whole(tmp_path: Path) -> None:
    writer, tail = SegmentWriter(tmp_path / "g0", segment_bytes=3_000), SegmentTail(tmp_path)
    records = [make_record() for _ in range(60)]
    for record in records:
        writer.append(frame(record))
    found: list[object] = []
    parts = 0
    while part := tail.read(limit_bytes=5_000):
        found += part
        parts += 1
        assert tail.caught_up == (len(found) == len(records))
    assert found == records
    assert parts > 2


def test_a_finished_segment_is_removed_and_a_living_one_refused(tmp_path: Path) -> None:
    writer, tail = SegmentWriter(tmp_path / "g0", segment_bytes=1), SegmentTail(tmp_path)
    writer.append(frame(make_record()))
    writer.append(frame(make_record()))
    tail.read()
    (finished,) = tail.finished()
    tail.remove([finished])
    (living,) = tail.positions
    assert [path.stem for path in (tmp_path / "g0").glob("*.seg")] == [living.split("/")[1]]
    with pytest.raises(ValueError, match=living):
        tail.remove([living])


def test_positions_of_segments_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    assert SegmentTail(tmp_path, {"g0/1": 500}).positions == {}


def test_other_files_in_the_log_folder_are_left_alone(tmp_path: Path) -> None:
    write_raw(tmp_path, "g0/1", segment(record := make_record()))
    (tmp_path / "g0" / ".new-77").write_bytes(b"FL")
    (tmp_path / "g0" / "notes.seg").write_bytes(b"not a number")
    (tmp_path / "README").write_text("hello")
    tail = SegmentTail(tmp_path)
    assert tail.read() == [record]
    assert tail.corrupt == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.data())
def test_a_reader_that_restarts_anywhere_reads_each_record_once(
    batches: list[int], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        writer = SegmentWriter(
            Path(folder) / "g0", segment_bytes=data.draw(st.sampled_from([1, 1_500, 10**6]))
        )
        writer.register_schema(SCHEMA)
        written: list[object] = []
        found: list[object] = []
        tail = SegmentTail(folder)
        for size in batches:
            records = [make_record() for _ in range(size)]
            writer.append(*map(frame, records))
            written += records
            if data.draw(st.booleans()):
                found += tail.read(limit_bytes=data.draw(st.sampled_from([1, 10**6])))
            if data.draw(st.booleans()):
                tail = SegmentTail(folder, tail.positions)
        while entries := tail.read():
            found += entries
        assert [entry for entry in found if not isinstance(entry, SchemaFrame)] == written
