"""What is asked of the log about one version's labels."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from fairlead.contracts.contract import Contract, Output, class_name
from fairlead.monitoring.estimates import Estimate
from fairlead.monitoring.losses import expected_loss, learn_loss
from fairlead.predictions.ask import IngestClient
from fairlead.predictions.labelled_counts import Delays, Labelled, LabelMark, Sampled

__all__ = ["MEASURED", "Asked"]

MEASURED = ("class", "number", "ranking")
"""The kinds of answers of which labels tell how good they were."""
_ANSWER = "the answer"
_LEARNED, _ESTIMATED = 8_000, 4_000
"""So many rows of numbers are drawn to learn the size of errors from, and to estimate it for."""


class Asked:
    """The log's counts of one version of a model."""

    def __init__(self, ingest: IngestClient, model: str, version: str, contract: Contract) -> None:
        self._ingest = ingest
        self.model = model
        self.version = version
        self._output: Output = contract.output

    def labelled(
        self,
        since: datetime,
        until: datetime,
        *,
        step: timedelta = timedelta(0),
        cuts: Sequence[dict[str, Any]] = (),
        scores: bool = True,
    ) -> list[Labelled]:
        """What `labelled.Question` asks for; nothing of models whose answers have no right or wrong."""
        if since >= until or self._output.kind not in MEASURED:
            return []
        asked = {
            "model": self.model, "version": self.version, "since": since, "until": until,
            "kind": self._output.kind, "classes": [class_name(one) for one in self._output.classes],
            "step": int(step.total_seconds()), "cuts": cuts, "scores": scores,
        }  # fmt: skip
        found = self._ingest.call("labelled", asked=asked)
        return msgspec.convert(found, list[Labelled], strict=False)

    def marks(self, since: datetime, until: datetime) -> list[LabelMark]:
        """What tells hours from those that were asked for before."""
        if since >= until or self._output.kind not in MEASURED:
            return []
        found = self._ingest.call(
            "label_marks", model=self.model, version=self.version, since=since, until=until
        )
        return msgspec.convert(found, list[LabelMark], strict=False)

    def expected(
        self, begin: datetime, end: datetime, since: datetime, until: datetime
    ) -> tuple[Estimate | None, float]:
        """What is expected of the size of errors from `since` to `until`, learned from the labelled rows
        between the other two; and the share of rows with a value that was not among those."""
        known, now = self._sampled(begin, end, known=True), self._sampled(since, until, known=False)
        sizes = [
            abs(answer - label)
            for answer, label in zip(known.answers, known.labels, strict=True)
            if label is not None
        ]
        model = learn_loss({**known.columns, _ANSWER: known.answers}, sizes)
        found = None if model is None else expected_loss(model, {**now.columns, _ANSWER: now.answers})
        return (None, 0.0) if found is None else found

    def _sampled(self, since: datetime, until: datetime, *, known: bool) -> Sampled:
        found = self._ingest.call(
            "sampled", model=self.model, version=self.version, since=since, until=until, known=known,
            limit=_LEARNED if known else _ESTIMATED,
        )  # fmt: skip
        return msgspec.convert(found, Sampled, strict=False)

    def delays(self, since: datetime, until: datetime) -> Delays:
        """How long the model's labels took."""
        found = self._ingest.call("delays", model=self.model, since=since, until=until)
        return msgspec.convert(found, Delays, strict=False)

    def coverage(self, since: datetime, until: datetime) -> int:
        """How many items the model's rankings held."""
        return int(self._ingest.call("coverage", model=self.model, since=since, until=until))
