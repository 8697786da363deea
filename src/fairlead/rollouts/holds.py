"""Why a rollout may not go forward at the moment, whatever is seen of its candidate."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from fairlead.gate import ledger as gates
from fairlead.rollouts import freezes
from fairlead.rollouts.states import Rollout

__all__ = ["held"]


def held(connection: sa.Connection, rollout: Rollout, now: datetime) -> str | None:
    """The freeze window that nobody has gone past for this rollout, or the gate that its candidate has failed
    since it began; None where nothing holds it.

    A gate judges by rows of the past, the judge by what happens: so a failed gate takes nothing away from a
    candidate that does well, and gives it nothing more.
    """
    window = None if rollout.unfrozen else freezes.in_force(connection, rollout.model, now)
    if window is not None:
        return window
    closed = gates.refusal(connection, rollout.model, rollout.candidate, now)
    return None if closed is None else closed.message
