"""How a shadow is shown: what is told, and nothing where there is nothing to tell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from fairlead.cli.main import fairlead

EMPTY: dict[str, Any] = {
    "model": "shop",
    "version": None,
    "start": "2026-11-20T12:00:00Z",
    "end": "2026-11-21T12:00:00Z",
}
FULL = EMPTY | {
    "version": "v2",
    "rows": 1_200,
    "against": {"v1": 1_200},
    "compared": 1_000,
    "different": 25,
    "share": 0.025,
    "units": 300,
    "units_different": 7,
    "confusion": [{"answered": "1", "shadow": "0", "rows": 25}],
    "shadow_errors": {"runtime_failed": 200},
    "shadow_latency": {"mean_ms": 0.1, "p50_ms": 0.1, "p95_ms": 0.2, "p99_ms": 0.3},
    "most_different": [{"unit": "user-42", "rows": 5, "different": 4}],
    "segments": [{"feature": "country", "value": "FR", "rows": 90, "different": 20, "share": 0.2222}],
}


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[str]:
    """An admin API that answers that report to everybody."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(request.param).encode()
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


def run(url: str, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    with pytest.raises(SystemExit) as ended:
        fairlead.main(["--admin-url", url, "shadow", "shop", *options])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("served", [FULL], indirect=True)
def test_a_shadow_is_told_with_whom_it_differs(served: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(served, capsys)
    for told in (
        "v1 (1,200)",
        "25 (2.5 %)",
        "7 of 300",
        "runtime_failed 200",
        "country",
        "22.22 %",
        "user-42",
    ):
        assert told in out
    assert "errors of answers" not in out
    assert json.loads(run(served, capsys, "--json"))["different"] == 25


@pytest.mark.parametrize("served", [EMPTY], indirect=True)
def test_without_copies_it_says_so(served: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "No copies of shop in the last 2 hours" in run(served, capsys, "--hours", "2")
