"""How a version's report is shown, written as a page, and printed with every number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import msgspec
import pytest

from fairlead.cli.main import fairlead
from fairlead.monitoring.drifting import Drifting
from fairlead.monitoring.page import page
from fairlead.monitoring.performing import Performing
from fairlead.monitoring.report import Reports
from tests.monitoring.served import START, Served

asked: list[str] = []


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An admin API that gives everybody the report of a version with four hours of answers."""
    served = Served(tmp_path_factory.mktemp("served"))
    served.register()
    for hour in range(4):
        value = [index % 2 for index in range(400)]
        label = [one if index % 20 > 1 else 1 - one for index, one in enumerate(value)]
        served.serve(
            value, label, at=timedelta(hours=hour), scores=[0.1 + 0.8 * one for one in value], every=9.0
        )
    performing, drifting = (
        Performing(served.registry, served.client),
        Drifting(served.registry, served.client),
    )
    report = Reports(performing, drifting).of("shop", "v1", START, START + timedelta(days=1))
    served.close()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = page(report).encode() if "/page" in self.path else msgspec.json.encode(report)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def run(address: str, *arguments: str) -> int | None:
    with pytest.raises(SystemExit) as ended:
        fairlead(["report", "shop", "--admin-url", address, *arguments])
    assert ended.value.code is None or isinstance(ended.value.code, int)
    return ended.value.code


def test_a_report_shows_figures_with_their_intervals_and_estimates(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not run(address)
    shown = capsys.readouterr().out
    assert "v1 does well" in shown
    assert "1,600, 1,600 with a label" in shown
    assert "0.9 (0.88" in shown


def test_the_page_is_written_where_it_was_asked_for(address: str, tmp_path: Path) -> None:
    target = tmp_path / "new" / "report.html"
    assert not run(address, "--html", str(target), "--from", "30d", "--to", "2025-11-22T00:00Z")
    assert "<svg" in target.read_text("utf-8")
    assert asked[-1].startswith("/api/v1/models/shop/report/page?since=30d&version=v1&until=2025-11-22T00")


def test_json_has_every_number(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not run(address, "--json")
    found = json.loads(capsys.readouterr().out)
    assert {"risk", "figures", "estimates", "back_test", "moments", "slices"} <= set(found["performance"])
    assert found["calibration"]["n"] == 1_600
    assert found["fairness"][0]["feature"] == "member"


def test_a_time_that_is_none_is_wrong_usage(address: str) -> None:
    assert run(address, "--to", "soon") == 2
