"""A caller that goes away while its request waits: nothing is done for it any more, and that is counted."""

import json
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import fairlead
from fairlead.errors import CircuitOpen, DeadlineExceeded, NotReady, Overloaded, RuntimeFailed
from fairlead.predictions.framing import MAGIC, read_frames
from fairlead.predictions.record import PredictionRecord
from tests.gateway.plain_server import post, read_some
from tests.gateway.sleepy_model import Sleepy
from tests.servers import Servers
from tests.serving.conftest import decode
from tests.waiting import wait_until

ROOT = str(Path(__file__).parent.parent.parent)
NOW = (NotReady, RuntimeFailed, CircuitOpen, DeadlineExceeded, Overloaded)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("gone") / "data"
    with Servers(folder, "--trust-pickle", workers=1, PYTHONPATH=ROOT) as running:
        fairlead.register(
            Sleepy(), "sleepy", "v1", reference={"x": np.arange(20, dtype=float)}, trust_pickle=True,
            set_production=True, admin_url=running.admin_url,
        )  # fmt: skip
        with fairlead.Admin(running.admin_url) as admin:
            settings = {"timeout_ms": 30_000.0, "cache_seconds": 0}
            admin.configure("sleepy", None, settings)
        wait_until(lambda: asked(running, 3.5) == 7.0, 30)
        yield running


def asked(servers: Servers, x: float) -> float | None:
    with fairlead.Client(servers.url) as client:
        try:
            return float(client.predict("sleepy", {"x": x}).prediction)
        except NOW:
            return None


def cancelled(servers: Servers) -> int:
    with urllib.request.urlopen(f"{servers.url}/metrics") as answer:
        text = answer.read().decode()
    found = re.search(r'^requests_cancelled_total\{model_name="sleepy"\} (\d+)', text, re.MULTILINE)
    return int(found[1]) if found else 0


def logged(servers: Servers) -> list[PredictionRecord]:
    """The records of rows whose callers went away."""
    found = []
    for path in sorted(servers.folder.log.glob("*/*.seg")):
        for payload in read_frames(path.read_bytes(), len(MAGIC)).payloads:
            record = decode(payload)
            if isinstance(record, PredictionRecord) and record.error_code == "cancelled":
                found.append(record)
    return found


def send(servers: Servers, x: float, *more: float) -> socket.socket:
    caller = socket.create_connection(("127.0.0.1", servers.port), 10)
    if more:
        body = json.dumps({"instances": [{"features": {"x": value}} for value in (x, *more)]}).encode()
        caller.sendall(post("/v1/models/sleepy/predict/batch", body))
    else:
        body = json.dumps({"features": {"x": x}}).encode()
        caller.sendall(post("/v1/models/sleepy/predict", body, f"X-Request-Id: row-{x}"))
    return caller


def test_a_caller_that_goes_away_takes_its_request_with_it(servers: Servers) -> None:
    before, slept = cancelled(servers), asked(servers, 999.0)
    with send(servers, 1001.0) as first:
        time.sleep(0.3)  # until it is with the model: what comes meanwhile would join its run
        leaving = [send(servers, 1001.0 + n / 100) for n in range(1, 6)]
        staying = send(servers, 21.0)
        for caller in leaving:
            caller.close()
        wait_until(lambda: cancelled(servers) == before + 5)
        # Who stayed is answered, and what was left was never run.
        assert read_some(first, 1)[0].status == 200
        (answer,) = read_some(staying, 1)
        assert json.loads(answer.body)["prediction"] == 42.0
        staying.close()
    assert asked(servers, 999.0) == slept + 1
    ids = {f"row-{1001.0 + n / 100}" for n in range(1, 6)}
    wait_until(lambda: ids <= {record.request_id for record in logged(servers)})


def test_a_caller_that_is_reset_takes_its_request_with_it(servers: Servers) -> None:
    before = cancelled(servers)
    with send(servers, 1000.5) as first:
        caller = send(servers, 1000.75)
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        caller.close()
        wait_until(lambda: cancelled(servers) == before + 1)
        assert read_some(first, 1)[0].status == 200


def test_a_batch_whose_caller_goes_away_is_cancelled_row_by_row(servers: Servers) -> None:
    before, slept = cancelled(servers), asked(servers, 999.0)
    with send(servers, 1001.0) as first:
        send(servers, *(1001.0 + n / 100 for n in range(1, 4)))
        wait_until(lambda: cancelled(servers) == before + 3)
        assert read_some(first, 1)[0].status == 200
    assert asked(servers, 999.0) == slept + 1
