"""Serving settings of a model and of a version: every change is a revision, and the version's value wins."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.util import find_spec
from typing import Any

import msgspec
import sqlalchemy as sa

from fairlead.errors import InvalidSetting, MissingExtra, UnknownSetting
from fairlead.registry import audit
from fairlead.registry.lookup import require_model, require_version
from fairlead.registry.versions import ModelSettings
from fairlead.stores import tables

__all__ = ["SettingsRevision", "append", "change", "effective", "history", "own_values", "stated", "verify"]

Stated = dict[str | None, dict[str, Any]]
"""The values that stand at each level: under None the model's own, under a version's name the version's."""

_events = tables.settings_events.c
_NAMES = ModelSettings.__struct_fields__
_OF_THE_MODEL = (
    "gate_required", "drift_alarm_days", "drift_moved_share", "performance_alarm_days",
    "performance_tolerance", "performance_detector", "fairness_gap", "label_delay_hours",
    "price_per_core_hour",
)  # fmt: skip
_EXTRAS = {"performance_detector": "river"}
"""Settings that need a library, and the optional extra of the same name that brings it."""
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "cache_seconds": (lambda value: 0 <= value < math.inf, "0 (no cache) or more seconds"),
    "timeout_ms": (lambda value: 0 < value <= 3_600_000, "above 0 and at most an hour, in milliseconds"),
    "max_batch_rows": (lambda value: 1 <= value <= 1_000_000, "from 1 to 1,000,000 rows"),
    "max_queue_delay_ms": (lambda value: 0 <= value <= 10_000, "from 0 to 10,000 milliseconds"),
    "max_queue_rows": (lambda value: 1 <= value <= 10_000_000, "from 1 to 10,000,000 rows"),
    "max_queue_bytes": (lambda value: 1 <= value <= 1 << 40, "from 1 byte to 1 TiB, in bytes"),
    "latency_target_ms": (
        lambda value: 0 < value <= 3_600_000,
        "above 0 and at most an hour, in milliseconds",
    ),
    "instances": (lambda value: 1 <= value <= 256, "from 1 to 256"),
    "stale_seconds": (lambda value: 0 <= value < math.inf, "0 (never) or more seconds"),
    "idle_unload_seconds": (lambda value: 0 <= value < math.inf, "0 (never) or more seconds"),
    "adaptive_coverage": (lambda value: 0 <= value <= 0.1, "from 0 (never) to 0.1, as a share of labels"),
    "memory_limit_mb": (lambda value: 16 <= value <= 1 << 24, "from 16 to 16,777,216 megabytes"),
    "drift_alarm_days": (lambda value: 0.01 <= value <= 36_500, "from 0.01 to 36,500 days"),
    "drift_moved_share": (lambda value: 0 < value <= 1, "above 0 and at most 1, as a share of rows"),
    "performance_alarm_days": (lambda value: 0.1 <= value <= 36_500, "from 0.1 to 36,500 days"),
    "performance_tolerance": (lambda value: 0 <= value < 1, "from 0 to less than 1, as a share of rows"),
    "fairness_gap": (lambda value: 0 <= value <= 1, "from 0 to 1, as a share of rows"),
    "label_delay_hours": (lambda value: 0 <= value <= 8_760, "from 0 to 8,760 hours"),
    "price_per_core_hour": (lambda value: 0 <= value < math.inf, "0 or more, in the server's currency"),
}


class SettingsRevision(msgspec.Struct, frozen=True, kw_only=True):
    """What was set at one level (`version` None: the model's) after a change; the rest is inherited."""

    model: str
    version: str | None
    revision: int
    body: dict[str, Any]
    at: datetime
    who: str
    why: str


def change(
    connection: sa.Connection,
    model: str,
    version: str | None,
    changes: Mapping[str, Any],
    *,
    at: datetime,
    who: str,
    why: str,
) -> ModelSettings:
    """Sets values at one level and answers the settings that then hold there; None takes a value back.

    `UnknownSetting` names the nearest setting, `InvalidSetting` the rule, `MissingExtra` the extra that the
    value needs here; then nothing is changed.
    """
    require_model(connection, model)
    if version is not None:
        require_version(connection, model, version)
    for name in changes:
        if name not in _NAMES:
            close = difflib.get_close_matches(name, _NAMES, 1)
            remedy = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(_NAMES)}."
            raise UnknownSetting(f"There is no setting {name!r}.", remedy=remedy, setting=name)
    before = stated(connection, model).get(version, {})
    after = {name: value for name, value in ({**before, **changes}).items() if value is not None}
    verify(after, version)
    for name, extra in _EXTRAS.items():
        if changes.get(name) is not None and find_spec(extra) is None:
            raise MissingExtra(
                f"Setting {name} = {changes[name]!r} needs {extra}.",
                remedy=f"Run `pip install 'fairlead[{extra}]'` where control runs.",
            )
    if after != before:
        append(connection, model, version, after, at=at, who=who, why=why)
        details = {"from": before, "to": after}
        audit.append(
            connection,
            at=at,
            who=who,
            action="configure",
            model=model,
            version=version,
            why=why,
            details=details,
        )
    return effective(stated(connection, model), version)


def append(
    connection: sa.Connection,
    model: str,
    version: str | None,
    body: Mapping[str, Any],
    *,
    at: datetime,
    who: str,
    why: str,
) -> None:
    """Adds a revision of one level as it stands, already verified."""
    level = sa.and_(_events.model == model, _events.version.is_not_distinct_from(version))
    latest = connection.scalar(sa.select(sa.func.max(_events.revision)).where(level)) or 0
    connection.execute(
        tables.settings_events.insert().values(
            model=model, version=version, revision=latest + 1, body=dict(body), at=at, who=who, why=why
        )
    )


def stated(connection: sa.Connection, model: str) -> Stated:
    """The values that stand at every level of the model now."""
    latest = sa.select(sa.func.max(_events.id)).where(_events.model == model).group_by(_events.version)
    query = sa.select(_events.version, _events.body).where(_events.id.in_(latest))
    return dict(connection.execute(query).all())


def effective(levels: Stated, version: str | None) -> ModelSettings:
    """The settings that hold for a version (or the model): its own, else the model's, else defaults."""
    return msgspec.convert({**levels.get(None, {}), **levels.get(version, {})}, ModelSettings)


def history(connection: sa.Connection, model: str, version: str | None) -> list[SettingsRevision]:
    """All revisions of one level, oldest first."""
    require_model(connection, model)
    columns = [column for column in _events if column is not _events.id]
    level = sa.and_(_events.model == model, _events.version.is_not_distinct_from(version))
    query = sa.select(*columns).where(level).order_by(_events.id)
    return [SettingsRevision(**row) for row in connection.execute(query).mappings()]


def own_values(settings: ModelSettings) -> dict[str, Any]:
    """The values that differ from the defaults: what a version brings along when it is registered."""
    defaults = ModelSettings()
    own = {name: getattr(settings, name) for name in _NAMES}
    return {name: value for name, value in own.items() if value != getattr(defaults, name)}


def verify(values: Mapping[str, Any], version: str | None) -> None:
    """Raises `InvalidSetting` naming the first value that has a wrong type or breaks its rule, as one that is
    set for that version, None for the model."""
    for name, value in values.items():
        if version is not None and name in _OF_THE_MODEL:
            raise _refused(name, value, "it holds for all versions of a model, and is set for the model")
        try:
            msgspec.convert({name: value}, ModelSettings)
        except msgspec.ValidationError as error:
            raise _refused(name, value, str(error).partition(" - at")[0].lower()) from error
        obeys, rule = _RULES.get(name, (lambda _: True, ""))
        if not obeys(value):
            raise _refused(name, value, f"expected {rule}")


def _refused(name: str, value: Any, rule: str) -> InvalidSetting:
    remedy = f"Give {name} a value that fits."
    return InvalidSetting(f"Setting {name} = {value!r}: {rule}.", remedy=remedy, setting=name)
