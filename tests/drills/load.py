"""Callers that never stop asking: what they asked, what they were answered, and what failed."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from typing import Any

__all__ = ["Load"]


class Load:
    """Threads that each keep one connection and ask without a pause until `stop()`.

    `answered` maps each answered request id to (sent at, answered at, version). A connection that breaks is
    opened anew; a request that got no answer, or an error, is noted in `failed`.
    """

    def __init__(self, port: int, path: str, features: dict[str, Any], callers: int = 8) -> None:
        self._port = port
        self._path = path
        self._features = features
        self._ending = threading.Event()
        self._numbers = itertools.count()
        self.answered: dict[str, tuple[float, float, str]] = {}
        self.failed: list[str] = []
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(callers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Waits until every caller has its last answer."""
        self._ending.set()
        for thread in self._threads:
            thread.join(30)

    def _call(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._ending.is_set():
            number = next(self._numbers)
            request_id = f"load-{number}"
            features = {**self._features}
            name = next(iter(features))
            features[name] = 1.0 + number % 997 / 1000
            body = json.dumps({"features": features, "unit": f"u{number}", "request_id": request_id})
            sent_at = time.perf_counter()
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
                connection.request("POST", self._path, body)
                answer = connection.getresponse()
                document = json.loads(answer.read())
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(f"{request_id}: {type(error).__name__}")
                if connection is not None:
                    connection.close()
                connection = None
                continue
            if answer.status == 200:
                self.answered[request_id] = (sent_at, time.perf_counter(), document["model_version"])
            else:
                self.failed.append(f"{request_id}: {answer.status} {document.get('code')}")
        if connection is not None:
            connection.close()
