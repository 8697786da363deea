"""A version folder with a pickle that does what each request tells it to, for better or worse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import uvloop

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.engine.frames import WorkerSpec
from fairlead.engine.host import ModelHost
from fairlead.engine.leases import Leases
from fairlead.engine.paths import listening
from fairlead.engine.worker import WorkerEngine
from fairlead.runtimes.base import RuntimeSpec
from fairlead.runtimes.python import python_spec

T = TypeVar("T")

BEHAVIOUR = """
import os, resource, signal, subprocess, sys, time
import numpy as np

held = []
remembered = []


def behave(columns):
    for what in sorted(set(columns["what"]) - {"count"}):
        found = one(what, columns["x"])
        if found is not None:
            return found
    if "count" in columns["what"]:
        return {"value": np.full(len(columns["x"]), float(len(columns["x"])))}
    return {"value": columns["x"] * 2}


def one(what, numbers):
    if what == "crash":
        signal.raise_signal(signal.SIGSEGV)  # in this thread: it must not answer first
    if what == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(60)  # another thread may take the signal: this one must not answer before all stand still
    if what == "exit":
        os._exit(3)
    if what == "sys.exit":
        sys.exit(3)
    if what == "raise":
        raise ValueError("no such thing\\nas this")
    if what == "hang":
        while True:
            time.sleep(1)
    if what.startswith("sleep "):
        time.sleep(float(what.split()[1]))
    if what == "leak":
        while True:
            held.append(np.ones(1_000_000))
            time.sleep(0.002)
    if what.startswith("write "):
        os.write(int(sys.argv[1]), bytes.fromhex(what.split()[1]) + bytes(8))
        time.sleep(60)
    if what == "close":
        os.close(int(sys.argv[1]))
        time.sleep(60)
    if what == "remember":
        remembered.extend(numbers)
    if what == "remembered":
        return {"value": np.full(len(numbers), float(len(remembered)))}
    if what == "fork":
        return {"value": np.full(len(numbers), subprocess.Popen(["sleep", "600"]).pid)}
    if what == "pid":
        return {"value": np.full(len(numbers), os.getpid())}
    if what == "session":
        return {"value": np.full(len(numbers), os.getsid(0))}
    if what == "core":
        return {"value": np.full(len(numbers), sum(resource.getrlimit(resource.RLIMIT_CORE)))}
    if what == "environment":
        return {"value": np.array([" ".join(sorted(os.environ))] * len(numbers), dtype=object)}
    if what == "mixed":
        return {"value": np.array([b"a"] * len(numbers), dtype=object)}
    if what == "short":
        return {"value": numbers[:-1]}
    if what == "less":
        return {}
"""

FUNCTION = b"cbehaviour\nbehave\n."
"""A pickle of the function: found by its name in the module beside it."""

CONTRACT = Contract(
    inputs=(Field(name="what", type="string"), Field(name="x", type="float")), output=Output(kind="number")
)
SPEC = python_spec(CONTRACT, "model.pkl")


def ask(what: str, *numbers: float) -> dict[str, Any]:
    """Tensors that tell the behaviour what to do."""
    values = np.array(numbers or (1.0,))
    return {"what": np.array([what] * len(values), dtype=object), "x": values}


async def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Returns as soon as it holds; fails when it does not in time."""
    patience = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < patience, "it did not come to hold in time"
        await asyncio.sleep(0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A version's folder with the behaviour in it."""
    folder = tmp_path / "version"
    folder.mkdir()
    (folder / "behaviour.py").write_text(BEHAVIOUR)
    (folder / "model.pkl").write_bytes(FUNCTION)
    return folder


@pytest.fixture(params=["uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[T]], T]:
    """Runs a story to its end on the gateway's event loop, or on the one that a test names."""

    def start(story: Any) -> Any:
        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(story)

    return start


class Place:
    """A model host in the test's own event loop, and engines that lease from it."""

    def __init__(self, run: Path) -> None:
        run.mkdir(exist_ok=True)
        self.run = run
        self.socket = run / "models.sock"
        self.host = ModelHost(run)
        self._leases: list[Leases] = []

    async def __aenter__(self) -> Place:
        await self.host.start(listening(self.socket))
        return self

    async def __aexit__(self, *_: object) -> None:
        for leases in self._leases:
            await leases.close()
        await self.host.stop()

    def gateway(self) -> Leases:
        """The connection of another gateway."""
        self._leases.append(Leases(self.socket))
        return self._leases[-1]

    def engine(self, folder: Path, spec: RuntimeSpec = SPEC, **options: Any) -> WorkerEngine:
        """An engine of that version for a gateway of its own, not yet started."""
        names = options.pop("names", tuple(tensor.name for tensor in spec.inputs))
        instances = options.pop("instances", 1)
        leases = options.pop("leases", None) or self.gateway()
        described = worker_spec(folder, spec, names, instances)
        return WorkerEngine(leases, described, **{"timeout": 1.0, "memory_limit_mb": 300, **options})


def worker_spec(folder: Path, spec: RuntimeSpec, names: tuple[str, ...], instances: int = 1) -> WorkerSpec:
    """The version in that folder as its worker needs it."""
    parts = {part: getattr(spec.outputs, part) for part in spec.outputs.__struct_fields__}
    return WorkerSpec(
        digest=folder.name,
        kind=spec.kind,
        folder=str(folder),
        entry=spec.entry,
        outputs={part: name for part, name in parts.items() if name is not None},
        names=names,
        instances=instances,
    )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A host that is not yet started."""
    return Place(tmp_path / "run")


__all__ = ["CONTRACT", "SPEC", "Place", "RuntimeSpec", "ask", "until", "worker_spec"]
