"""A small real HTTP server in a thread: what it answers is a function, what it was asked is a list."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

__all__ = ["Answer", "Asked", "Listening", "listening", "problem"]


class Asked(NamedTuple):
    """One request as it came over the wire."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Answer(NamedTuple):
    """What to send back; a document is sent as JSON, bytes as they are."""

    status: int = 200
    document: Any = None
    headers: dict[str, str] = {}  # noqa: RUF012


class Listening(NamedTuple):
    """The server's address and all that it was asked."""

    url: str
    asked: list[Asked]


@contextlib.contextmanager
def listening(answer: Callable[[Asked], Answer | None]) -> Iterator[Listening]:
    """Answers every request by the function; None closes the connection without a word."""
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked.append(Asked(self.command, self.path, headers, self.rfile.read(length)))
            found = answer(asked[-1])
            if found is None:
                self.close_connection = True
                return
            document = found.document
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(found.status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_HEAD = reply  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Listening(f"http://127.0.0.1:{server.server_port}", asked)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def problem(status: int, code: str, detail: str = "No.", **more: Any) -> Answer:
    """A problem document as the server writes it."""
    document = {"type": f"urn:fairlead:error:{code}", "title": "", "status": status, "code": code}
    document |= {"detail": detail, "remedy": None, "retryable": False, "request_id": None, **more}
    return Answer(status, document, {"content-type": "application/problem+json"})
