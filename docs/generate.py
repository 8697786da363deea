"""Writes docs/reference/*.md from the code: `make docs`. A test fails when what lies there is out of date."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from fairlead.cli.main import COMMANDS, fairlead
from fairlead.errors import FairleadError, every_error
from fairlead.gateway.openapi import data_plane_document
from fairlead.gateway.routes import ROUTES
from fairlead.gateway.statuses import STATUS_OF
from fairlead.settings import describe
from fairlead.telemetry.metrics import METRICS

FOLDER = Path(__file__).parent / "reference"
_NOTE = "<!-- Made by `make docs` from the code. Change the code, not this page. -->\n"


_CLI = """\
# Command line

`fairlead COMMAND …`; `--help` behind any command explains it. Beside its own options every command has
`--json`: the answer as JSON on standard output and nothing else there; errors are then problem documents on
standard error. (`predict` always answers JSON; its `--json` takes the features.)
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

_HTTP = """\
# HTTP

## Data plane

By default on port 8000. `/openapi.json` describes all of it, `/v1/models/{model}/openapi.json` one model with
its own contract. Routes marked * exist when the server has a `default_model`.
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
    }
    return {name: f"{_NOTE}\n{make().rstrip()}\n" for name, make in makers.items()}


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
    for name in ("PredictRequest", "BatchRequest", "Outcome", "Envelope", "BatchEnvelope", "RowEnvelope"):
        parts += ["", f"### {name}", "", _schema(document["components"]["schemas"][name])]
    parts += ["", *_admin()]
    return "\n".join(parts)


# --- their parts --------------------------------------------------------------------------------------------


def _command(command: click.Command, context: click.Context) -> list[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    parts = ["", f"### {context.command_path}", "", "```", usage, "```", "", *_prose(text)]
    options = [
        (
            f"`{', '.join(option.opts)}{f' {_metavar(option, context)}' if not option.is_flag else ''}`",
            _help(option),
        )
        for option in command.get_params(context)
        if isinstance(option, click.Option) and not option.hidden and option.name != "help"
    ]
    if options:
        parts += ["", _table(("Option", "Meaning"), options)]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            parts += _command(child, click.Context(child, info_name=name, parent=context))
    return parts


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


def _metavar(option: click.Option, context: click.Context) -> str:
    return option.make_metavar(context)


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
        (f"`{name}`", _type(kind), "yes" if name in required else "no", _described(kind))
        for name, kind in schema.get("properties", {}).items()
    ]
    return _table(("Field", "Type", "Always", ""), rows)


def _type(kind: dict[str, Any]) -> str:
    if "$ref" in kind:
        return str(kind["$ref"]).rpartition("/")[2]
    if "enum" in kind:
        return " · ".join(f"`{json.dumps(value)}`" for value in kind["enum"])
    if "anyOf" in kind:
        return " · ".join(_type(part) for part in kind["anyOf"])
    named = kind.get("type", "any")
    listed = [named] if isinstance(named, str) else list(named)
    if "array" in listed and isinstance(kind.get("items"), dict):
        listed[listed.index("array")] = f"list of {_type(kind['items'])}"
    return " · ".join(listed)


def _described(kind: dict[str, Any]) -> str:
    return str(kind.get("description", ""))


def _admin() -> list[str]:
    return []


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
