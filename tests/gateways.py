"""A gateway without its data plane: a thread that reads the plans folder and reports, as a gateway does.

It loads nothing; it checks that the files of what it is told to prepare lie there. What gateways do with a
model is tested elsewhere, with real ones.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from fairlead.serving.folder import DataFolder, FolderWatch, GatewayReport, ModelPlans, ModelReport
from tests.waiting import wait_until

__all__ = ["FolderGateway"]


class FolderGateway:
    """`cannot_load` maps versions to the reason it gives; while `frozen` is set it does nothing at all."""

    def __init__(self, folder: DataFolder, name: str = "g0") -> None:
        self.folder = folder
        self.cannot_load: dict[str, str] = {}
        self.frozen = threading.Event()
        self.history: list[tuple[str, int]] = []
        self._secret = folder.secret()
        self._report = GatewayReport(
            name=name,
            host=socket.gethostname(),
            pid=os.getpid(),
            slot=0,
            address="127.0.0.1:8000",
            started_at=time.time(),
            at=0.0,
        )
        self._ending = threading.Event()

    @contextmanager
    def running(self) -> Iterator[FolderGateway]:
        """The gateway follows its folder within the block; then it is gone like a killed one."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            if not self.frozen.is_set():
                wait_until(lambda: self._report.name in {r.name for r in self.folder.read_reports()})
            yield self
        finally:
            self._ending.set()
            thread.join()

    def _run(self) -> None:
        watch = FolderWatch(self.folder.plans, self.folder.overrides)
        while not self._ending.is_set():
            if not self.frozen.is_set():
                if watch.changed():
                    for model in self.folder.models():
                        plans = self.folder.read_plans(model)
                        if plans is not None:
                            self._follow(plans)
                if time.time() - self._report.at > 0.5:
                    self._write()
            time.sleep(0.005)

    def _follow(self, plans: ModelPlans) -> None:
        before = self._report.models.get(plans.model, ModelReport())
        report = before
        if plans.active is not None:
            generation = plans.active.plan.generation
            override = self.folder.read_override(plans.model)
            if override is not None and override.base_generation < generation:
                override = None
            held = override.version if override else None
            if (report.active, report.override) != (generation, held):
                served = held or plans.active.plan.stable()
                self.history.append((served, generation))
                prepared = max(report.prepared, generation)
                report = msgspec.structs.replace(report, active=generation, prepared=prepared, override=held)
        if plans.prepare is not None and plans.prepare.plan.generation > report.prepared:
            generation = plans.prepare.plan.generation
            reasons = [
                self.cannot_load[version] for version in plans.prepare.versions if version in self.cannot_load
            ]
            for spec in plans.prepare.versions.values():
                assert (self.folder.versions / spec.manifest.digest / "model.onnx").is_file()
            if reasons:
                report = msgspec.structs.replace(report, failed_generation=generation, error=reasons[0])
            else:
                report = msgspec.structs.replace(report, prepared=generation, failed_generation=0, error=None)
        if report != before:
            self._report = msgspec.structs.replace(
                self._report, models={**self._report.models, plans.model: report}
            )
            self._write()

    def _write(self) -> None:
        self._report = msgspec.structs.replace(self._report, at=time.time())
        self.folder.write_report(self._report)
