"""Somebody else's database: read only, in bounded portions, and never with its password in a message."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from fairlead.errors import InvalidSync
from fairlead.syncs.sync import Sync

__all__ = ["Mark", "Portion", "columns_of", "read", "source"]

MOST_ROWS = 20_000
"""So many rows are read in one pass; the next pass goes on from there."""

_SECONDS = 60
_NEEDED = {"metric", "value", "at"}
_KNOWN = {*_NEEDED, "unit", "request_id", "row", "outcome_id", "mode"}
_REMEDY = "Select unit or request_id, metric, value and at, and if wanted outcome_id, row and mode."


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """How far a sync has read, and how the database writes times down: `aware`, `naive` (taken as UTC),
    `date`, `number` (Unix seconds), or text with that character between date and time.

    `full` tells that more rows wait behind it, so that nothing is read again before they were read.
    """

    at: datetime
    kind: str
    full: bool = False


class Portion(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one pass as plain values, in order of time, and the mark behind them."""

    rows: list[dict[str, Any]]
    mark: Mark | None


@contextmanager
def source(sync: Sync) -> Iterator[sa.Connection]:
    """A read-only connection to the sync's database. What goes wrong is `InvalidSync`, without the URL."""
    url = _url(sync)
    engine: sa.Engine | None = None
    try:
        engine = _engine(sync, url)
        with engine.connect() as connection:
            yield connection
    except ModuleNotFoundError as error:
        raise InvalidSync(
            f"The driver of {url.drivername!r} is not installed where control runs: {error.name}.",
            remedy="Install it there, or name another in the URL, as in postgresql+psycopg://…",
        ) from error
    except sa.exc.SQLAlchemyError as error:
        text = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        if url.password:
            text = text.replace(url.password, "***")
        raise InvalidSync(
            f"Sync {sync.name!r} cannot read its database: {text}.",
            remedy="Check the query and the database.",
        ) from error
    finally:
        if engine is not None:
            engine.dispose()


def columns_of(connection: sa.Connection, sync: Sync) -> tuple[str, ...]:
    """The columns that the query answers; `InvalidSync` when one is missing or unknown."""
    found = tuple(connection.execute(sa.select(sa.text("*")).select_from(_query(sync)).limit(0)).keys())
    unknown = sorted(set(found) - _KNOWN)
    if unknown:
        raise InvalidSync(
            f"The query of sync {sync.name!r} has an unknown column {unknown[0]!r}.", remedy=_REMEDY
        )
    missing = sorted(_NEEDED - set(found))
    if missing or not {"unit", "request_id"} & set(found):
        what = missing[0] if missing else "unit or request_id"
        raise InvalidSync(f"The query of sync {sync.name!r} lacks the column {what}.", remedy=_REMEDY)
    return found


def read(connection: sa.Connection, sync: Sync, mark: Mark | None, *, most: int = MOST_ROWS) -> Portion:
    """The next rows from the mark on. Raises `InvalidSync` when they cannot be put in order."""
    table = _query(sync, columns_of(connection, sync))
    query = sa.select(table).order_by(table.c.at).limit(most)
    since: Any = None
    if mark is not None:
        back = timedelta(0) if mark.full else timedelta(seconds=sync.overlap)
        since = _written(mark.at - back, mark.kind)
        query = query.where(table.c.at >= since)
    rows = [dict(row) for row in connection.execute(query).mappings()]
    if not rows:
        return Portion(rows=[], mark=mark)
    times = [_time(row["at"]) for row in rows]
    full = len(rows) == most
    latest = max(at for at, _ in times)
    if full and mark is not None and mark.full and latest <= mark.at:
        raise InvalidSync(
            f"More than {most:,} rows of sync {sync.name!r} have the same time {latest}.",
            remedy="Let `at` tell them apart, for example by the moment each row was written.",
        )
    if mark is not None:
        latest = max(latest, mark.at)
    plain = [{**row, "at": at.isoformat()} for row, (at, _) in zip(rows, times, strict=True)]
    return Portion(rows=plain, mark=Mark(at=latest, kind=times[-1][1], full=full))


def _url(sync: Sync) -> sa.URL:
    if sync.url_env is not None:
        place, text = f"the environment variable {sync.url_env}", os.environ.get(sync.url_env, "")
    else:
        place = f"the file {sync.url_file}"
        try:
            text = Path(sync.url_file or "").read_text()
        except (OSError, ValueError) as error:
            raise InvalidSync(
                f"{place} cannot be read where control runs.", remedy="Put the database's URL there."
            ) from error
    try:
        url = sa.make_url(text.strip())
    except (sa.exc.ArgumentError, ValueError):
        raise InvalidSync(
            f"{place[0].upper()}{place[1:]} holds no database URL where control runs.",
            remedy="Put one there, such as postgresql://reader:password@host/shop, and restart control.",
        ) from None
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgresql", "postgres") else url


def _engine(sync: Sync, url: sa.URL) -> sa.Engine:
    kind = url.get_backend_name()
    if kind == "sqlite":
        if not Path(url.database or "").is_file():
            raise InvalidSync(
                f"The database of sync {sync.name!r} is no file where control runs.",
                remedy="Give an absolute path, as in sqlite:////srv/shop.db.",
            )
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        sa.event.listen(engine, "connect", lambda made, _: made.execute("PRAGMA query_only = ON"))
        return engine
    if kind == "postgresql":
        options = {"connect_timeout": 5, "options": f"-c statement_timeout={_SECONDS * 1000}"}
        engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args=options)
        return engine.execution_options(postgresql_readonly=True)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    if kind in ("mysql", "mariadb"):
        sa.event.listen(engine, "connect", _only_read)
    return engine


def _only_read(connection: Any, _: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION READ ONLY")


def _query(sync: Sync, columns: tuple[str, ...] = ()) -> sa.Subquery:
    """The sync's query as a table: what is no query at all does not parse there."""
    text = sync.sql.strip().rstrip(";").replace(":", "\\:")
    return sa.text(f"{text}\n").columns(*(sa.column(name) for name in columns)).subquery("outcomes_source")


def _time(value: object) -> tuple[datetime, str]:
    """The moment, and how it was written."""
    if isinstance(value, datetime):
        return (value.astimezone(UTC), "aware") if value.tzinfo else (value.replace(tzinfo=UTC), "naive")
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC), "date"
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 10_000_000_000:
        return datetime.fromtimestamp(value, UTC), "number"
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            found = None
        if found is not None and found.utcoffset() in (None, timedelta(0)) and len(value) > 10:
            return found.replace(tzinfo=UTC), value[10]
    raise InvalidSync(
        f"The time {value!r} cannot be put in order.",
        remedy="Select `at` as a timestamp, as Unix seconds, or as text in UTC: 2026-11-21T12:00:00Z.",
    )


def _written(at: datetime, kind: str) -> Any:
    """The moment as the database writes it, or just before."""
    match kind:
        case "aware":
            return at
        case "naive":
            return at.replace(tzinfo=None)
        case "date":
            return at.date()
        case "number":
            return at.timestamp()
    return at.strftime(f"%Y-%m-%d{kind}%H:%M:%S")


def describe(row: Mapping[str, Any]) -> str:
    """A row in a message: which one it is, without its values."""
    return f"row of {row.get('unit') or row.get('request_id')!r} at {row.get('at')}"
