"""A gateway worker is killed again and again while callers are asking."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from fairlead.predictions.framing import MAGIC, read_frames
from fairlead.predictions.record import Outcome, PredictionRecord, SchemaFrame
from fairlead.serving.folder import DataFolder
from tests.drills import LONG
from tests.drills.load import Load
from tests.models import SAMPLE, data_folder, iris_onnx, lay_plan, lay_version, plan_of
from tests.waiting import wait_until

KILLS = 20 if LONG else 6

SUPERVISE = """
import sys
from fairlead.settings import Settings
from fairlead.supervise import Supervisor
settings = Settings(data=sys.argv[1], grpc_port=0, port=0, workers=2, log_format="json")
supervisor = Supervisor(settings, roles=("gateway",))
print(supervisor.port, flush=True)
supervisor.run()
"""


def logged_ids(folder: DataFolder) -> tuple[list[str], int]:
    """The request ids in all segments, and the number of segments with a torn tail."""
    found, torn = [], 0
    for path in sorted(folder.log.glob("*/*.seg")):
        frames = read_frames(path.read_bytes(), len(MAGIC))
        assert frames.state != "corrupt", path
        torn += frames.state == "torn"
        for payload in frames.payloads:
            record = msgspec.msgpack.decode(payload, type=PredictionRecord | Outcome | SchemaFrame)
            if isinstance(record, PredictionRecord):
                found.append(record.request_id)
    return found, torn


@pytest.mark.drill
def test_every_answer_that_a_caller_got_is_in_the_log_and_service_goes_on(tmp_path: Path):
    folder = data_folder(tmp_path / "data")
    lay_plan(folder, plan_of({"stable": ("v1", "stable", 100)}), lay_version(folder, "v1", iris_onnx()))
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, str(folder.root)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert supervisor.stdout is not None
        port = int(supervisor.stdout.readline())
        wait_until(lambda: len(folder.read_reports()) == 2, 30)
        with Load(port, "/v1/models/iris/predict", SAMPLE) as load:
            for number in range(KILLS):
                before = len(load.answered)
                wait_until(lambda: len(load.answered) > before + 20, 30)
                victim = folder.read_reports()[number % 2]
                os.kill(victim.pid, signal.SIGKILL)
                wait_until(lambda: replaced(folder, victim.name, victim.pid), 30)
        logged, torn = logged_ids(folder)
        assert torn == 0
        assert len(logged) == len(set(logged))
        assert set(load.answered) <= set(logged)
        # Only callers who were talking to the victim can have noticed: one broken connection each, at most.
        assert len(load.failed) <= KILLS * 8
        assert len(load.answered) > KILLS * 20
    finally:
        supervisor.terminate()
        assert supervisor.wait(40) == 0
    assert not [pid for pid in pids_of(folder) if alive(pid)]


def replaced(folder: DataFolder, name: str, old: int) -> bool:
    return any(report.name == name and report.pid != old for report in folder.read_reports())


def pids_of(folder: DataFolder) -> list[int]:
    return [report.pid for report in folder.read_reports()]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
