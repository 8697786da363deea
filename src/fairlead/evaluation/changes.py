"""What changes when a version answers what others have answered: rows in, one report out. Pure."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
import numpy as np

from fairlead.contracts.contract import Contract
from fairlead.evaluation.agreement import difference
from fairlead.evaluation.change_report import ChangeReport, Example, Kind
from fairlead.evaluation.scored import Scored
from fairlead.predictions.sameness import is_same
from fairlead.predictions.shadow_report import Confused, Difference, Latency
from fairlead.predictions.slices import segments_of

__all__ = ["Changes"]

_SAMPLE = 50_000
_MOST_CONFUSED = 50

Record = Mapping[str, Any]


class Changes:
    """Takes rows as they are replayed; `report` tells of all so far. It keeps numbers of each row, features
    of the first 50,000, and `examples` of each kind."""

    def __init__(self, contract: Contract, *, examples: int = 20) -> None:
        self._scalar = [field.name for field in contract.inputs if not field.shape]
        self._slices = [field.name for field in contract.inputs if field.slice and not field.shape]
        self._most = examples
        self._skipped: Counter[str] = Counter()
        self._against: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._confusion: Counter[tuple[str, str]] = Counter()
        self._units: dict[str, bool] = {}
        self._counts: Counter[str] = Counter()
        self._numbers: list[float] = []
        self._probabilities: list[float] = []
        self._seconds: list[float] = []
        self._features: list[Mapping[str, Any]] = []
        self._marks: list[bool] = []
        self._examples: dict[Kind, list[tuple[float, int, Example]]] = {}
        self._serial = itertools.count()

    def skip(self, reason: str) -> None:
        """A record that cannot be replayed."""
        self._counts["records"] += 1
        self._skipped[reason] += 1

    def add(self, record: Record, features: Mapping[str, Any], scored: Scored) -> None:
        """A record, its features as they were asked, and what the version made of them."""
        self._counts["records"] += 1
        self._counts["replayed"] += 1
        if scored.status != "rejected":
            self._seconds.append(scored.seconds)
        if record["status"] != "ok":
            if scored.status == "ok":
                self._counts["mended"] += 1
                self._note("mended", record, scored)
        elif scored.status == "ok":
            self._compare(record, features, scored)
        elif scored.status == "rejected":
            self._counts["rejected"] += 1
            self._rejected.update({f"{each['field']}: {each['rule']}" for each in scored.violations})
            self._note("rejected", record, scored)
        else:
            self._failed[scored.error_code or ""] += 1
            self._note("failed", record, scored)

    def report(self, model: str, version: str, start: datetime, end: datetime) -> ChangeReport:
        """What there is to tell of the rows so far."""
        compared, changed = self._counts["compared"], self._counts["changed"]
        columns = {name: [row.get(name) for row in self._features] for name in self._slices or self._scalar}
        ranked = [
            entry[-1] for held in self._examples.values() for entry in sorted(held, key=_rank, reverse=True)
        ]
        probabilities = self._probabilities
        return ChangeReport(
            model=model,
            version=version,
            start=start,
            end=end,
            records=self._counts["records"],
            replayed=self._counts["replayed"],
            not_replayable=dict(self._skipped),
            against=dict(self._against),
            compared=compared,
            changed=changed,
            changed_share=changed / compared if compared else None,
            units=len(self._units),
            units_changed=sum(self._units.values()),
            difference=_spread(self._numbers),
            probability_difference=(
                (sum(probabilities) / len(probabilities), max(probabilities)) if probabilities else None
            ),
            confusion=[
                Confused(answered=one, shadow=other, rows=rows)
                for (one, other), rows in self._confusion.most_common(_MOST_CONFUSED)
            ],
            failed=dict(self._failed),
            rejected=dict(self._rejected),
            rejected_rows=self._counts["rejected"],
            mended=self._counts["mended"],
            latency=_latency(self._seconds),
            segments=segments_of(columns, self._marks, self._slices),
            examples=ranked,
        )

    def _compare(self, record: Record, features: Mapping[str, Any], scored: Scored) -> None:
        logged, replayed = record["prediction"], scored.prediction
        changed = not is_same(logged, replayed)
        self._counts["compared"] += 1
        self._counts["changed"] += changed
        self._against[record["served_version"] or ""] += 1
        if record["unit"] is not None:
            self._units[record["unit"]] = self._units.get(record["unit"], False) or changed
        numeric = float in (type(logged), type(replayed)) and {type(logged), type(replayed)} <= {int, float}
        if numeric:
            self._numbers.append(replayed - logged)
        elif (one := _label(logged)) is not None and (other := _label(replayed)) is not None:
            self._confusion[one, other] += 1
        apart = difference(record["probabilities"], scored.probabilities)
        if apart is not None and apart >= 0:
            self._probabilities.append(apart)
        if len(self._marks) < _SAMPLE:
            self._marks.append(changed)
            self._features.append({name: features.get(name) for name in self._scalar})
        if changed:
            self._note("changed", record, scored, abs(replayed - logged) if numeric else apart)

    def _note(self, kind: Kind, record: Record, scored: Scored, apart: float | None = None) -> None:
        """Keeps the row among the examples: those that differ most, else those that came first."""
        held = self._examples.setdefault(kind, [])
        at = record["at"]
        example = Example(
            kind=kind,
            request_id=record["request_id"],
            row=record["row"],
            at=datetime.fromisoformat(at) if isinstance(at, str) else at,
            unit=record["unit"],
            version=record["served_version"] or record["assigned_version"],
            logged=record["prediction"],
            replayed=scored.prediction,
            difference=apart,
            error_code=scored.error_code if kind != "mended" else record["error_code"],
            error=scored.error,
            violations=scored.violations,
        )
        entry = (-1.0 if apart is None else apart, -next(self._serial), example)
        if len(held) < self._most:
            heapq.heappush(held, entry)
        elif self._most and entry[:2] > held[0][:2]:
            heapq.heapreplace(held, entry)


def _rank(entry: tuple[float, int, Example]) -> tuple[float, int]:
    return entry[:2]


def _label(prediction: Any) -> str | None:
    """What an answer says in a word: the label, or a ranking's first item; None of numbers."""
    if isinstance(prediction, list):
        first = prediction[0] if prediction else None
        return str(first["id"]) if isinstance(first, dict) else None
    if isinstance(prediction, float) or prediction is None:
        return None
    return prediction if isinstance(prediction, str) else msgspec.json.encode(prediction).decode()


def _spread(numbers: list[float]) -> Difference | None:
    if not numbers:
        return None
    values = np.asarray(numbers)
    p50, p95, p99 = np.quantile(np.abs(values), (0.5, 0.95, 0.99)).tolist()
    return Difference(
        mean=float(values.mean()),
        mean_absolute=float(np.abs(values).mean()),
        p50_absolute=p50,
        p95_absolute=p95,
        p99_absolute=p99,
        max_absolute=float(np.abs(values).max()),
    )


def _latency(seconds: list[float]) -> Latency | None:
    if not seconds:
        return None
    milliseconds = 1000 * np.asarray(seconds)
    p50, p95, p99 = np.quantile(milliseconds, (0.5, 0.95, 0.99)).tolist()
    return Latency(mean_ms=float(milliseconds.mean()), p50_ms=p50, p95_ms=p95, p99_ms=p99)
