"""Receivers of messages for tests: a real HTTP server and a real mail server, on ports of their own."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

__all__ = ["MailServer", "Receiver"]


class Receiver:
    """Takes what is posted to it, and answers the statuses in `answers` first, then 200. `meanwhile` is done
    before it answers."""

    def __init__(self, *answers: int, headers: dict[str, str] | None = None) -> None:
        self.posts: list[tuple[str, dict[str, str], bytes]] = []
        self.answers = list(answers)
        self.meanwhile: Callable[[], None] = lambda: None
        posts, waiting, more, owner = self.posts, self.answers, headers or {}, self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                named = {name.lower(): value for name, value in self.headers.items()}
                posts.append((self.path, named, body))
                owner.meanwhile()
                self.send_response(waiting.pop(0) if waiting else 200)
                for name, value in more.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"

    def __enter__(self) -> Receiver:
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.shutdown()
        self.server.server_close()

    def messages(self) -> list[Any]:
        """The bodies, decoded."""
        return [json.loads(body) for _, _, body in self.posts]

    def keys(self) -> list[str]:
        """The idempotency keys, in the order in which they came."""
        return [headers["idempotency-key"] for _, headers, _ in self.posts]


class MailServer:
    """Speaks as much SMTP as a client needs, and keeps the mails. `refuse` is an answer to every receiver."""

    def __init__(self, refuse: str = "") -> None:
        self.mails: list[str] = []
        self.receivers: list[str] = []
        self._refuse = refuse
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def __enter__(self) -> MailServer:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        lines = connection.makefile("rb")

        def say(text: str) -> None:
            connection.sendall(text.encode() + b"\r\n")

        say("220 here")
        for line in lines:
            word = line.decode().split(":")[0].split()[0].upper()
            if word == "DATA":
                say("354 go on")
                mail = []
                for each in lines:
                    if each == b".\r\n":
                        break
                    mail.append(each.decode())
                self.mails.append("".join(mail))
                say("250 kept")
            elif word == "QUIT":
                say("221 bye")
                return
            elif word == "RCPT" and self._refuse:
                say(self._refuse)
            else:
                if word == "RCPT":
                    self.receivers.append(line.decode().partition("<")[2].partition(">")[0])
                say("250 well")
