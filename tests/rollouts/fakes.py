"""Gateways without their processes: a thread that stands for the agent and the gateways of a machine.

It does to the tables what they would: it reports a generation as prepared once it is proposed and as active
once it is activated. What a gateway does with a plan is tested elsewhere, with real ones.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from fairlead.routing import plans
from fairlead.stores.database import Database
from fairlead.stores.tables import gateway_plans, gateways

__all__ = ["FakeFleet", "put_gateway", "report"]


def put_gateway(database: Database, name: str, *, silent_for: float = 0.0) -> None:
    """Puts or renews a gateway's row."""
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "host": "here",
        "pid": 1,
        "slot": 0,
        "address": "127.0.0.1:8000",
        "started_at": now,
        "heartbeat_at": now - timedelta(seconds=silent_for),
    }
    with database.write() as connection:
        _put(connection, gateways, {"name": name}, values)


def report(database: Database, name: str, model: str, **columns: Any) -> None:
    """Puts or renews a gateway's row about one model."""
    with database.write() as connection:
        key = {"gateway": name, "model": model}
        _put(connection, gateway_plans, key, {**columns, "at": datetime.now(UTC)})


class FakeFleet:
    """Live gateways that do as they are told. `cannot_load` maps versions to the reason they give;
    while `holding` is set they prepare nothing, while `stubborn` is set they activate nothing."""

    def __init__(self, database: Database, *names: str) -> None:
        self.database = database
        self.names = names
        self.cannot_load: dict[str, str] = {}
        self.holding = threading.Event()
        self.stubborn = threading.Event()
        self._done: set[tuple[str, str, str, int]] = set()
        self._ending = threading.Event()
        for name in names:
            put_gateway(database, name)

    @contextmanager
    def running(self) -> Iterator[FakeFleet]:
        """The gateways follow the plans within the block."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield self
        finally:
            self._ending.set()
            thread.join()

    def _run(self) -> None:
        with closing(self.database.watch()) as watcher:
            beat_at = time.monotonic() + 1.0
            while not self._ending.is_set():
                if time.monotonic() >= beat_at:
                    beat_at += 1.0
                    for name in self.names:
                        put_gateway(self.database, name)
                self._follow()
                watcher.wait(0.02)

    def _follow(self) -> None:
        with self.database.read() as connection:
            now = datetime.now(UTC)
            wanted = [plans.serving(connection, model, now) for model in plans.stamps(connection)]
        for traffic in wanted:
            for name in self.names:
                if traffic.preparing is not None and not self.holding.is_set():
                    self._prepare(name, traffic.preparing)
                if traffic.active is not None and not self.stubborn.is_set():
                    generation = traffic.active.generation
                    self._tell(
                        name,
                        traffic.model,
                        "active",
                        generation,
                        active_generation=generation,
                        prepared_generation=generation,
                    )

    def _prepare(self, name: str, plan: Any) -> None:
        broken = [arm.version for arm in plan.arms if arm.version in self.cannot_load]
        generation = plan.generation
        if broken:
            reason = self.cannot_load[broken[0]]
            self._tell(name, plan.model, "failed", generation, failed_generation=generation, error=reason)
        else:
            self._tell(name, plan.model, "prepared", generation, prepared_generation=generation)

    def _tell(self, name: str, model: str, what: str, generation: int, **columns: Any) -> None:
        if (name, model, what, generation) not in self._done:
            report(self.database, name, model, **columns)
            self._done.add((name, model, what, generation))


def _put(connection: sa.Connection, table: sa.Table, key: dict[str, Any], values: dict[str, Any]) -> None:
    same = sa.and_(*(table.c[name] == value for name, value in key.items()))
    if connection.execute(table.update().where(same).values(**values)).rowcount == 0:
        connection.execute(table.insert().values(**key, **values))
