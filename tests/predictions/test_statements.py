"""People read the log's tables with SQL, and nothing else."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import InvalidQuery
from fairlead.predictions.statements import _quote_at, admit

TABLES = {"predictions", "outcomes"}


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(":memory:")


@pytest.mark.parametrize(
    ("sql", "used"),
    [
        ("SELECT count(*) FROM predictions", {"predictions"}),
        ("FROM Predictions", {"predictions"}),
        ("TABLE outcomes", {"outcomes"}),
        ("VALUES (1)", set()),
        ("WITH p AS (SELECT * FROM predictions) SELECT * FROM p, outcomes", TABLES),
        ("WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 9) FROM t", set()),
        ("SELECT (SELECT max(latency_ms) FROM predictions)", {"predictions"}),
        ("SELECT * FROM predictions UNION ALL SELECT * FROM outcomes", TABLES),
        ("PIVOT predictions ON status IN ('ok') USING count(*)", {"predictions"}),
        ("SELECT * FROM range(3), unnest([1, 2])", set()),
        ("EXPLAIN SELECT * FROM outcomes", {"outcomes"}),
        ("EXPLAIN ANALYZE SELECT 1", set()),
        ("/* why */ EXPLAIN (FORMAT JSON) SELECT 1", set()),
        ("DESCRIBE predictions", {"predictions"}),
        ("SUMMARIZE predictions", {"predictions"}),
        ("SHOW TABLES", TABLES),
        ("SELECT * FROM information_schema.columns", TABLES),
        ("SELECT 1;", set()),
    ],
)
def test_reading_is_admitted(connection: duckdb.DuckDBPyConnection, sql: str, used: set[str]) -> None:
    assert admit(connection, sql, TABLES)[1] == used


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        'SELECT * FROM "secrets.parquet"',
        "FROM READ_PARQUET('x.parquet')",
        "SELECT (SELECT content FROM read_text('/etc/passwd'))",
        "SELECT * FROM predictions WHERE unit IN (SELECT content FROM read_text('/etc/passwd'))",
        "WITH x AS (FROM glob('*')) FROM x",
        "DESCRIBE SELECT * FROM read_csv('/etc/passwd')",
        "SUMMARIZE 'x.csv'",
        "EXPLAIN SELECT * FROM read_csv('/etc/passwd')",
        "EXPLAIN COPY predictions TO '/tmp/stolen'",
        "COPY predictions TO '/tmp/stolen'",
        "COPY (SELECT 1) TO '/tmp/stolen'",
        "ATTACH '/tmp/x.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA database_list",
        "CALL pragma_version()",
        "SET threads = 1",
        "RESET threads",
        "CREATE TABLE t AS SELECT 1",
        "CREATE MACRO f(x) AS x",
        "DROP VIEW predictions",
        "INSERT INTO predictions VALUES (1)",
        "UPDATE predictions SET unit = 1",
        "DELETE FROM predictions",
        "WITH x AS (INSERT INTO predictions VALUES (1) RETURNING *) FROM x",
        "EXPORT DATABASE '/tmp/x'",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "USE other",
        "BEGIN",
        "CHECKPOINT",
        "VACUUM",
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM duckdb_secrets()",
        "SELECT * FROM query('SELECT 1')",
        "SELECT * FROM query_table('predictions')",
        "SELECT * FROM parquet_metadata('x')",
        "SELECT getenv('HOME')",
        "SELECT current_setting('allowed_directories')",
        "SELECT * FROM pg_catalog.pg_class",
        "SELECT * FROM main.predictions",
        "SELECT * FROM nowhere",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP VIEW predictions",
        "",
        ";",
        "SELECT",
        "SELEC 1",
        "SELECT 'open",
        "SELECT /* open",
        "SELECT \ud800",
    ],
)
def test_everything_else_is_refused_with_a_reason(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    with pytest.raises(InvalidQuery) as refused:
        admit(connection, sql, TABLES)
    assert refused.value.message
    assert refused.value.remedy


def test_a_statement_nested_without_end_is_refused(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(InvalidQuery):
        admit(connection, "SELECT " + "(" * 20_000 + "1" + ")" * 20_000, TABLES)
    with pytest.raises(InvalidQuery):
        admit(connection, "SELECT " + "(SELECT " * 900 + "1" + ")" * 900, TABLES)


@pytest.mark.parametrize(
    ("sql", "quoted"),
    [
        ("SELECT at FROM predictions", 'SELECT "at" FROM predictions'),
        ("SELECT max(AT), p.at FROM predictions p", 'SELECT max("at"), p."at" FROM predictions p'),
        ("FROM predictions WHERE at>now()", 'FROM predictions WHERE "at">now()'),
        ("SELECT 1 AS one ORDER BY at", 'SELECT 1 AS one ORDER BY "at"'),
        ("SELECT 'at', \"at\", $$ at $$ -- at", "SELECT 'at', \"at\", $$ at $$ -- at"),
        ("SELECT at AT TIME ZONE 'UTC'", "SELECT \"at\" AT TIME ZONE 'UTC'"),
        ("SELECT 'Zoë ☃', at", "SELECT 'Zoë ☃', \"at\""),
        ("SELECT format, cat, data FROM t", "SELECT format, cat, data FROM t"),
    ],
)
def test_the_column_at_needs_no_quotes(sql: str, quoted: str) -> None:
    assert _quote_at(sql) == quoted


words = st.sampled_from(
    [
        "SELECT",
        "FROM",
        "WITH",
        "EXPLAIN",
        "at",
        "predictions",
        "(",
        ")",
        "*",
        ",",
        "'",
        '"',
        "--",
        "$$",
        "ü",
        "1",
    ]
)


@given(st.lists(words | st.text(max_size=3), max_size=12).map(" ".join))
def test_any_text_is_admitted_or_refused(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    try:
        statement, used = admit(connection, sql, TABLES)
    except InvalidQuery:
        return
    assert used <= TABLES
    assert len(connection.extract_statements(statement)) == 1
