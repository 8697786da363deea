"""Rules of a plan: who gets a certain version whatever the split says. Pure: no I/O, no clock.

The rules stand in an order, and the first that matches decides. What they decide is no part of any
experiment: it is counted and logged under arms of its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

import msgspec

from fairlead.errors import InvalidPlan

__all__ = [
    "MOST_RULES",
    "MOST_UNITS",
    "Columns",
    "Condition",
    "Rule",
    "Value",
    "condition_of",
    "verify_rules",
]

Value = str | bool | int | float
Columns = Mapping[str, Sequence[object]]
"""Features by name: the value of each row that is asked for together."""

MOST_RULES = 100
MOST_UNITS = 100_000
"""Units that the rules of one plan may list, all together."""
_MOST_VALUES = 1_000
_LONGEST = 256

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}")
_PRIVATE = {"authorization", "proxy-authorization", "cookie", "x-model-version"}
"""Headers that hold secrets, which may not get into a plan, or that mean something of their own."""

_BOUNDS = ("above", "at_least", "below", "at_most")


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Whom the rule is about, and what they get: `version`, or without one the stable version.

    It is about one thing. `units` lists units. `header` names a request header, and `one_of` its values.
    `feature` names a feature; it is one of `one_of`, or a number within the bounds that are given. Numbers
    are compared by value (31 is 31.0), texts exactly; what is absent or null matches nothing.
    """

    name: str
    version: str | None = None
    units: tuple[str, ...] | None = None
    header: str | None = None
    feature: str | None = None
    one_of: tuple[Value, ...] = ()
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None

    @property
    def arm(self) -> str:
        """The name of the arm that what it decides is counted under."""
        return f"rule:{self.name}"

    def verify(self) -> Rule:
        """This rule in its normal form (units sorted, the header in lower case), or `InvalidPlan`."""
        if not _NAME.fullmatch(self.name):
            raise InvalidPlan(
                f"A rule is called {self.name[:100]!r}.",
                remedy="Use up to 64 lower-case letters, digits, dots, dashes and underscores.",
            )
        about = [part for part in ("units", "header", "feature") if getattr(self, part) is not None]
        if len(about) != 1:
            raise self._wrong(
                f"is about {' and '.join(about) or 'nobody'}", "Give one of units, header and feature."
            )
        bounds = [name for name in _BOUNDS if getattr(self, name) is not None]
        if about == ["units"]:
            return self._verified_units(bounds)
        if len(self.one_of) > _MOST_VALUES:
            raise self._wrong(f"has {len(self.one_of)} values", f"Give at most {_MOST_VALUES}.")
        if about == ["header"]:
            return self._verified_header(bounds)
        if bool(self.one_of) == bool(bounds):
            raise self._wrong(
                f"{'lists values and sets bounds' if bounds else 'says nothing'} of {self.feature!r}",
                "Give one_of, or bounds: above, at_least, below, at_most.",
            )
        if any(not math.isfinite(getattr(self, name)) for name in bounds):
            raise self._wrong("has a bound that is no number", "Give numbers.")
        return self

    def _verified_units(self, bounds: list[str]) -> Rule:
        if bounds or self.one_of:
            raise self._wrong("lists units and says more", "Give the units alone.")
        if not self.units or not all(self.units):
            raise self._wrong("lists no unit, or an empty one", "List the units, or take the rule away.")
        return msgspec.structs.replace(self, units=tuple(sorted(set(self.units))))

    def _verified_header(self, bounds: list[str]) -> Rule:
        header = (self.header or "").lower()
        if not _HEADER.fullmatch(header) or header in _PRIVATE:
            raise self._wrong(
                f"reads the header {header[:100]!r}",
                f"Name a header that is not one of {', '.join(sorted(_PRIVATE))}.",
            )
        texts = [value for value in self.one_of if isinstance(value, str) and 0 < len(value) <= _LONGEST]
        if bounds or not texts or len(texts) != len(self.one_of):
            raise self._wrong(
                f"compares the header {header!r} with what is no list of texts",
                f'Give one_of with texts of up to {_LONGEST} characters, such as one_of = ["beta"].',
            )
        return msgspec.structs.replace(self, header=header)

    def _wrong(self, what: str, remedy: str) -> InvalidPlan:
        return InvalidPlan(f"Rule {self.name!r} {what}.", remedy=remedy, rule=self.name)


def verify_rules(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """The rules in their normal form, or `InvalidPlan`."""
    if len(rules) > MOST_RULES:
        raise InvalidPlan(f"There are {len(rules)} rules.", remedy=f"Give at most {MOST_RULES}.")
    verified = tuple(rule.verify() for rule in rules)
    names = [rule.name for rule in verified]
    for name in names:
        if names.count(name) > 1:
            raise InvalidPlan(f"Two rules are called {name!r}.", remedy="Name each once.", rule=name)
    listed = sum(len(rule.units or ()) for rule in verified)
    if listed > MOST_UNITS:
        raise InvalidPlan(
            f"The rules list {listed:,} units; {MOST_UNITS:,} are allowed.",
            remedy="Send a header or a feature that tells them.",
        )
    return verified


# --- whether a rule matches ---------------------------------------------------------------------------------

Condition = Callable[[str, Mapping[str, str], Callable[[], Columns]], bool]
"""Whether a request matches, by its unit, its headers (names in lower case), and its features when asked."""


def condition_of(rule: Rule) -> Condition:
    """The rule's condition, made ready for many requests. A feature's has to hold in every row."""
    if rule.units is not None:
        listed = frozenset(rule.units)
        return lambda unit, headers, features: unit in listed
    if rule.header is not None:
        header, wanted = rule.header, frozenset(rule.one_of)
        return lambda unit, headers, features: headers.get(header) in wanted
    feature, fits = rule.feature or "", _fits(rule)

    def holds(unit: str, headers: Mapping[str, str], features: Callable[[], Columns]) -> bool:
        values = features().get(feature, ())
        return bool(values) and all(map(fits, values))

    return holds


def _fits(rule: Rule) -> Callable[[object], bool]:
    if rule.one_of:
        # True equals 1 in Python, and is no number here.
        wanted = {(isinstance(value, bool), value) for value in rule.one_of}
        return lambda value: isinstance(value, Value) and (isinstance(value, bool), value) in wanted
    above, below = _or(rule.above, -math.inf), _or(rule.below, math.inf)
    least, most = _or(rule.at_least, -math.inf), _or(rule.at_most, math.inf)

    def within(value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return above < value < below and least <= value <= most

    return within


def _or(bound: float | None, default: float) -> float:
    return default if bound is None else bound
