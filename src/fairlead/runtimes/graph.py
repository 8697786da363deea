"""Edits of an ONNX graph in memory: the inputs get their features' own names, and unused ones go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["drop_unused_inputs", "rename_inputs", "use_plain_locale"]


_STRING = 3  # onnx.AttributeProto.STRING


def drop_unused_inputs(model: Any) -> None:
    """Removes the inputs that no operator reads."""
    used = {name for graph in _graphs(model.graph) for node in graph.node for name in node.input}
    used |= {output.name for output in model.graph.output}
    for unused in [tensor for tensor in model.graph.input if tensor.name not in used]:
        model.graph.input.remove(unused)


def rename_inputs(model: Any, names: dict[str, str]) -> None:
    """Gives the inputs other names; inner values that bear one of these make room for it.

    Converters allow only plain identifiers and rename what collides with their own values. ONNX allows any
    text, and a feature may well be called `label`.
    """
    wanted = set(names.values())
    taken = {name for graph in _graphs(model.graph) for name in _values(graph)} | wanted
    mapping = dict(names)
    for name in sorted(taken & wanted - set(names)):
        fresh = next(free for number in range(len(taken) + 1) if (free := f"{name}_{number}") not in taken)
        taken.add(fresh)
        mapping[name] = fresh
    for graph in _graphs(model.graph):
        for node in graph.node:
            node.input[:] = [mapping.get(name, name) for name in node.input]
            node.output[:] = [mapping.get(name, name) for name in node.output]
        for part in (graph.input, graph.output, graph.value_info, graph.initializer):
            for value in part:
                value.name = mapping.get(value.name, value.name)


def use_plain_locale(model: Any) -> None:
    """Lets text be lowered in `C.UTF-8`: the default, `en_US.UTF-8`, is missing from most containers."""
    for graph in _graphs(model.graph):
        for node in graph.node:
            if node.op_type == "StringNormalizer" and not any(a.name == "locale" for a in node.attribute):
                locale = node.attribute.add()
                locale.name, locale.type, locale.s = "locale", _STRING, b"C.UTF-8"


def _graphs(graph: Any) -> Iterator[Any]:
    """The graph and those inside of its loops and branches."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)
            for inner in attribute.graphs:
                yield from _graphs(inner)


def _values(graph: Any) -> Iterator[str]:
    for node in graph.node:
        yield from node.output
    for part in (graph.input, graph.output, graph.initializer):
        for value in part:
            yield value.name
