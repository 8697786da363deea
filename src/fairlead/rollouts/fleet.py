"""The gateways as the database knows them: who lives, and how far each is with each model."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import sqlalchemy as sa

from fairlead.stores.tables import gateway_plans, gateways

__all__ = ["LIVE", "Gateway", "ModelState", "fleet"]

LIVE = timedelta(seconds=5)
"""A gateway whose last heartbeat is older is not waited for."""


class ModelState(msgspec.Struct, frozen=True, kw_only=True):
    """How far one gateway is with one model, as in its report. `error` is about `failed`."""

    prepared: int = 0
    active: int = 0
    override: str | None = None
    failed: int = 0
    error: str | None = None


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway worker and its state per model."""

    name: str
    host: str
    pid: int
    slot: int
    address: str
    started_at: datetime
    heartbeat_at: datetime
    models: dict[str, ModelState]

    def live(self, now: datetime) -> bool:
        """Whether it was heard of lately."""
        return now - self.heartbeat_at < LIVE

    def of(self, model: str) -> ModelState:
        """Its state with that model; nothing reported yet is generation 0."""
        return self.models.get(model, ModelState())


def fleet(connection: sa.Connection, model: str | None = None) -> list[Gateway]:
    """All gateways by name, dead ones included, with their state in one model or in all."""
    states: dict[str, dict[str, ModelState]] = {}
    query = sa.select(gateway_plans)
    if model is not None:
        query = query.where(gateway_plans.c.model == model)
    for row in connection.execute(query.order_by(gateway_plans.c.model)):
        states.setdefault(row.gateway, {})[row.model] = ModelState(
            prepared=row.prepared_generation or 0,
            active=row.active_generation or 0,
            override=row.override,
            failed=row.failed_generation or 0,
            error=row.error,
        )
    return [
        Gateway(
            name=row.name,
            host=row.host,
            pid=row.pid,
            slot=row.slot,
            address=row.address,
            started_at=row.started_at,
            heartbeat_at=row.heartbeat_at,
            models=states.get(row.name, {}),
        )
        for row in connection.execute(sa.select(gateways).order_by(gateways.c.name))
    ]
