"""Whether answers can carry their leading features: found where the model and its reference rows are, and
proven on them. What is found travels with the version."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.client.importances import inputs_of
from fairlead.contracts.contract import Contract, Output
from fairlead.contracts.profile import ReferenceProfile
from fairlead.errors import InvalidModelFile, NotExplainable, RuntimeFailed
from fairlead.runtimes.base import OutputNames, Runtime, RuntimeSpec
from fairlead.runtimes.binding import Binding, Prediction, Row
from fairlead.runtimes.effects import Effect, find_effects, lookup, shifted
from fairlead.runtimes.leading import Leading, Scale
from fairlead.runtimes.tree_file import TreeNode, tree_node, with_output
from fairlead.runtimes.trees import (
    MOST_CELLS,
    MOST_DEPTH,
    Trees,
    depth_of,
    leaf_sums,
    with_means,
)

__all__ = ["leading_of_onnx"]

_BLOCK = 1_024
_MOST_ROWS = 1_000
_MOST_FEATURES = 1_000
_MOST_CELLS = 200_000
"""So many values of reference rows are looked at: of models with more than 200 features fewer rows."""
_TOLERANCE = 1e-4
"""A score that was put together may be off by so much: of a probability, or of what a number varies by."""
_CERTAIN = 1e-3
"""The log odds of what is surer than this are read too coarsely off a probability to find slopes by."""

Array = npt.NDArray[np.float64]
Answers = Callable[[Sequence[Row]], list[Prediction | None]]


def leading_of_onnx(
    folder: Path,
    runtime: RuntimeSpec,
    contract: Contract,
    profile: ReferenceProfile,
    reference: Any,
    target: Any = None,
) -> Leading | None:
    """How the leading features of the answers of the ONNX model in that folder are read off a row; with a
    `reason` where they cannot be.

    Contributions are measured over a sample of the reference rows; what is found gives the answers to all of
    them again, and to rows drawn from their profile. Always the same for the same model and reference. None
    where the reference has no names to find the features by.
    """
    from fairlead.explanations.background import background_rows
    from fairlead.runtimes.onnx import OnnxRuntime

    table = inputs_of(contract, reference, target)
    if table is None or not table.rows:
        return None
    width = len(contract.names)
    if width > _MOST_FEATURES:
        return Leading(reason=f"The model takes {width} features; {_MOST_FEATURES} are few enough.")
    count = min(_MOST_ROWS, _MOST_CELLS // width, table.rows)
    chosen = np.random.default_rng(0).choice(table.rows, count, replace=False)
    rows = [row for place in np.sort(chosen).tolist() for row in table.records(place, place + 1)]
    mixed = [tuple(row) for row in background_rows(contract, profile, np.random.default_rng(0))]
    session, binding = OnnxRuntime(folder, runtime), Binding(contract, runtime)
    try:
        if contract.output.kind not in ("class", "number"):
            raise NotExplainable(f"The answer is a {contract.output.kind}.")
        answers = _answers(session, binding)
        try:
            return _additive(contract, answers, rows, mixed)
        except NotExplainable as reason:
            try:
                return _trees(
                    (folder / runtime.entry).read_bytes(), runtime, contract, binding, answers, rows
                )
            except NotExplainable as other:
                raise NotExplainable(f"{other.message} {reason.message}") from other
    except (NotExplainable, RuntimeFailed) as reason:
        return Leading(reason=reason.message)
    finally:
        session.close()


# --- sums of what features do -------------------------------------------------------------------------------


def _additive(contract: Contract, answers: Answers, rows: Sequence[Row], mixed: Sequence[Row]) -> Leading:
    output = contract.output
    scale: Scale = "number" if output.kind == "number" else "log_odds"

    def ask(asked: Sequence[Row]) -> Array:
        return _scores(output, answers(asked), scale)

    known = ask(rows)
    inner = np.flatnonzero(np.isfinite(known).all(axis=1))
    if not inner.size:
        raise NotExplainable("The model is too sure of all rows for slopes to be found.")
    if output.kind == "class":
        centre = rows[int(inner[np.abs(known[inner]).max(axis=1).argmin()])]
    else:
        centre = rows[int(inner[0])]
    effects = find_effects(contract.inputs, rows, centre, ask)
    relative = [shifted(effect, effects.numbers) for effect in effects.effects]
    width = effects.numbers.size

    def moves(asked: Sequence[Row]) -> Array:
        """What each feature does, [rows, features, numbers]: infinite where that is not known."""
        found = np.zeros((len(asked), len(relative), width))
        for place, effect in enumerate(relative):
            of = lookup(effect)
            for index, row in enumerate(asked):
                held = of(row[place])
                found[index, place, list(effect.at)] = np.inf if held is None else held
        return found

    moved = moves(rows)
    seen = np.isfinite(moved).all(axis=(1, 2))
    if not seen.any():
        raise NotExplainable("No reference row has only values that the model answers alone.")
    means = moved[seen].mean(axis=0)
    _prove(output, answers([*rows, *mixed]), effects.numbers + moves([*rows, *mixed]).sum(axis=1), scale)
    return Leading(
        scale=scale,
        base=tuple((effects.numbers + means.sum(axis=0)).tolist()),
        effects=tuple(shifted(_spread(effect, width), means[place]) for place, effect in enumerate(relative)),
    )


def _spread(effect: Effect, width: int) -> Effect:
    """The effect on all numbers of the score, also on those that it does not move; on none where it moves
    none."""
    if len(effect.at) in (0, width):
        return effect
    places = {number: place for place, number in enumerate(effect.at)}

    def line(held: Sequence[float | None]) -> tuple[float, ...]:
        return tuple((held[places[number]] or 0.0) if number in places else 0.0 for number in range(width))

    return Effect(
        at=tuple(range(width)),
        slopes=line(effect.slopes) if effect.slopes else (),
        offsets=line(effect.offsets) if effect.slopes else (),
        values=effect.values,
        table=tuple(map(line, effect.table)),
        null=None if effect.null is None else line(effect.null),
        other=None if effect.other is None else line(effect.other),
    )


# --- trees --------------------------------------------------------------------------------------------------


def _trees(
    model: bytes,
    runtime: RuntimeSpec,
    contract: Contract,
    binding: Binding,
    answers: Answers,
    rows: Sequence[Row],
) -> Leading:
    node = tree_node(model)
    nodes = node.nodes
    depth = depth_of(nodes)
    if nodes.values.size > MOST_CELLS or depth > MOST_DEPTH:
        raise NotExplainable(
            f"Its trees have {nodes.columns.size} nodes and {depth} levels; {MOST_CELLS} and {MOST_DEPTH} are"
            " few enough for each answer."
        )
    with _inside(model, runtime, binding, node) as columns:
        table = columns(rows)
        whole = [row for row in rows if None not in row]
        made = find_effects(contract.inputs, rows, (whole or rows)[0], columns)
    owners = np.full(made.numbers.size, -1)
    for place, effect in enumerate(made.effects):
        for column in effect.at:
            if owners[column] >= 0:
                raise NotExplainable("Its trees ask what is made of several features.")
            owners[column] = place
    lookups = [lookup(effect) for effect in made.effects]
    again = np.tile(made.numbers, (len(rows), 1))
    for index, row in enumerate(rows):
        for value, of, effect in zip(row, lookups, made.effects, strict=True):
            held = of(value)
            again[index, list(effect.at)] = np.inf if held is None else held
    if not np.allclose(again, table, rtol=1e-5, atol=1e-6, equal_nan=True):
        raise NotExplainable("What its trees ask depends on features in a way that is no line and no table.")
    sums, visits = leaf_sums(nodes, again, depth)
    answered = answers(rows)
    scale, offset = _scale_of(contract.output, answered, sums)
    means = with_means(nodes, visits, depth)
    base = means.values[means.roots].sum(axis=0) + nodes.base + offset
    constants = np.where(np.isnan(made.numbers), 0.0, made.numbers)
    return Leading(
        scale=scale,
        base=tuple(base.tolist()),
        effects=made.effects,
        constants=tuple(constants.tolist()),
        trees=Trees.of(means, tuple(np.maximum(owners, 0).tolist()), depth),
    )


def _scale_of(output: Output, answered: list[Prediction | None], sums: Array) -> tuple[Scale, Array]:
    """Of what the sums of leaves are, and what has to be added to them everywhere."""
    scales: tuple[Scale, ...] = ("number",) if output.kind == "number" else ("probability", "log_odds")
    for scale in scales:
        known = _scores(output, answered, scale)
        if known.shape[1] != sums.shape[1]:
            continue
        if scale == "log_odds" and sums.shape[1] > 1:
            sums = sums - sums.mean(axis=1, keepdims=True)
        inner = np.isfinite(known).all(axis=1)
        if not inner.any():
            continue
        offset = np.median(known[inner] - sums[inner], axis=0)
        offset = np.where(np.abs(offset) < _TOLERANCE, 0.0, offset)
        try:
            _prove(output, answered, sums + offset, scale)
        except NotExplainable:
            continue
        return scale, offset
    raise NotExplainable("What it answers is not made of the sum over its trees alone.")


@contextmanager
def _inside(
    model: bytes, runtime: RuntimeSpec, binding: Binding, node: TreeNode
) -> Iterator[Callable[[Sequence[Row]], Array]]:
    """Gives the columns that trees ask, of rows."""
    from fairlead.runtimes.onnx import OnnxRuntime

    if node.source in {tensor.name for tensor in runtime.inputs}:
        yield lambda rows: _matrix(binding.encode(rows)[node.source])
        return
    spec = msgspec.structs.replace(runtime, entry="model.onnx", outputs=OutputNames(value=node.source))
    with tempfile.TemporaryDirectory(prefix="fairlead-") as folder:
        try:
            (Path(folder) / spec.entry).write_bytes(with_output(model, node.source, double=True))
            session = OnnxRuntime(folder, spec)
        except InvalidModelFile:  # an output has to say of what type it is
            (Path(folder) / spec.entry).write_bytes(with_output(model, node.source, double=False))
            session = OnnxRuntime(folder, spec)

    def ask(rows: Sequence[Row]) -> Array:
        try:
            return _matrix(session.run(binding.encode(rows))[node.source])
        except RuntimeFailed:  # an encoder that bears no category that it has not seen
            if len(rows) == 1:
                return np.array([[np.inf]])
        found = [ask([row]) for row in rows]
        width = max(one.shape[1] for one in found)
        return np.concatenate(
            [one if one.shape[1] == width else np.full((1, width), np.inf) for one in found]
        )

    try:
        yield ask
    finally:
        session.close()


def _matrix(found: Any) -> Array:
    return np.asarray(found, np.float64).reshape(len(found), -1)


# --- scores -------------------------------------------------------------------------------------------------


def _answers(session: Runtime, binding: Binding) -> Answers:
    def ask(rows: Sequence[Row]) -> list[Prediction | None]:
        found: list[Prediction | None] = []
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            try:
                found += binding.decode(session.run(binding.encode(block)), len(block))
            except Exception:  # a row that the model does not bear fails alone, whatever it raises
                found += [None] if len(block) == 1 else [one for row in block for one in ask([row])]
        return found

    return ask


def _scores(output: Output, answers: Sequence[Prediction | None], scale: Scale) -> Array:
    """The score of answers, [rows, numbers]: infinite where it cannot be told."""
    if scale == "number":
        return np.array([[np.inf if one is None else one.value] for one in answers], np.float64)
    width = len(output.classes)
    if any(one is not None and len(one.probabilities or ()) != width for one in answers):
        raise NotExplainable("The model gives no probability for each of its classes.")
    missing = [np.nan] * width
    shares = np.array([missing if one is None else one.probabilities for one in answers], np.float64)
    if scale == "probability":
        found = shares[:, 1:] if width == 2 else shares
        return np.where(np.isnan(found), np.inf, found)
    known = (shares >= _CERTAIN).all(axis=1, keepdims=True)
    logs = np.log(np.where(known, shares, 1.0))
    found = logs[:, 1:] - logs[:, :1] if width == 2 else logs - logs.mean(axis=1, keepdims=True)
    return np.where(known, found, np.inf)


def _prove(output: Output, answers: Sequence[Prediction | None], scores: Array, scale: Scale) -> None:
    """Raises `NotExplainable` unless the scores are those of the answers. What a row is not known of, or
    what the model does not answer, is passed over."""
    told = np.isfinite(scores).all(axis=1) & np.array([one is not None for one in answers])
    held = [one for one, is_told in zip(answers, told.tolist(), strict=True) if is_told and one is not None]
    scores = scores[told]
    if scale == "number":
        known = np.array([[one.value] for one in held], np.float64)
        room = _TOLERANCE * max(float(np.ptp(known)) if known.size else 0.0, 1e-9)
    else:
        known, room = _scores(output, held, "probability"), _TOLERANCE
        if scale == "log_odds":
            scores = np.clip(scores, -700, 700)
            raised = np.exp(scores - scores.max(axis=1, keepdims=True)) if scores.shape[1] > 1 else None
            scores = (
                1 / (1 + np.exp(-scores)) if raised is None else raised / raised.sum(axis=1, keepdims=True)
            )
    if not held or np.abs(scores - known).max() > room:
        raise NotExplainable("What features do does not add up to its answers.")
