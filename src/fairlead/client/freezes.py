"""The freeze windows of the admin API, for its Python client."""

from __future__ import annotations

from datetime import datetime

import msgspec

from fairlead.client.paths import json_body, path_of
from fairlead.client.session import Call, Session, reading

__all__ = ["Freeze", "FreezeCalls"]


class Freeze(msgspec.Struct, frozen=True, kw_only=True):
    """A window in which traffic stays as it is: of `model`, None for all. `weekly` ones come again."""

    id: str
    model: str | None
    starts_at: datetime
    ends_at: datetime
    weekly: bool
    reason: str
    who: str
    created_at: datetime
    ended_at: datetime | None = None
    ended_by: str | None = None


class FreezeCalls(Session):
    """Freezes traffic for a time."""

    def freeze(
        self,
        starts_at: datetime,
        ends_at: datetime,
        reason: str,
        *,
        model: str | None = None,
        weekly: bool = False,
    ) -> Freeze:
        """Begins or announces a window in which no version gets more traffic. Times need their zone."""
        body = {
            "starts_at": starts_at,
            "ends_at": ends_at,
            "reason": reason,
            "model": model,
            "weekly": weekly,
        }
        path = path_of("freezes")
        return self.send(Call(method="POST", path=path, body=json_body(body), read=reading(Freeze)))

    def freezes(self, model: str | None = None, *, over: bool = False) -> tuple[Freeze, ...]:
        """The windows that hold or will, earliest first; `over` adds those that are over."""
        query = {"over": "true" if over else "false", **({} if model is None else {"model": model})}
        path = path_of("freezes")
        return self.send(Call(method="GET", path=path, query=query, read=reading(tuple[Freeze, ...])))

    def unfreeze(self, freeze: str, *, why: str = "") -> Freeze:
        """Ends a window before its time."""
        path = path_of("freezes", freeze)
        return self.send(Call(method="DELETE", path=path, query={"why": why}, read=reading(Freeze)))
