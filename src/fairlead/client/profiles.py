"""What traffic is counted on, and counting it anew, for the Python client of the admin API."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from fairlead.client.paths import path_of
from fairlead.client.session import Call, Session, reading
from fairlead.contracts.profile import ReferenceProfile
from fairlead.errors import BinsNotFound, ModelNotFound, StoreUnavailable

__all__ = ["ProfileCalls", "Rebuild"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


class Rebuild(msgspec.Struct, frozen=True, kw_only=True):
    """How far it is: `counted` of `rows` rows, and why it ended before all were."""

    model: str
    rows: int
    counted: int
    under_way: bool
    error: str | None


class ProfileCalls(Session):
    """Asks for references, and counts a model's traffic anew."""

    def reference(self, model: str, contract_id: str) -> ReferenceProfile | None:
        """The profile of the first version under that contract that has one; None when there is none."""
        path = path_of("models", model, "profiles", "reference", contract_id)
        try:
            return self.send(Call(method="GET", path=path, read=reading(ReferenceProfile)))
        except (BinsNotFound, ModelNotFound):
            return None

    def start_rebuild(self, model: str) -> Rebuild:
        """Begins to count every row of the model's log again, on the bins that hold now."""
        return self.send(Call(method="POST", path=_path(model), read=reading(Rebuild)))

    def rebuild(self, model: str) -> Rebuild:
        """How far the last one is."""
        return self.send(Call(method="GET", path=_path(model), read=reading(Rebuild)))

    def rebuilt(self, model: str, advance: Callable[[int], None] = lambda counted: None) -> Rebuild:
        """Counts anew and waits for the end. `advance` hears how many rows are counted. Raises
        `StoreUnavailable` when it could not be done; then everything is as it was."""
        found, pause = self.start_rebuild(model), _FIRST_PAUSE
        while found.under_way:
            advance(found.counted)
            time.sleep(pause)
            pause = min(_LONGEST_PAUSE, 1.5 * pause)
            found = self.rebuild(model)
        if found.error is not None:
            raise StoreUnavailable(
                f"The traffic of {model} was not counted anew: {found.error}",
                remedy="Nothing has changed. Try again.",
            )
        return found


def _path(model: str) -> str:
    return path_of("models", model, "profiles", "rebuild")
