"""The labelled rows of a window: what a trainer gets, and what it never gets because the gate needs it.

A unit is held out by a hash of itself under the model's name, the same in every retraining: no version that
was trained here has ever seen the rows that it is judged by, nor have those before it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.contracts.contract import Contract, Output
from fairlead.errors import InvalidRetraining
from fairlead.gate.answers import spelling, spellings

__all__ = ["Split", "is_held_out", "split", "target_beside"]


class Split(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Two tables of the same columns: the stored features under the contract's names, and `target` last.
    `left_out` are its sensitive features, `unknown` counts labels that are none of its classes."""

    train: pa.Table
    held: pa.Table
    target: str
    since: datetime
    left_out: tuple[str, ...]
    unknown: int


def split(
    rows: pa.Table,
    contract: Contract,
    model: str,
    *,
    share: float,
    least: int,
    after: datetime | None,
    least_held: int = 1,
) -> Split:
    """The rows of `export_labelled` in two parts. With `after`, only what came from then on, where that is
    `least` rows or more, `least_held` of them held out; else all.

    Raises `InvalidRetraining` where nothing of the champion's contract could be trained on, or fewer than
    `least` rows have a usable label, or fewer than `least_held` of these are held out.
    """
    hidden = tuple(field.name for field in contract.inputs if field.sensitivity == "sensitive")
    needed = [field.name for field in contract.inputs if field.name in hidden and not field.nullable]
    if needed:
        raise InvalidRetraining(
            f"The log does not keep the sensitive feature {needed[0]!r}, without which {model!r} answers "
            "nothing: no candidate could be compared with its champion.",
            remedy="Make it nullable or `personal` in the contract, or train elsewhere and register.",
        )
    columns = _columns(rows, contract, hidden)
    if not columns:
        raise InvalidRetraining(
            f"The log keeps no feature of {model!r}.", remedy="Train elsewhere and register."
        )
    target = target_beside(contract.names)
    labels, unknown = _labels(rows, contract.output)
    usable = np.array([label is not None for label in labels], bool)
    for field in contract.inputs:
        if field.name in columns and not field.nullable:
            usable &= columns[field.name].is_valid().to_numpy(zero_copy_only=False)
    recent = usable
    if after is not None:
        at = pc.greater_equal(rows.column("_at"), pa.scalar(after, rows.schema.field("_at").type))
        recent = usable & at.to_numpy(zero_copy_only=False)
    held = np.array([is_held_out(model, unit, share) for unit in rows.column("_unit").to_pylist()], bool)
    enough = recent.sum() >= least and (recent & held).sum() >= least_held
    chosen = recent if enough else usable
    count = int(chosen.sum())
    if count < least:
        raise InvalidRetraining(
            f"{count:,} rows of {model!r} have a label that can be used; {least:,} are asked for.",
            remedy="Report outcomes of the metric `label`, look at a longer `window`, or lower `least`.",
            rows=count,
        )
    table = pa.table({**columns, target: pa.array(labels)})
    since = rows.column("_at").filter(pa.array(chosen))[0].as_py()
    parts = [table.filter(pa.array(chosen & mask)) for mask in (~held, held)]
    if not all(part.num_rows for part in parts):
        raise InvalidRetraining(
            f"The {count:,} labelled rows of {model!r} are of too few units to hold some of them out.",
            remedy="Wait for more, or send units with the requests.",
        )
    if parts[1].num_rows < least_held:
        raise InvalidRetraining(
            f"{parts[1].num_rows:,} of the {count:,} labelled rows of {model!r} are held out; {least_held:,} "
            "are asked for.",
            remedy="Wait for more labels, look at a longer `window`, or lower `held_rows`.",
        )
    return Split(train=parts[0], held=parts[1], target=target, since=since, left_out=hidden, unknown=unknown)


def target_beside(names: Sequence[str]) -> str:
    """The name of the column with the answers beside features of these names: `label`, where none has it."""
    target = "label"
    while target in names:
        target += "_"
    return target


def is_held_out(model: str, unit: str, share: float) -> bool:
    """Whether the gate alone sees that unit's rows."""
    digest = hashlib.blake2b(f"{model}\0{unit}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2.0**64


def _columns(rows: pa.Table, contract: Contract, hidden: Sequence[str]) -> dict[str, pa.ChunkedArray]:
    """The stored features by the contract's names; the log folds the case of names, and numbers the second
    of two that differ in nothing else."""
    folded = {name.lower(): name for name in rows.column_names}
    seen: Counter[str] = Counter()
    found: dict[str, pa.ChunkedArray] = {}
    for field in contract.inputs:
        low = field.name.lower()
        seen[low] += 1
        name = folded.get(low if seen[low] == 1 else f"{low}_{seen[low]}")
        if name is not None and field.name not in hidden:
            found[field.name] = rows.column(name)
    return found


def _labels(rows: pa.Table, output: Output) -> tuple[list[Any], int]:
    """Each row's label as the champion answers it, None where it is no answer of its; how many are none."""
    numbers, texts = (rows.column(name).to_pylist() for name in ("_label", "_label_text"))
    if output.kind == "number":
        return numbers, sum(number is None for number in numbers)
    given = [number if text is None else text for number, text in zip(numbers, texts, strict=True)]
    if not output.classes:
        return given, 0
    known = spellings(output.classes)
    found = [known.get(spelling(value)) for value in given]
    return found, sum(value is None for value in found)
