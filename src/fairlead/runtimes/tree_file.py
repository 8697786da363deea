"""The ensemble of trees in an ONNX file, read without the `onnx` package: whoever registers a model finds the
same, whatever else is installed.

A protobuf message is a list of tagged fields, and two messages behind each other are one with the fields of
both; that is how an inner value becomes an output. Field numbers are those of `onnx.proto`, attributes those
of TreeEnsembleClassifier and TreeEnsembleRegressor (ai.onnx.ml, versions 1 to 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from fairlead.errors import NotExplainable
from fairlead.runtimes.trees import Nodes

__all__ = ["TreeNode", "tree_node", "with_output"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_KINDS = {b"TreeEnsembleClassifier": "class", b"TreeEnsembleRegressor": "target"}
_FLOAT, _DOUBLE = 1, 11
_BELOW = {b"BRANCH_LEQ": False, b"BRANCH_LT": True}


class TreeNode(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The operator: the name of the value that it reads, as it was before it was rounded for the trees, and
    the trees."""

    source: str
    nodes: Nodes


def tree_node(model: bytes) -> TreeNode:
    """The one ensemble of trees of an ONNX model. Raises `NotExplainable` where there is none, or several,
    and for trees that ask other questions than whether a number is below another."""
    graph = _gathered(_first(model, 7))
    found = []
    unrounded = {}
    for data in graph.get(1, ()):
        node = _gathered(data)
        if node.get(4) == [b"Cast"]:
            unrounded[node[2][0]] = node[1][0]
        kind = _KINDS.get(node.get(4, [b""])[0])
        if kind is not None:
            found.append((kind, node))
    if len(found) != 1:
        raise NotExplainable(
            "The model is neither a sum of what its features do nor one ensemble of trees; it has"
            f" {len(found)} of those."
        )
    kind, node = found[0]
    source = unrounded.get(node[1][0], node[1][0])
    try:
        nodes = _nodes(kind, dict(_attribute(data) for data in node.get(5, ())))
    except (LookupError, ValueError) as error:
        raise NotExplainable("Its trees are described in a way that is not understood.") from error
    return TreeNode(source=source.decode(), nodes=nodes)


def with_output(model: bytes, name: str, double: bool) -> bytes:
    """The ONNX model with that inner value, a matrix of numbers, as one more output."""
    element = b"\x08" + bytes([_DOUBLE if double else _FLOAT])
    value = _field(1, name.encode()) + _field(2, _field(1, element))
    return model + _field(7, _field(12, value))


def _nodes(kind: str, given: dict[str, Any]) -> Nodes:
    def numbers(name: str) -> Any:
        return given.get(f"{name}_as_tensor", given.get(name, np.zeros(0)))

    modes = given.get("nodes_modes", [])
    leaf = np.array([mode == b"LEAF" for mode in modes], bool)
    other = {mode for mode in modes if mode != b"LEAF"} - set(_BELOW)
    if other:
        raise NotExplainable(f"Its trees ask other questions: {sorted(other)[0].decode()}.")
    trees, ids = given["nodes_treeids"], given["nodes_nodeids"]
    place = {pair: index for index, pair in enumerate(zip(trees.tolist(), ids.tolist(), strict=True))}

    def places(name: str) -> Any:
        wanted = zip(trees.tolist(), given[name].tolist(), strict=True)
        return np.array(
            [index if leaf[index] else place[pair] for index, pair in enumerate(wanted)], np.int32
        )

    thresholds = numbers("nodes_values")
    below = np.array([_BELOW.get(mode, False) for mode in modes], bool)
    if below.any():  # less than a number is at most the one before it
        thresholds = np.where(below, np.nextafter(thresholds, thresholds.dtype.type(-np.inf)), thresholds)
    left, right = places("nodes_truenodeids"), places("nodes_falsenodeids")
    inner = np.concatenate([left[~leaf], right[~leaf]])
    columns = given[f"{kind}_ids"]
    distinct = np.unique(columns)
    width = int(given.get("n_targets", distinct.max() + 1)) if distinct.size > 1 else 1
    values = np.zeros((leaf.size, width))
    weighed = [
        place[pair]
        for pair in zip(*(given[f"{kind}_{part}"].tolist() for part in ("treeids", "nodeids")), strict=True)
    ]
    np.add.at(values, (weighed, columns if width > 1 else np.zeros_like(columns)), numbers(f"{kind}_weights"))
    missing = given.get("nodes_missing_value_tracks_true", np.zeros(leaf.size, np.int64))
    return Nodes(
        columns=np.where(leaf, -1, given["nodes_featureids"]).astype(np.int32),
        thresholds=thresholds,
        left=left,
        right=right,
        missing_left=missing.astype(bool) if missing.size else np.zeros(leaf.size, bool),
        roots=np.setdiff1d(np.arange(leaf.size, dtype=np.int32), inner),
        values=values / (np.unique(trees).size if given.get("aggregate_function") == b"AVERAGE" else 1),
        base=np.broadcast_to(numbers("base_values"), (width,))
        if numbers("base_values").size in (1, width)
        else np.zeros(width),
    )


# --- protobuf -----------------------------------------------------------------------------------------------


def _attribute(data: bytes) -> tuple[str, Any]:
    held = _gathered(data)
    name = held[1][0].decode()
    if 5 in held:
        return name, _tensor(held[5][0])
    if 9 in held:
        return name, held[9]
    if 4 in held:
        return name, held[4][0]
    if 7 in held:
        return name, np.concatenate([np.frombuffer(part, "<f4") for part in held[7]])
    if 8 in held:
        return name, np.array([one for part in held[8] for one in _whole(part)], np.int64)
    return name, _signed(held[3][0]) if 3 in held else None


def _tensor(data: bytes) -> Any:
    held = _gathered(data)
    kind = np.dtype("<f8" if held.get(2, [_FLOAT])[0] == _DOUBLE else "<f4")
    parts = held.get(9) or held.get(10 if kind.itemsize == 8 else 4, [])
    return np.concatenate([np.frombuffer(part, kind) for part in parts]) if parts else np.zeros(0, kind)


def _whole(part: int | bytes) -> Iterator[int]:
    """Integers one by one, or many of them in a piece."""
    if isinstance(part, int):
        yield _signed(part)
        return
    at = 0
    while at < len(part):
        value, at = _varint(part, at)
        yield _signed(value)


def _first(data: bytes, number: int) -> bytes:
    found = _gathered(data).get(number)
    if not found:
        raise NotExplainable("The model file has no graph.")
    return b"".join(found)


def _gathered(data: bytes) -> dict[int, list[Any]]:
    """The fields of a message by their number: bytes, or integers."""
    found: dict[int, list[Any]] = {}
    value: int | bytes
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
        else:
            size, at = _varint(data, at) if wire == _BYTES else ({_FIXED64: 8, _FIXED32: 4}[wire], at)
            value, at = data[at : at + size], at + size
        found.setdefault(tag >> 3, []).append(value)
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _field(number: int, content: bytes) -> bytes:
    """Content as that field of a message."""
    size, head = len(content), bytearray()
    while size >= 0x80:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | _BYTES, *head, size]) + content
