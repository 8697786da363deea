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
from fairlead.engine.worker import WorkerEngine
from fairlead.runtimes.base import RuntimeSpec
from fairlead.runtimes.python import python_spec

T = TypeVar("T")

BEHAVIOUR = """
import os, resource, signal, subprocess, sys, time
import numpy as np

held = []


def behave(columns):
    what, numbers = columns["what"][0], columns["x"]
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
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
        os.write(int(sys.argv[1]), bytes.fromhex(what.split()[1]))
        time.sleep(60)
    if what == "close":
        os.close(int(sys.argv[1]))
        time.sleep(60)
    if what == "fork":
        return {"value": np.full(len(numbers), subprocess.Popen(["sleep", "600"]).pid)}
    if what == "pid":
        return {"value": np.full(len(numbers), os.getpid())}
    if what == "session":
        return {"value": np.full(len(numbers), os.getsid(0))}
    if what == "core":
        return {"value": np.full(len(numbers), sum(resource.getrlimit(resource.RLIMIT_CORE)))}
    if what == "environment":
        return {"value": np.array(sorted(os.environ), dtype=object)}
    if what == "mixed":
        return {"value": np.array([1, "a"], dtype=object)}
    if what == "less":
        return {}
    return {"value": numbers * 2}
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
    (tmp_path / "behaviour.py").write_text(BEHAVIOUR)
    (tmp_path / "model.pkl").write_bytes(FUNCTION)
    return tmp_path


@pytest.fixture(params=["uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[T]], T]:
    """Runs a story to its end on the gateway's event loop, or on the one that a test names."""

    def start(story: Any) -> Any:
        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(story)

    return start


@pytest.fixture
def engine(folder: Path) -> WorkerEngine:
    """An engine of the behaviour, not yet started, whose requests may take a second."""
    return WorkerEngine(folder, SPEC, timeout=1.0, memory_limit_mb=300, max_waiting=8)


__all__ = ["CONTRACT", "SPEC", "RuntimeSpec", "ask", "until"]
