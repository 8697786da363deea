"""SQL from people: one statement that only reads the log's tables, or a refusal that says why.

DuckDB runs it with external access off and its configuration locked, so a file or the network would be out of
reach anyway. This gate in front looks at the parsed statement and lets through what is known to be harmless,
which is also what makes a refusal understandable.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

import duckdb
import msgspec

from fairlead.errors import InvalidQuery

__all__ = ["admit"]

_READ_ONLY = "Send one SELECT, WITH, EXPLAIN or DESCRIBE statement over the tables of the prediction log."
_TABLE_FUNCTIONS = frozenset({"generate_series", "range", "unnest"})
_REFUSED_FUNCTIONS = frozenset({"current_setting", "getenv", "write_log"})
_QUERY_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_EXPLAIN = re.compile(r"\s*EXPLAIN(\s+ANALYZE)?(\s*\([^()]*\))?\s+", re.IGNORECASE)
_NOT_A_COLUMN = re.compile(rb"\s*(\(|time\s+zone\b)", re.IGNORECASE)


def admit(connection: duckdb.DuckDBPyConnection, sql: str, tables: Collection[str]) -> tuple[str, set[str]]:
    """The statement to run and which of `tables` it reads; for SHOW and `information_schema` all of them.

    A bare `at` is quoted: it is a column of every table here and a keyword in DuckDB. Raises `InvalidQuery`.
    """
    try:
        sql = _quote_at(sql)
        statements = connection.extract_statements(sql)
    except (duckdb.Error, UnicodeError) as error:
        raise InvalidQuery(_first_lines(error), remedy=_READ_ONLY) from error
    if len(statements) != 1:
        raise InvalidQuery(f"There are {len(statements)} statements.", remedy=_READ_ONLY)
    kind = statements[0].type.name
    text = statements[0].query
    if kind == "EXPLAIN":
        text, found = _EXPLAIN.subn("", text, count=1)
        if not found:
            raise InvalidQuery("EXPLAIN must be the first word.", remedy=_READ_ONLY)
    elif kind != "SELECT":
        raise InvalidQuery(f"{kind} statements are not allowed here.", remedy=_READ_ONLY)
    tree = _parse(connection, text)
    used: set[str] = set()
    known = {name.lower() for name in tables}
    visible = known | {name.lower() for name in _common_tables(tree)}
    for node in _nodes(tree):
        used |= _examine(node, known, visible)
    return sql, used & known if "*" not in used else known


def _examine(node: dict[str, Any], known: set[str], visible: set[str]) -> set[str]:
    """The tables that this node of the statement reads ("*": any of them); refuses what is not allowed."""
    match node.get("type"):
        case "TABLE_FUNCTION":
            name = node["function"].get("function_name", "")
            if name.lower() not in _TABLE_FUNCTIONS:
                raise InvalidQuery(
                    f"The table function {name!r} is not allowed.",
                    remedy=f"Allowed are {_list(_TABLE_FUNCTIONS)}; the tables are {_list(known)}.",
                )
        case "FUNCTION" if node.get("function_name", "").lower() in _REFUSED_FUNCTIONS:
            raise InvalidQuery(f"The function {node['function_name']!r} is not allowed.", remedy=_READ_ONLY)
        case "BASE_TABLE":
            name = node["table_name"]
            if node.get("schema_name", "").lower() == "information_schema":
                return {"*"}
            if name.lower() not in visible or node.get("schema_name") or node.get("catalog_name"):
                raise InvalidQuery(f"There is no table {name!r}.", remedy=f"The tables are {_list(known)}.")
            return {name.lower()}
        case "SHOW_REF" if node.get("query") is None:
            return {"*"}
        case str(kind) if kind.endswith("_NODE") and kind not in _QUERY_NODES:
            raise InvalidQuery(f"{kind.split('_')[0]} is not allowed here.", remedy=_READ_ONLY)
    return set()


def _parse(connection: duckdb.DuckDBPyConnection, text: str) -> Any:
    """The statement as DuckDB's own parser sees it."""
    ((serialised,),) = connection.execute("SELECT json_serialize_sql($1)", [text]).fetchall()
    try:
        tree = msgspec.json.decode(serialised)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidQuery("The statement is nested too deeply.", remedy=_READ_ONLY) from error
    if tree["error"]:
        raise InvalidQuery("Only SELECT statements can be explained here.", remedy=_READ_ONLY)
    return tree["statements"]


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _common_tables(tree: Any) -> Iterator[str]:
    """The names that WITH clauses give."""
    for node in _nodes(tree):
        if isinstance(node.get("cte_map"), dict):
            yield from (entry["key"] for entry in node["cte_map"]["map"])
        if node.get("type") in ("RECURSIVE_CTE_NODE", "CTE_NODE"):
            yield node.get("cte_name", "")


def _quote_at(sql: str) -> str:
    """The statement with each bare word `at` quoted, save in AT TIME ZONE and before a parenthesis."""
    data = sql.encode()
    tokens = duckdb.tokenize(sql)
    starts = [offset for offset, _ in tokens]
    pieces, done = [], 0
    for position, (start, kind) in enumerate(tokens):
        end = starts[position + 1] if position + 1 < len(starts) else len(data)
        if kind != duckdb.token_type.keyword or data[start:end].strip().lower() != b"at":
            continue
        if not _NOT_A_COLUMN.match(data, end):
            pieces += [data[done:start], b'"at"']
            done = start + 2
    return b"".join([*pieces, data[done:]]).decode()


def _first_lines(error: Exception) -> str:
    return "\n".join(line for line in str(error).splitlines() if line.strip())


def _list(names: Collection[str]) -> str:
    return ", ".join(sorted(names))
