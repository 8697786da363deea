"""Queries over the whole log: SQL on Parquet and fresh rows alike, and a record by its request id.

Each query first reads what gateways have written, so an answer is in the log for whoever asks after it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, NamedTuple

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.errors import DeadlineExceeded, FairleadError, InvalidQuery, StoreUnavailable
from fairlead.predictions.features import struct_type
from fairlead.predictions.index import candidate_rows
from fairlead.predictions.ingest import Ingest, Snapshot
from fairlead.predictions.parquet import read_rows
from fairlead.predictions.statements import admit
from fairlead.predictions.views import TABLES, views_for

__all__ = ["Queries", "Rows"]

Parameters = Sequence[Any] | Mapping[str, Any]

_JSON_COLUMNS = ("prediction", "probabilities", "flags", "violations", "refused")


_PAGE_BYTES = 8 << 20

_ANSWERED = """
SELECT * FROM predictions
WHERE model = $1 AND source IN ('online', 'batch') AND "at" >= $2
    AND ("at" < $3 OR ("at" = $3 AND prediction_id < $4)) AND {condition}
ORDER BY "at" DESC, prediction_id DESC
"""


class Rows(NamedTuple):
    """The answer to a query; `truncated` says that there were more rows than the limit."""

    table: pa.Table
    truncated: bool


class Queries:
    """SQL and look-ups over the log that `ingest` keeps; all methods may be called from any thread.

    A query may run for `seconds` and use `memory` ("1GB") altogether.
    """

    def __init__(
        self, ingest: Ingest, *, seconds: float = 30.0, memory: str = "1GB", threads: int = 2
    ) -> None:
        self.ingest = ingest
        self._seconds = seconds
        self._memory = memory
        self._threads = threads
        self._lock = threading.Lock()
        self._database: duckdb.DuckDBPyConnection | None = None
        self._running: set[duckdb.DuckDBPyConnection] = set()

    def sql(self, sql: str, params: Parameters = (), *, limit: int | None = None) -> Rows:
        """The answer to one statement from a person over the tables of `views.py`, up to `limit` rows.

        Raises `InvalidQuery` when it is not allowed or wrong, `DeadlineExceeded` when it takes too long.
        """
        with self._cursor() as cursor:
            statement, used = admit(cursor, sql, TABLES)
            self.ingest.catch_up()
            with self.ingest.snapshot() as snapshot:
                return self._run(cursor, snapshot, used, statement, params, limit)

    def trusted(self, sql: str, params: Parameters, used: Sequence[str], snapshot: Snapshot) -> pa.Table:
        """The answer to a statement of Fairlead's own over a snapshot that the caller holds."""
        with self._cursor() as cursor:
            return self._run(cursor, snapshot, set(used), sql, params, None).table

    def find(self, request_id: str) -> list[dict[str, Any]]:
        """The records of a request, one per row and shadow, in order of row and time; [] when unknown.

        A record is a dictionary of the columns of `predictions`, with the features of its own contract and
        with `prediction`, `probabilities`, `flags` and `violations` decoded from JSON.
        """
        self.ingest.catch_up()
        with self.ingest.snapshot() as snapshot:
            tables = snapshot.fresh.find(request_id)
            for file in snapshot.files:
                if file.index is not None and (
                    rows := candidate_rows(snapshot.root / file.index, request_id)
                ):
                    found = read_rows(snapshot.root, file, rows)
                    tables.append(found.filter(pc.equal(found.column("request_id"), request_id)))
        records = [record for table in tables for record in table.to_pylist()]
        records.sort(key=lambda record: (record["row"], record["at"], record["prediction_id"]))
        return [self._readable(record) for record in records]

    def answered(
        self,
        model: str,
        since: datetime,
        until: datetime,
        *,
        where: str = "",
        before: tuple[datetime, str] | None = None,
        limit: int,
    ) -> list[dict[str, Any]]:
        """The latest of a model's records of requests between the two times, newest first, as in `find`.

        Up to `limit`, and fewer when they are large; [] at the end. To read on, give time and prediction id
        of the last one as `before`. `where` is a condition on the columns of `predictions`. Copies for
        shadows are left out. Raises `InvalidQuery` for a condition that is none.
        """
        at, identifier = before or (until, "")
        condition = f"({where}\n)" if where.strip() else "true"
        with self._cursor() as cursor:
            statement, used = admit(cursor, _ANSWERED.format(condition=condition), TABLES)
            self.ingest.catch_up()
            with self.ingest.snapshot() as snapshot:
                params = [model, since, at, identifier]
                table = self._run(cursor, snapshot.of_model(model), used, statement, params, limit).table
        fitting = max(1, _PAGE_BYTES * table.num_rows // max(1, table.nbytes))
        return [self._readable(record) for record in table.slice(0, fitting).to_pylist()]

    def interrupt(self) -> None:
        """Stops the queries that are running; each raises `DeadlineExceeded`."""
        with self._lock:
            for cursor in self._running:
                _interrupt(cursor)

    def _readable(self, record: dict[str, Any]) -> dict[str, Any]:
        schema = self.ingest.contract(record["contract_id"])
        if record["features"] is not None and schema is not None:
            own = {field.name.lower() for field in struct_type(schema)}
            record["features"] = {
                name: value for name, value in record["features"].items() if name.lower() in own
            }
        for name in _JSON_COLUMNS:
            if record[name] is not None:
                record[name] = msgspec.json.decode(record[name])
        return record

    def _run(
        self,
        cursor: duckdb.DuckDBPyConnection,
        snapshot: Snapshot,
        used: set[str],
        sql: str,
        params: Parameters,
        limit: int | None,
    ) -> Rows:
        views = views_for(snapshot, used)
        deadline = threading.Timer(self._seconds, _interrupt, [cursor])
        deadline.start()
        try:
            for name, table in views.registered.items():
                cursor.register(name, table)
            for name, body in views.statements:
                cursor.execute(f"CREATE TEMP VIEW {name} AS {body}")
            return _fetch(cursor, sql, params, limit)
        except duckdb.Error as error:
            raise self._refusal(error) from error
        finally:
            deadline.cancel()

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of its own: views and registered tables of one query are not seen by another."""
        with self._lock:
            if self._database is None:
                self._database = self._open()
            cursor = self._database.cursor()
            self._running.add(cursor)
        try:
            yield cursor
        finally:
            with self._lock:
                self._running.discard(cursor)
            cursor.close()

    def _open(self) -> duckdb.DuckDBPyConnection:
        folder = str(self.ingest.root).replace("'", "''")
        database = duckdb.connect(":memory:")
        for setting in (
            "temp_directory = ''",
            f"allowed_directories = ['{folder}/']",
            f"memory_limit = '{self._memory}'",
            f"threads = {self._threads}",
            "TimeZone = 'UTC'",
            "parquet_metadata_cache = true",
            "python_enable_replacements = false",
            "autoinstall_known_extensions = false",
            "autoload_known_extensions = false",
            "allow_community_extensions = false",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            database.execute(f"SET {setting}")
        return database

    def _refusal(self, error: duckdb.Error) -> FairleadError:
        reason = "\n".join(line for line in str(error).splitlines() if line.strip())
        match error:
            case duckdb.InterruptException():
                return DeadlineExceeded(
                    f"The query was stopped, at the latest after {self._seconds:g} s.",
                    remedy='Ask for less: a time range ("at" > …), one model, fewer columns.',
                )
            case duckdb.OutOfMemoryException():
                return InvalidQuery(
                    f"The query needs more than {self._memory} of memory.",
                    remedy="Ask for less: fewer columns, a time range, a LIMIT, smaller groups.",
                )
            case duckdb.IOException() | duckdb.FatalException() | duckdb.InternalException():
                self._database = None  # a database that failed inside answers nothing more
                return StoreUnavailable(f"The prediction log cannot be read: {reason}.", remedy="Try again.")
        return InvalidQuery(
            reason, remedy=f"The tables are {', '.join(TABLES)}; DESCRIBE shows their columns."
        )


def _interrupt(cursor: duckdb.DuckDBPyConnection) -> None:
    with suppress(duckdb.Error):  # it may have been closed this instant
        cursor.interrupt()


def _fetch(cursor: duckdb.DuckDBPyConnection, sql: str, params: Parameters, limit: int | None) -> Rows:
    relation = cursor.sql(sql, params=params or None)
    if relation is None:
        raise InvalidQuery("The statement has no answer.", remedy="Send a SELECT.")
    if limit is None:
        return Rows(relation.to_arrow_table(), False)
    batches, count = [], 0
    with relation.to_arrow_reader(min(limit + 1, 10_000)) as reader:
        for batch in reader:
            batches.append(batch)
            count += batch.num_rows
            if count > limit:
                break
        table = pa.Table.from_batches(batches, reader.schema)
    return Rows(table.slice(0, limit), count > limit)
