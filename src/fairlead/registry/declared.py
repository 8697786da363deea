"""Data contracts in the registry: versions bring one, and a model may have one before any version."""

from __future__ import annotations

from datetime import datetime

import msgspec
import sqlalchemy as sa

from fairlead.contracts.contract import Contract
from fairlead.errors import InvalidContract
from fairlead.registry import audit
from fairlead.stores import tables

__all__ = ["declare", "declared", "keep", "verify_compatible"]


def keep(connection: sa.Connection, contract: Contract, at: datetime) -> str:
    """Stores the contract unless it is there; answers its id."""
    contracts = tables.contracts
    found = sa.select(contracts.c.contract_id).where(contracts.c.contract_id == contract.id)
    if connection.scalar(found) is None:
        body = msgspec.json.encode(contract).decode()
        connection.execute(contracts.insert().values(contract_id=contract.id, body=body, created_at=at))
    return contract.id


def declare(
    connection: sa.Connection, model: str, contract: Contract, *, at: datetime, who: str, why: str
) -> None:
    """Makes this the model's declared contract; versions registered from now on must fit it."""
    before = declared(connection, model)
    if before == contract:
        return
    rows = tables.model_contracts
    latest = connection.scalar(sa.select(sa.func.max(rows.c.revision)).where(rows.c.model == model)) or 0
    contract_id = keep(connection, contract, at)
    connection.execute(
        rows.insert().values(
            model=model, revision=latest + 1, contract_id=contract_id, at=at, who=who, why=why
        )
    )
    details = {"from": before.id if before else None, "to": contract_id, "revision": latest + 1}
    audit.append(connection, at=at, who=who, action="contract", model=model, why=why, details=details)


def declared(connection: sa.Connection, model: str) -> Contract | None:
    """The contract that was declared for the model last."""
    rows, contracts = tables.model_contracts.c, tables.contracts
    query = (
        sa.select(contracts.c.body)
        .join(tables.model_contracts, rows.contract_id == contracts.c.contract_id)
        .where(rows.model == model)
        .order_by(rows.revision.desc())
        .limit(1)
    )
    body = connection.scalar(query)
    return None if body is None else msgspec.json.decode(body, type=Contract)


def verify_compatible(model: str, offered: Contract, promised: Contract) -> None:
    """Raises `InvalidContract` unless callers of the promised contract can call the offered one.

    Each field that the version takes must be promised with the same type and shape, or be optional; what the
    version ignores may stay promised. The output must be of the promised kind, with the same classes.
    """
    promises = {field.name: field for field in promised.inputs}
    for field in offered.inputs:
        promise = promises.get(field.name)
        if promise is None:
            if field.required:
                raise _incompatible(model, f"requires {field.name!r}, which is not promised")
        elif (field.type, field.shape) != (promise.type, promise.shape):
            raise _incompatible(
                model,
                f"takes {field.name!r} as {_described(field.type, field.shape)},"
                f" promised is {_described(promise.type, promise.shape)}",
            )
        elif promise.nullable and not field.nullable and field.on_missing == "reject":
            raise _incompatible(model, f"refuses null in {field.name!r}, which is promised")
    if offered.output.kind != promised.output.kind:
        raise _incompatible(model, f"answers a {offered.output.kind}, promised is a {promised.output.kind}")
    if set(offered.output.classes) != set(promised.output.classes):
        raise _incompatible(model, "answers other classes than promised")


def _described(kind: str, shape: tuple[int, ...]) -> str:
    return f"a list of {kind}" if shape else kind


def _incompatible(model: str, how: str) -> InvalidContract:
    return InvalidContract(
        f"The version does not fit the contract declared for {model!r}: it {how}.",
        remedy="Change the version, or declare a new contract first.",
        model=model,
    )
