"""Profiles made anew from Parquet, on the bins that hold now: after a contract's bins have changed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pyarrow as pa

from fairlead.errors import FairleadError
from fairlead.predictions.blocks import PROFILES
from fairlead.predictions.columns import combine
from fairlead.predictions.counted import Rebuild
from fairlead.predictions.ingest import Ingest, Snapshot
from fairlead.predictions.manifest import DataFile
from fairlead.predictions.parquet import read_table, remove_files, write_profiles

__all__ = ["Rebuilds"]

logger = logging.getLogger(__name__)

_ROWS_AT_ONCE = 100_000


class Rebuilds:
    """Counts the rows of whole models again, each in a thread of its own, beside ingestion.

    The new profiles take the place of the old in one commit. Rows that come meanwhile are not touched.
    """

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest
        self._lock = threading.Lock()
        self._known: dict[str, Rebuild] = {}

    def start(self, model: str) -> Rebuild:
        """Begins, unless it is under way already."""
        with self._lock:
            held = self._known.get(model)
            if held is not None and held.under_way:
                return held
            with self._ingest.snapshot() as snapshot:
                rows = sum(file.rows for file in _of(snapshot, "predictions", model))
            started = self._known[model] = Rebuild(model=model, rows=rows)
        threading.Thread(target=self._run, args=(started,), name=f"rebuild {model}", daemon=True).start()
        return started

    def improve(self) -> None:
        """Begins for every model whose bins were made of few rows once there are enough for better ones."""
        for model in self._ingest.profiler.bins.outgrown():
            self.start(model)

    def state(self, model: str) -> Rebuild | None:
        """The last one of that model since the process started; None without any."""
        return self._known.get(model)

    def _run(self, rebuild: Rebuild) -> None:
        try:
            with self._ingest.resting(rebuild.model) as snapshot:
                self._replace(rebuild, snapshot)
        except (FairleadError, OSError, pa.ArrowException) as error:
            logger.error("the profiles of %s were not made anew: %s", rebuild.model, error)
            rebuild.error = str(error)
        finally:
            rebuild.under_way = False

    def _replace(self, rebuild: Rebuild, snapshot: Snapshot) -> None:
        written: list[DataFile] = []
        try:
            made: set[str | None] = set()
            for table in _pieces(snapshot, rebuild.model):
                profiles = self._ingest.profiler.profiles(
                    rebuild.model, table, self._ingest.contracts, made=made
                )
                written.append(write_profiles(snapshot.root, rebuild.model, profiles, PROFILES, 60))
                rebuild.counted += table.num_rows
            self._ingest.replace(_of(snapshot, "profiles", rebuild.model), written)
        except BaseException:
            remove_files(snapshot.root, [path for file in written for path in file.paths()])
            raise


def _of(snapshot: Snapshot, dataset: str, model: str) -> list[DataFile]:
    return [file for file in snapshot.files if file.dataset == dataset and file.model == model]


def _pieces(snapshot: Snapshot, model: str) -> Iterator[pa.Table]:
    """The model's predictions, oldest first, so many at a time."""
    held: list[pa.Table] = []
    for file in sorted(_of(snapshot, "predictions", model), key=lambda file: file.first_at):
        for table in read_table(snapshot.root, file):
            held.append(table)
            if sum(table.num_rows for table in held) >= _ROWS_AT_ONCE:
                yield combine(held)
                held = []
    if held:
        yield combine(held)
