"""Why a logged request was answered as it was: the row of the log, the version that answered, and rows to
compare it with, brought together. What was found is kept, so that an audit gets the same again.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np

from fairlead.contracts.profile import REFERENCE_FILE, ReferenceProfile
from fairlead.errors import MalformedRequest, NotExplainable, Overloaded
from fairlead.evaluation.agreement import TOLERANCE
from fairlead.evaluation.logged import Unfit, features_of, row_of
from fairlead.evaluation.replay import records_of, version_of
from fairlead.evaluation.scored import Scored
from fairlead.evaluation.scoring import Limits, scoring
from fairlead.explanations.asked import scores
from fairlead.explanations.attribution import LEAST_BACKGROUND, attribute
from fairlead.explanations.background import BACKGROUND_ROWS, background_rows
from fairlead.explanations.ledger import Kept, keep, kept
from fairlead.explanations.measure import measure
from fairlead.predictions.ask import IngestClient
from fairlead.registry.references import document_of, first_reference
from fairlead.registry.registry import Registry
from fairlead.registry.versions import VersionSpec
from fairlead.serving.folder import DataFolder

__all__ = ["Explaining", "Explanation", "Part"]

_LIMITS = Limits(seconds=50.0, load_seconds=45.0)
_SQL = """
SELECT contract_id, features, feature_hash FROM predictions
WHERE model = $1 AND contract_id = $2 AND status = 'ok' AND source NOT IN ('shadow', 'replay')
  AND "at" < $3::TIMESTAMPTZ
ORDER BY hash(prediction_id)
"""

Record = Mapping[str, Any]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What one feature did: its value in the row, and by how much that moved the answer away from the mean.
    The contribution lies between `low` and `high` with 95 %."""

    feature: str
    value: Any
    contribution: float
    low: float
    high: float


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a row was answered as it was.

    The contributions of `features`, the largest first, sum to `value` less `base`: the number that `explains`
    names, for this row and on average over the `background_rows` that it was compared with. `exact` tells
    that only the draw of those was left to chance. `failed` of them were left out, since the model did not
    answer a mixture with them. `agrees`: the model gave the logged answer again when it was explained, by
    `runtime` at `explained_at`; every later question gets the same explanation.
    """

    request_id: str
    row: int
    at: datetime
    model: str
    version: str
    prediction: Any
    explains: str
    value: float
    base: float
    features: tuple[Part, ...]
    background: str
    background_rows: int
    failed: int
    exact: bool
    agrees: bool
    runtime: str
    explained_at: datetime
    sentence: str


class Explaining:
    """Explains requests, one at a time, and keeps explanations for so many days. Any thread may use it."""

    def __init__(
        self,
        registry: Registry,
        ingest: IngestClient,
        folder: DataFolder,
        *,
        trust_pickle: bool,
        days: float = math.inf,
    ) -> None:
        self._registry = registry
        self._ingest = ingest
        self._folder = folder
        self._trust_pickle = trust_pickle
        self._days = days
        self._turn = threading.Lock()

    def explain(self, request_id: str, row: int | None = None) -> Explanation:
        """The explanation of the request's row, made now or kept from before.

        Raises `RecordNotFound`, `MalformedRequest` when no row is named of several, `NotExplainable` with
        what is missing, `Overloaded` while another is made, `VersionNotFound` and what `scoring` and `Scorer`
        raise, and `StoreUnavailable` while log or database are away.
        """
        records = records_of(self._ingest, request_id, row)
        if len({record["row"] for record in records}) > 1:
            raise MalformedRequest(
                f"Request {request_id!r} has {len({record['row'] for record in records})} rows.",
                remedy="Name one of them: row=0 is the first.",
            )
        record = records[-1]
        with self._registry.database.read() as connection:
            held = kept(connection, record["prediction_id"])
        if held is None:
            with self._alone():
                made = self._made(record)
            with self._registry.database.write() as connection:
                held = keep(connection, record["prediction_id"], record["model"], made, days=self._days)
        contract = self._registry.spec(record["model"], held.version).contract
        return _told(record, held, features_of(record, contract))

    def _made(self, record: Record) -> Kept:
        version = version_of(record)
        if record["status"] != "ok" or version is None:
            raise NotExplainable(
                "No version answered that request, so there is no answer to explain.",
                remedy="`fairlead replay` shows what became of it.",
            )
        spec = self._registry.spec(record["model"], version)
        explains, read = measure(spec.contract.output, record["prediction"], record["probabilities"])
        try:
            row = row_of(record, spec.contract)
        except Unfit as unfit:
            raise NotExplainable(f"Not explainable: {unfit.text}", remedy="", reason=unfit.reason) from unfit
        logged = read(Scored("ok", record["prediction"], record["probabilities"]))
        generator = np.random.default_rng(_seed(record))
        words, background = self._background(record, spec, generator)
        with scoring(
            spec, self._registry.blobs, self._folder, trust_pickle=self._trust_pickle, limits=_LIMITS
        ) as scorer:
            found = attribute(row, background, scores(scorer, read), generator)
            runtime = scorer.runtime
        if found is None:
            raise NotExplainable(
                "The model does not answer the row, or most mixtures of it with other rows.",
                remedy="Models are explained that answer every combination of values that each occur.",
            )
        return Kept(
            version=version,
            explains=explains,
            features=spec.contract.names,
            attribution=found,
            background=words,
            agrees=logged is not None
            and math.isclose(found.value, logged, rel_tol=TOLERANCE, abs_tol=TOLERANCE),
            runtime=runtime,
            at=datetime.now(UTC),
        )

    def _background(
        self, record: Record, spec: VersionSpec, generator: np.random.Generator
    ) -> tuple[str, Sequence[Sequence[Any]]]:
        """The version's own profile, else the one of its contract, else what the log has from before."""
        own = document_of(self._registry, spec, REFERENCE_FILE, ReferenceProfile)
        name: str | None = spec.version
        if own is None:
            name, own = first_reference(self._registry, spec.model, spec.contract.id)
        if own is not None and all(field in own.fields for field in spec.contract.names):
            return f"the training data of {name}", background_rows(spec.contract, own, generator)
        rows = self._logged(record, spec)
        if len(rows) < LEAST_BACKGROUND:
            raise NotExplainable(
                f"{spec.model} {spec.version} has no profile of its training data, and the log has"
                f" {len(rows)} rows from before the request; {LEAST_BACKGROUND} are needed to compare with.",
                remedy="Register versions with a reference.",
            )
        return "earlier requests", rows

    def _logged(self, record: Record, spec: VersionSpec) -> list[list[Any]]:
        at = record["at"] if isinstance(record["at"], str) else record["at"].isoformat()
        asked = [spec.model, spec.contract.id, at]
        answer = self._ingest.call("sql", sql=_SQL, params=asked, limit=BACKGROUND_ROWS)
        rows = []
        for found in answer["rows"]:
            try:
                rows.append(row_of(found, spec.contract))
            except Unfit:
                continue
        return rows

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._turn.acquire(blocking=False):
            raise Overloaded("Another explanation is being made.", remedy="Try again in some seconds.")
        try:
            yield
        finally:
            self._turn.release()


def _seed(record: Record) -> int:
    text = f"{record['request_id']}#{record['row']}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _told(record: Record, held: Kept, values: Mapping[str, Any]) -> Explanation:
    found = held.attribution
    parts = [
        Part(
            feature=name,
            value=values[name],
            contribution=contribution,
            low=contribution - error,
            high=contribution + error,
        )
        for name, contribution, error in zip(held.features, found.contributions, found.errors, strict=True)
    ]
    parts.sort(key=lambda part: -abs(part.contribution))
    at = record["at"]
    return Explanation(
        request_id=record["request_id"],
        row=record["row"],
        at=datetime.fromisoformat(at) if isinstance(at, str) else at,
        model=record["model"],
        version=held.version,
        prediction=record["prediction"],
        explains=held.explains,
        value=found.value,
        base=found.base,
        features=tuple(parts),
        background=held.background,
        background_rows=found.rows,
        failed=found.failed,
        exact=found.exact,
        agrees=held.agrees,
        runtime=held.runtime,
        explained_at=held.at,
        sentence=_sentence(held, parts),
    )


def _sentence(held: Kept, parts: Sequence[Part]) -> str:
    found = held.attribution
    leading = [f"{part.feature} ({part.contribution:+.3g})" for part in parts[:3] if part.contribution]
    beside = f"{found.base:.3g} on average over {held.background}"
    if not leading:
        return f"It is {found.value:.3g}, as it is {beside}: no feature moved {held.explains}."
    return f"It is {found.value:.3g}, and {beside}, most of all because of {', '.join(leading)}."
