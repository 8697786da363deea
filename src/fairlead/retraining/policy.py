"""When a model is retrained and by what, as the server's settings say it. Data, and the rules that it obeys.

Trainers run code. So they are named in the settings of the server alone; the admin API says which model is to
be retrained, never by which program.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

from fairlead.errors import InvalidRetraining

__all__ = ["CAUSES", "DAY", "Policy", "Trainer", "Watched"]

DAY = 86_400.0
_LONGEST = 366 * DAY

Watched = Literal["drift", "quality", "performance", "estimate", "calibration"]
"""Kinds of findings that may cause a retraining."""

CAUSES: tuple[Watched, ...] = ("drift", "quality", "performance", "estimate", "calibration")


class Trainer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A program that makes a model of labelled rows: one of `callable` ("module:function", run in a process
    of its own), `command` (the words of a command, no shell) and `webhook` (a URL that begins it elsewhere).

    It may take `seconds` altogether and `memory_mb` megabytes of resident memory, its children included, at
    the niceness `nice`. It works in `folder` and gets those variables of control's environment that
    `environment` names, beside PATH, HOME, LANG and the like. Of a webhook, `token_env` names the variable
    with the bearer token that it is called with, and `back` is the address under which it reaches the admin
    API, where that is not the one of this machine.
    """

    name: str
    callable: str | None = None
    command: tuple[str, ...] = ()
    webhook: str | None = None
    seconds: float = 3_600.0
    memory_mb: float = 4_000.0
    nice: int = 10
    folder: str = "."
    environment: tuple[str, ...] = ()
    token_env: str | None = None
    back: str | None = None

    def verify(self) -> Trainer:
        """This trainer, or `InvalidRetraining` saying which rule it breaks."""
        where = f"trainers.{self.name}"
        if (self.callable is not None) + bool(self.command) + (self.webhook is not None) != 1:
            raise InvalidRetraining(
                f"{where} has to name one of callable, command and webhook.",
                remedy="Say how it is run, as in callable = 'module:function'.",
            )
        if self.callable is not None and not _is_callable(self.callable):
            raise InvalidRetraining(
                f"{where}.callable is {self.callable!r}.", remedy="Write it as 'module:function'."
            )
        if self.webhook is not None and not self.webhook.startswith(("http://", "https://")):
            raise InvalidRetraining(
                f"{where}.webhook is no URL.", remedy="Write one that begins with https://."
            )
        if not all(self.command) or any("\0" in word for word in self.command):
            raise InvalidRetraining(f"{where}.command has an empty word.", remedy="Write its words.")
        if self.token_env is not None and self.webhook is None:
            raise InvalidRetraining(
                f"{where}.token_env goes with a webhook.", remedy="Name it in environment instead."
            )
        if self.back is not None and self.webhook is None:
            raise InvalidRetraining(
                f"{where}.back goes with a webhook.", remedy="Leave it out: processes are told where it is."
            )
        if self.back is not None and not self.back.startswith(("http://", "https://")):
            raise InvalidRetraining(f"{where}.back is no URL.", remedy="Write one that begins with https://.")
        _within(f"{where}.seconds", self.seconds, 1.0, 7 * DAY)
        _within(f"{where}.memory_mb", self.memory_mb, 64.0, 1e6)
        _within(f"{where}.nice", self.nice, 0, 19)
        return self


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When one model is retrained, on which rows, and what has to be true before a candidate gets traffic.

    - `every` seconds since the last retraining began it is due again; None is never by the clock.
    - `on`: the kinds of alarms that cause one. `confirm` looks in a row have to raise the same alarm.
    - `cooldown` seconds after a retraining ended nothing causes another, and there are at most `budget` of
      them in 30 days. Both hold for what is asked by hand, too, unless it is said twice (`force`).
    - `window` seconds of labelled rows are looked at. After an alarm they begin where it began, unless that
      leaves fewer than `least` rows; rows whose labels need so long are left out by `mature` seconds.
    - `held_out` is the share of the units that no trainer ever gets: on them the gate compares.
    - `held_rows` of them at least have to be among the rows, or nothing is trained. After an alarm, what came
      since it began is judged by only where it has so many.
    - `margin`: how much worse than the champion the candidate may be in the metric, accuracy or mean absolute
      error; with 0 it has to be shown to be better. `gate` is a gate.toml's content in place of that.
    - `plan` is a rollout plan's content; without one it is the usual canary.
    - `losers`: what becomes of a candidate that did not pass: it is kept, or archived.
    """

    model: str
    trainer: str
    every: float | None = None
    on: tuple[Watched, ...] = ("drift", "performance")
    confirm: int = 1
    cooldown: float = DAY
    budget: int = 4
    window: float = 30 * DAY
    mature: float = 0.0
    least: int = 500
    most: int = 200_000
    held_out: float = 0.25
    held_rows: int = 1
    margin: float = 0.0
    gate: dict[str, Any] = {}
    plan: dict[str, Any] = {}
    losers: Literal["keep", "archive"] = "archive"

    def verify(self, trainers: dict[str, Trainer]) -> Policy:
        """This policy, or `InvalidRetraining` saying which rule it breaks."""
        where = f"retraining.{self.model}"
        if self.trainer not in trainers:
            known = ", ".join(sorted(trainers)) or "none"
            raise InvalidRetraining(
                f"{where}.trainer is {self.trainer!r}, and the settings have no such trainer.",
                remedy=f"Add [trainers.{self.trainer}], or name one of: {known}.",
            )
        if self.every is not None:
            _within(f"{where}.every", self.every, 60.0, _LONGEST)
        _within(f"{where}.confirm", self.confirm, 1, 1_000)
        _within(f"{where}.cooldown", self.cooldown, 0.0, _LONGEST)
        _within(f"{where}.budget", self.budget, 0, 10_000)
        _within(f"{where}.window", self.window, 1.0, 5 * _LONGEST)
        _within(f"{where}.mature", self.mature, 0.0, self.window)
        _within(f"{where}.most", self.most, 2, 1_000_000)
        _within(f"{where}.least", self.least, 2, self.most)
        _within(f"{where}.held_out", self.held_out, 0.05, 0.95)
        _within(f"{where}.held_rows", self.held_rows, 1, self.most)
        _within(f"{where}.margin", self.margin, 0.0, 1e12)
        if self.gate and self.margin:
            raise InvalidRetraining(
                f"{where} has a gate and a margin.", remedy="Say the margin in the gate's metrics."
            )
        return self


def _is_callable(text: str) -> bool:
    module, mark, function = text.partition(":")
    names = [*module.split("."), function]
    return bool(mark) and all(name.isidentifier() for name in names)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high or not math.isfinite(value):
        raise InvalidRetraining(f"{name} is {value:g}.", remedy=f"Give a number from {low:g} to {high:g}.")
