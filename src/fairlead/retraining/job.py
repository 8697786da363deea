"""A retraining as it stands, and where it may go from there. Data; times are told."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from fairlead.retraining.triggers import Cause

__all__ = ["CANCELLABLE", "TERMINAL", "Ended", "Job", "Rows", "State"]

State = Literal[
    "queued", "running", "registering", "gating", "rolling-out", "done", "failed", "cancelled",
]  # fmt: skip
"""`queued`: its turn has not come. `running`: its rows are written, its trainer works. `registering`: the
trainer has ended, its version is looked for. `gating`: that is judged. `rolling-out`: it is widened."""

Ended = Literal["promoted", "kept", "lost", "rolled-back"]
"""What a retraining that is done came to: its candidate is in production; has ended its rollout and is not,
as after a shadow; did not pass the gate; or was rolled back, aborted or superseded on the way."""

TERMINAL: tuple[State, ...] = ("done", "failed", "cancelled")
CANCELLABLE: tuple[State, ...] = ("queued", "running", "registering", "gating")


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """The labelled rows of [since, until): of `answered` rows `labelled` had a label that could be used;
    `trained` went to the trainer, `held` to the gate alone. `left_out` names the contract's sensitive
    features, which the log does not hold. `unknown_labels` were no class of the champion's."""

    since: datetime
    until: datetime
    answered: int
    labelled: int
    trained: int
    held: int
    held_digest: str
    left_out: tuple[str, ...] = ()
    unknown_labels: int = 0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One retraining. `champion` is the version that it began beside; `version` the candidate's name, which
    it has before there is one. `attempt` counts how often its trainer was begun: once more after the server
    ended under it. `called_at` is when a webhook took it. `error` says why it failed, `note` what held
    it up lately.
    """

    id: str
    number: int
    model: str
    state: State = "queued"
    cause: Cause
    trainer: str
    champion: str
    version: str
    who: str
    attempt: int = 0
    rows: Rows | None = None
    gate: str | None = None
    rollout: str | None = None
    ended: Ended | None = None
    error: str | None = None
    note: str | None = None
    created_at: datetime
    begun_at: datetime | None = None
    called_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state in TERMINAL

    @property
    def handed_in(self) -> bool:
        """Whether its trainer has ended well."""
        return self.state in ("registering", "gating", "rolling-out", "done")

    @property
    def actor(self) -> str:
        """By what name it acts, in histories and in the audit log."""
        return f"retraining {self.id}"

    @property
    def sentence(self) -> str:
        """How it stands, for people."""
        match self.state:
            case "failed":
                return self.error or "It failed."
            case "done" if self.ended == "promoted":
                return f"{self.version!r} is in production."
            case "done" if self.ended == "lost":
                return f"{self.version!r} was not shown to be better than {self.champion!r}."
            case "done" if self.ended == "kept":
                return f"{self.version!r} has ended its rollout and is not in production."
            case "done":
                return f"{self.version!r} did not get through its rollout."
        return self.note or {
            "queued": "It waits for its turn.",
            "running": "The trainer works." if self.called_at is None else "The trainer works elsewhere.",
            "registering": "The candidate is being registered.",
            "gating": "The candidate is compared with the champion.",
            "rolling-out": "The candidate is rolled out.",
        }.get(self.state, "It was cancelled.")
