"""What the rows of a log table answered, as codes (see `seen.py`). Pure: Arrow columns in, arrays out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.contracts.counts import Bins, FieldKey
from fairlead.contracts.profile import CategoryProfile
from fairlead.predictions.seen import Seen, categories_seen, elements_seen, numbers_seen

__all__ = ["Answers"]

Array = npt.NDArray[Any]
_NOTHING_SENT: tuple[Array, list[Any]] = (np.empty(0, np.int64), [])
_decode_scores = msgspec.json.Decoder(list[dict[str, float | None]]).decode


class Answers:
    """The answers of a table's rows; rows without one are in no count.

    JSON is decoded once for each of its different texts, and only when a field that needs it is asked for.
    """

    def __init__(self, table: pa.Table) -> None:
        self._values = table.column("prediction").combine_chunks()
        self._probabilities = table.column("probabilities").combine_chunks()
        ok = pc.equal(table.column("status"), "ok").combine_chunks().to_numpy(zero_copy_only=False)
        self._silent = ~ok
        self._scoreless = ~ok | self._probabilities.is_null().to_numpy(zero_copy_only=False)
        self._decoded: list[Any] | None = None
        self._scores: dict[str, Array] | None = None

    def seen(self, key: FieldKey, bins: Bins) -> Seen:
        """The codes of the answers' values, of numbers in a list, or of scores."""
        if key.part == "score":
            return self._scores_seen(key.name, bins)
        if isinstance(bins, CategoryProfile):
            return categories_seen(bins, self._values, value_of=_categories, skip=self._silent)
        values = self._each()
        if key.part == "elements":
            lists = pa.array([held if isinstance(held, list) else None for held in values], _FLOATS)
            return elements_seen(bins, lists, _NOTHING_SENT)
        numbers = [len(held) if isinstance(held, list) else held for held in values]
        return numbers_seen(bins, pa.array(numbers, pa.float64()), _NOTHING_SENT, self._silent)

    def _each(self) -> list[Any]:
        """The answer of each row; None where there is none."""
        if self._decoded is None:
            self._decoded = msgspec.json.decode(
                "[" + ",".join(self._values.fill_null("null").to_pylist()) + "]"
            )
            for row in np.flatnonzero(self._silent).tolist():
                self._decoded[row] = None
        return self._decoded

    def _scores_seen(self, name: str, bins: Bins) -> Seen:
        if not name and (self._scoreless | self._silent).all():
            first = [held[0] if isinstance(held, list) and held else None for held in self._each()]
            scores = [item["score"] if isinstance(item, Mapping) else None for item in first]
            return numbers_seen(bins, pa.array(scores, pa.float64()), _NOTHING_SENT, self._silent)
        if self._scores is None:
            self._scores = _columns(self._probabilities)
        column = self._scores.get(name)
        if column is None:
            column = np.full(len(self._values), np.nan)
        array = pa.array(column, mask=np.isnan(column))
        return numbers_seen(bins, array, _NOTHING_SENT, self._scoreless)


_FLOATS = pa.list_(pa.float64())


def _categories(texts: list[str]) -> Iterator[Any]:
    """What JSON answers mean as categories: a class, or the first of a ranking."""
    for value in msgspec.json.decode("[" + ",".join(texts) + "]"):
        if isinstance(value, list):
            first = value[0] if value else None
            yield first["id"] if isinstance(first, Mapping) else None
        else:
            yield value


def _columns(texts: pa.Array) -> dict[str, Array]:
    """The scores of each class by row, NaN where a row has none."""
    encoded = texts.dictionary_encode()
    different = _decode_scores("[" + ",".join(encoded.dictionary.to_pylist()) + "]")
    indices = encoded.indices.fill_null(len(different)).to_numpy(zero_copy_only=False)
    names = dict.fromkeys(name for held in different[:1] for name in held)
    nan = float("nan")
    found = {}
    for name in names:
        held = (scores.get(name) for scores in different)
        values = np.fromiter((nan if score is None else score for score in held), np.float64, len(different))
        found[name] = np.append(values, nan)[indices]
    return found
