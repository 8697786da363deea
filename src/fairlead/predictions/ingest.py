"""Ingestion: from the gateways' segments to Parquet, so that a crash at any point loses and doubles nothing.

`poll` reads new frames into memory, where queries see them at once. `flush` writes what is in memory as
Parquet and then the manifest, which names the files together with the position in every segment up to which
they reach. Only then are segments deleted. Whoever starts after a crash deletes the files that the manifest
does not name and reads on from its positions.

Two locks, taken in this order: `_writing` (one flush or merge at a time) and `_state` (memory, positions and
manifest; held for moments). The lock of the folder keeps other processes away.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import msgspec
import pyarrow as pa

from fairlead.errors import DataFolderInUse, FairleadError, StorageFull, StoreUnavailable
from fairlead.predictions import compaction
from fairlead.predictions.blocks import PROFILES
from fairlead.predictions.columns import OUTCOMES, combine
from fairlead.predictions.fresh import FreshRows
from fairlead.predictions.leases import Leases
from fairlead.predictions.manifest import DataFile, Manifest, recover, save_manifest
from fairlead.predictions.parquet import (
    remove_files,
    sorted_by_id,
    write_predictions,
    write_profiles,
    write_table,
)
from fairlead.predictions.profiler import Profiler
from fairlead.predictions.record import Outcome, PredictionRecord, SchemaFrame
from fairlead.predictions.tables import TableRecord, records_of
from fairlead.predictions.tail import SegmentTail
from fairlead.predictions.windows import WINDOWS, window_table

__all__ = ["Ingest", "Snapshot", "Status"]

logger = logging.getLogger(__name__)

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_RETRY_SECONDS = 5.0


class Snapshot(NamedTuple):
    """Everything that is in the log at one moment. Its files stay on the disk until it is let go."""

    root: Path
    files: tuple[DataFile, ...]
    fresh: FreshRows

    def of_model(self, model: str) -> Snapshot:
        """The same without other models' predictions, whose features need not be brought to one type."""
        fresh = FreshRows()
        fresh.predictions = {name: held for name, held in self.fresh.predictions.items() if name == model}
        fresh.outcomes = self.fresh.outcomes
        files = tuple(file for file in self.files if file.dataset != "predictions" or file.model == model)
        return self._replace(files=files, fresh=fresh)


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How far ingestion is. Counters are since the process started.

    `lag_bytes` have been written by gateways and not been read; what was written `lag_seconds` ago has been.
    `unknown_contracts` counts records whose features could not be named.
    """

    lag_bytes: int
    lag_seconds: float
    fresh_rows: int
    rows: int
    files: int
    bytes: int
    flushed_at: float | None
    torn: int
    corrupt: int
    unreadable: int
    unstorable: int
    unknown_contracts: int
    trouble: str | None


class Ingest:
    """The log of one data folder, as one process keeps it; all methods may be called from any thread.

    Rows go to Parquet when they are `flush_seconds` old or `flush_rows` many. `clock` tells Unix seconds.
    Raises `DataFolderInUse` when another process ingests that folder, `StoreUnavailable` when its manifest
    cannot be read.
    """

    def __init__(
        self,
        data_folder: Path | str,
        *,
        flush_seconds: float = 60.0,
        flush_rows: int = 100_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        data_folder = Path(data_folder).absolute()
        self.root = data_folder / "predictions"
        self.root.mkdir(parents=True, exist_ok=True)
        self._flush_seconds = flush_seconds
        self._flush_rows = flush_rows
        self._clock = clock
        self._lock_file = _lock(self.root)
        self._writing = threading.Lock()
        self._state = threading.RLock()
        self._manifest = recover(self.root)
        self._tail = SegmentTail(data_folder / "log", self._manifest.positions)
        self._contracts: dict[str, SchemaFrame] = dict(self._manifest.contracts)
        self.profiler = Profiler(data_folder)
        self._fresh, self._flushing = FreshRows(), FreshRows()
        self._leases = Leases(self.root)
        self._resting: set[str] = set()
        self._oldest_fresh: float | None = None
        self._caught_up_at = time.monotonic()
        self._flushed_at: float | None = None
        self._retry_at = 0.0
        self._unstorable = self._unknown_contracts = 0
        self._trouble: str | None = None

    def poll(self) -> bool:
        """Reads what gateways have written since; whether there was anything.

        Reads nothing while memory holds twice `flush_rows`: then the log waits on the disk.
        """
        with self._state:
            if self._fresh.rows + self._flushing.rows >= 2 * self._flush_rows:
                return False
            began = time.monotonic()
            entries = self._tail.read()
            if self._tail.caught_up:
                self._caught_up_at = began
            if not entries:
                return False
            records = [entry for entry in entries if isinstance(entry, PredictionRecord)]
            outcomes = [entry for entry in entries if isinstance(entry, Outcome)]
            self._contracts |= {
                entry.contract_id: entry for entry in entries if isinstance(entry, SchemaFrame)
            }
            self._unknown_contracts += sum(
                record.contract_id is not None and record.contract_id not in self._contracts
                for record in records
            )
            self._fresh.add(records, outcomes, self._contracts)
            for entry in entries:
                if isinstance(entry, TableRecord):
                    self._add_table(entry)
            if self._fresh.rows and self._oldest_fresh is None:
                self._oldest_fresh = began
            return True

    def catch_up(self, seconds: float = 1.0) -> None:
        """Polls until nothing is left to read or the time is up."""
        deadline = time.monotonic() + seconds
        while self.poll() and time.monotonic() < deadline:
            pass

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """The log as it is now; its files are kept while the block runs."""
        with self._state:
            taken = Snapshot(self.root, self._manifest.files, self._flushing.before(self._fresh))
            self._leases.take(taken.files)
        try:
            yield taken
        finally:
            with self._state:
                self._leases.give_back(taken.files)

    def contract(self, contract_id: str | None) -> SchemaFrame | None:
        """Names and types of that contract's features, when a record of it has been read."""
        return self._contracts.get(contract_id or "")

    @property
    def contracts(self) -> Mapping[str, SchemaFrame]:
        """Every contract of which a record has been read, by its id."""
        with self._state:
            return dict(self._contracts)

    def flush(self) -> bool:
        """Brings everything that was read to Parquet; whether there was anything to do.

        Raises `StorageFull` or `StoreUnavailable` when the disk refuses. Then nothing has changed, and the
        rows stay in memory and in the segments.
        """
        with self._writing:
            with self._state:
                positions, contracts = dict(self._tail.positions), dict(self._contracts)
                finished = self._tail.finished()
                if positions == self._manifest.positions and not self._fresh.rows:
                    self._remove_segments(finished)
                    return False
                rows, self._flushing, self._fresh = self._fresh, self._fresh, FreshRows()
                oldest, self._oldest_fresh = self._oldest_fresh, None
            written: list[DataFile] = []
            try:
                self._write(rows, written)
                self._commit(
                    lambda now: msgspec.structs.replace(
                        now, files=(*now.files, *written), positions=positions, contracts=contracts
                    )
                )
            except BaseException as error:
                remove_files(self.root, [path for file in written for path in file.paths()])
                with self._state:
                    self._fresh, self._flushing = rows.before(self._fresh), FreshRows()
                    self._oldest_fresh = oldest
                if isinstance(error, OSError):
                    raise _refusal(error, self.root) from error
                raise
            self._flushed_at = self._clock()
            with self._state:
                self._remove_segments(finished)
            return True

    def compact(self) -> bool:
        """Merges small files once; whether there was anything worth it. Raises like `flush`."""
        with self._writing:
            now = int(self._clock() * 1e6)
            movable = [file for file in self._manifest.files if not self._rests(file)]
            files = compaction.next_merge(movable, now)
            if not files:
                return False
            try:
                merged = compaction.merge(self.root, files, self.profiler.bins.of_id, now)
                try:
                    self._commit(
                        lambda now: msgspec.structs.replace(
                            now, files=(*(file for file in now.files if file not in files), merged)
                        )
                    )
                except BaseException:
                    remove_files(self.root, merged.paths())
                    raise
            except OSError as error:
                raise _refusal(error, self.root) from error
            with self._state:
                self._leases.doom(files)
            return True

    @contextmanager
    def resting(self, model: str) -> Iterator[Snapshot]:
        """The log as it is now; until the block ends, no profiles of that model are merged. One at a time."""
        with self._writing:
            self._resting.add(model)
        try:
            with self.snapshot() as taken:
                yield taken
        finally:
            self._resting.discard(model)

    def replace(self, old: Collection[DataFile], new: Sequence[DataFile]) -> None:
        """Puts files that were written into the place of others, in one step. Raises OSError when it could
        not; then the old ones hold."""
        with self._writing:
            self._commit(
                lambda now: msgspec.structs.replace(
                    now, files=(*(file for file in now.files if file not in old), *new)
                )
            )
            with self._state:
                self._leases.doom(old)

    def maintain(self) -> None:
        """Flushes and merges when it is time to; trouble is logged, shown in `status` and tried again."""
        now = time.monotonic()
        if now < self._retry_at:
            return
        try:
            if self._is_due(now):
                self.flush()
            while self.compact():
                pass
        except FairleadError as error:
            self._retry_at = now + _RETRY_SECONDS
            self._trouble = str(error)
            logger.error("%s Trying again in %g s.", error, _RETRY_SECONDS)
        else:
            self._trouble = None

    def status(self) -> Status:
        """How far ingestion is."""
        with self._state:
            lag = self._tail.lag_bytes()
            files = self._manifest.files
            return Status(
                lag_bytes=lag,
                lag_seconds=time.monotonic() - self._caught_up_at if lag else 0.0,
                fresh_rows=self._fresh.rows + self._flushing.rows,
                rows=sum(file.rows for file in files if file.dataset == "predictions"),
                files=len(files),
                bytes=sum(file.size for file in files),
                flushed_at=self._flushed_at,
                torn=self._tail.torn,
                corrupt=self._tail.corrupt,
                unreadable=self._tail.unreadable,
                unstorable=self._unstorable + self._fresh.unstorable + self._flushing.unstorable,
                unknown_contracts=self._unknown_contracts,
                trouble=self._trouble,
            )

    def close(self) -> None:
        """Lets the folder go; what was not flushed is read again at the next start."""
        self._lock_file.close()

    def _add_table(self, table: TableRecord) -> None:
        """Takes a table's rows in. One table at a time: a short frame may hold many rows."""
        contract = self._contracts.get(table.contract_id or "")
        try:
            rows = records_of(table, contract)
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            logger.error("a table of %d rows of %s is unreadable: %s", table.rows, table.model, error)
            self._tail.unreadable += 1
            return
        if table.contract_id is not None and contract is None:
            self._unknown_contracts += len(rows)
        self._fresh.add(rows, (), self._contracts)

    def _is_due(self, now: float) -> bool:
        with self._state:
            if self._fresh.rows >= self._flush_rows:
                return True
            oldest = self._oldest_fresh
            return (oldest is not None and now - oldest >= self._flush_seconds) or (
                not self._fresh.rows and bool(self._tail.finished())
            )

    def _write(self, rows: FreshRows, written: list[DataFile]) -> None:
        """Writes Parquet files of the rows; each is in `written` as soon as it lies on the disk."""
        windows = []
        for model, tables in rows.predictions.items():
            table = sorted_by_id(combine(tables))
            features = table.schema.field("features").type
            windows.append(window_table(table))
            written.append(write_predictions(self.root, model, [table], features))
            written.extend(self._write_profiles(model, table))
        if windows:
            written.append(write_table(self.root, "windows", windows, WINDOWS))
        if rows.outcomes:
            written.append(write_table(self.root, "outcomes", rows.outcomes, OUTCOMES))

    def _rests(self, file: DataFile) -> bool:
        return file.dataset == "profiles" and file.model in self._resting

    def _write_profiles(self, model: str, table: pa.Table) -> list[DataFile]:
        profiles = self.profiler.profiles(model, table, self._contracts)
        return [write_profiles(self.root, model, profiles, PROFILES, 60)]

    def _commit(self, change: Callable[[Manifest], Manifest]) -> None:
        with self._state:
            manifest = change(self._manifest)
            save_manifest(self.root, manifest)
            self._manifest = manifest
            self._unstorable += self._flushing.unstorable
            self._flushing = FreshRows()

    def _remove_segments(self, names: list[str]) -> None:
        try:
            self._tail.remove(names)
        except OSError as error:  # they are in Parquet all the same; the next flush tries again
            logger.warning("A segment that was ingested cannot be removed: %s", error)


def _lock(root: Path) -> IO[bytes]:
    held = (root / ".lock").open("ab")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        held.close()
        raise DataFolderInUse(
            f"Another process ingests the prediction log in {root}.",
            remedy="Stop it first, or give this one another data folder.",
        ) from error
    return held


def _refusal(error: OSError, root: Path) -> FairleadError:
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return StorageFull(
            f"No room to write predictions to {root}: {reason}.",
            remedy="Free space on that disk. Until then records wait in the log, which fills it further.",
        )
    return StoreUnavailable(
        f"Predictions cannot be written to {root}: {reason}.",
        remedy="Check that disk; records wait in the log.",
    )
