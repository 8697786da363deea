"""One server in one round: start it, check it, load it, check it again, weigh it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.peers.dialects import DIALECTS, Dialect, is_right
from bench.peers.entrants import FAIRLEAD, HELLO, Entrant
from bench.peers.environments import python_of
from bench.peers.fairlead_folder import lay_folder
from bench.peers.load import Load
from bench.peers.models import CHECKED, Model, expected, rows_of
from bench.peers.processes import NotReady, ServerProcess, cores, free_ports

__all__ = ["CONNECTIONS", "Bench", "NotMeasurable", "PrepareFailed"]

CONNECTIONS = (1, 16, 64)
_SERVERS = Path(__file__).parent / "servers"
_ESCAPED = 1.1
"""More processor time than one core has: a server that left its core is not measured like the others."""


class PrepareFailed(Exception):
    """A server's own form of the model could not be made; the text says why."""


class NotMeasurable(Exception):
    """A yardstick could not be measured, so nothing can be; the text says why."""


class Bench:
    """One model and all that is asked of it, for every server alike. Times are in seconds."""

    def __init__(self, model: Model, made: Path, scratch: Path, seconds: int) -> None:
        self._model, self._made, self._seconds = model, made, seconds
        self._scratch = scratch / model.name
        self._scratch.mkdir()
        self._rows = rows_of(model)
        answers = expected(made, model, self._rows[:CHECKED])
        self._expected = [
            {version: found[index] for version, found in answers.items()} for index in range(CHECKED)
        ]
        self._loads: dict[str, Load] = {}

    def prepare(self, entrant: Entrant) -> None:
        """Makes what the server needs before it can start; raises `PrepareFailed`."""
        prepared = self._prepared(entrant)
        if entrant is FAIRLEAD:
            lay_folder(prepared, self._made, self._model)
        elif entrant.prepares:
            prepared.mkdir()
            done = subprocess.run(
                [*self._command(entrant), "prepare"], cwd=prepared, capture_output=True, text=True,
                env={**os.environ, **self._environment(entrant, [0, 0, 0])},
            )  # fmt: skip
            if done.returncode:
                raise PrepareFailed(done.stderr.strip()[-300:])

    def raw(self) -> dict[str, float]:
        """Rows per second of `session.run` on the servers' core, with 1 row and with 32 rows a call. Raises
        `NotMeasurable`."""
        rows = self._scratch / "rows.json"
        rows.write_text(json.dumps(self._rows[:128]))
        environment = {
            **os.environ,
            **self._environment(FAIRLEAD, [0, 0, 0]),
            "BENCH_ROWS": str(rows),
            "BENCH_SECONDS": "1",
        }
        command = ["taskset", "-c", str(cores()[0]), str(python_of(None)), str(_SERVERS / "raw_session.py")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise NotMeasurable(f"session.run failed: {done.stderr.strip()[-300:]}")
        return dict(json.loads(done.stdout))

    def hello(self) -> dict[str, dict[str, float]]:
        """What a server does that answers the same at once, by number of connections. Raises `NotReady`."""
        with self._started(HELLO) as server:
            server.await_right("/", "{}", lambda raw: b"prediction" in raw)
            return self._load(HELLO, server, "/")

    def measure(self, entrant: Entrant) -> dict[str, Any]:
        """What the server did: `start_s`, `memory_mib`, `loads` by number of connections, and `faults`, which
        are reasons not to rank it. A server that never answers has `faults` alone."""
        dialect = DIALECTS[entrant.dialect]
        path = dialect.path.format(model=self._model.name)
        bodies = [dialect.body(self._model, self._rows[index], index) for index in range(CHECKED)]
        with self._started(entrant) as server:
            try:
                start = server.await_right(path, bodies[0], lambda raw: self._right(dialect, raw, 0))
            except NotReady as error:
                return {"faults": [str(error)], "loads": {}}
            faults = self._wrong(dialect, server, path, bodies, "before")
            try:
                loads = self._load(entrant, server, path)
            except (ValueError, subprocess.SubprocessError) as error:
                return {"faults": [*faults, str(error)], "loads": {}}
            memory = server.memory_mib()
            faults += self._wrong(dialect, server, path, bodies, "after")
            faults += [
                f"{row['errors']:g} errors at {connections} connections"
                for connections, row in loads.items()
                if row["errors"]
            ]
            if max(row["cores"] for row in loads.values()) > _ESCAPED:
                faults.append("it used more than its core")
            found: dict[str, Any] = {"start_s": round(start, 2), "memory_mib": round(memory), "loads": loads}
            if entrant is FAIRLEAD:
                found["counters"] = counters = self._counters(server)
                faults += _shirked(counters)
            return {**found, "faults": faults}

    @contextmanager
    def _started(self, entrant: Entrant) -> Iterator[ServerProcess]:
        folder = self._scratch / f"run-{entrant.name}"
        folder.mkdir()
        ports = free_ports(3)
        try:
            command, environment = self._command(entrant), self._environment(entrant, ports)
            with ServerProcess(command, environment, folder, ports[0]) as server:
                yield server
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(self._prepared(FAIRLEAD) / "log", ignore_errors=True)

    def _load(self, entrant: Entrant, server: ServerProcess, path: str) -> dict[str, dict[str, float]]:
        if entrant.dialect not in self._loads:
            dialect = DIALECTS[entrant.dialect]
            folder = self._scratch / f"load-{entrant.dialect}"
            folder.mkdir()
            bodies = [dialect.body(self._model, row, index) for index, row in enumerate(self._rows)]
            self._loads[entrant.dialect] = Load(folder, bodies)
        load = self._loads[entrant.dialect]
        load.run(server, path, 8, 1)  # what a server does only at first is not counted
        return {str(count): load.run(server, path, count, self._seconds) for count in CONNECTIONS}

    def _wrong(
        self, dialect: Dialect, server: ServerProcess, path: str, bodies: list[str], when: str
    ) -> list[str]:
        for index, body in enumerate(bodies):
            try:
                raw = server.ask(path, body)
            except OSError as error:
                return [f"no answer {when} the load: {error}"]
            if not self._right(dialect, raw, index):
                return [f"a wrong answer {when} the load: {raw[:120].decode('utf-8', 'replace')}"]
        return []

    def _right(self, dialect: Dialect, raw: bytes, index: int) -> bool:
        return is_right(dialect.answer(self._model, raw), self._expected[index])

    def _counters(self, server: ServerProcess) -> dict[str, float]:
        text = server.ask("/metrics", None).decode()
        found: dict[str, float] = {}
        for name, value in re.findall(r"^(\w+)(?:\{[^}]*\})? ([\d.e+]+)$", text, re.MULTILINE):
            if name.startswith(("prediction_cache", "prediction_log", "requests_shed")):
                found[name] = found.get(name, 0) + float(value)
        return found

    def _prepared(self, entrant: Entrant) -> Path:
        return self._scratch / f"prepared-{entrant.environment or entrant.name}"

    def _command(self, entrant: Entrant) -> list[str]:
        return [str(python_of(entrant.environment)), str(_SERVERS / entrant.script)]

    def _environment(self, entrant: Entrant, ports: list[int]) -> dict[str, str]:
        return {
            "BENCH_FACTS": json.dumps(asdict(self._model)),
            "BENCH_MODEL_FILE": str(self._made / f"{self._model.name}-v1.onnx"),
            "BENCH_BATCH": "1" if self._model.name in entrant.batch else "0",
            "BENCH_PREPARED": str(self._prepared(entrant)),
            "BENCH_SCRATCH": str(self._scratch.parent),
            "BENCH_PORT": str(ports[0]),
            "BENCH_MORE_PORTS": f"{ports[1]},{ports[2]}",
            **entrant.variables,
        }


def _shirked(counters: dict[str, float]) -> list[str]:
    """Work that Fairlead left out: answers from its cache, or without a record, would flatter it."""
    hits, misses = (counters.get(f"prediction_cache_{kind}_total", 0) for kind in ("hits", "misses"))
    faults = []
    # The rows that are checked are asked more than once.
    if hits > CHECKED + 0.01 * misses:
        faults.append(f"{hits:g} answers came from the cache")
    if counters.get("prediction_log_unlogged_total", 0):
        faults.append("answers without a record")
    return faults
