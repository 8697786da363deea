"""What a model goes by in its traffic, beside what it went by on its reference: rows of the log and the
version, brought together."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from typing import Any, Literal

import msgspec
import numpy as np

from fairlead.contracts.profile import REFERENCE_FILE, ReferenceProfile
from fairlead.errors import MalformedRequest, NotExplainable, Overloaded
from fairlead.evaluation.logged import Unfit, row_of
from fairlead.evaluation.scoring import Limits, scoring
from fairlead.explanations.asked import asker
from fairlead.explanations.background import background_rows
from fairlead.explanations.importance import (
    IMPORTANCE_FILE,
    LEAST_ROWS,
    Change,
    Importance,
    changes,
    importance,
    ndcg,
    sample_size,
)
from fairlead.predictions.ask import IngestClient
from fairlead.registry.references import document_of
from fairlead.registry.registry import Registry
from fairlead.registry.settings import effective, stated
from fairlead.registry.versions import VersionSpec
from fairlead.serving.folder import DataFolder

__all__ = ["LEAST_CHANGE", "LEAST_NDCG", "ImportanceReport", "Leaning"]

LEAST_NDCG = 0.9
"""Below this a ranking has changed (the limit that SageMaker's monitor has)."""
LEAST_CHANGE = 0.1
"""So much of what all features move has to have gone to another feature to be an alarm."""
_SECONDS = 30.0
_LIMITS = Limits(seconds=50.0, load_seconds=45.0)
_SQL = """
SELECT contract_id, features, feature_hash FROM predictions
WHERE model = $1 AND contract_id = $2 AND status = 'ok' AND source NOT IN ('shadow', 'replay')
  AND "at" >= $3::TIMESTAMPTZ AND "at" < $4::TIMESTAMPTZ AND served_version = $5
ORDER BY hash(prediction_id)
"""


class ImportanceReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a version goes by: `reference` on its training data, `live` on rows from `start` to `end`.

    `changes` hold the one against the other, the largest first, and `ndcg` the two rankings; both empty where
    one is missing, and `sentence` says why. `status` is an alarm where a share has changed by a tenth or the
    ranking's nDCG is below 0.9, and chance does not explain it: `level` is what p may be at most.
    """

    model: str
    version: str
    start: datetime
    end: datetime
    status: Literal["ok", "alarm", "insufficient"]
    sentence: str
    level: float
    reference: Importance | None = None
    live: Importance | None = None
    ndcg: float | None = None
    changes: tuple[Change, ...] = ()


class Leaning:
    """Finds what models go by. `StoreUnavailable` while log or database are away."""

    def __init__(
        self, registry: Registry, ingest: IngestClient, folder: DataFolder, *, trust_pickle: bool
    ) -> None:
        self._registry = registry
        self._ingest = ingest
        self._folder = folder
        self._trust_pickle = trust_pickle
        self._turn = threading.Lock()

    def report(
        self, model: str, since: datetime, until: datetime, *, version: str | None = None
    ) -> ImportanceReport:
        """The importance of a version, the one in production unless named, in a sample of what it answered
        from `since` to `until`.

        Raises `ModelNotFound`, `VersionNotFound`, `MalformedRequest` where no version is named and none is in
        production, `NotExplainable` for lists and rankings and without a profile, `Overloaded` while another
        is asked, and what `scoring` and `Scorer` raise.
        """
        name = version or self._registry.model(model).production
        if name is None:
            raise MalformedRequest(f"{model} has no version in production.", remedy="Name a version.")
        spec = self._registry.spec(model, self._registry.resolve(model, name))
        if spec.contract.output.kind not in ("class", "number"):
            raise NotExplainable(
                f"{model} answers a {spec.contract.output.kind}; what is explained is a class or a number."
            )
        profile = document_of(self._registry, spec, REFERENCE_FILE, ReferenceProfile)
        if profile is None:
            raise NotExplainable(
                f"{model} {spec.version} has no profile of its training data to compare rows with.",
                remedy="Register versions with a reference.",
            )
        reference = document_of(self._registry, spec, IMPORTANCE_FILE, Importance)
        rows = self._rows(spec, since, until)
        live = None
        if len(rows) >= LEAST_ROWS:
            if not self._turn.acquire(blocking=False):
                raise Overloaded("Another importance is being found.", remedy="Try again in some seconds.")
            try:
                live = self._live(spec, profile, rows)
            finally:
                self._turn.release()
        # One look a day: so seldom may it be wrong.
        level = min(0.5, 1.0 / self._alarm_days(model))
        return _report(spec, since, until, reference, live, len(rows), level)

    def _live(self, spec: VersionSpec, profile: ReferenceProfile, rows: list[list[Any]]) -> Importance | None:
        # The rows compared with are those of the reference's importance.
        background = background_rows(spec.contract, profile, np.random.default_rng(0))
        with scoring(
            spec, self._registry.blobs, self._folder, trust_pickle=self._trust_pickle, limits=_LIMITS
        ) as scorer:
            until = time.monotonic() + _SECONDS
            return importance(
                rows,
                background,
                asker(scorer),
                spec.contract.output,
                spec.contract.names,
                np.random.default_rng(1),
                goes_on=lambda: time.monotonic() < until,
            )

    def _rows(self, spec: VersionSpec, since: datetime, until: datetime) -> list[list[Any]]:
        asked = [spec.model, spec.contract.id, since.isoformat(), until.isoformat(), spec.version]
        most = sample_size(len(spec.contract.names))
        found = []
        for record in self._ingest.call("sql", sql=_SQL, params=asked, limit=most)["rows"]:
            try:
                found.append(row_of(record, spec.contract))
            except Unfit:  # a sensitive field, which is in no row of the log
                continue
        return found

    def _alarm_days(self, model: str) -> float:
        with self._registry.database.read() as connection:
            return effective(stated(connection, model), None).drift_alarm_days


def _report(
    spec: VersionSpec,
    since: datetime,
    until: datetime,
    reference: Importance | None,
    live: Importance | None,
    rows: int,
    level: float,
) -> ImportanceReport:
    told = ImportanceReport(
        model=spec.model,
        version=spec.version,
        start=since,
        end=until,
        status="insufficient",
        sentence=f"{rows} rows of the log could be explained; {LEAST_ROWS} are needed to tell.",
        level=level,
        reference=reference,
        live=live,
    )
    if live is None:
        return told
    if reference is None:
        leading = f"It leans on {_leading(live)}."
        problem = "The version came without the importance of its training data to hold that against."
        return msgspec.structs.replace(told, sentence=f"{leading} {problem}")
    ranked = ndcg(reference.features, live.features)
    found = tuple(changes(reference.features, live.features))
    known = [one for one in found if one.p <= level]
    large = [one for one in known if abs(one.change) >= LEAST_CHANGE]
    turned = ranked is not None and ranked < LEAST_NDCG and bool(known)
    if not large and not turned:
        sentence = f"It leans on {_leading(live)}, as on its training data."
        return msgspec.structs.replace(told, status="ok", sentence=sentence, ndcg=ranked, changes=found)
    moved = ", ".join(f"{one.feature} ({one.expected:.0%} → {one.seen:.0%})" for one in (large or known)[:3])
    return msgspec.structs.replace(
        told, status="alarm", sentence=f"It leans on other features: {moved}.", ndcg=ranked, changes=found
    )


def _leading(found: Importance) -> str:
    ranked = sorted(found.features.items(), key=lambda item: -item[1].share)[:3]
    parts = [f"{name} ({one.share:.0%})" for name, one in ranked if one.share]
    return ", ".join(parts) or "no feature"
