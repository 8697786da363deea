"""Profiles: every row that was served is counted, once, on the bins of its contract."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.contracts.counts import FieldCounts, FieldKey, merge, tally
from fairlead.contracts.profile import profile
from fairlead.contracts.table import read_table
from fairlead.errors import InvalidQuery
from fairlead.predictions import profiling
from fairlead.predictions.binning import ContractNote
from fairlead.predictions.blocks import Block
from fairlead.predictions.columns import prediction_tables
from fairlead.predictions.counted import CountedWindow
from fairlead.predictions.ingest import Ingest
from fairlead.predictions.profiler import Profiler
from fairlead.predictions.profiles import Profiles
from fairlead.predictions.rebuilding import Rebuilds
from fairlead.predictions.record import SchemaFrame
from fairlead.predictions.segments import SegmentWriter, frame
from fairlead.predictions.tables import TableFlag, TableRecord, pack_cells
from fairlead.stores.files import write_whole
from tests.predictions.records import AT, SCHEMA, make_record
from tests.waiting import wait_until

BEGIN = datetime.fromtimestamp(AT / 1e6, UTC)
HOUR = timedelta(hours=1)
CONTRACT = Contract(
    inputs=(
        Field(name="age", type="float", nullable=True, slice=True),
        Field(name="visits", type="int"),
        Field(name="country", type="string", categories=("DE", "FR", "Österreich"), slice=True),
        Field(name="secret", type="float", sensitivity="sensitive"),
        Field(name="basket", type="float", shape=(-1,)),
    ),
    output=Output(kind="class", classes=(0, 1)),
)
FRAME = SchemaFrame(
    CONTRACT.id,
    CONTRACT.names,
    ("float", "int", "string", "float", "list<float>"),
    ("none", "none", "none", "sensitive", "none"),
)
KEYS = [
    FieldKey("feature", "age"),
    FieldKey("feature", "visits"),
    FieldKey("feature", "country"),
    FieldKey("feature", "basket"),
    FieldKey("elements", "basket"),
    FieldKey("prediction", ""),
    FieldKey("score", "0"),
    FieldKey("score", "1"),
]


@pytest.fixture
def writer(tmp_path: Path) -> SegmentWriter:
    opened = SegmentWriter(tmp_path / "log" / "g0")
    opened.register_schema(SCHEMA)
    opened.register_schema(FRAME)
    return opened


def rows_of(count: int, seed: int = 1) -> list[tuple[Any, ...]]:
    chance = random.Random(seed)
    return [
        (
            None if chance.random() < 0.1 else chance.gauss(40, 12),
            chance.randrange(50),
            chance.choice(("DE", "FR", "Österreich")),
            1.5,
            [chance.random() for _ in range(chance.randrange(4))],
        )
        for _ in range(count)
    ]


def note_reference(data: Path, count: int = 500) -> None:
    """What the agent does for a version whose reference are such rows."""
    rows = rows_of(count, seed=9)
    columns = dict(zip(CONTRACT.names, map(list, zip(*rows, strict=True)), strict=True))
    reference = profile(
        read_table(columns),
        CONTRACT,
        predictions=[index % 2 for index in range(count)],
        probabilities=np.linspace(0, 1, 2 * count).reshape(count, 2),
    )
    folder = data / "bins" / "shop"
    folder.mkdir(parents=True)
    note = ContractNote(contract=CONTRACT, version="v1", reference=reference)
    write_whole(folder / f"{CONTRACT.id}.json", msgspec.json.encode(note))


def whole(ingest: Ingest, **asked: Any) -> list[CountedWindow]:
    return Profiles(ingest).windows("shop", BEGIN, BEGIN + timedelta(days=1), **asked)


def served(features: Any, **changes: Any) -> bytes:
    return frame(make_record(features, contract_id=CONTRACT.id, **changes))


def test_counts_are_those_of_the_rows_one_by_one(tmp_path: Path, writer: SegmentWriter) -> None:
    note_reference(tmp_path)
    ingest, rows = Ingest(tmp_path), rows_of(400)
    for row in rows:
        writer.append(served(row, prediction="1", probabilities='{"0":0.25,"1":0.75}'))
    ingest.poll()
    before = whole(ingest)
    ingest.flush()
    (window,) = whole(ingest)
    assert [window] == before, "the same before and after they are in Parquet"
    binning = Profiles(ingest).bins("shop", window.bins or "")
    assert binning is not None
    assert (binning.origin, list(binning.bins), list(window.counts)) == ("v1", KEYS, KEYS)
    assert (window.rows, window.ok, window.unread) == (400, 400, 0)
    ages = [row[0] for row in rows]
    wanted = {
        "age": tally(binning.bins[KEYS[0]], [age for age in ages if age is not None], nulls=ages.count(None)),
        "visits": tally(binning.bins[KEYS[1]], [row[1] for row in rows]),
        "country": tally(binning.bins[KEYS[2]], [row[2] for row in rows]),
        "basket": tally(binning.bins[KEYS[3]], [len(row[4]) for row in rows]),
    }
    for name, counts in wanted.items():
        assert_same(window.counts[FieldKey("feature", name)], counts)
    elements = [item for row in rows for item in row[4]]
    assert_same(window.counts[KEYS[4]], tally(binning.bins[KEYS[4]], elements))
    assert window.counts[KEYS[5]].counts == (0, 400, 0)
    assert window.counts[FieldKey("score", "1")].mean == pytest.approx(0.75)


def assert_same(found: FieldCounts, wanted: FieldCounts) -> None:
    assert (found.counts, found.nulls, found.misfits) == (wanted.counts, wanted.nulls, wanted.misfits)
    assert (found.low, found.high, found.new) == (wanted.low, wanted.high, wanted.new)
    assert found.mean == pytest.approx(wanted.mean)
    assert found.m2 == pytest.approx(wanted.m2)


def test_slices_and_steps_and_versions_add_up_to_the_whole(tmp_path: Path, writer: SegmentWriter) -> None:
    note_reference(tmp_path)
    ingest, rows = Ingest(tmp_path), rows_of(600)
    for number, row in enumerate(rows):
        version = "v2" if number % 5 == 0 else "v1"
        writer.append(served(row, at=AT + number * 1_000_000, served_version=version))
    ingest.poll()
    ingest.flush()
    (everything,) = whole(ingest)
    by_slice = {window.slice: window for window in whole(ingest, slice=None)}
    countries = Counter(row[2] for row in rows)
    assert {name: by_slice[f"country={name}"].rows for name in countries} == countries
    ages = [window for name, window in by_slice.items() if name.startswith("age=")]
    assert len(ages) == 4
    assert sum(window.rows for window in ages) == sum(row[0] is not None for row in rows)
    for parts in (
        [by_slice[f"country={name}"] for name in countries],
        whole(ingest, step=60),
        [*whole(ingest, version="v1"), *whole(ingest, version="v2")],
    ):
        assert sum(part.rows for part in parts) == everything.rows
        for key in KEYS:
            assert_same(merge(part.counts[key] for part in parts), everything.counts[key])
    assert len(whole(ingest, step=60)) == 10
    assert whole(ingest, version="v3") == []
    assert [window.rows for window in whole(ingest, slice="country=Österreich")] == [countries["Österreich"]]


def test_what_was_refused_or_stood_in_counts_as_it_was_sent(tmp_path: Path, writer: SegmentWriter) -> None:
    note_reference(tmp_path)
    ingest = Ingest(tmp_path)

    def breach(field: str, rule: str, value: Any = None) -> str:
        found = [{"field": field, "rule": rule, "value": value, "expected": "…"}]
        return msgspec.json.encode(found).decode()

    refused = {"age": 41.0, "visits": 3, "country": "DE", "secret": "…", "basket": "[1.0, 2.0]"}
    answerless: dict[str, Any] = {"prediction": None, "probabilities": None, "status": "rejected"}
    for changes in (
        {"refused": {**refused, "country": "🦄"}, "violations": breach("country", "category", "🦄")},
        {"refused": {**refused, "visits": "x"}, "violations": breach("visits", "type", "x")},
        {"refused": {"country": "DE"}, "violations": breach("age", "missing")},
        {"refused": {**refused, "age": 1e6}, "violations": breach("age", "range", 1e6)},
        {"refused": {**refused, "zzz": "…"}, "violations": breach("zzz", "unknown", "…")},
    ):
        held = msgspec.json.encode(changes["refused"]).decode()
        writer.append(served(None, **answerless, refused=held, violations=changes["violations"]))
    writer.append(served(None, **answerless))  # nothing is known of what it held
    imputed = (40.0, 2, "DE", None, [])
    writer.append(served(imputed, flags=breach("age", "missing")))
    writer.append(served(imputed, flags=breach("visits", "type", "many")))
    ingest.poll()
    ingest.flush()
    (window,) = whole(ingest)
    assert (window.rows, window.ok, window.rejected, window.unread) == (8, 2, 6, 1)
    assert window.breaches == {
        "age": {"missing": 2, "range": 1},
        "visits": {"type": 2},
        "country": {"category": 1},
        "": {"unknown": 1},
    }
    age, visits, country = (window.counts[key] for key in KEYS[:3])
    assert (age.nulls, age.high, age.counts[-1], age.n) == (2, 1e6, 1, 5)
    assert (visits.misfits, visits.nulls) == (2, 1)
    assert country.new == {"🦄": 1}
    for key in KEYS[:4]:
        assert window.counts[key].rows + window.unread == window.rows, key
    assert window.counts[KEYS[3]].counts[-1] == 0
    assert window.counts[KEYS[4]].n == 8
    assert window.counts[KEYS[5]].rows == window.ok
    assert {held.slice: held.rows for held in whole(ingest, slice="country=DE")} == {"country=DE": 6}


def test_several_contracts_and_unknown_ones_are_counted_apart(tmp_path: Path, writer: SegmentWriter) -> None:
    note_reference(tmp_path)
    ingest = Ingest(tmp_path)
    writer.append(*[served(row) for row in rows_of(20)])
    writer.append(*[frame(make_record()) for _ in range(30)])
    writer.append(frame(make_record(None, contract_id=None)), frame(make_record(contract_id="../../etc")))
    ingest.poll()
    ingest.flush()
    windows = {window.contract_id: window for window in whole(ingest)}
    assert {name: window.rows for name, window in windows.items()} == {
        CONTRACT.id: 20,
        SCHEMA.contract_id: 30,
        None: 1,
        "../../etc": 1,
    }
    assert windows[None].unread == windows["../../etc"].unread == 1
    assert windows[SCHEMA.contract_id].counts[FieldKey("feature", "age")].rows == 30
    assert windows[CONTRACT.id].counts[FieldKey("feature", "age")].rows == 20


def test_without_a_reference_the_first_rows_give_the_bins_and_a_restart_finds_them(
    tmp_path: Path, writer: SegmentWriter
) -> None:
    first = Ingest(tmp_path)
    writer.append(*[frame(make_record((float(age), 1, True, "DE", []))) for age in range(40)])
    first.poll()
    first.flush()
    (before,) = whole(first)
    binning = Profiles(first).bins("shop", before.bins or "")
    assert binning is not None
    assert binning.origin is None
    first.close()
    second = Ingest(tmp_path)
    writer.append(*[frame(make_record((900.0, 1, True, "NL", []))) for _ in range(5)])
    second.poll()
    second.flush()
    (window,) = whole(second)
    assert (window.bins, window.rows) == (before.bins, 45)
    assert window.counts[FieldKey("feature", "age")].counts[-1] == 5
    assert window.counts[FieldKey("feature", "country")].new == {"NL": 5}


def test_compaction_and_late_rows_keep_every_sum(tmp_path: Path, writer: SegmentWriter) -> None:
    now = [AT / 1e6]
    ingest = Ingest(tmp_path, clock=lambda: now[0])
    for number in range(9):
        late = AT - 86_400_000_000 * (number % 2)
        writer.append(*[frame(make_record(at=late + serial * 20_000_000)) for serial in range(10)])
        ingest.poll()
        ingest.flush()
    wide = {"since": BEGIN - timedelta(days=2), "until": BEGIN + timedelta(days=1), "slice": None}
    before = Profiles(ingest).windows("shop", **wide)
    for days in (0, 1, 5):
        now[0] = AT / 1e6 + days * 86_400
        while ingest.compact():
            pass
        (window,) = Profiles(ingest).windows("shop", **wide)
        assert window.rows == 90
        for key, counts in window.counts.items():
            assert_same(counts, before[0].counts[key])
    with ingest.snapshot() as snapshot:
        profiles = [file for file in snapshot.files if file.dataset == "profiles"]
    assert [(file.seconds, file.rows) for file in profiles] == [(3_600, 1), (3_600, 1)]
    assert ingest.flush() is False


def test_a_step_that_is_none_is_refused(tmp_path: Path) -> None:
    profiles = Profiles(Ingest(tmp_path))
    for step, reason in ((61, "whole minutes"), (0, "whole minutes"), (60, "longer step")):
        with pytest.raises(InvalidQuery) as refused:
            profiles.windows("shop", BEGIN, BEGIN + timedelta(days=400), step=step)
        assert reason in f"{refused.value} {refused.value.remedy}"
    assert profiles.windows("shop", BEGIN, BEGIN + HOUR) == []
    assert profiles.bins("shop", "../x") is None


def test_a_reference_that_comes_later_holds_for_all_once_they_are_counted_anew(
    tmp_path: Path, writer: SegmentWriter
) -> None:
    ingest, rows = Ingest(tmp_path, clock=lambda: AT / 1e6), rows_of(300)
    writer.append(*[served(row) for row in rows[:200]], frame(make_record()))
    ingest.poll()
    ingest.flush()
    note_reference(tmp_path)
    writer.append(*[served(row) for row in rows[200:]])
    ingest.poll()
    ingest.flush()
    apart = [window for window in whole(ingest) if window.contract_id == CONTRACT.id]
    assert sorted(window.rows for window in apart) == [100, 200], "on bins of their own"
    rebuilds = Rebuilds(ingest)
    rebuilds.start("shop")
    wait_until(lambda: not rebuilds.state("shop").under_way, 10)  # type: ignore[union-attr]
    state = rebuilds.state("shop")
    assert state is not None
    assert (state.rows, state.counted, state.error) == (301, 301, None)
    (window,) = [window for window in whole(ingest) if window.contract_id == CONTRACT.id]
    assert (window.rows, sum(held.rows for held in whole(ingest))) == (300, 301)
    binning = Profiles(ingest).bins("shop", window.bins or "")
    assert binning is not None
    assert binning.origin == "v1"
    visits = tally(binning.bins[KEYS[1]], [row[1] for row in rows])
    assert_same(window.counts[KEYS[1]], visits)
    with ingest.snapshot() as snapshot:
        named = {path for file in snapshot.files for path in file.paths()}
    stored = {str(path.relative_to(snapshot.root)) for path in snapshot.root.rglob("profiles/*/*.parquet")}
    assert stored == {path for path in named if path.startswith("profiles/")}


@pytest.mark.parametrize(("name", "most"), [("MOST_NUMBERS", 1_000), ("MOST_TEXT", 500)])
def test_what_is_counted_in_pieces_adds_up_to_the_same(
    tmp_path: Path, writer: SegmentWriter, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    note_reference(tmp_path)
    ingest = Ingest(tmp_path)
    writer.append(*[served(row, at=AT + number * 500_000) for number, row in enumerate(rows_of(300))])
    ingest.poll()
    before = whole(ingest, slice=None, step=60)
    monkeypatch.setattr(profiling, name, most)
    ingest.flush()
    after = whole(ingest, slice=None, step=60)
    with ingest.snapshot() as snapshot:
        rows = sum(file.rows for file in snapshot.files if file.dataset == "profiles")
    assert rows > 2 * len(before), "it was in pieces"
    assert len(after) == len(before)
    for one, other in zip(before, after, strict=True):
        assert (one.start, one.slice, one.rows) == (other.start, other.slice, other.rows)
        for key in KEYS:
            assert_same(other.counts[key], one.counts[key])


def test_answers_of_every_kind_are_counted(tmp_path: Path, writer: SegmentWriter) -> None:
    ingest = Ingest(tmp_path)
    rankings = [[{"id": "a", "score": 0.5}, {"id": "b", "score": 0.1}], [{"id": "c", "score": 0.25}], []]
    kinds: dict[str, list[Any]] = {"ranking": rankings, "vector": [[1.0, 2.0], [3.0]], "number": [1.5, 2, -3]}
    for model, answers in kinds.items():
        for answer in answers * 2:
            text = msgspec.json.encode(answer).decode()
            writer.append(frame(make_record(model=model, prediction=text, probabilities=None)))
        writer.append(frame(make_record(model=model, prediction=None, probabilities=None, status="failed")))
    ingest.poll()
    ingest.flush()
    found = {}
    for model in kinds:
        (window,) = Profiles(ingest).windows(model, BEGIN, BEGIN + HOUR)
        found[model] = {
            key: held for key, held in window.counts.items() if key.part != "feature" and key.name == ""
        }
        assert found[model][FieldKey("prediction", "")].rows == window.ok
    ranking, vector, number = (found[model] for model in kinds)
    assert (ranking[FieldKey("prediction", "")].nulls, ranking[FieldKey("prediction", "")].n) == (2, 4)
    assert ranking[FieldKey("score", "")].mean == pytest.approx(0.375)
    assert (vector[FieldKey("prediction", "")].mean, vector[FieldKey("elements", "")].mean) == (1.5, 2.0)
    assert number[FieldKey("prediction", "")].low == -3.0


@pytest.mark.parametrize(
    "changes",
    [
        {"violations": "nonsense", "refused": "[1]", "flags": '{"a": 1}'},
        {"prediction": "nonsense"},
        {"prediction": '{"odd": [1]}'},
        {"probabilities": "[0.5]"},
        {"flags": '[{"field": "country", "rule": "category", "value": ["a"]}]'},
    ],
)
def test_what_no_gateway_writes_holds_up_no_log(
    tmp_path: Path, writer: SegmentWriter, changes: dict[str, Any]
) -> None:
    ingest = Ingest(tmp_path)
    writer.append(*[served(row) for row in rows_of(3)])
    ingest.poll()
    ingest.flush()
    writer.append(served(rows_of(1)[0], **changes), served(None, status="rejected", **changes))
    ingest.poll()
    ingest.flush()
    assert sum(window.rows for window in whole(ingest)) == 5
    assert ingest.status().fresh_rows == 0


def test_bins_of_few_rows_give_way_to_better_ones_once_there_are_more(
    tmp_path: Path, writer: SegmentWriter
) -> None:
    ingest = Ingest(tmp_path)
    rebuilds = Rebuilds(ingest)
    found = []
    for count in (3, 500, 600):
        writer.append(*[frame(make_record((float(age), 1, True, "DE", []))) for age in range(count)])
        ingest.poll()
        ingest.flush()
        rebuilds.improve()
        found.append(rebuilds.state("shop"))
    assert found[:2] == [None, None]
    wait_until(lambda: not found[2].under_way, 10)  # type: ignore[union-attr]
    rebuilds.improve()
    assert rebuilds.state("shop") is found[2], "once is enough"
    (window,) = whole(ingest)
    assert window.rows == 1_103
    assert len(window.counts[FieldKey("feature", "age")].counts) == 22


def test_rows_that_come_while_others_are_counted_anew_are_counted_once(
    tmp_path: Path, writer: SegmentWriter
) -> None:
    ingest = Ingest(tmp_path, flush_seconds=0.0, clock=lambda: AT / 1e6)
    rebuilds = Rebuilds(ingest)
    for count in range(1, 11):
        writer.append(*[frame(make_record()) for _ in range(20)])
        ingest.poll()
        rebuilds.start("shop")
        ingest.maintain()
        assert sum(window.rows for window in whole(ingest)) == 20 * count
    wait_until(lambda: not rebuilds.state("shop").under_way, 10)  # type: ignore[union-attr]
    assert sum(window.rows for window in whole(ingest)) == 200


def test_rows_that_came_as_arrays_count_like_any_others(tmp_path: Path, writer: SegmentWriter) -> None:
    ingest, rows = Ingest(tmp_path), 50
    ages = np.linspace(0, 100, rows)
    columns = (ages, np.arange(rows), np.tile([True, False], 25), np.array(["DE", "FR"] * 25, object))
    baskets = np.empty(rows, object)
    baskets[:] = [[1.0] * (number % 3) for number in range(rows)]
    record = make_record()
    shared = {name: getattr(record, name) for name in TableRecord.__struct_fields__ if hasattr(record, name)}
    table = TableRecord(
        **{
            **shared,
            "first": 0,
            "rows": rows,
            "matrix": False,
            "features": [pack_cells(column) for column in (*columns, baskets)],
            "nulls": {0: pack_cells(ages > 90)},
            "values": pack_cells(np.ones(rows, np.int64)),
            "probabilities": pack_cells(np.full((rows, 2), 0.5)),
            "classes": ("0", "1"),
            "scores": None,
            "flags": [TableFlag("visits", "missing", pack_cells(np.array([3, 4])), [None, None])],
            "violations": {},
            "refused": {},
        }
    )
    writer.append(frame(table))
    ingest.poll()
    ingest.flush()
    (window,) = whole(ingest)
    assert (window.rows, window.unread) == (rows, 0)
    assert window.counts[FieldKey("feature", "age")].nulls == int((ages > 90).sum())
    assert window.counts[FieldKey("feature", "visits")].nulls == 2
    assert window.breaches == {"visits": {"missing": 2}}
    assert window.counts[FieldKey("feature", "basket")].rows == rows
    assert window.counts[FieldKey("elements", "basket")].n == sum(number % 3 for number in range(rows))


@given(
    values=st.lists(
        st.tuples(
            st.none() | st.floats() | st.just(1e308),
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.booleans(),
            st.none() | st.text(max_size=3),
            st.none() | st.lists(st.floats(), max_size=3),
        ),
        min_size=1,
        max_size=30,
    )
)
@settings(max_examples=60, deadline=None)
def test_whatever_rows_hold_every_one_is_counted(values: list[tuple[Any, ...]]) -> None:
    records = [make_record(row) for row in values]
    ((_, table),) = prediction_tables(records, {SCHEMA.contract_id: SCHEMA})
    with TemporaryDirectory() as folder:
        (Path(folder) / "predictions").mkdir()
        profiler = Profiler(Path(folder))
        (profiles,) = profiler.profiles("shop", table, {SCHEMA.contract_id: SCHEMA})
        binning = profiler.bins.of_id("shop", profiles.column("bins")[0].as_py())
    assert binning is not None
    total = Block.from_table(profiles, binning).summed(np.zeros(len(profiles), int), 1, binning)
    counts = dict(total.fields(0, binning))
    assert total.totals(0) == (len(values), len(values), 0, 0, 0)
    for index, name in enumerate(SCHEMA.names):
        key = FieldKey("feature", name)
        present = [row[index] for row in values if row[index] is not None]
        if name == "basket":
            present = [len(held) for held in present]
        assert_same(counts[key], tally(binning.bins[key], present, nulls=len(values) - len(present)))
    elements = [item for row in values for item in row[4] or ()]
    assert_same(
        counts[FieldKey("elements", "basket")], tally(binning.bins[FieldKey("elements", "basket")], elements)
    )
