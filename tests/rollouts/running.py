"""A shop whose rollouts run: a model in production, gateways, counters, a clock and controllers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fairlead.registry.registry import Registry
from fairlead.rollouts import ledger
from fairlead.rollouts.commands import Rollouts
from fairlead.rollouts.controller import Controller
from fairlead.rollouts.ledger import Entry
from fairlead.rollouts.reading import read_spec
from fairlead.rollouts.spec import RolloutSpec
from fairlead.rollouts.traffic import Order, Traffic
from fairlead.routing import plans
from fairlead.settings import Settings
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from fairlead.telemetry.counters import ArmKey, CounterBlock
from tests.rollouts.shop import register

__all__ = ["ANN", "QUICK", "STEPS", "Shop"]

ANN = Order(who="ann")
QUICK = Settings(prepare_seconds=20.0, confirm_seconds=5.0)
STEPS = read_spec(
    {
        "steps": [
            {"weight": 5, "minimum": "1m", "events": 300},
            {"weight": 50, "minimum": "1m", "events": 300},
            {"weight": 100},
        ],
        "bake": "2m",
    }
)


class Shop:
    """A model in production, its gateways and their counters, a clock to be put forward, and controllers."""

    def __init__(self, database: Database, blobs: Blobs, folder: Path) -> None:
        self.database = database
        self.now = datetime(2026, 11, 27, 12, tzinfo=UTC)
        self.registry = Registry(database, blobs)
        register(self.registry, blobs, "v1", "v2", "v3")
        self.counters = folder / "counters"
        self.block = CounterBlock(self.counters / "g0")
        self.rollouts = Rollouts(database, self.counters, self.clock)
        self.first = self.controller("first")

    def clock(self) -> datetime:
        return self.now

    def traffic(self) -> Traffic:
        # Gateways live by the true clock.
        return Traffic(self.database, self.registry, QUICK)

    def controller(self, name: str) -> Controller:
        return Controller(self.database, self.traffic(), self.counters, name=name, clock=self.clock)

    def start(self, version: str = "v2", spec: RolloutSpec = STEPS, **more: Any) -> Entry:
        entry = self.rollouts.start("shop", version, spec, ANN, **more)
        self.first.look()
        return self.entry(entry.rollout.id)

    def entry(self, identifier: str) -> Entry:
        with self.database.read() as connection:
            return ledger.get(connection, identifier)

    def weights(self) -> dict[str, float]:
        with self.database.read() as connection:
            plan = plans.active(connection, "shop")
        assert plan is not None
        return plan.weights()

    def serve(self, requests: int, *, canary_errors: int = 0, seconds: float = 90.0) -> None:
        """Lets each arm of the plan answer so many requests, and time pass."""
        with self.database.read() as connection:
            plan = plans.active(connection, "shop")
        assert plan is not None
        for arm in plan.arms:
            row = self.block.row(ArmKey("shop", arm.version, arm.name, arm.role))
            failed = canary_errors if arm.version != "v1" else 0
            row.answered("ok", 0.001, requests - failed)
            if failed:
                row.answered("failed", 0.001, failed)
        self.now += timedelta(seconds=seconds)

    def journal(self, identifier: str) -> list[str]:
        with self.database.read() as connection:
            return [event.to_state for event in ledger.events(connection, identifier)]
