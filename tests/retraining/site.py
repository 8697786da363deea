"""A shop whose model is retrained, without gateways and ingest in processes of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairlead.gate.runs import Gates
from fairlead.monitoring.findings import Finding
from fairlead.monitoring.loop import LEASE, Look
from fairlead.predictions.ask import IngestClient
from fairlead.registry.registry import Registry
from fairlead.retraining import ledger
from fairlead.retraining.job import Job
from fairlead.retraining.runner import Retraining
from fairlead.rollouts.commands import Rollouts
from fairlead.rollouts.traffic import Order, Traffic
from fairlead.serving.folder import DataFolder
from fairlead.settings import Settings
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from fairlead.stores.leases import take
from fairlead.stores.tables import leases
from tests.rollouts.fakes import FakeFleet
from tests.rollouts.shop import register

__all__ = ["T0", "Ingest", "Site"]

T0 = datetime(2026, 11, 1, tzinfo=UTC)
NONE = {"command": ["false"]}


class Ingest(IngestClient):
    """Answers that so many rows are labelled: one of each unit, a minute apart."""

    def __init__(self, socket: Path, rows: int) -> None:
        super().__init__(socket)
        self.rows = rows

    def call(self, op: str, **args: Any) -> Any:
        """Writes them where it is asked to."""
        assert op == "labelled_rows"
        count = self.rows
        table = pa.table(
            {
                "age": [float(index) for index in range(count)],
                "_unit": [f"u{index}" for index in range(count)],
                "_at": [T0 + timedelta(minutes=index) for index in range(count)],
                "_label": [float(index % 2) for index in range(count)],
                "_label_text": pa.nulls(count, pa.string()),
            }
        )
        pq.write_table(table, args["path"])
        return {"rows": count, "answered": count}


class Site:
    """A shop with a version in production, and controls that would retrain it."""

    def __init__(self, database: Database, blobs: Blobs, folder: Path) -> None:
        self.database = database
        self.registry = Registry(database, blobs)
        self.folder = DataFolder(folder / "data").make()
        self.now = T0
        self.rows = 200
        register(self.registry, blobs, "v1")
        self.looks("one")

    def looks(self, name: str) -> None:
        """From here on the control of that name has the lease of monitoring."""
        with self.database.write() as connection:
            until = self.now + timedelta(days=99)
            connection.execute(leases.delete().where(leases.c.name == LEASE))
            take(connection, LEASE, name, now=self.now, until=until)

    @contextmanager
    def serving(self) -> Iterator[Site]:
        """The version is in production within the block."""
        traffic = Traffic(self.database, self.registry, Settings(data=str(self.folder.root)))
        with FakeFleet(self.database, "g0").running():
            traffic.deploy("shop", "v1", Order(who="ann"), strategy="direct")
            yield self

    def control(self, name: str = "one", trainer: Any = NONE, port: int = 0, **policy: Any) -> Retraining:
        settings = Settings(
            data=str(self.folder.root),
            admin_port=port,
            trainers={"t": trainer},
            retraining={"shop": {"trainer": "t", "cooldown": "1d", **policy}},
        )
        ingest = Ingest(self.folder.ingest_socket, self.rows)
        return Retraining(
            self.registry, Gates(self.registry, self.folder, ingest, settings),
            Rollouts(self.database, self.folder.counters), ingest, self.folder, settings, name=name,
            clock=lambda: self.now,
        )  # fmt: skip

    def attend(self, control: Retraining, job: Job) -> threading.Thread:
        """Lets the control take the job along until it is over, as if it had the lease, in a thread."""
        control._until = self.now + timedelta(days=9)

        def go() -> None:
            held = job
            while control._mine() and not held.over:
                held = control._steps.go(control.job(job.model, job.id))
                time.sleep(0.01)

        thread = threading.Thread(target=go, daemon=True)
        thread.start()
        return thread

    def jobs(self) -> list[Job]:
        with self.database.read() as connection:
            return ledger.of_model(connection, "shop")

    def move(self, job: Job, **changes: Any) -> Job:
        with self.database.write() as connection:
            return ledger.move(connection, job, self.now, **changes)

    def alarm(self, status: Any = "alarm") -> Look:
        finding = Finding(
            model="shop", kind="drift", subject="größe", status=status, sentence="Größe has shifted.",
            start=self.now - timedelta(hours=1), end=self.now,
        )  # fmt: skip
        return Look(looker="drift", at=self.now, findings=(finding,))
