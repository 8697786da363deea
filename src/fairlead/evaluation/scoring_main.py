"""The process that scores rows: `python -m fairlead.evaluation.scoring_main SOCKET PARENT`.

A row takes the way that it would take in a gateway: contract, binding, runtime, binding. What runs a pickle
has it here, so this process is scrubbed and bound like a model worker.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from fairlead.contracts.check import Finding, check_row
from fairlead.engine.callables import Run, load
from fairlead.engine.crew import described
from fairlead.engine.frames import FrameError, pack, unpack
from fairlead.errors import DataContractViolation, FairleadError, RuntimeFailed
from fairlead.evaluation.scored import Failed, Ready, Rows, Scored, Start, receive, send
from fairlead.registry.versions import VersionSpec
from fairlead.runtimes.base import Array, Tensors
from fairlead.runtimes.binding import Binding
from fairlead.runtimes.binding import Row as Values
from fairlead.runtimes.isolation import bind_to_parent
from fairlead.runtimes.label import runtime_label
from fairlead.runtimes.warmup import warm_row
from fairlead.serving.envelope import flags_of
from fairlead.serving.loading import worker_spec

__all__ = ["main"]

_NICE = 10
"""Requests come first: this process gets what they leave."""
_pack = msgspec.msgpack.Encoder().encode
_RESAVE = "Save it again with this server's libraries; classes must be importable here."


def main(descriptor: int, parent: int) -> None:
    """Loads what it is told to, then scores until the other end hangs up."""
    bind_to_parent(parent)
    os.nice(_NICE)
    Path("/proc/self/comm").write_text("fl-score")
    with socket.socket(fileno=descriptor) as stream:
        start = msgspec.msgpack.decode(receive(stream), type=Start)
        began = time.perf_counter()
        try:
            version = _Version(start)
        except FairleadError as error:
            send(stream, Failed(error.message, error.remedy))
            return
        except BaseException as error:  # loading a pickle runs anything, sys.exit() included
            message = f"Model file {start.spec.runtime.entry!r} cannot be loaded: {described(error)}."
            send(stream, Failed(message, _RESAVE))
            return
        label = runtime_label(start.spec.runtime.kind)
        send(stream, Ready(label, time.perf_counter() - began))
        asked = msgspec.msgpack.Decoder(Rows)
        while True:
            wanted = asked.decode(receive(stream))
            for first in range(0, len(wanted.rows), wanted.together):
                for scored in version.score(wanted.rows[first : first + wanted.together]):
                    send(stream, scored)


class _Version:
    """The loaded version."""

    def __init__(self, start: Start) -> None:
        spec = start.spec
        self._spec = spec
        self._also_known = start.also_known
        self._binding = Binding(spec.contract, spec.runtime)
        run = load(worker_spec(spec, Path(start.folder)))
        self._run: Callable[[Tensors], dict[str, Array]] = run if _is_onnx(spec) else _as_sent(run)
        if _is_onnx(spec):  # a pickle's code may refuse rows, so it is not asked
            self._predict([warm_row(spec.contract)])

    def score(self, raws: list[msgspec.Raw]) -> list[Scored]:
        """The rows in one run; where that fails, each alone, so that one bad row fails alone."""
        began = time.perf_counter()
        read = [self._read(msgspec.msgpack.decode(raw)) for raw in raws]
        good = [row for row in read if not isinstance(row, Scored)]
        predicted = self._attempt([values for values, _ in good])
        if isinstance(predicted, FairleadError) and len(raws) > 1:
            return [scored for raw in raws for scored in self.score([raw])]
        share = (time.perf_counter() - began) / len(raws)
        answers = iter(() if isinstance(predicted, FairleadError) else predicted)
        found: list[Scored] = []
        for row in read:
            if isinstance(row, Scored):
                scored = row
            elif isinstance(predicted, FairleadError):
                scored = Scored("failed", error_code=predicted.code, error=predicted.message)
            else:
                scored = msgspec.structs.replace(next(answers), flags=msgspec.to_builtins(flags_of(row[1])))
            found.append(msgspec.structs.replace(scored, seconds=share))
        return found

    def _read(self, row: Any) -> tuple[Values, list[Finding]] | Scored:
        if isinstance(row, list):
            return tuple(row), []
        try:
            return check_row(self._spec.contract, row, self._also_known)
        except DataContractViolation as error:
            return Scored("rejected", error_code=error.code, error=error.message, violations=error.violations)

    def _attempt(self, rows: list[Values]) -> list[Scored] | FairleadError:
        if not rows:
            return []
        try:
            return self._predict(rows)
        except FairleadError as error:
            return error
        except Exception as error:
            return RuntimeFailed(f"The model raised {described(error)}")

    def _predict(self, rows: list[Values]) -> list[Scored]:
        outputs = self._run(self._binding.encode(rows))
        predictions = self._binding.decode(outputs, len(rows))
        found = [Scored("ok", each.value, self._binding.probabilities(each)) for each in predictions]
        for scored in found:
            _pack(scored)  # what cannot be sent is the model's fault, and found here
        return found


def _is_onnx(spec: VersionSpec) -> bool:
    return spec.runtime.kind == "onnx"


def _as_sent(run: Run) -> Callable[[Tensors], dict[str, Array]]:
    """A pickle's tensors are those that travel between gateway and worker, whose types are fewer."""

    def asked(feed: Tensors) -> dict[str, Array]:
        try:
            return _sent(run(_sent(feed, nulls=True)))
        except FrameError as error:
            raise RuntimeFailed(f"The model answered what cannot be sent: {error}") from error

    return asked


def _sent(tensors: Tensors, *, nulls: bool = False) -> dict[str, Array]:
    described_as, numbers = pack(tensors, nulls=nulls)
    payload = b"".join(array.tobytes() + bytes(-array.nbytes % 8) for array in numbers)
    # In memory that may be written: models do so with what they get.
    return unpack(described_as, memoryview(bytearray(payload)), nulls=nulls)


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), int(sys.argv[2]))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        sys.exit(0)  # whoever asked has what it wanted, or is gone
