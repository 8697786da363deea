"""`alerts.toml`: what a team changes about alerts. Without the file everything has its default.

Unknown keys are refused with the nearest known one, so that a typing error never becomes a default.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from fairlead.alerts.channels import Channel, LogChannel
from fairlead.alerts.rules import DEFAULTS, Rule, Runbook
from fairlead.alerts.targets import Targets
from fairlead.contracts.durations import seconds_of
from fairlead.contracts.keys import known_keys, misfit
from fairlead.errors import InvalidAlerts
from fairlead.monitoring.vitals import Limits

__all__ = ["Config", "path_of", "read_config", "read_file"]

_TABLES = ("limits", "rules", "conditions", "channels", "delivery")
_TIMES = ("clear_seconds", "cooldown", "forget")
_CHANGED = (
    "severity",
    "model",
    "version",
    "after",
    "gross",
    "clear",
    *_TIMES,
    "channels",
    "runbook",
    "enabled",
)
_OWN = (
    "name", "title", "kind", "severity", "model", "version", "subject", "slice", "measure", "against",
    "above", "below", "release", "gross", "after", "clear", *_TIMES, "channels", "runbook",
)  # fmt: skip
_Kind = TypeVar("_Kind", bound=msgspec.Struct)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All that alerts are told to do: limits of what is looked at every second, of all models and of some by
    name; the rules; who is told, and where messages may go."""

    limits: Limits = Limits()
    limits_of: dict[str, Limits] = {}
    rules: tuple[Rule, ...] = DEFAULTS
    channels: dict[str, Channel] = msgspec.field(default_factory=lambda: {"log": LogChannel()})
    targets: Targets = Targets()

    def limits_for(self, model: str) -> Limits:
        """The limits of a model."""
        return self.limits_of.get(model, self.limits)

    def channels_for(self, rule: Rule) -> tuple[str, ...]:
        """The names of those who are told by a rule."""
        return rule.channels or tuple(self.channels)


def path_of(named: str) -> Path:
    """The file of that name, or without one `alerts.toml` in the working folder."""
    return Path(named or "alerts.toml")


def read_file(named: str) -> Config:
    """The configuration in that file, or without a name in `alerts.toml` of the working folder, where there
    is one. Raises `InvalidAlerts`."""
    path = path_of(named)
    if not named and not path.exists():
        return Config()
    try:
        return read_config(tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        raise InvalidAlerts(
            f"{path} cannot be read: {error.strerror}.", remedy="Give the path of an alerts.toml."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidAlerts(f"{path} is not valid TOML: {error}.", remedy="Correct that line.") from error


def read_config(document: object) -> Config:
    """The verified configuration of a mapping out of TOML; raises `InvalidAlerts`."""
    plain = known_keys(document, _TABLES, "alerts.toml", InvalidAlerts)
    limits, limits_of = _limits(plain.get("limits", {}))
    channels = _channels(plain.get("channels", {}))
    rules = (*_changed(plain.get("rules", {})), *_own(plain.get("conditions", [])))
    names = [rule.name for rule in rules]
    for rule in rules:
        if names.count(rule.name) > 1:
            raise InvalidAlerts(f"Two rules are called {rule.name!r}.", remedy="Give each a name of its own.")
        for channel in rule.channels:
            known_keys({channel: None}, tuple(channels), f"the channels of rule {rule.name!r}", InvalidAlerts)
    fields = known_keys(plain.get("delivery", {}), Targets.__struct_fields__, "[delivery]", InvalidAlerts)
    targets = _convert(fields, Targets, "[delivery]").verify()
    return Config(limits=limits, limits_of=limits_of, rules=rules, channels=channels, targets=targets)


def _limits(table: object) -> tuple[Limits, dict[str, Limits]]:
    """Limits of all, and of models by name: tables within the table."""
    if not isinstance(table, Mapping):
        known_keys(table, (), "[limits]", InvalidAlerts)
        raise AssertionError("unreachable")
    common = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    every = _limit(common, "[limits]")
    return every, {
        model: _limit({**common, **own}, f"[limits.{model}]")
        for model, own in table.items()
        if isinstance(own, Mapping)
    }


def _limit(table: Mapping[str, Any], where: str) -> Limits:
    limits = _convert(known_keys(table, Limits.__struct_fields__, where, InvalidAlerts), Limits, where)
    for name in Limits.__struct_fields__:
        value = getattr(limits, name)
        most = 1.0 if name.endswith("_rate") else float("inf")
        least = 1.0 if name == "slower" else 0.0
        if not least <= value <= most or value == float("inf"):
            kind = "a share from 0 to 1" if most == 1.0 else f"a number from {least:g}"
            raise InvalidAlerts(f"{name} of {where} is {value:g}.", remedy=f"Write {kind}.")
    return limits


def _changed(table: object) -> list[Rule]:
    """The default rules with what is changed about them, without those that are switched off."""
    changes = known_keys(table, tuple(rule.name for rule in DEFAULTS), "[rules]", InvalidAlerts)
    found = []
    for rule in DEFAULTS:
        where = f"[rules.{rule.name}]"
        own = dict(known_keys(changes.get(rule.name, {}), _CHANGED, where, InvalidAlerts))
        enabled = own.pop("enabled", True)
        if not isinstance(enabled, bool):
            raise InvalidAlerts(f"`enabled` of {where} is no truth value.", remedy="Write true or false.")
        if enabled:
            found.append(_rule({**msgspec.structs.asdict(rule), **_plain(own, where)}, where))
    return found


def _own(tables: object) -> list[Rule]:
    if not isinstance(tables, list):
        raise InvalidAlerts("`conditions` is no list of tables.", remedy="Begin each with [[conditions]].")
    found = []
    for index, table in enumerate(tables):
        where = f"conditions[{index}]"
        own = _plain(dict(known_keys(table, _OWN, where, InvalidAlerts)), where)
        name = own.get("name")
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            raise InvalidAlerts(
                f"{where} has no name, or {name!r} is none.",
                remedy="Give `name`: letters, digits, dot, dash and underscore, 63 at most.",
            )
        found.append(_rule({"title": name, "cooldown": 3_600.0, **own}, where))
    return found


def _plain(own: dict[str, Any], where: str) -> dict[str, Any]:
    """The table with its times in seconds, and `after` as what rules have."""
    for name in _TIMES:
        if name in own:
            own[name] = seconds_of(f"{name} of {where}", own[name], InvalidAlerts)
    after = own.pop("after", None)
    if after is not None:
        found = re.fullmatch(r"\s*(\d{1,3})\s+of\s+(\d{1,3})\s*", after) if isinstance(after, str) else None
        if found is None:
            raise InvalidAlerts(
                f"`after` of {where} is {after!r}.",
                remedy="Write how many of the last looks have to be bad, such as '2 of 3'.",
            )
        own["fire"], own["of"] = int(found[1]), int(found[2])
    if "runbook" in own:
        fields = known_keys(own["runbook"], Runbook.__struct_fields__, f"runbook of {where}", InvalidAlerts)
        own["runbook"] = _convert(fields, Runbook, f"runbook of {where}")
    return own


def _rule(fields: Mapping[str, Any], where: str) -> Rule:
    return _convert(fields, Rule, where).verify()


def _channels(table: object) -> dict[str, Channel]:
    """The channels by name; the log is always one of them unless another channel has its name."""
    if not isinstance(table, Mapping):
        raise InvalidAlerts("`channels` is no table.", remedy="Begin each channel with [channels.NAME].")
    found: dict[str, Channel] = {"log": LogChannel()}
    kinds = {kind.__struct_config__.tag: kind for kind in Channel.__args__}
    for name, own in table.items():
        where = f"[channels.{name}]"
        if _NAME.fullmatch(name) is None:
            raise InvalidAlerts(
                f"A channel cannot be called {name!r}.",
                remedy="Use letters, digits, dot, dash and underscore, 63 at most.",
            )
        kind = own.get("type") if isinstance(own, Mapping) else None
        if kind not in kinds:
            raise InvalidAlerts(
                f"The type of {where} is {kind!r}.", remedy=f"Write one of {', '.join(map(str, kinds))}."
            )
        known = ("type", *kinds[kind].__struct_encode_fields__)
        plain = dict(known_keys(own, known, where, InvalidAlerts))
        if "repeat" in plain:
            plain["repeat"] = seconds_of(f"repeat of {where}", plain["repeat"], InvalidAlerts)
        channel = _convert(plain, kinds[kind], where)
        channel.verify(name)
        found[name] = channel
    return found


def _convert(fields: Mapping[str, Any], kind: type[_Kind], where: str) -> _Kind:
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        told, instead = misfit(error, kind, where)
        raise InvalidAlerts(
            told if where in told else f"{where}: {told}",
            remedy=instead or "Correct that value; see docs/how-to/alerts.md.",
        ) from error
