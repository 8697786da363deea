"""A log in memory, counted as ingest counts: windows of rows of any version, slice and time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import numpy as np

from fairlead.contracts.contract import Contract
from fairlead.contracts.counts import FieldCounts, FieldKey, merge, tally
from fairlead.contracts.profile import NumberProfile
from fairlead.predictions.ask import IngestClient
from fairlead.predictions.binning import Binning
from fairlead.predictions.counted import CountedField, CountedWindow, Reach

__all__ = ["Counted"]


class _Minute(msgspec.Struct):
    at: datetime
    version: str
    slice: str
    rows: int
    rejected: int
    breaches: dict[str, dict[str, int]]
    counts: dict[FieldKey, FieldCounts]
    values: Mapping[str, Sequence[Any]]


class Counted(IngestClient):
    """Answers what ingest answers when it is asked for profiles and bins."""

    def __init__(self, contract: Contract, binning: Binning) -> None:
        super().__init__("/nowhere")
        self.contract = contract
        self.binning = binning
        self._minutes: list[_Minute] = []
        self.logged: datetime | None = None

    def add(
        self,
        at: datetime,
        values: Mapping[str, Sequence[Any]],
        *,
        version: str = "v1",
        slice: str = "",
        rejected: int = 0,
        breaches: dict[str, dict[str, int]] | None = None,
    ) -> None:
        """Rows that came at that time: features by name; None is null."""
        counts = {}
        for name, listed in values.items():
            key = FieldKey("feature", name)
            bins = self.binning.bins[key]
            present: Any = [value for value in listed if value is not None]
            if isinstance(bins, NumberProfile):
                present = np.array(present, np.float64)
            counts[key] = tally(bins, present, nulls=len(listed) - len(present))
        rows = max((len(listed) for listed in values.values()), default=0) + rejected
        self._minutes.append(_Minute(at, version, slice, rows, rejected, breaches or {}, counts, values))

    def call(self, op: str, **args: Any) -> Any:
        found: Any = None
        if op == "bins":
            found = self.binning if args["bins"] == self.binning.id else None
        elif op == "profiles":
            found = self._windows(args)
        elif op == "reach":
            found = self.reach
        elif op == "sql":
            found = {"rows": self._rows(*args["params"][2:])[: args["limit"]]}
        else:
            raise AssertionError(f"nobody asks for {op}")
        return msgspec.json.decode(msgspec.json.encode(found))

    @property
    def reach(self) -> Reach:
        """From the first rows on; `logged` is when the log begins where that is earlier."""
        first = min((one.at for one in self._minutes), default=None)
        return Reach(logged=self.logged or first, counted=first)

    def _rows(self, since: str, until: str, version: str) -> list[dict[str, Any]]:
        begin, end = datetime.fromisoformat(since), datetime.fromisoformat(until)
        return [
            {"features": dict(zip(one.values, row, strict=True))}
            for one in self._minutes
            if begin <= one.at < end and one.version == version and not one.slice
            for row in zip(*one.values.values(), strict=True)
        ]

    def _windows(self, args: Mapping[str, Any]) -> list[CountedWindow]:
        held = defaultdict(list)
        for one in self._minutes:
            if not args["since"] <= one.at < args["until"] or args["version"] not in (None, one.version):
                continue
            if args["slice"] in (None, one.slice):
                held[one.slice].append(one)
        return [self._window(args, slice, minutes) for slice, minutes in sorted(held.items())]

    def _window(self, args: Mapping[str, Any], slice: str, minutes: list[_Minute]) -> CountedWindow:
        rows, rejected = sum(one.rows for one in minutes), sum(one.rejected for one in minutes)
        breaches: dict[str, dict[str, int]] = {}
        for one in minutes:
            for field, rules in one.breaches.items():
                for rule, count in rules.items():
                    of_field = breaches.setdefault(field, {})
                    of_field[rule] = of_field.get(rule, 0) + count
        return CountedWindow(
            start=args["since"],
            end=args["until"],
            contract_id=self.contract.id,
            bins=self.binning.id,
            slice=slice,
            rows=rows,
            ok=rows - rejected,
            rejected=rejected,
            failed=0,
            unread=rejected,
            fields=tuple(
                CountedField(key, merge(one.counts[key] for one in minutes)) for key in minutes[0].counts
            ),
            breaches=breaches,
        )
