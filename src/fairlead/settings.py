"""Every setting of Fairlead, once: name, type, default, rule and meaning.

Sources, later wins: `fairlead.toml` (in the working folder, or the file that `FAIRLEAD_CONFIG` names), the
environment (`FAIRLEAD_` and the name in capitals), flags. `[log]` with `fsync` in the file is `log_fsync`
here and `FAIRLEAD_LOG_FSYNC` in the environment. An unknown name is refused with the nearest known one.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fairlead.errors import InvalidSetting, UnknownSetting

__all__ = ["Settings", "describe", "load_settings"]

_Port = Annotated[int, Meta(ge=0, le=65535)]
_Positive = Annotated[float, Meta(gt=0)]
_Count = Annotated[int, Meta(ge=1)]

# Read by the client and the command line, or naming the file itself: not settings of a server.
_CLIENT_VARIABLES = {
    "FAIRLEAD_URL", "FAIRLEAD_ADMIN_URL", "FAIRLEAD_API_KEY", "FAIRLEAD_CONFIG", "FAIRLEAD_JOB",
}  # fmt: skip
_TABLES = {"trainers", "retraining"}
"""Settings that are tables of tables by names which people choose."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one server. Each field's meaning is the text of its `Meta`."""

    data: Annotated[str, Meta(description="Folder that holds all state of this machine.")] = "fairlead-data"
    database_url: Annotated[
        str,
        Meta(
            description="Registry database: `sqlite:///…` (default, in the data folder) or `postgresql://…`."
        ),
    ] = ""
    artifacts_url: Annotated[
        str, Meta(description="Artifact store: `file://…` (default, in the data folder) or `s3://…`.")
    ] = ""
    cache_url: Annotated[
        str,
        Meta(
            pattern="^(memory|redis|rediss)://",
            description="Prediction cache: `memory://` (each gateway worker keeps its own), or `redis://…` "
            "(`rediss://…` for TLS): one that gateways share stands behind it.",
        ),
    ] = "memory://"

    host: Annotated[str, Meta(description="Address that the gateways listen on.")] = "127.0.0.1"
    port: Annotated[_Port, Meta(description="Port of the data plane.")] = 8000
    grpc_port: Annotated[
        _Port, Meta(description="Port of the gateways' gRPC, on the data plane's address; 0 switches it off.")
    ] = 8001
    admin_host: Annotated[str, Meta(description="Address that control listens on.")] = "127.0.0.1"
    admin_port: Annotated[_Port, Meta(description="Port of the admin API.")] = 8080
    workers: Annotated[int, Meta(ge=0, description="Gateway workers; 0 is one per core.")] = 0
    default_model: Annotated[
        str,
        Meta(description="Model that plain `/predict` and `/predict/batch` ask; empty switches them off."),
    ] = ""
    repository_control: Annotated[
        bool,
        Meta(description="Let callers of `/v2/repository` warm versions that lie on this machine."),
    ] = False
    allow_pins: Annotated[
        bool,
        Meta(description="Let callers choose a version: `X-Model-Version`, or a version in the path."),
    ] = True
    trust_pickle: Annotated[
        bool, Meta(description="Allow versions that run pickled code in an isolated worker.")
    ] = False

    max_body_bytes: Annotated[_Count, Meta(description="Largest request body that is read.")] = 10 * 2**20
    max_artifact_bytes: Annotated[
        _Count, Meta(description="Largest file of a version that control takes.")
    ] = 8 * 2**30
    max_header_bytes: Annotated[_Count, Meta(description="Largest request head that is read.")] = 32 * 2**10
    max_connections: Annotated[
        _Count,
        Meta(
            description="Open connections per gateway worker; one more takes the place of the one that is "
            "idle for longest, or is refused (503)."
        ),
    ] = 4_096
    max_turn_ms: Annotated[
        _Positive,
        Meta(
            description="How long requests that are walked together may wait for each other. While more is "
            "asked than can be done, what has waited for five times as long is refused (503)."
        ),
    ] = 20.0
    max_buffered_bytes: Annotated[
        _Count,
        Meta(
            description="Bytes per gateway worker of requests that come in pieces and are not yet answered; "
            "a body that would exceed it is refused (503)."
        ),
    ] = 256 * 2**20
    request_seconds: Annotated[
        _Positive,
        Meta(description="A request that is not whole so long after its first byte is refused (408)."),
    ] = 30.0
    write_seconds: Annotated[
        _Positive,
        Meta(
            description="A caller that takes less than 64 KiB of its waiting answers, and not all, in so "
            "long is cut off."
        ),
    ] = 30.0
    idle_seconds: Annotated[
        _Positive, Meta(description="A connection without a request for so long is closed.")
    ] = 75.0
    drain_seconds: Annotated[
        _Positive, Meta(description="How long a stopping gateway waits for answers under way.")
    ] = 20.0

    cache_max_bytes: Annotated[
        int,
        Meta(ge=0, description="Size bound of the prediction cache per gateway worker; 0 switches it off."),
    ] = 64 * 2**20

    memory_budget_mb: Annotated[
        float,
        Meta(
            ge=0,
            description="Megabytes per gateway worker for the models that run inside it: one is loaded when "
            "it is asked first, and what was asked least recently leaves. 0 is no bound: all stay loaded.",
        ),
    ] = 0.0

    log_fsync: Annotated[
        Literal["never", "interval", "always"],
        Meta(description="When the log is forced to the disk; `never` survives a kill, not a power cut."),
    ] = "never"
    log_on_full: Annotated[
        Literal["shed", "serve"],
        Meta(
            description="When the log cannot be written: refuse (503) or answer without a record (counted)."
        ),
    ] = "shed"
    log_segment_bytes: Annotated[int, Meta(ge=4096, description="Size at which a log segment is closed.")] = (
        64 * 2**20
    )
    ingest_flush_seconds: Annotated[
        _Positive, Meta(description="Age at which records go from the log to Parquet.")
    ] = 60.0
    ingest_flush_rows: Annotated[
        _Count, Meta(description="Number of records that go to Parquet at once.")
    ] = 100_000
    query_seconds: Annotated[_Positive, Meta(description="Time limit of one SQL query over the log.")] = 30.0

    confirm_seconds: Annotated[
        _Positive, Meta(description="How long a traffic command waits for the gateways' confirmation.")
    ] = 10.0
    prepare_seconds: Annotated[
        _Positive, Meta(description="How long a traffic command waits until gateways have loaded a version.")
    ] = 60.0
    rollback_hours: Annotated[
        _Positive, Meta(description="How long the previous production version stays loaded.")
    ] = 24.0
    explanation_days: Annotated[
        _Positive,
        Meta(description="How long explanations of requests are kept, so that who asks again gets the same."),
    ] = 365.0
    return_days: Annotated[
        float,
        Meta(
            ge=0,
            description="So long after it was in production, a version that was not rolled back gets "
            "everything at once when it is deployed again, watched; 0 is never.",
        ),
    ] = 7.0

    drift_look_seconds: Annotated[
        _Positive,
        Meta(
            description="How often control looks for drift; the false alarms that a model's "
            "`drift_alarm_days` allows are shared out among the looks."
        ),
    ] = 300.0
    price_per_core_hour: Annotated[
        float,
        Meta(
            ge=0,
            description="What an hour of one core costs; 0 is no price. A model's own setting wins.",
        ),
    ] = 0.0
    price_currency: Annotated[
        str, Meta(max_length=16, description="What prices are in, as shown beside them.")
    ] = ""

    alerts_file: Annotated[
        str,
        Meta(
            description="TOML file of alert rules and channels; without, `alerts.toml` in the working folder "
            "where there is one."
        ),
    ] = ""
    trainers: Annotated[
        dict[str, Any],
        Meta(
            description="Programs that train: a table `[trainers.NAME]` each, in the file alone "
            "([how-to](../how-to/retraining.md))."
        ),
    ] = {}
    retraining: Annotated[
        dict[str, Any],
        Meta(
            description="When models are retrained, and by which trainer: a table `[retraining.MODEL]` each, "
            "in the file alone ([how-to](../how-to/retraining.md))."
        ),
    ] = {}

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Least level of the server's own log.")
    ] = "info"
    log_format: Annotated[
        Literal["auto", "text", "json"],
        Meta(description="Form of the server's own log; `auto` is text on a terminal, else JSON."),
    ] = "auto"

    @property
    def folder(self) -> Path:
        """The data folder, absolute."""
        return Path(self.data).absolute()

    @property
    def database(self) -> str:
        """The database URL with its default filled in."""
        return self.database_url or f"sqlite:///{self.folder / 'fairlead.db'}"

    @property
    def artifacts(self) -> str:
        """The artifact URL with its default filled in."""
        return self.artifacts_url or f"file://{self.folder / 'artifacts'}"

    @property
    def gateway_workers(self) -> int:
        """The number of gateway workers with its default filled in."""
        return self.workers or len(os.sched_getaffinity(0))


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """The settings from file, environment and flags; None among the flags means "not given".

    Raises `UnknownSetting` naming the nearest known name, `InvalidSetting` naming the rule.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    named = environment.get("FAIRLEAD_CONFIG")
    path = file or Path(named or "fairlead.toml")
    if path.exists():
        for name, value in _flatten(_read(path)).items():
            values[name], origin[name] = value, str(path)
    elif named or file:
        raise InvalidSetting(f"The settings file {path} is not there.", remedy="Name an existing file.")
    for variable, text in environment.items():
        if variable.startswith("FAIRLEAD_") and variable not in _CLIENT_VARIABLES:
            name = variable.removeprefix("FAIRLEAD_").lower()
            values[name], origin[name] = text, variable
    for name, value in (flags or {}).items():
        if value is not None:
            values[name], origin[name] = value, f"--{name.replace('_', '-')}"
    for name in values:
        _refuse_unknown(name, origin[name])
    return Settings(**{name: _converted(name, value, origin[name]) for name, value in values.items()})


def describe() -> list[tuple[str, str, Any, str]]:
    """Name, type, default and meaning of every setting, in order; the reference is made from it."""
    rows = []
    for field in msgspec.structs.fields(Settings):
        info = msgspec.inspect.type_info(field.type)
        meaning = ""
        kind: Any = info
        while isinstance(kind, msgspec.inspect.Metadata):
            meaning = meaning or str((kind.extra_json_schema or {}).get("description", ""))
            kind = kind.type
        name = type(kind).__name__.removesuffix("Type").lower()
        if isinstance(kind, msgspec.inspect.LiteralType):
            name = " · ".join(str(value) for value in kind.values)
        rows.append((field.name, name, field.default, meaning))
    return rows


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"{path} is not valid TOML: {error}.", remedy="Correct that line.") from error


def _flatten(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict) and prefix + key not in _TABLES:
            flat |= _flatten(value, f"{prefix}{key}_")
        else:
            flat[prefix + key] = value
    return flat


def _refuse_unknown(name: str, origin: str) -> None:
    known = Settings.__struct_fields__
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        raise UnknownSetting(
            f"There is no setting {name!r} (from {origin}).",
            remedy=f"Did you mean {near[0]!r}?" if near else "See docs/reference/settings.md.",
            name=name,
            nearest=near[0] if near else None,
        )


def _converted(name: str, value: Any, origin: str) -> Any:
    field = next(field for field in msgspec.structs.fields(Settings) if field.name == name)
    try:
        # Text from the environment is converted by the field's type; typed values keep theirs.
        return msgspec.convert(value, field.type, strict=not isinstance(value, str))
    except msgspec.ValidationError as error:
        raise InvalidSetting(
            f"Setting {name!r} cannot be {_shown(name, value)} (from {origin}): {error}.",
            remedy="See docs/reference/settings.md for what it takes.",
            name=name,
        ) from error


def _shown(name: str, value: Any) -> str:
    """The value as an error may repeat it: of a URL, which can hold a password, only how it begins."""
    if name.endswith("_url") and isinstance(value, str):
        scheme, mark, _ = value.partition("://")
        return f"'{scheme}://…'" if mark else "without ://"
    return repr(value)
