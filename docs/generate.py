"""Writes docs/reference/*.md from the code: `make docs`. A test fails when what lies there is out of date."""

from __future__ import annotations

import inspect
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from fairlead.cli.main import COMMANDS, fairlead
from fairlead.cli.shell import shared_options
from fairlead.errors import FairleadError, every_error
from fairlead.gateway.openapi import data_plane_document
from fairlead.gateway.routes import ROUTES
from fairlead.gateway.statuses import STATUS_OF
from fairlead.settings import describe
from fairlead.telemetry.metrics import METRICS

FOLDER = Path(__file__).parent / "reference"
_SHARED = {option.name for option in shared_options("admin", "gateway")}
_NOTE = "<!-- Made by `make docs` from the code. Change the code, not this page. -->\n"


_CLI = """\
# Command line

`fairlead COMMAND …`; `--help` behind any command explains it. With `--json` a command prints its answer as
JSON on standard output and nothing else there; errors are then problem documents on standard error. `predict`
always answers JSON; its `--json` takes the features. Commands that talk to a server take its address:
"""

_SETTINGS = """\
# Settings

A setting comes from `fairlead.toml`, then from the environment, then from a flag of `fairlead up`; the later
wins. In the file a prefix may be a table: `log_fsync` is `fsync` under `[log]`. An unknown name is refused,
and the nearest known one named.
"""

_METRICS = """\
# Metrics

`GET /metrics` on any gateway worker answers for all workers of its machine, in Prometheus' text format.
"""

_ERRORS = """\
# Errors

Every refusal is a problem document (RFC 9457, `application/problem+json`) with a stable `code`, a `detail`
that names the thing and the rule, a `remedy` that says what to do, and `retryable`: whether the same call can
succeed later without a change. `data_contract_violation` has `violations`, a list of `{field, rule, value,
expected}`. The Python client raises the class of `fairlead.errors` beside it. The command line adds
the code `usage` for wrong usage.
"""

_LOG = """\
# The prediction log in SQL

`fairlead predictions sql "SELECT …"` asks DuckDB over Parquet and the rows that are not yet in it; an answer
is there for whoever asks after it. One statement, SELECT, WITH, EXPLAIN or DESCRIBE, over these tables; it
reaches no file and no network. `at` is a column here, also unquoted.
"""

_HTTP = """\
# HTTP

## Data plane

By default on port 8000. `/openapi.json` describes all of it, `/v1/models/{model}/openapi.json` one model with
its own contract. Routes marked * exist when the server has a `default_model`.
"""

_ADMIN = """\
## Admin API

By default on port 8080, under `/api/v1`; its own documentation is at `/docs`, its OpenAPI document at
`/openapi.json`. Every route may also answer `malformed_request`, `payload_too_large` and `store_unavailable`.

Request headers: `X-Fairlead-User` (who asks, for histories and the audit log). Commands of traffic take
`If-Match` (the generation that they were decided on) and `Idempotency-Key` (under one key a command is
carried out once), and answer `{model, generation, weights, confirmed, unconfirmed, took_ms, note}`.
"""

_HEADERS = """\
Request headers: `X-Request-Id`, `X-Unit`, `X-Model-Version` (asks one live version), `X-Use-Case`,
`traceparent`. Answers carry `X-Request-Id`, and predictions `X-Model-Version`, `X-Variant`,
`X-Plan-Generation`, `X-Training-Data` and `X-Provenance` as far as they are known.
"""


def pages() -> dict[str, str]:
    """The name and the text of every generated page."""
    makers: dict[str, Callable[[], str]] = {
        "cli.md": cli,
        "settings.md": settings,
        "metrics.md": metrics,
        "errors.md": errors,
        "http.md": http,
        "log.md": log,
    }
    return {name: f"{_NOTE}\n{make().rstrip()}\n" for name, make in makers.items()}


def log() -> str:
    """The tables of the prediction log, and the columns of a record."""
    from fairlead.predictions import record, views
    from fairlead.predictions.columns import PREDICTIONS

    tables = inspect.cleandoc(views.__doc__ or "").partition("\n\n")[2]
    meaning = inspect.cleandoc(record.__doc__ or "").partition("What a record means:")[2].strip()
    types = {"struct<>": "struct, typed per contract"}
    columns = [(f"`{field.name}`", types.get(str(field.type), str(field.type))) for field in PREDICTIONS]
    return "\n".join(
        [_LOG, tables, "\n## Columns of `predictions`\n", meaning, "", _table(("Column", "Type"), columns)]
    )


def main() -> None:
    """Writes all pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, "utf-8")


# --- the pages ----------------------------------------------------------------------------------------------


def cli() -> str:
    """All commands, with their arguments and options."""
    parts = [
        _CLI,
        _options(shared_options("admin", "gateway"), click.Context(fairlead)),
        "",
        _table(
            ("Status", "Meaning"),
            [
                ("0", "Done."),
                ("1", "Refused or failed; standard error says what, by which rule, and what to do."),
                ("2", "Wrong usage; nothing was done."),
                ("3", "Done, but not confirmed by every gateway; those that have not are named."),
                ("130", "Interrupted."),
            ],
        ),
    ]
    context = click.Context(fairlead, info_name="fairlead")
    for title, section in COMMANDS.items():
        parts.append(f"\n## {title}")
        for name in section:
            command = fairlead.get_command(context, name)
            assert command is not None
            parts += _command(command, click.Context(command, info_name=name, parent=context))
    return "\n".join(parts)


def settings() -> str:
    """All settings of a server, and the variables that clients read."""
    rows = [
        (f"`{name}`", f"`FAIRLEAD_{name.upper()}`", kind, _default(default), meaning)
        for name, kind, default, meaning in describe()
    ]
    variables = [
        ("`FAIRLEAD_CONFIG`", "The settings file, instead of `fairlead.toml` in the working folder."),
        ("`FAIRLEAD_URL`", "Where clients find the data plane; default `http://localhost:8000`."),
        ("`FAIRLEAD_ADMIN_URL`", "Where clients find the admin API; default `http://localhost:8080`."),
        ("`FAIRLEAD_API_KEY`", "The key that clients send."),
    ]
    return "\n".join(
        [
            _SETTINGS,
            _table(("Setting", "Variable", "Type", "Default", "Meaning"), rows),
            "",
            "Read by clients and the command line, or about the file itself:",
            "",
            _table(("Variable", "Meaning"), variables),
        ]
    )


def metrics() -> str:
    """All metrics of `/metrics`."""
    rows = [
        (f"`{metric.name}`", metric.kind, ", ".join(f"`{label}`" for label in metric.labels), metric.help)
        for metric in METRICS
    ]
    return "\n".join(
        [
            _METRICS,
            _table(("Metric", "Kind", "Labels", "Meaning"), rows),
        ]
    )


def errors() -> str:
    """All error codes."""
    rows = [
        (f"`{cls.code}`", f"`{cls.__name__}`", _status(cls), "yes" if cls.retryable else "no", _meaning(cls))
        for cls in every_error()
    ]
    rows.append(
        (
            "`internal`",
            "`FairleadError`",
            "500",
            "no",
            "Something failed inside the server; its log says what.",
        )
    )
    return "\n".join(
        [
            _ERRORS,
            _table(("Code", "Class", "HTTP", "Retryable", "Meaning"), rows),
        ]
    )


def http() -> str:
    """All routes of both servers, and the schemas of the data plane."""
    rows = [
        (f"`{route.method}`", f"`{route.template}`", route.summary + (" *" if route.default_model else ""))
        for route in ROUTES
    ]
    document = data_plane_document(ROUTES, [])
    parts = [
        _HTTP,
        _table(("Method", "Path", "Answers"), rows),
        "",
        _HEADERS.rstrip(),
    ]
    for name, schema in document["components"]["schemas"].items():
        if "properties" in schema:
            parts += ["", f"### {name}", "", _schema(schema)]
    parts += ["", *_admin()]
    return "\n".join(parts)


# --- their parts --------------------------------------------------------------------------------------------


def _command(command: click.Command, context: click.Context) -> list[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    parts = ["", f"### {context.command_path}", "", "```", usage, "```", "", *_prose(text)]
    own = [option for option in command.params if option.name not in _SHARED]
    if table := _options(own, context):
        parts += ["", table]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            parts += _command(child, click.Context(child, info_name=name, parent=context))
    return parts


def _options(parameters: Iterable[click.Parameter], context: click.Context) -> str:
    rows = [
        (f"`{option.opts[0]}{'' if option.is_flag else f' {option.make_metavar(context)}'}`", _help(option))
        for option in parameters
        if isinstance(option, click.Option) and not option.hidden
    ]
    return _table(("Option", "Meaning"), rows) if rows else ""


def _prose(text: str) -> list[str]:
    """Paragraphs, with indented examples as code."""
    parts: list[str] = []
    for block in text.split("\n\n"):
        lines = block.splitlines()
        if lines and all(line.startswith("  ") for line in lines):
            parts += ["```", *(line.strip() for line in lines), "```", ""]
        else:
            parts += [*lines, ""]
    return parts[:-1]


def _help(option: click.Option) -> str:
    default = option.default
    shown = f" Default: `{default}`." if option.show_default and default is not None else ""
    return f"{option.help or ''}{shown}"


def _default(value: Any) -> str:
    return "" if value in ("", None) else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _status(cls: type[FairleadError]) -> str:
    return str(next(STATUS_OF[base] for base in cls.__mro__ if base in STATUS_OF))


def _meaning(cls: type[FairleadError]) -> str:
    return inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0].replace("\n", " ")


def _schema(schema: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = [
        (f"`{name}`", _type(kind), "yes" if name in required else "no", str(kind.get("description", "")))
        for name, kind in schema["properties"].items()
    ]
    if any(row[-1] for row in rows):
        return _table(("Field", "Type", "Always", "Meaning"), rows)
    return _table(("Field", "Type", "Always"), [row[:-1] for row in rows])


def _type(kind: dict[str, Any]) -> str:
    if "$ref" in kind:
        return str(kind["$ref"]).rpartition("/")[2]
    if "const" in kind:
        return f"`{json.dumps(kind['const'])}`"
    if "enum" in kind:
        return " · ".join(f"`{json.dumps(value)}`" for value in kind["enum"])
    if options := kind.get("anyOf", kind.get("oneOf")):
        return " · ".join(_type(part) for part in options)
    named = kind.get("type", "any")
    listed = [named] if isinstance(named, str) else list(named)
    if "array" in listed and isinstance(kind.get("items"), dict):
        listed[listed.index("array")] = f"list of {_type(kind['items'])}"
    return " · ".join(listed)


def _admin() -> list[str]:
    document = _admin_document()
    parts = [_ADMIN]
    for tag in document["tags"]:
        rows = [
            (f"`{method.upper()}`", f"`{path}`", operation["summary"] + ".", _codes(operation))
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if tag["name"] in operation.get("tags", ())
        ]
        parts += [f"### {tag['name'].capitalize()}", "", tag["description"], ""]
        parts += [_table(("Method", "Path", "Does", "Refuses with"), rows), ""]
    return parts


def _admin_document() -> dict[str, Any]:
    """The OpenAPI document of the admin API, which opens no store to say what it offers."""
    from fairlead.admin.api import create_app
    from fairlead.alerts.delivery import Deliveries
    from fairlead.alerts.following import Following
    from fairlead.alerts.reading import Config
    from fairlead.explanations.explaining import Explaining
    from fairlead.gate.runs import Gates
    from fairlead.predictions.ask import IngestClient
    from fairlead.registry.registry import Registry
    from fairlead.retraining.runner import Retraining
    from fairlead.rollouts.commands import Rollouts
    from fairlead.rollouts.traffic import Traffic
    from fairlead.serving.folder import DataFolder
    from fairlead.settings import Settings
    from fairlead.stores.blobs import Blobs
    from fairlead.stores.database import Database
    from fairlead.syncs.runner import Syncs

    with tempfile.TemporaryDirectory() as scratch:
        settings = Settings(data=scratch)
        settings.folder.joinpath("artifacts").mkdir()
        database = Database(settings.database)
        registry = Registry(database, Blobs(settings.artifacts))
        folder = DataFolder(settings.folder)
        traffic = Traffic(database, registry, settings)
        ingest = IngestClient(folder.ingest_socket)
        syncs = Syncs(database, folder.log, name="docs")
        gates = Gates(registry, folder, ingest, settings)
        rollouts = Rollouts(database, folder.counters)
        retraining = Retraining(registry, gates, rollouts, ingest, folder, settings, name="docs")
        deliveries = Deliveries(database, Config(), name="docs")
        return create_app(
            settings, database, registry, traffic, ingest, folder, syncs, deliveries, gates, rollouts,
            retraining, Explaining(registry, ingest, folder, trust_pickle=False), Following(""),
        ).openapi()  # fmt: skip


def _codes(operation: dict[str, Any]) -> str:
    """The codes that the route's responses name, beside those that any route may answer."""
    said = " ".join(answer["description"] for answer in operation["responses"].values())
    return ", ".join(f"`{code}`" for code in dict.fromkeys(re.findall(r"`([a-z_]+)`:", said)))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
