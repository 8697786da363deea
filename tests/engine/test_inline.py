"""The engine that runs a model where the gateway is."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from fairlead.engine.base import Engine
from fairlead.engine.inline import InlineEngine
from fairlead.errors import NotReady, RuntimeFailed
from fairlead.runtimes.base import Array, Tensors


class Doubling:
    """A runtime that doubles, fails on negative numbers, and counts how often it is closed."""

    memory_bytes = 17
    closed = 0

    def run(self, feed: Tensors) -> dict[str, Array]:
        if (feed["x"] < 0).any():
            raise RuntimeFailed("negative")
        return {"y": feed["x"] * 2}

    def close(self) -> None:
        self.closed += 1


def test_it_answers_at_once_and_by_submission_alike() -> None:
    engine: Engine = InlineEngine(Doubling())

    async def story() -> list[Any]:
        await engine.start()
        submitted = await engine.submit({"x": np.array([1.0])}, 1, None)
        return [submitted["y"].tolist(), engine.run_now({"x": np.array([2.0])})["y"].tolist()]

    assert asyncio.run(story()) == [[2.0], [4.0]]
    assert engine.inline
    assert engine.healthy
    assert engine.memory_bytes() == 17


def test_the_models_failure_passes_through_and_the_engine_stays_healthy() -> None:
    engine = InlineEngine(Doubling())
    with pytest.raises(RuntimeFailed, match="negative"):
        engine.run_now({"x": np.array([-1.0])})
    assert engine.healthy


def test_stopping_closes_the_runtime_once_and_later_requests_are_refused() -> None:
    runtime = Doubling()
    engine = InlineEngine(runtime)

    async def story() -> None:
        await engine.stop()
        await engine.stop()
        with pytest.raises(NotReady):
            await engine.submit({"x": np.array([1.0])}, 1, None)

    asyncio.run(story())
    assert runtime.closed == 1
    assert not engine.healthy
    assert engine.memory_bytes() == 0
