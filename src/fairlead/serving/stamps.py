"""What stands in every record of an arm that answers its own units, encoded once.

A record is a MessagePack array. Its parts that do not change while a plan holds lie together in places; each
such run of parts is kept here as the bytes that it takes in the array.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fairlead.predictions.record import PredictionRecord, Source

__all__ = ["Stamp"]

_pack = msgspec.msgpack.Encoder().encode


class Stamp:
    """The constant runs of a record: answered `ok`, from `source`, a request of one row, nothing flagged."""

    __slots__ = ("assigned", "experiment", "length", "ok", "row_source", "runtime", "source", "tag")

    def __init__(
        self,
        *,
        source: Source,
        model: str,
        arm: str,
        role: str,
        version: str,
        generation: int,
        contract_id: str,
        experiment: str | None,
        variant: str | None,
        training_data: str | None,
        runtime: str,
        gateway: str,
        conformal_quantile: float | None,
    ) -> None:
        fields = PredictionRecord.__struct_fields__
        self.length = b"\xdc" + (1 + len(fields)).to_bytes(2, "big")
        self.tag = _run("p")
        self.source: Source = source
        self.row_source = _run(0, source)
        self.assigned = _run(model, arm, role, version, version, generation, contract_id)
        self.ok = _run("ok", None, None)
        self.experiment = _run(None, None, experiment, variant, training_data)
        self.runtime = _run(runtime, gateway, None, conformal_quantile)


def _run(*parts: Any) -> msgspec.Raw:
    return msgspec.Raw(b"".join(map(_pack, parts)))
