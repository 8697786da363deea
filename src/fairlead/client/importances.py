"""What an ONNX model goes by on its reference rows, found where the rows are; it travels with the version."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fairlead.contracts.contract import Contract
from fairlead.contracts.infer import split_target
from fairlead.contracts.profile import ReferenceProfile
from fairlead.contracts.table import Table, read_table
from fairlead.explanations.importance import Importance
from fairlead.runtimes.base import RuntimeSpec

__all__ = ["importance_of_onnx", "inputs_of"]

_SECONDS = 5.0
"""What takes longer is left out: a part of it would be another on another machine, and so would the version's
digest."""
_BLOCK = 1_024


def importance_of_onnx(
    folder: Path,
    runtime: RuntimeSpec,
    contract: Contract,
    profile: ReferenceProfile,
    reference: Any,
    target: Any = None,
) -> Importance | None:
    """The importance of the features of the ONNX model in that folder, over a sample of the reference rows
    beside rows drawn from their profile. None for vectors and rankings, and where it would take more than
    5 s; else always the same for the same model and reference."""
    from fairlead.evaluation.scored import Scored
    from fairlead.explanations.background import background_rows
    from fairlead.explanations.importance import LEAST_ROWS, importance, sample_size
    from fairlead.runtimes.binding import Binding
    from fairlead.runtimes.onnx import OnnxRuntime

    table = inputs_of(contract, reference, target)
    if contract.output.kind not in ("class", "number") or table is None or table.rows < LEAST_ROWS:
        return None
    session, binding = OnnxRuntime(folder, runtime), Binding(contract, runtime)

    def ask(rows: Sequence[Sequence[Any]]) -> list[Scored]:
        try:
            found: list[Scored] = []
            for start in range(0, len(rows), _BLOCK):
                block = [tuple(row) for row in rows[start : start + _BLOCK]]
                answered = binding.decode(session.run(binding.encode(block)), len(block))
                found += [Scored("ok", one.value, binding.probabilities(one)) for one in answered]
            return found
        except Exception:  # a row that the model does not bear fails alone, whatever it raises
            return [Scored("failed")] if len(rows) == 1 else [one for row in rows for one in ask([row])]

    until = time.monotonic() + _SECONDS
    generator = np.random.default_rng(0)
    chosen = generator.choice(table.rows, min(sample_size(len(contract.names)), table.rows), replace=False)
    try:
        found = importance(
            [table.records(index, index + 1)[0] for index in chosen.tolist()],
            background_rows(contract, profile, np.random.default_rng(0)),
            ask,
            contract.output,
            contract.names,
            generator,
            goes_on=lambda: time.monotonic() < until,
        )
        return found if time.monotonic() < until else None
    finally:
        session.close()


def inputs_of(contract: Contract, reference: Any, target: Any) -> Table | None:
    """The columns that the model takes, in the contract's order; those of a matrix have no names."""
    if getattr(reference, "ndim", 0) != 2 or hasattr(reference, "columns"):
        return read_table(reference, columns=contract.names)
    table, _ = split_target(reference, target if isinstance(target, str) else None)
    return table if len(table.names) == len(contract.names) else None
