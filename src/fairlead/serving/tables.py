"""The columnar walk: a request of many rows as arrays is routed, checked, run and logged as one.

Where `infer()` makes Python values of each row, this makes none: arrays are checked as arrays, run in pieces
of at most `max_batch_rows`, and logged as one frame. The request is answered or refused as a whole, and the
cache, which holds single rows, is not asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fairlead.contracts.arrays import Checked, python_values
from fairlead.contracts.contract import Field
from fairlead.errors import (
    Cancelled,
    CircuitOpen,
    DataContractViolation,
    DeadlineExceeded,
    FairleadError,
    MalformedRequest,
    Overloaded,
    RuntimeFailed,
)
from fairlead.routing.targeting import Columns
from fairlead.runtimes.base import Array, Tensors
from fairlead.runtimes.tables import Answers, TableBinding
from fairlead.serving.dataplane import DataPlane
from fairlead.serving.ladder import is_fault
from fairlead.serving.live import LiveArm, LiveModel, LoadedVersion
from fairlead.serving.single import infer_single, single_reading
from fairlead.serving.sureness import askable
from fairlead.serving.table_records import TableAsk, table_frames

__all__ = ["TableAnswer", "TableAsk", "infer_table", "run_version"]


class TableAnswer(NamedTuple):
    """The output tensors of all rows in their order, by name; `flagged` counts rows whose values broke rules
    that only flag or impute."""

    arm: LiveArm
    rows: int
    outputs: dict[str, Array]
    binding: TableBinding
    flagged: int

    @property
    def answers(self) -> Answers:
        """What the tensors mean."""
        return self.binding.answers(self.outputs, self.rows)


async def infer_table(plane: DataPlane, model: LiveModel, ask: TableAsk) -> TableAnswer:
    """The answers for all rows and the arm that gave them; they are in the log before this returns.

    Raises `MalformedRequest` for tensors that are none of the model's, and `DataContractViolation`,
    `VersionNotFound`, `DeadlineExceeded` and what the model raises; all but the first are logged, too.
    """
    try:
        plain = ask.pin is None and model.plain
        arm = model.route(ask.unit) if plain else _chosen(plane, model, ask)
        ask.assigned = ask.arm = arm
        binding = arm.version.tables
        _require_outputs(ask.outputs, arm)
        table = binding.bind(ask.tensors, arm.compiled.also_known, typed=ask.typed)
        ask.rows = table.rows
        reading = single_reading(table, arm)
        if reading is None:
            checked = ask.checked = binding.check(table)
            outputs = await _attempt(arm, binding, checked, ask)
    except MalformedRequest:
        raise
    except asyncio.CancelledError:
        _gone(plane, model, ask)
        raise
    except FairleadError as error:
        ask.error = error
        _write(plane, model, ask)
        raise
    if reading is not None:
        by, outputs = await infer_single(plane, model, ask, reading, arm)
        return TableAnswer(by, 1, outputs, binding, 0)
    _write(plane, model, ask)
    flagged = {int(row) for breach in checked.flags for row in breach.rows} if checked.flags else ()
    return TableAnswer(arm, table.rows, outputs, binding, len(flagged))


def _chosen(plane: DataPlane, model: LiveModel, ask: TableAsk) -> LiveArm:
    """The arm of a request that is pinned, or that rules may send elsewhere: all its rows together."""
    if ask.pin is not None:
        plane.require_pins()

    @functools.cache
    def features() -> Columns:
        stable = model.pinned(model.stable_version())
        binding = stable.version.tables
        try:
            table = binding.bind(ask.tensors, stable.compiled.also_known, typed=ask.typed)
            checked = binding.check(table)
        except (MalformedRequest, DataContractViolation):
            return {}
        fields = stable.compiled.contract.inputs
        wanted = [(place, field) for place, field in enumerate(fields) if field.name in model.features]
        return {field.name: _values(checked, place, field) for place, field in wanted}

    return model.choose(ask.unit, ask.pin, ask.headers, features)


def _values(checked: Checked, place: int, field: Field) -> list[object]:
    """A feature's value in each row."""
    kind = f"list<{field.type}>" if field.shape else field.type
    if checked.matrix is not None:
        return python_values(kind, checked.matrix[:, place])
    column = checked.columns[place]
    return python_values(kind, column.values, column.null)


async def _attempt(arm: LiveArm, binding: TableBinding, checked: Checked, ask: TableAsk) -> dict[str, Array]:
    """Runs the version unless its breaker keeps callers away, and tells the breaker how it fared."""
    breaker = arm.version.breaker
    if breaker.failures and not breaker.allows(time.monotonic()):
        raise CircuitOpen(
            f"Version {arm.version_name!r} failed {breaker.failures} times in a row; it is left alone.",
            remedy="Try again in a moment; the version's errors are in the prediction log.",
        )
    version = arm.version
    version.holds += 1
    try:
        outputs = await _run(arm, binding, checked, ask)
        ask.answers = binding.answers(outputs, checked.rows)
        if not binding.knows_outputs:
            binding.learn(outputs)
    except FairleadError as error:
        # A deadline that the caller chose says nothing about the version.
        if is_fault(error) and not (ask.deadline is not None and isinstance(error, DeadlineExceeded)):
            breaker.failed(time.monotonic())
            arm.counters.add("faults", checked.rows)
        raise
    finally:
        version.holds -= 1
    if breaker.failures:
        breaker.succeeded()
    return outputs


async def _run(arm: LiveArm, binding: TableBinding, checked: Checked, ask: TableAsk) -> dict[str, Array]:
    """The wanted outputs of all rows, run piece by piece; others get their turn between two pieces."""
    version = arm.version
    feed = binding.feed(checked)
    rows, most = checked.rows, version.spec.settings.max_batch_rows
    pieces: list[dict[str, Array]] = []
    for start in range(0, rows, most):
        count = min(most, rows - start)
        piece = (
            feed if count == rows else {name: array[start : start + count] for name, array in feed.items()}
        )
        if start:
            await asyncio.sleep(0)
        timeout = _seconds_left(arm, ask)
        started = time.perf_counter()
        outputs = await run_version(version, piece, count, timeout, ask.deadline, ask.priority)
        arm.counters.ran(count, time.perf_counter() - started)
        for name, array in outputs.items():
            if array.shape[:1] != (count,):
                raise RuntimeFailed(
                    f"The model answered shape {list(array.shape)} in {name!r} for {count} rows."
                )
        pieces.append(outputs)
    if len(pieces) == 1:
        return pieces[0]
    try:
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    except (KeyError, ValueError) as error:
        raise RuntimeFailed("The model answered other shapes for some rows than for others.") from error


async def run_version(
    version: LoadedVersion,
    feed: Tensors,
    rows: int,
    timeout: float,
    deadline: float | None = None,
    priority: int = 0,
) -> dict[str, Array]:
    """The wanted outputs, wherever the model runs; raises what its engine raises."""
    engine = version.engine
    if engine.inline:
        return engine.run_now(feed)
    # A task of its own: engines wait with time limits, and whoever asks here need not be in a task.
    return await asyncio.get_running_loop().create_task(
        engine.submit(feed, rows, timeout, deadline=deadline, priority=priority)
    )


def _require_outputs(wanted: Sequence[str], arm: LiveArm) -> None:
    known = arm.version.binding.wanted
    for name in wanted:
        if name not in known and name not in (more := askable(arm)):
            known += more
            raise MalformedRequest(
                f"The model has no output {name[:100]!r}.", remedy=f"It has {', '.join(known)}."
            )


def _seconds_left(arm: LiveArm, ask: TableAsk) -> float:
    longest = arm.version.spec.settings.timeout_ms / 1000
    if ask.deadline is None:
        return longest
    left = ask.deadline - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded("The request's time is up.", remedy="Allow more time, or send fewer rows.")
    return min(longest, left)


def _gone(plane: DataPlane, model: LiveModel, ask: TableAsk) -> None:
    """The caller went away: the rows are counted and, where the log takes them, logged."""
    ask.error = Cancelled("The caller went away.")
    ask.milliseconds = round((time.perf_counter() - ask.received) * 1000, 3)
    with contextlib.suppress(Overloaded):
        plane.journal.write_now(table_frames(model, ask, plane.gateway))
    if ask.arm is not None:
        ask.arm.counters.add("cancelled", ask.rows)


def _write(plane: DataPlane, model: LiveModel, ask: TableAsk) -> None:
    """Writes the rows to the log and counts them. A log that takes none refuses the request, or lets it pass
    unlogged."""
    seconds = time.perf_counter() - ask.received
    ask.milliseconds = round(seconds * 1000, 3)
    arm = ask.arm or ask.assigned
    try:
        lost = plane.journal.write_now(table_frames(model, ask, plane.gateway))
    except Overloaded:
        if arm is not None:
            arm.counters.add("shed", ask.rows)
        raise
    if ask.arm is not None:
        if lost:
            ask.arm.counters.add("unlogged", ask.rows)
        ask.arm.counters.answered(ask.status, seconds, ask.rows)
