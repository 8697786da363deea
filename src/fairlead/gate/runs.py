"""Gates that are run: one at a time, in the background, whether or not somebody waits.

A thread reads the rows and judges; both versions run in processes of their own. A run that is under way is
held by a lease, so that one whose server was killed is soon known to be interrupted.
"""

from __future__ import annotations

import logging
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import sqlalchemy as sa

from fairlead.contracts.table import Table, read_table_file
from fairlead.errors import (
    BlobNotFound,
    FairleadError,
    GateNotFound,
    InvalidGate,
    Overloaded,
    StoreUnavailable,
)
from fairlead.evaluation.change_report import ChangeReport
from fairlead.evaluation.scoring import Limits, Scorer, scoring
from fairlead.evaluation.traffic import replay_traffic
from fairlead.gate import ledger
from fairlead.gate.assessing import assess
from fairlead.gate.ledger import GateRun
from fairlead.gate.spec import GateSpec, Replay
from fairlead.predictions.ask import IngestClient
from fairlead.registry import aliases
from fairlead.registry.lookup import require_model
from fairlead.registry.registry import Registry
from fairlead.registry.versions import VersionSpec
from fairlead.routing import plans
from fairlead.serving.folder import DataFolder
from fairlead.settings import Settings

__all__ = ["GATES", "Data", "Gates"]

logger = logging.getLogger(__name__)

GATES = "gate-"
"""How names of folders begin into which held-out rows are fetched."""

_LEASE = timedelta(seconds=15)
"""Three renewals may fail before a run counts as interrupted; one that was not still ends as it does."""
_RENEW_SECONDS = 4.0
_MOST_WAITING = 20
_MOST_BYTES = 512 * 2**20
_STOPPED = "The server ended before the gate did."


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """The held-out rows: the SHA-256 of a blob, and the name of the file, which tells its kind."""

    sha256: str
    name: str


class _Task(msgspec.Struct, frozen=True):
    id: str
    spec: GateSpec
    candidate: VersionSpec
    against: VersionSpec | None
    data: Data | None


class Gates:
    """Starts gate runs and answers what came of them. Safe for threads."""

    def __init__(
        self,
        registry: Registry,
        folder: DataFolder,
        ingest: IngestClient,
        settings: Settings,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._registry = registry
        self._database = registry.database
        self._folder = folder
        self._ingest = ingest
        self._settings = settings
        self._clock = clock
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._held: set[str] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    # --- asking ---------------------------------------------------------------------------------------------

    def run(
        self,
        model: str,
        version: str,
        spec: GateSpec,
        data: Data | None,
        *,
        against: str | None = None,
        who: str,
        why: str = "",
    ) -> GateRun:
        """Begins a run of that version, by name or alias, beside `against`, else the version in production.

        Raises `ModelNotFound`, `VersionNotFound`; `InvalidGate` when the data are missing or not asked for,
        or a version is compared with itself; `BlobNotFound` when they were not uploaded; `Overloaded` while
        twenty others wait.
        """
        if (data is None) is not (spec.data is None):
            raise InvalidGate(
                "The gate names data, and none were sent." if data is None else "Data were sent for no gate.",
                remedy="Send the file that data names.",
            )
        if data is not None:
            self._verify_data(data)
        with self._lock:
            if len(self._held) >= _MOST_WAITING:
                raise Overloaded(
                    f"{_MOST_WAITING} gate runs are waiting already.", remedy="Try again when they are over."
                )
        with self._database.write() as connection:
            require_model(connection, model)
            name = aliases.resolve(connection, model, version)
            beside = self._beside(connection, model, against)
            if beside == name:
                raise InvalidGate(
                    f"Version {name!r} would be compared with itself.",
                    remedy="Name another with --against, or gate another version.",
                )
            now = self._clock()
            identifier = ledger.add(
                connection,
                model=model,
                version=name,
                against=beside,
                spec=spec,
                data_digest=None if data is None else data.sha256,
                now=now,
                who=who,
                why=why,
                held_until=now + _LEASE,
            )
            begun = ledger.get(connection, model, identifier, now)
        candidate = self._registry.spec(model, name)
        other = None if beside is None else self._registry.spec(model, beside)
        with self._lock:
            self._held.add(identifier)
        self._tasks.put(_Task(identifier, spec, candidate, other, data))
        return begun

    def get(self, model: str, identifier: str) -> GateRun:
        """One run; raises `ModelNotFound`, `GateNotFound`."""
        with self._database.read() as connection:
            require_model(connection, model)
            return ledger.get(connection, model, identifier, self._clock())

    def of_version(self, model: str, version: str) -> GateRun:
        """The latest run of a version, by name or alias; `GateNotFound` when there is none."""
        with self._database.read() as connection:
            require_model(connection, model)
            name = aliases.resolve(connection, model, version)
            found = ledger.find(connection, model, name, self._clock())
        if found is None:
            raise GateNotFound(
                f"No gate was run for {name!r} of {model!r}.", remedy=f"Run `fairlead gate {model} {name}`."
            )
        return found

    def of_model(self, model: str, *, version: str | None = None, limit: int = 20) -> list[GateRun]:
        """The model's runs, or those of one version, newest first."""
        with self._database.read() as connection:
            require_model(connection, model)
            name = None if version is None else aliases.resolve(connection, model, version)
            return ledger.of_model(connection, model, self._clock(), version=name, limit=limit)

    # --- starting and stopping ------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to carry runs out."""
        self._stopping.clear()
        for name, work in (("gates", self._work), ("gate-leases", self._renew)):
            threading.Thread(target=work, name=name, daemon=True).start()

    def stop(self) -> None:
        """Ends what is under way, which is then interrupted; the versions' processes end with this one."""
        self._stopping.set()
        self._tasks.put(None)
        with self._lock:
            held, self._held = self._held, set()
        try:
            with self._database.write() as connection:
                for identifier in held:
                    ledger.end(connection, identifier, "interrupted", now=self._clock(), reason=_STOPPED)
        except StoreUnavailable:
            logger.warning("%d gate runs are interrupted and could not be marked so", len(held))

    # --- carrying out ---------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None and not self._stopping.is_set():
            try:
                self._carry_out(task)
            except StoreUnavailable as error:
                logger.warning("gate run %s is lost: %s", task.id, error)
            except Exception:
                logger.exception("gate run %s failed inside", task.id)
                self._end(task.id, "error", reason="The server failed; its log says how.")
            finally:
                with self._lock:
                    self._held.discard(task.id)

    def _carry_out(self, task: _Task) -> None:
        with self._database.write() as connection:
            if not ledger.begin(connection, task.id):
                return
        try:
            report = assess(
                task.spec,
                task.candidate,
                task.against,
                None if task.data is None else self._table(task),
                self._scoring,
                self._replaying,
                data_digest=None if task.data is None else task.data.sha256,
            )
        except FairleadError as error:
            self._end(task.id, "error", reason=str(error))
            return
        with self._database.write() as connection:
            state: ledger.State = "passed" if report.passed else "failed"
            ledger.end(connection, task.id, state, now=self._clock(), report=report)

    def _end(self, identifier: str, state: ledger.State, *, reason: str) -> None:
        with self._database.write() as connection:
            ledger.end(connection, identifier, state, now=self._clock(), reason=reason)

    def _table(self, task: _Task) -> Table:
        """The rows; columns that the candidate takes as text are read as text, whatever they look like."""
        assert task.data is not None
        place = Path(tempfile.mkdtemp(dir=self._folder.run, prefix=GATES))
        try:
            file = place / f"rows{Path(task.data.name).suffix.lower()}"
            self._registry.blobs.get_to(task.data.sha256, file)
            texts = [field.name for field in task.candidate.contract.inputs if field.type == "string"]
            return read_table_file(file, texts=texts)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _scoring(self, spec: VersionSpec, /) -> AbstractContextManager[Scorer]:
        return scoring(
            spec,
            self._registry.blobs,
            self._folder,
            trust_pickle=self._settings.trust_pickle,
            limits=Limits(),
        )

    def _replaying(self, candidate: VersionSpec, against: VersionSpec, replay: Replay, /) -> ChangeReport:
        until = self._clock()
        return replay_traffic(
            self._registry,
            self._ingest,
            self._folder,
            candidate.model,
            candidate.version,
            until - timedelta(seconds=replay.since),
            until,
            trust_pickle=self._settings.trust_pickle,
            limit=replay.limit,
            # What others answered, the candidate itself among them, says nothing of a change from production.
            where="served_version = '{}'".format(against.version.replace("'", "''")),
        )

    def _verify_data(self, data: Data) -> None:
        if Path(data.name).suffix.lower() not in (".csv", ".parquet"):
            raise InvalidGate(
                f"Data file {data.name!r} is neither .csv nor .parquet.", remedy="Save it as one of these."
            )
        size = self._registry.blobs.size(data.sha256)
        if size is None:
            raise BlobNotFound(f"There is no blob {data.sha256}.", remedy="Upload it.", sha256=data.sha256)
        if size > _MOST_BYTES:
            raise InvalidGate(
                f"The data have {size:,} bytes; a gate takes {_MOST_BYTES:,}.", remedy="Send a sample."
            )

    def _beside(self, connection: sa.Connection, model: str, against: str | None) -> str | None:
        if against is not None:
            return aliases.resolve(connection, model, against)
        active = plans.active(connection, model)
        return None if active is None else active.stable()

    def _renew(self) -> None:
        while not self._stopping.wait(_RENEW_SECONDS):
            with self._lock:
                held = list(self._held)
            if not held:
                continue
            try:
                with self._database.write() as connection:
                    ledger.renew(connection, held, self._clock() + _LEASE)
            except StoreUnavailable as error:
                logger.warning("the leases of gate runs were not renewed: %s", error)
