"""What a team asks of a candidate before any traffic: the content of its gate.toml, as data. Pure."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from fairlead.contracts.contract import Scalar
from fairlead.errors import InvalidGate

__all__ = [
    "MOST_ROWS", "Budget", "Compatibility", "Expectation", "Fairness", "GateSpec", "Metric", "MetricName",
    "Replay", "Slice", "Test",
]  # fmt: skip

MetricName = Literal["accuracy", "log_loss", "brier", "mae", "rmse"]
TestKind = Literal["invariance", "direction", "minimum", "exact"]
Expectation = Literal["rises", "falls", "not_rises", "not_falls"]

MOST_ROWS = 100_000
"""So many held-out rows, or logged requests, a gate takes."""
_LONGEST_SECONDS = 366 * 86_400.0


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the document."""


class Metric(_Part, frozen=True, kw_only=True):
    """A loss, compared row by row with production's.

    `margin` is how much worse the candidate may be in the metric's own unit, `relative_margin` as a share of
    production's value: one of them, or neither when only `limit` counts, which the candidate's value must
    reach (accuracy) or stay below (all others) by itself. `weight` names a column of the data that says how
    much a row counts, such as the value of an order; else all count alike.
    """

    name: MetricName
    margin: float | None = None
    relative_margin: float | None = None
    limit: float | None = None
    weight: str | None = None

    @property
    def title(self) -> str:
        """How it is called in reports."""
        return self.name if self.weight is None else f"{self.name} by {self.weight}"


class Slice(_Part, frozen=True, kw_only=True):
    """A column of the data whose values cut it into parts; numbers are cut at `edges`, each of which begins
    a part."""

    column: str
    edges: tuple[float, ...] = ()


class Test(_Part, frozen=True, kw_only=True):
    """A behaviour that the candidate must show, on rows that the team writes.

    The rows are `rows`, or else `sample` of the held-out rows, those whose columns have the values of
    `where`.

    - `invariance`: with `change` the prediction stays, up to `tolerance` for numbers.
    - `direction`: with `change` or `add` it moves as `expect` says (`rises`, `falls`, `not_rises`,
      `not_falls`), by more than `tolerance`; of a class, the probability of `of_class`.
    - `minimum`: the share of rows answered as `expected`, or as the data's target says, is `at_least`.
    - `exact`: every row is answered as `expected` says, up to `tolerance` for numbers.

    `change` sets fields: a list is tried value by value. `add` adds to numeric fields. `may_break` is the
    share of cases that may be otherwise.
    """

    name: str
    kind: TestKind
    rows: tuple[dict[str, Any], ...] = ()
    sample: int | None = None
    where: dict[str, Scalar] = {}
    change: dict[str, Any] = {}
    add: dict[str, float] = {}
    expect: Expectation | None = None
    of_class: Scalar | None = None
    expected: tuple[Any, ...] = ()
    at_least: float | None = None
    tolerance: float = 0.0
    may_break: float = 0.0


class Fairness(_Part, frozen=True, kw_only=True):
    """How far groups may be treated apart: `slice` is a column of the data, `positive` the class that counts
    as chosen.

    `demographic_parity` bounds the largest difference of the groups' shares that are chosen,
    `equalized_odds` that of the shares chosen among those whose target is positive, and among the others.
    Groups with fewer than `minimum_rows` in a share are left out and said to be.
    """

    slice: str
    positive: Scalar = True
    demographic_parity: float | None = None
    equalized_odds: float | None = None
    minimum_rows: int = 100


class Budget(_Part, frozen=True, kw_only=True):
    """What the candidate may cost on the server that judges it: the 99th percentile of one row's time in
    milliseconds, as a multiple of production's (`slowdown`), and the peak memory of the process that runs it
    in megabytes."""

    p99_ms: float | None = None
    slowdown: float | None = None
    memory_mb: float | None = None


class Compatibility(_Part, frozen=True, kw_only=True):
    """Whether callers of production can call the candidate. `allow` names fields, or `output`, that may break
    them; `check` False looks at nothing."""

    check: bool = True
    allow: tuple[str, ...] = ()


class Replay(_Part, frozen=True, kw_only=True):
    """How far the candidate may answer otherwise than production did: the newest `limit` answers that
    production gave in the last `since` seconds are asked again.

    `changed` is the largest share of them that may be another one, `errors` on which the candidate may fail,
    `violations` that its contract may refuse. With fewer than `least` that is not told, unless there are more
    than `least` would excuse.
    """

    since: float = 86_400.0
    limit: int = 10_000
    changed: float = 0.1
    errors: float = 0.0
    violations: float = 0.0
    least: int = 100


class GateSpec(_Part, frozen=True, kw_only=True):
    """All that is asked. `data` is the file with the held-out rows as the team names it, `target` its column
    with the truth.

    All comparisons together fail a candidate that is as good as production with probability `alpha` at most;
    half of it is spent on the whole data, half on the slices. Slices with fewer than `minimum_rows` are not
    judged. `inconclusive` says what a comparison over the whole data comes to that cannot tell: `fail`, or
    `pass`. `unanswered` is the share of rows that production answers and the candidate may fail to.
    """

    data: str | None = None
    target: str | None = None
    alpha: float = 0.05
    minimum_rows: int = 100
    inconclusive: Literal["fail", "pass"] = "fail"
    unanswered: float = 0.0
    metrics: tuple[Metric, ...] = ()
    slices: tuple[str | Slice, ...] = ()
    tests: tuple[Test, ...] = ()
    fairness: tuple[Fairness, ...] = ()
    budget: Budget = msgspec.field(default_factory=Budget)
    compatibility: Compatibility = msgspec.field(default_factory=Compatibility)
    replay: Replay | None = None

    @property
    def cuts(self) -> tuple[Slice, ...]:
        """The slices, those that are only named included."""
        return tuple(Slice(column=one) if isinstance(one, str) else one for one in self.slices)

    @property
    def digest(self) -> str:
        """SHA-256 in hexadecimal of what is asked, however it was written."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()

    def verify(self) -> GateSpec:
        """This spec, or `InvalidGate` naming the first part that makes no sense by itself."""
        if not 0.0 < self.alpha < 1.0:
            raise InvalidGate(f"alpha is {self.alpha:g}.", remedy="Give a number between 0 and 1.")
        if self.minimum_rows < 2:
            raise InvalidGate(f"minimum_rows is {self.minimum_rows}.", remedy="Give 2 or more; 100 is usual.")
        _share("unanswered", self.unanswered)
        if self.data is None:
            _refuse_without_data(self)
        if (self.metrics or any(one.equalized_odds is not None for one in self.fairness)) and not self.target:
            raise InvalidGate(
                "Metrics and equalized odds need the truth.", remedy="Name its column: target = '…'."
            )
        _refuse_twice("metric", [metric.title for metric in self.metrics])
        _refuse_twice("slice", [cut.column for cut in self.cuts])
        _refuse_twice("test", [test.name for test in self.tests])
        _refuse_twice("fairness limit", [limit.slice for limit in self.fairness])
        for metric in self.metrics:
            _verify_metric(metric)
        for cut in self.cuts:
            rises = all(low < high for low, high in itertools.pairwise(cut.edges))
            if not rises or not all(map(math.isfinite, cut.edges)):
                raise InvalidGate(f"The edges of slice {cut.column!r} do not rise.", remedy="Sort them.")
        for test in self.tests:
            _verify_test(test, has_data=self.data is not None, has_target=self.target is not None)
        for limit in self.fairness:
            _verify_fairness(limit)
        for name in Budget.__struct_fields__:
            bound = getattr(self.budget, name)
            if bound is not None and not 0.0 < bound < math.inf:
                raise InvalidGate(f"budget.{name} is {bound:g}.", remedy="Give a number above 0.")
        if self.replay is not None:
            _verify_replay(self.replay)
        if not (self.metrics or self.tests or self.fairness or self.replay or self.budget != Budget()):
            raise InvalidGate(
                "The gate asks nothing of the candidate, so that everything would pass.",
                remedy="Add metrics, tests, fairness, a budget or a replay, as `fairlead init` does.",
            )
        return self


# --- the parts ----------------------------------------------------------------------------------------------


def _refuse_without_data(spec: GateSpec) -> None:
    named = {
        "target": spec.target,
        "metrics": spec.metrics,
        "slices": spec.slices,
        "fairness": spec.fairness,
    }
    for name, value in named.items():
        if value:
            raise InvalidGate(
                f"{name} needs held-out rows, and data names none.",
                remedy="Add data = 'held-out.parquet' (or .csv) to the gate.",
            )


def _refuse_twice(what: str, names: Sequence[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise InvalidGate(f"There are {times} of {what} {name!r}.", remedy="Give each once.")


def _share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise InvalidGate(f"{name} is {value:g}.", remedy="Give a share from 0 to 1.")


def _verify_metric(metric: Metric) -> None:
    bounds = (metric.margin, metric.relative_margin, metric.limit)
    if metric.margin is not None and metric.relative_margin is not None:
        raise InvalidGate(
            f"Metric {metric.title!r} has two margins.", remedy="Give margin or relative_margin."
        )
    if bounds == (None, None, None):
        raise InvalidGate(
            f"Metric {metric.title!r} has no margin and no limit.",
            remedy="Say how much worse than production the candidate may be, as in margin = 0.01.",
        )
    if not all(bound is None or (bound >= 0.0 and math.isfinite(bound)) for bound in bounds):
        raise InvalidGate(f"A bound of metric {metric.title!r} is no number of 0 or more.")


def _verify_test(test: Test, *, has_data: bool, has_target: bool) -> None:
    def refuse(rule: str, remedy: str) -> InvalidGate:
        return InvalidGate(f"Test {test.name!r}: {rule}.", remedy=remedy, test=test.name)

    _share(f"may_break of test {test.name!r}", test.may_break)
    if not 0.0 <= test.tolerance < math.inf:
        raise refuse(f"the tolerance is {test.tolerance:g}", "Give a number of 0 or more.")
    if bool(test.rows) is (test.sample is not None):
        raise refuse("it has rows and a sample, or neither", "Write rows, or take a sample = 100.")
    if test.sample is not None and (test.sample < 1 or not has_data):
        raise refuse("its sample is of no row", "Give data, and a sample of 1 or more.")
    if test.where and test.sample is None:
        raise refuse("where chooses among held-out rows, and it has rows of its own", "Leave one out.")
    moves = bool(test.change or test.add)
    if test.kind in ("invariance", "direction") and not moves:
        raise refuse("nothing is changed", "Say what: change = { field = value }.")
    if test.kind in ("minimum", "exact") and moves:
        raise refuse(f"the kind {test.kind!r} changes nothing", "Leave change and add out.")
    if (test.kind == "direction") is (test.expect is None):
        raise refuse("expect goes with the kind 'direction'", "Say rises, falls, not_rises or not_falls.")
    if (test.kind == "minimum") is (test.at_least is None):
        raise refuse("at_least goes with the kind 'minimum'", "Say which share of rows must be right.")
    if test.at_least is not None:
        _share(f"at_least of test {test.name!r}", test.at_least)
    if test.kind not in ("minimum", "exact") and test.expected:
        raise refuse("expected goes with the kinds 'minimum' and 'exact'", "Leave it out.")
    if test.kind in ("minimum", "exact") and test.rows and len(test.expected) != len(test.rows):
        raise refuse(
            f"{len(test.rows)} rows have {len(test.expected)} expected answers", "Give one for each row."
        )
    if test.sample is not None and (test.kind == "exact" or test.expected):
        raise refuse("a sample has no expected answers of its own", "Write rows, or use the kind 'minimum'.")
    if test.sample is not None and test.kind == "minimum" and not has_target:
        raise refuse("nothing says what is right for the sample", "Name the data's target.")


def _verify_fairness(limit: Fairness) -> None:
    bounds = {"demographic_parity": limit.demographic_parity, "equalized_odds": limit.equalized_odds}
    if not any(bound is not None for bound in bounds.values()):
        raise InvalidGate(
            f"The fairness limit over {limit.slice!r} limits nothing.",
            remedy="Give demographic_parity or equalized_odds.",
        )
    for name, bound in bounds.items():
        if bound is not None:
            _share(f"{name} over {limit.slice!r}", bound)
    if limit.minimum_rows < 1:
        raise InvalidGate(f"minimum_rows over {limit.slice!r} is below 1.", remedy="100 is usual.")


def _verify_replay(replay: Replay) -> None:
    for name in ("changed", "errors", "violations"):
        _share(f"replay.{name}", getattr(replay, name))
    if not 1.0 <= replay.since <= _LONGEST_SECONDS:
        raise InvalidGate(
            f"replay.since is {replay.since:g} s.", remedy="Give a span from 1s to 366d, such as '24h'."
        )
    if not 1 <= replay.limit <= MOST_ROWS:
        raise InvalidGate(
            f"replay.limit is {replay.limit:,}.", remedy=f"Give a number from 1 to {MOST_ROWS:,}."
        )
    if not 1 <= replay.least <= replay.limit:
        raise InvalidGate(
            f"replay.least is {replay.least:,}, and the limit {replay.limit:,}.",
            remedy="Give a number from 1 up to the limit.",
        )
