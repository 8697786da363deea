"""The retraining of the admin API, for its Python client."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from fairlead.client.paths import json_body, path_of
from fairlead.client.session import Call, Session, reading

__all__ = ["RetrainingCalls", "RetrainingCause", "RetrainingJob", "RetrainingRows", "RetrainingTrigger"]

_OVER = ("done", "failed", "cancelled")


class RetrainingCause(msgspec.Struct, frozen=True, kw_only=True):
    """Why a model is retrained: `schedule`, `alarm` or `hand`, and a sentence."""

    kind: str
    sentence: str
    since: datetime | None = None
    findings: tuple[dict[str, Any], ...] = ()


class RetrainingRows(msgspec.Struct, frozen=True, kw_only=True):
    """The labelled rows of a retraining: how many the trainer got, and how many the gate alone."""

    since: datetime
    until: datetime
    answered: int
    labelled: int
    trained: int
    held: int
    held_digest: str
    left_out: tuple[str, ...] = ()
    unknown_labels: int = 0


class RetrainingJob(msgspec.Struct, frozen=True, kw_only=True):
    """A retraining: queued, running, registering, gating, rolling-out, then done, failed or cancelled. `told`
    says how it stands; `ended` what a done one came to: promoted, kept, lost or rolled-back."""

    id: str
    number: int
    model: str
    state: str
    cause: RetrainingCause
    trainer: str
    champion: str
    version: str
    who: str
    attempt: int
    rows: RetrainingRows | None
    gate: str | None
    rollout: str | None
    ended: str | None
    error: str | None
    note: str | None
    created_at: datetime
    begun_at: datetime | None
    ended_at: datetime | None
    told: str

    @property
    def over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state in _OVER


class RetrainingTrigger(msgspec.Struct, frozen=True, kw_only=True):
    """When a model is retrained by the server's settings, and what it waits for."""

    model: str
    policy: dict[str, Any]
    sentence: str
    cause: RetrainingCause | None
    job: str | None


class RetrainingCalls(Session):
    """Retrains models and looks at what came of it."""

    def triggers(self, model: str | None = None) -> tuple[RetrainingTrigger, ...]:
        """What would retrain the model, or all models."""
        path = path_of("triggers") if model is None else path_of("models", model, "triggers")
        return self.send(Call(method="GET", path=path, read=reading(tuple[RetrainingTrigger, ...])))

    def retrain(self, model: str, *, why: str = "", force: bool = False) -> RetrainingJob:
        """Begins a retraining, which goes on by itself; `force` goes past cooldown and budget."""
        body = json_body({"why": why, "force": force})
        path = path_of("models", model, "retrainings")
        return self.send(Call(method="POST", path=path, body=body, read=reading(RetrainingJob)))

    def retrainings(self, model: str, *, limit: int = 20) -> tuple[RetrainingJob, ...]:
        """The model's retrainings, newest first."""
        path = path_of("models", model, "retrainings")
        query = {"limit": str(limit)}
        return self.send(Call(method="GET", path=path, query=query, read=reading(tuple[RetrainingJob, ...])))

    def retraining(self, model: str, identifier: str) -> RetrainingJob:
        """One retraining."""
        path = path_of("models", model, "retrainings", identifier)
        return self.send(Call(method="GET", path=path, read=reading(RetrainingJob)))

    def retraining_log(self, model: str, identifier: str) -> str:
        """What its trainer has said so far."""
        path = path_of("models", model, "retrainings", identifier, "log")
        return self.send(Call(method="GET", path=path, read=bytes.decode))

    def retraining_data(self, model: str, identifier: str, token: str) -> bytes:
        """The rows that its trainer gets, as Parquet: for a trainer elsewhere, by the token of its job."""
        path = path_of("models", model, "retrainings", identifier, "data")
        return self.send(Call(method="GET", path=path, headers=_bearer(token), read=bytes))

    def say_in_retraining(self, model: str, identifier: str, token: str, words: str) -> RetrainingJob:
        """Adds to its log what its trainer elsewhere has to say."""
        path = path_of("models", model, "retrainings", identifier, "log")
        return self.send(
            Call(
                method="POST", path=path, headers=_bearer(token), body=words.encode(),
                content_type="text/plain", read=reading(RetrainingJob),
            )
        )  # fmt: skip

    def hand_in(
        self, model: str, identifier: str, token: str, *, version: str | None = None, error: str | None = None
    ) -> RetrainingJob:
        """Its trainer elsewhere has ended: with a version that it has registered, or with what went wrong.
        The same may be handed in again, as when no answer came."""
        path = path_of("models", model, "retrainings", identifier, "result")
        body = json_body({"version": version, "error": error})
        call = Call(method="POST", path=path, headers=_bearer(token), body=body, read=reading(RetrainingJob))
        return self.send(call)

    def cancel_retraining(self, model: str, identifier: str, *, why: str = "") -> RetrainingJob:
        """Ends a retraining before its rollout begins."""
        path = path_of("models", model, "retrainings", identifier, "cancel")
        body = json_body({"why": why})
        return self.send(Call(method="POST", path=path, body=body, read=reading(RetrainingJob)))


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}
