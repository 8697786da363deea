"""The process that holds one pickled model: `python -m fairlead.engine.worker_main SOCKET PARENT`.

It loads what the gateway names and answers its requests one by one until the socket closes. It imports numpy
and msgspec, and then whatever the model needs.
"""

from __future__ import annotations

import pickle
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fairlead.engine.frames import (
    LENGTH,
    MAX_FRAME,
    Answer,
    Array,
    FrameError,
    Ready,
    Request,
    Setup,
    decode_request,
    encode,
    pack,
    unpack,
)
from fairlead.runtimes.isolation import bind_to_parent

__all__ = ["callable_of", "main"]

Run = Callable[[Mapping[str, Array]], dict[str, Array]]


def main(fd: int, parent: int) -> None:
    """Serves the gateway at the other end of that socket until it hangs up."""
    bind_to_parent(parent)
    gateway = socket.socket(fileno=fd)
    setup = _receive(gateway)
    if not isinstance(setup, Setup):
        return
    try:
        run = callable_of(_load(Path(setup.path)), setup)
    except BaseException as error:  # loading a pickle runs anything, sys.exit() included
        _send(gateway, Ready(error=_described(error)))
        return
    _send(gateway, Ready())
    while (request := _receive(gateway)) is not None:
        if isinstance(request, Request):
            _send(gateway, _answer(run, request))


def callable_of(model: Any, setup: Setup) -> Run:
    """How to ask the object for the wanted outputs.

    An estimator gets a frame with the names that it was fitted with, else a matrix of the features in order,
    and NaN for null. Any other callable gets the columns by name, with NaN or None for null, and answers a
    mapping of arrays, or the one wanted array.
    """
    if hasattr(model, "predict"):
        return _estimator(model, setup)
    if callable(model):
        return _function(model, setup)
    raise TypeError(f"a {type(model).__qualname__} has no predict() and cannot be called")


def _estimator(model: Any, setup: Setup) -> Run:
    methods = {"label": "predict", "value": "predict", "probabilities": "predict_proba"}
    asked: dict[str, Callable[[Any], Any]] = {}
    for part, tensor in setup.outputs.items():
        if part not in methods:
            raise TypeError(f"an estimator answers no {part}; a callable that returns a mapping can")
        if not hasattr(model, methods[part]):
            raise TypeError(f"the {type(model).__qualname__} has no {methods[part]}()")
        asked[tensor] = getattr(model, methods[part])
    rows = _frames(model, setup) if hasattr(model, "feature_names_in_") else _matrices(setup)

    def run(feed: Mapping[str, Array]) -> dict[str, Array]:
        given = rows(feed)
        return {tensor: np.asarray(method(given)) for tensor, method in asked.items()}

    return run


def _frames(model: Any, setup: Setup) -> Callable[[Mapping[str, Array]], Any]:
    import pandas as pd

    fitted = [str(name) for name in model.feature_names_in_]

    def rows(feed: Mapping[str, Array]) -> Any:
        if setup.names and set(feed).isdisjoint(setup.names):
            (matrix,) = feed.values()
            return pd.DataFrame(matrix, columns=list(setup.names))[fitted]
        columns = {name: _with_nan(column).reshape(len(column)) for name, column in feed.items()}
        return pd.DataFrame(columns)[fitted]

    return rows


def _matrices(setup: Setup) -> Callable[[Mapping[str, Array]], Any]:
    def rows(feed: Mapping[str, Array]) -> Any:
        if len(feed) == 1:
            matrix = _with_nan(*feed.values())
            return matrix if matrix.ndim == 2 else matrix.reshape(-1, 1)
        return np.column_stack([_with_nan(feed[name]) for name in setup.names or feed])

    return rows


def _with_nan(column: Array) -> Array:
    """Missing text is NaN in the frames that estimators are fitted on."""
    if column.dtype == object:
        column[column == None] = np.nan  # noqa: E711 - each element is compared
    return column


def _function(model: Any, setup: Setup) -> Run:
    wanted = setup.outputs

    def run(feed: Mapping[str, Array]) -> dict[str, Array]:
        answer = model(dict(feed))
        if isinstance(answer, Mapping):
            missing = [tensor for tensor in wanted.values() if tensor not in answer]
            if missing:
                raise KeyError(f"the model answered {sorted(answer)} without {missing[0]!r}")
            return {tensor: np.asarray(answer[tensor]) for tensor in wanted.values()}
        if len(wanted) != 1:
            raise TypeError(f"the model must answer a mapping with {sorted(wanted.values())}")
        return {tensor: np.asarray(answer) for tensor in wanted.values()}

    return run


def _load(path: Path) -> Any:
    """The pickled object; joblib's own format is tried second, since importing it takes a while."""
    try:
        with path.open("rb") as stream:
            return pickle.load(stream)
    except Exception as error:
        try:
            import joblib

            return joblib.load(path)
        except Exception:
            raise error from None


def _answer(run: Run, request: Request) -> Answer:
    try:
        outputs = run({name: unpack(cell, nulls=True) for name, cell in request.tensors.items()})
        return Answer(request.id, {name: pack(array) for name, array in outputs.items()})
    except BaseException as error:  # the model may raise anything; the worker lives on
        return Answer(request.id, error=_described(error))


def _described(error: BaseException) -> str:
    """Type and message in one line; the traceback stays here."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text if len(text) <= 300 else text[:299] + '…'}".rstrip(": ")


# --- the socket ---------------------------------------------------------------------------------------------


def _receive(gateway: socket.socket) -> Setup | Request | None:
    """The next message; None when the gateway hung up."""
    head = _read(gateway, LENGTH.size)
    if head is None:
        return None
    (length,) = LENGTH.unpack(head)
    if length > MAX_FRAME:
        raise FrameError(f"A frame of {length} bytes is announced.")
    body = _read(gateway, length)
    return None if body is None else decode_request(body)


def _read(gateway: socket.socket, size: int) -> bytearray | None:
    held = bytearray(size)
    view = memoryview(held)
    while view:
        count = gateway.recv_into(view)
        if count == 0:
            return None
        view = view[count:]
    return held


def _send(gateway: socket.socket, message: Ready | Answer) -> None:
    try:
        head, body = encode(message)
    except (FrameError, UnicodeEncodeError) as error:
        if not isinstance(message, Answer):
            raise
        head, body = encode(Answer(message.id, error=_described(error)))
    gateway.sendall(head)
    gateway.sendall(body)


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), int(sys.argv[2]))
    except (BrokenPipeError, ConnectionResetError):
        sys.exit(0)  # the gateway went away
