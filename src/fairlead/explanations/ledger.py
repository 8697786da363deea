"""Explanations in the database. What was written first stays. All functions work within the caller's
transaction; those that write need a writing one."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import msgspec
import sqlalchemy as sa

from fairlead.explanations.attribution import Attribution
from fairlead.stores.monitoring_tables import explanations

__all__ = ["Kept", "keep", "kept"]


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """An explanation as it is kept: the values of the features are in the log, and nowhere else.

    `explains` says what number the contributions add up to, `agrees` whether the model gave the logged answer
    again, `background` what the row was compared with. `features` are in the order of the contributions.
    """

    version: str
    explains: str
    features: tuple[str, ...]
    attribution: Attribution
    background: str
    agrees: bool
    runtime: str
    at: datetime


def kept(connection: sa.Connection, prediction: str) -> Kept | None:
    """The explanation of the prediction with that id; None where it has none yet."""
    c = explanations.c
    body = connection.scalar(sa.select(c.body).where(c.prediction == prediction))
    return None if body is None else msgspec.json.decode(body, type=Kept)


def keep(
    connection: sa.Connection, prediction: str, model: str, made: Kept, *, days: float = math.inf
) -> Kept:
    """Keeps an explanation unless another was quicker, and answers the one that is kept. Those that are older
    by so many days are forgotten."""
    held = kept(connection, prediction)
    if held is not None:
        return held
    if math.isfinite(days):
        connection.execute(explanations.delete().where(explanations.c.at < made.at - timedelta(days=days)))
    body = msgspec.json.encode(made).decode()
    connection.execute(
        explanations.insert().values(prediction=prediction, model=model, body=body, at=made.at)
    )
    return made
