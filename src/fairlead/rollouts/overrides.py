"""Local overrides become plans: what a person did on a machine while control was away is done everywhere.

An override is in force on its machine until a newer generation than it was made on is served there. So it is
removed only after that: taken away earlier, the gateways would fall back to what the person fled from.
"""

from __future__ import annotations

import logging
import threading
import time

import msgspec

from fairlead.errors import FairleadError, GenerationConflict, NothingToRollBack, StoreUnavailable
from fairlead.rollouts.traffic import Order, Traffic
from fairlead.routing import plans
from fairlead.serving.folder import DataFolder, FolderWatch, Override

__all__ = ["Overrides"]

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 30.0
_LOOK_AGAIN_SECONDS = 0.05
_LIVE_SECONDS = 5.0


class Overrides:
    """Reconciles the overrides of this machine. Call `reconcile` often; it never waits."""

    def __init__(self, traffic: Traffic, folder: DataFolder) -> None:
        self._traffic = traffic
        self._folder = folder
        self._secret = folder.secret()
        self._watch = FolderWatch(folder.overrides)
        self._found: list[str] = []
        self._next_look = 0.0
        self._running: dict[str, threading.Thread] = {}
        self._redundant: set[str] = set()
        self._retry_at: dict[str, float] = {}
        self._complained: set[str] = set()

    def reconcile(self) -> None:
        """Issues the rollback that each override means, and removes those that have no effect any more.

        Raises `StoreUnavailable` when the database does not answer; then all stay in force.
        """
        now = time.monotonic()
        if self._watch.changed():
            self._found = sorted(path.stem for path in self._folder.overrides.glob("*.json"))
        elif not self._found or now < self._next_look:
            return
        self._next_look = now + _LOOK_AGAIN_SECONDS
        for model in self._found:
            override = self._read(model)
            if override is not None and not self._is_running(model):
                self._reconcile(override, now)

    def _reconcile(self, override: Override, now: float) -> None:
        model = override.model
        with self._traffic.database.read() as connection:
            head = plans.head(connection, model)
        active = (head.active if head else None) or 0
        if active > override.base_generation or override.signature in self._redundant:
            if self._is_served(model, active):
                self._folder.remove_override(model)
                logger.info("the override of %s is void and is removed", model)
        elif now >= self._retry_at.get(model, 0.0):
            self._retry_at[model] = now + _RETRY_SECONDS
            # A thread of its own: the command waits for reports that the caller carries.
            thread = threading.Thread(target=self._roll_back, args=(override, active), daemon=True)
            self._running[model] = thread
            thread.start()

    def _roll_back(self, override: Override, active: int) -> None:
        order = Order(
            who=override.who,
            why=f"{override.why} (local override reconciled)".strip(),
            expected=active,
            key=f"override {override.signature}",
        )
        try:
            answer = self._traffic.rollback(override.model, order, to=override.version)
            logger.info(
                "override of %s by %s reconciled: %s has all traffic with generation %d",
                override.model,
                override.who,
                override.version,
                answer.generation,
            )
        except NothingToRollBack:
            self._redundant.add(override.signature)
        except (GenerationConflict, StoreUnavailable) as error:
            self._retry_at.pop(override.model, None)
            logger.info("override of %s is not reconciled yet: %s", override.model, error)
        except FairleadError as error:
            logger.error("override of %s cannot be reconciled and stays in force: %s", override.model, error)

    def _is_running(self, model: str) -> bool:
        thread = self._running.get(model)
        return thread is not None and thread.is_alive()

    def _is_served(self, model: str, generation: int) -> bool:
        """Whether all live gateways of this machine serve that generation."""
        since = time.time() - _LIVE_SECONDS
        states = [r.models.get(model) for r in self._folder.read_reports() if r.at > since]
        return all(state is not None and state.active >= generation for state in states)

    def _read(self, model: str) -> Override | None:
        """The override, if it is one; what is no override is left alone and complained about once."""
        try:
            override = self._folder.read_override(model)
        except (msgspec.MsgspecError, OSError) as error:
            self._complain(model, f"cannot be read: {error}")
            return None
        if override is None:
            return None
        if override.model != model or not override.verifies(self._secret):
            self._complain(model, "is not signed by this deployment and is ignored")
            return None
        return override

    def _complain(self, model: str, what: str) -> None:
        if model not in self._complained:
            self._complained.add(model)
            logger.error("override of %s %s", model, what)
