"""How far back the log and its counts reach, by the files that hold them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from fairlead.predictions.counted import Reach
from fairlead.predictions.manifest import DataFile

__all__ = ["reach_of", "uncounted_models"]


def reach_of(model: str, files: Iterable[DataFile], fresh: Iterable[pa.Table] = ()) -> Reach:
    """How far back a model's log reaches. `fresh` are its rows that lie in no file yet: they are counted
    whenever somebody asks."""
    begins: dict[str, int] = {}
    for file in files:
        if file.model == model and file.rows:
            begins[file.dataset] = min(file.first_at, begins.get(file.dataset, file.first_at))
    for table in fresh:
        if table.num_rows:
            first = pc.min(table.column("at").cast(pa.int64())).as_py()
            for dataset in ("predictions", "profiles"):
                begins[dataset] = min(first, begins.get(dataset, first))
    return Reach(logged=_moment(begins.get("predictions")), counted=_moment(begins.get("profiles")))


def uncounted_models(files: Iterable[DataFile]) -> list[str]:
    """The models with traffic from before their counts begin."""
    held = list(files)
    models = sorted({file.model for file in held if file.model is not None})
    return [model for model in models if reach_of(model, held).uncounted]


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else datetime.fromtimestamp(microseconds / 1e6, UTC)
