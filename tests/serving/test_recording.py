"""The quick way to a record's bytes and the plain one are the same bytes."""

import json
import time

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.contracts.fingerprint import encode_row, feature_hash
from fairlead.predictions.framing import read_frames
from fairlead.predictions.record import PredictionRecord
from fairlead.predictions.segments import frame
from fairlead.runtimes.binding import Prediction
from fairlead.serving import recording
from fairlead.serving.asks import Ask
from tests.models import SAMPLE, lay_plan, lay_version, plan_of

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@pytest.fixture
def model(gateway, onnx):
    specs = [lay_version(gateway.folder, f"v{n + 1}", onnx[n]) for n in range(2)]
    arms = {"stable": ("v1", "stable", 50), "canary": ("v2", "canary", 50)}
    lay_plan(gateway.folder, plan_of(arms), *specs)
    gateway.follow()
    return gateway.plane.model("iris")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(
    unit=text,
    request_id=st.none() | text,
    use_case=st.none() | text,
    trace_id=st.none() | text,
    cached=st.booleans(),
    milliseconds=st.floats(0, 1e6),
    value=st.integers(0, 2) | text,
    probabilities=st.none() | st.lists(st.floats(0, 1), min_size=3, max_size=3),
)
def test_a_stamped_record_is_the_record_byte_for_byte(
    model, unit, request_id, use_case, trace_id, cached, milliseconds, value, probabilities
):
    reading = model.reader.read(json.dumps({"features": SAMPLE}).encode())
    ask = Ask.of(
        reading, received=0.0, request_id=request_id, unit=unit, use_case=use_case, trace_id=trace_id
    )
    ask.assigned = ask.arm = model.route(unit)
    ask.row, ask.findings = reading.row(ask.arm.compiled)
    ask.encoded = encode_row(ask.row)
    ask.hash = feature_hash(ask.arm.compiled.id, ask.encoded)
    ask.cached, ask.milliseconds = cached, milliseconds
    ask.prediction = Prediction(value, probabilities)
    at = time.time_ns()
    recording._now, before = (lambda: at), recording._now
    try:
        quick = recording.record_frame(model, ask, "g-0")
        plain = frame(recording.record(model, ask, "g-0"))
    finally:
        recording._now = before
    assert quick == plain
    (payload,) = read_frames(quick).payloads
    assert msgspec.msgpack.decode(payload, type=PredictionRecord).unit == unit
