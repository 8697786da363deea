"""Gate runs in the database, and the one rule of which versions they let onto traffic.

All functions work within the caller's transaction; those that write need a writing one.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Literal

import msgspec
import sqlalchemy as sa

from fairlead.errors import GateClosed, GateNotFound
from fairlead.gate.report import Report
from fairlead.gate.spec import GateSpec
from fairlead.registry import audit, settings
from fairlead.stores.tables import gate_runs

__all__ = [
    "GateRun", "State", "add", "begin", "end", "find", "get", "latest", "of_model", "refusal", "renew",
    "require",
]  # fmt: skip

State = Literal["waiting", "running", "passed", "failed", "error", "interrupted", "overridden"]
_OPEN = ("waiting", "running")
_TELLING = ("passed", "failed", "overridden")


class GateRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a gate, or a person's word in place of one (`overridden`).

    `report` is what it found. In the state `error` it could not be carried out, and `reason` says why; it is
    `interrupted` when the server ended first. Neither counts as passed or failed.
    """

    id: str
    model: str
    version: str
    against: str | None
    state: State
    spec: GateSpec
    spec_digest: str
    data_digest: str | None
    report: Report | None
    reason: str | None
    created_at: datetime
    ended_at: datetime | None
    who: str
    why: str

    @property
    def over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state not in _OPEN


def add(
    connection: sa.Connection,
    *,
    model: str,
    version: str,
    against: str | None,
    spec: GateSpec,
    data_digest: str | None,
    now: datetime,
    who: str,
    why: str,
    state: State = "waiting",
    held_until: datetime | None = None,
) -> str:
    """Writes a new run; answers its id."""
    number = connection.scalar(sa.select(sa.func.max(gate_runs.c.number)).where(gate_runs.c.model == model))
    identifier = secrets.token_hex(6)
    connection.execute(
        gate_runs.insert().values(
            id=identifier,
            number=(number or 0) + 1,
            model=model,
            version=version,
            against=against,
            state=state,
            spec=msgspec.json.encode(spec).decode(),
            spec_digest=spec.digest,
            data_digest=data_digest,
            created_at=now,
            ended_at=None if state in _OPEN else now,
            held_until=held_until,
            who=who,
            why=why,
        )
    )
    return identifier


def begin(connection: sa.Connection, identifier: str) -> bool:
    """Notes that the run is under way; False when it has ended already, since the server stops."""
    open_ = gate_runs.c.id == identifier, gate_runs.c.state.in_(_OPEN)
    return connection.execute(gate_runs.update().where(*open_).values(state="running")).rowcount == 1


def renew(connection: sa.Connection, identifiers: list[str], until: datetime) -> None:
    """Says that whoever runs these is alive."""
    open_ = gate_runs.c.id.in_(identifiers), gate_runs.c.state.in_(_OPEN)
    connection.execute(gate_runs.update().where(*open_).values(held_until=until))


def end(
    connection: sa.Connection,
    identifier: str,
    state: State,
    *,
    now: datetime,
    report: Report | None = None,
    reason: str | None = None,
) -> None:
    """Writes what came of the run, unless that is known already."""
    connection.execute(
        gate_runs.update()
        .where(gate_runs.c.id == identifier, gate_runs.c.state.in_(_OPEN))
        .values(
            state=state,
            report=None if report is None else msgspec.json.encode(report).decode(),
            reason=reason,
            ended_at=now,
        )
    )


def get(connection: sa.Connection, model: str, identifier: str, now: datetime) -> GateRun:
    """The model's run of that id; raises `GateNotFound`."""
    query = sa.select(gate_runs).where(gate_runs.c.id == identifier, gate_runs.c.model == model)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise GateNotFound(
            f"{model!r} has no gate run {identifier!r}.", remedy=f"`fairlead gates {model}` lists them."
        )
    return _run(row, now)


def find(connection: sa.Connection, model: str, version: str, now: datetime) -> GateRun | None:
    """The latest run of a version, whatever came of it."""
    return _newest(connection, model, version, None, now)


def latest(connection: sa.Connection, model: str, version: str, now: datetime) -> GateRun | None:
    """The latest run of a version that says whether it may get traffic."""
    return _newest(connection, model, version, _TELLING, now)


def of_model(
    connection: sa.Connection, model: str, now: datetime, *, version: str | None = None, limit: int = 20
) -> list[GateRun]:
    """The model's runs, or one version's, newest first."""
    query = sa.select(gate_runs).where(gate_runs.c.model == model)
    if version is not None:
        query = query.where(gate_runs.c.version == version)
    rows = connection.execute(query.order_by(gate_runs.c.number.desc()).limit(limit))
    return [_run(row, now) for row in rows]


def refusal(connection: sa.Connection, model: str, version: str, now: datetime) -> GateClosed | None:
    """Why the version may not get more traffic, by the rule of `require`; None where it may."""
    run = latest(connection, model, version, now)
    required = settings.effective(settings.stated(connection, model), None).gate_required
    if (run is None and not required) or (run is not None and run.state != "failed"):
        return None
    return _closed(model, version, run)


def require(
    connection: sa.Connection, model: str, version: str, *, override: str, who: str, now: datetime
) -> None:
    """Raises `GateClosed` where the version may not get more traffic: its latest run failed, or the model's
    setting `gate_required` is on and it has passed none.

    `override`, a reason, lets it pass all the same. That is written into the audit log, and holds until the
    next run.
    """
    refused = refusal(connection, model, version, now)
    if refused is None:
        return
    if not override:
        raise refused
    run = latest(connection, model, version, now)
    details = {"gate": None if run is None else run.id, "reason": override}
    audit.append(
        connection,
        at=now,
        who=who,
        action="override_gate",
        model=model,
        version=version,
        why=override,
        details=details,
    )
    add(
        connection,
        model=model,
        version=version,
        against=None if run is None else run.against,
        spec=GateSpec() if run is None else run.spec,
        data_digest=None if run is None else run.data_digest,
        now=now,
        who=who,
        why=override,
        state="overridden",
    )


def _closed(model: str, version: str, run: GateRun | None) -> GateClosed:
    remedy = (
        f"Run `fairlead gate {model} {version}`, or deploy it all the same with --override and the reason."
    )
    if run is None:
        return GateClosed(
            f"Version {version!r} of {model!r} has to pass a gate before it gets traffic.",
            remedy=remedy,
            version=version,
        )
    found = run.report.summary if run.report is not None else "It failed."
    return GateClosed(
        f"The gate of {model!r} is closed for {version!r}: {found}",
        remedy=remedy,
        version=version,
        gate=run.id,
    )


def _newest(
    connection: sa.Connection, model: str, version: str, states: tuple[str, ...] | None, now: datetime
) -> GateRun | None:
    query = sa.select(gate_runs).where(gate_runs.c.model == model, gate_runs.c.version == version)
    if states is not None:
        query = query.where(gate_runs.c.state.in_(states))
    row = connection.execute(query.order_by(gate_runs.c.number.desc()).limit(1)).one_or_none()
    return None if row is None else _run(row, now)


def _run(row: sa.Row[tuple[object, ...]], now: datetime) -> GateRun:
    state, reason = row.state, row.reason
    if state in _OPEN and (row.held_until is None or row.held_until < now):
        # Nobody is left who could end it: the server that ran it was killed.
        state, reason = "interrupted", "The server ended before the gate did."
    return GateRun(
        id=row.id,
        model=row.model,
        version=row.version,
        against=row.against,
        state=state,
        spec=msgspec.json.decode(row.spec, type=GateSpec),
        spec_digest=row.spec_digest,
        data_digest=row.data_digest,
        report=None if row.report is None else msgspec.json.decode(row.report, type=Report),
        reason=reason,
        created_at=row.created_at,
        ended_at=row.ended_at,
        who=row.who,
        why=row.why,
    )
