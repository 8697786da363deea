"""The gates of the admin API, for its Python client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from fairlead.client.paths import json_body, path_of
from fairlead.client.session import Call, Session, reading
from fairlead.client.uploading import upload

__all__ = ["GateCalls", "GateCheck", "GateReport", "GateRun"]

_OPEN = ("waiting", "running")


class GateCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One question and its answer. `closes` tells that the gate fails because of it; `text` stands by itself,
    `numbers` are what it rests on, `examples` rows that show what went wrong."""

    group: str
    name: str
    status: str
    text: str
    closes: bool = False
    numbers: dict[str, float | None] = {}
    examples: tuple[dict[str, Any], ...] = ()


class GateReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a gate found. `summary` is a sentence; `compared` of the `rows` were answered by both versions."""

    passed: bool
    summary: str
    checks: tuple[GateCheck, ...]
    rows: int
    compared: int
    alpha: float
    machine: str = ""
    seconds: float = 0.0


class GateRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a gate: `waiting`, `running`, then `passed` or `failed` with its report; `error` when it could
    not be carried out, for that `reason`; `interrupted` when the server ended first; `overridden` is a
    person's word in place of one."""

    id: str
    model: str
    version: str
    against: str | None
    state: str
    spec_digest: str
    data_digest: str | None
    report: GateReport | None
    reason: str | None
    created_at: datetime
    ended_at: datetime | None
    who: str
    why: str

    @property
    def over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state not in _OPEN


class GateCalls(Session):
    """Runs gates and looks at what came of them."""

    def run_gate(
        self,
        model: str,
        version: str,
        gate: Mapping[str, Any],
        *,
        data: Path | None = None,
        against: str | None = None,
        why: str = "",
        advance: Callable[[int, int], None] = lambda done, total: None,
    ) -> GateRun:
        """Begins to judge a version: by the content of a gate.toml, and the file of held-out rows that its
        `data` names, which is uploaded unless the server has it. It is compared with `against`, else with the
        version in production. The run goes on by itself; see `gate`."""
        sent = None
        if data is not None:
            file = upload(self, {data.name: data}, advance).files[0]
            sent = {"sha256": file.sha256, "name": data.name}
        body = {"gate": dict(gate), "data": sent, "against": against, "why": why}
        path = path_of("models", model, "versions", version, "gate")
        return self.send(Call(method="POST", path=path, body=json_body(body), read=reading(GateRun)))

    def gate(self, model: str, run: str) -> GateRun:
        """One run."""
        return self.send(
            Call(method="GET", path=path_of("models", model, "gates", run), read=reading(GateRun))
        )

    def gate_of(self, model: str, version: str) -> GateRun:
        """The latest run of a version."""
        path = path_of("models", model, "versions", version, "gate")
        return self.send(Call(method="GET", path=path, read=reading(GateRun)))

    def gates(self, model: str, *, version: str | None = None, limit: int = 20) -> tuple[GateRun, ...]:
        """The model's runs, or those of one version, newest first."""
        query = {"limit": str(limit), **({} if version is None else {"version": version})}
        path = path_of("models", model, "gates")
        return self.send(Call(method="GET", path=path, query=query, read=reading(tuple[GateRun, ...])))

    def gate_document(self, model: str, run: str, form: Literal["page", "junit"]) -> str:
        """The report as an HTML page that needs nothing else, or as JUnit XML."""
        path = path_of("models", model, "gates", run, form)
        return self.send(Call(method="GET", path=path, read=bytes.decode))
