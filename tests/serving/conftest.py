import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.predictions.framing import MAGIC, read_frames
from fairlead.predictions.record import Outcome, PredictionRecord, SchemaFrame
from fairlead.predictions.segments import SegmentWriter
from fairlead.predictions.tables import TableRecord
from fairlead.serving.cache import PredictionCache
from fairlead.serving.caches import Caches
from fairlead.serving.dataplane import DataPlane
from fairlead.serving.folder import DataFolder
from fairlead.serving.journal import Journal
from fairlead.serving.leaders import Leaders
from fairlead.serving.refresh import Refresher
from fairlead.serving.shared import SharedCache
from fairlead.telemetry.counters import CounterBlock
from tests.models import data_folder, iris_onnx


@pytest.fixture(scope="session")
def onnx() -> tuple[bytes, bytes]:
    """Two versions of one model that answer differently."""
    return iris_onnx(0), iris_onnx(1)


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return data_folder(tmp_path / "data")


class Gateway:
    """A data plane with its log, cache, counters and refresher, driven by the test."""

    def __init__(
        self,
        folder: DataFolder,
        on_full: str = "shed",
        shared: SharedCache | None = None,
        memory_budget: int = 0,
    ) -> None:
        self.folder = folder
        self.writer = SegmentWriter(folder.log / "g-0")
        caches = Caches(PredictionCache(1 << 20), shared=shared)
        leaders = Leaders(folder.versions)
        self.plane = DataPlane(Journal(self.writer, on_full), caches, "g-0", leaders=leaders)
        self.counters = CounterBlock(folder.counters / "g-0")
        self.refresher = Refresher(
            self.plane,
            folder,
            self.counters,
            slot=0,
            address="127.0.0.1:0",
            trust_pickle=False,
            memory_budget=memory_budget,
        )

    def follow(self) -> None:
        """Follows the plans folder once."""
        asyncio.run(self.refresher.refresh())

    def report(self, model: str = "iris"):
        (report,) = self.folder.read_reports()
        return report.models[model]

    def records(self) -> list[PredictionRecord]:
        """What lies in the log."""
        found = []
        for path in sorted((self.folder.log / "g-0").glob("*.seg")):
            data = path.read_bytes()
            frames = read_frames(data, len(MAGIC))
            for payload in frames.payloads:
                record = decode(payload)
                if isinstance(record, PredictionRecord):
                    found.append(record)
        return found


class Sink:
    """Where the answer of a walk goes, and the task that it became, if any."""

    task = None
    answer = None

    def fill(self, answer) -> None:
        self.answer = answer


def decode(payload: bytes) -> PredictionRecord | Outcome | SchemaFrame | TableRecord:
    import msgspec

    return msgspec.msgpack.decode(payload, type=PredictionRecord | Outcome | SchemaFrame | TableRecord)


@pytest.fixture
def gateway(folder: DataFolder) -> Iterator[Gateway]:
    made = Gateway(folder)
    yield made
    made.plane.journal.close()
