"""The data plane: `infer()` is the whole walk of a prediction, and every protocol enters there.

The walk stops at two gates (`turns.py`): where light models run the rows of one turn of the event loop as one
batch, and where their records go to the log in one write. A lone request passes both at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from fairlead.errors import (
    Cancelled,
    FairleadError,
    Forbidden,
    MalformedRequest,
    ModelNotFound,
    Overloaded,
)
from fairlead.serving.answers import batch_envelope, envelope
from fairlead.serving.asks import Ask, BatchAsk
from fairlead.serving.caches import Caches
from fairlead.serving.envelope import BatchEnvelope, Envelope
from fairlead.serving.journal import Journal
from fairlead.serving.ladder import Ladder
from fairlead.serving.leaders import Leaders
from fairlead.serving.live import LiveArm, LiveModel
from fairlead.serving.recording import record_frame
from fairlead.serving.running import Runs
from fairlead.serving.shadowing import Shadowing

__all__ = ["FULL", "DataPlane"]

logger = logging.getLogger(__name__)

FULL = "The gateway is full: the answer would come too late."


class DataPlane:
    """Answers predictions from the models it holds. One per gateway worker, used from its loop alone.

    A turn takes on no more than what `max_turn` seconds allow. With `pins` a caller may choose the version,
    with `leaders` get the leading features.
    """

    def __init__(
        self,
        journal: Journal,
        caches: Caches,
        gateway: str,
        *,
        max_turn: float = 0.02,
        pins: bool = True,
        leaders: Leaders | None = None,
    ) -> None:
        self.models: Mapping[str, LiveModel] = {}
        self.journal = journal
        self.caches = caches
        self.gateway = gateway
        self.pins = pins
        self.leaders = leaders
        self.draining = False
        self._runs = Runs(caches, journal.write, max_turn)
        self.turns = self._runs.turns
        self.at_rest = self._runs.at_rest
        self._ladder = Ladder(caches, self._runs.run)
        self.shadowing = Shadowing(self._runs, journal, gateway)

    def model(self, name: str) -> LiveModel:
        """The live model; raises `ModelNotFound`, or `NotReady` while nothing has been loaded yet."""
        found = self.models.get(name)
        if found is None:
            raise ModelNotFound(
                f"No model {name!r} takes traffic here.",
                remedy="See GET /v1/models; register a version and deploy it.",
            )
        return found

    def admit(self, model: LiveModel, now: float, deadline: float | None) -> None:
        """Raises `Overloaded` when this gateway cannot answer one more request in time.

        To be asked before anything is spent on the request.
        """
        if not self.has_room(model, now, deadline, now, 0.0):
            raise Overloaded(FULL, remedy="Try again later, or add gateway workers.")

    def has_room(
        self, model: LiveModel, now: float, deadline: float | None, since: float, arrived: float
    ) -> bool:
        """Whether one more request can be answered in time (see `Pace`); counts it as shed if not."""
        turns = self.turns
        if not turns.scheduled:
            turns.schedule()
        room = turns.pace.has_room(now, turns.walks, deadline, since, arrived)
        if not room:
            model.arms[0].counters.add("shed")
        return room

    async def infer(self, model: LiveModel, ask: Ask) -> tuple[Envelope, LiveArm]:
        """One prediction and the arm that gave it; it is in the log before this returns.

        Raises `DataContractViolation`, `VersionNotFound` and what the model raises; those are logged, too.
        """
        try:
            plain = ask.pin is None and model.plain
            arm = model.route(ask.unit) if plain else self._chosen(model, ask)
            ask.assigned = ask.arm = arm
            ask.read(arm.compiled)
            self.caches.look_up(ask, arm)
            if not ask.cached and self.caches.shared is not None:
                await self.caches.look_further(ask, arm)
            if ask.key is not None:
                arm.counters.looked_up(ask.cached)
            if ask.prediction is None:
                await self._runs.attempt(ask, arm)
            if ask.error is not None:
                await self._ladder.stand_in(model, ask)
            if ask.reading.explain and ask.error is None and self.leaders is not None:
                ask.explanation = await self.leaders.lead(ask)
        except FairleadError as error:
            ask.error = error
        except asyncio.CancelledError:
            self._gone(model, ask)
            raise
        seconds = time.perf_counter() - ask.received
        ask.milliseconds = round(seconds * 1000, 3)
        commit, place = self.journal.add(record_frame(model, ask, self.gateway))
        await self.turns.written
        if commit.error is not None and place > commit.written:
            self._unlogged(ask, commit.error)
        if ask.arm is not None:
            ask.arm.counters.answered(ask.status, seconds)
        if model.shadows:
            self.shadowing.offer(model, ask)
        if ask.error is not None:
            raise ask.error
        assert ask.arm is not None
        return envelope(model, ask.arm, ask), ask.arm

    async def infer_batch(self, model: LiveModel, ask: BatchAsk) -> BatchEnvelope:
        """A batch, row by row in its order. Rows of one arm run together; a bad row fails alone.

        A batch uses the cache in process and not the shared one: a run of many rows costs less than as many
        look-ups elsewhere.

        Raises `DataContractViolation` when every row breaks the contract, `MalformedRequest` for an empty or
        over-long batch.
        """
        _require_size(model, len(ask.reading))
        rows = [ask.row(index) for index in range(len(ask.reading))]
        groups: dict[str, list[Ask]] = {}
        for row in rows:
            try:
                arm = row.assigned = row.arm = self._chosen(model, row)
                row.read(arm.compiled)
                self.caches.look_up(row, arm)
            except FairleadError as error:
                row.error = error
                continue
            if row.key is not None:
                arm.counters.looked_up(row.cached)
            if row.prediction is None:
                groups.setdefault(arm.name, []).append(row)
        try:
            for group in groups.values():
                await self._runs.run_group(group)
                for row in group:
                    if row.error is not None:
                        await self._ladder.stand_in(model, row)
        except asyncio.CancelledError:
            for row in rows:
                self._gone(model, row)
            raise
        seconds = time.perf_counter() - ask.received
        for row in rows:
            row.milliseconds = round(seconds * 1000, 3)
        self._log_batch(model, rows)
        for row in rows:
            if row.arm is not None:
                row.arm.counters.answered(row.status, seconds)
        for row in rows if model.shadows else ():
            self.shadowing.offer(model, row)
        return batch_envelope(model, ask, rows, seconds)

    def require_pins(self) -> None:
        """Raises `Forbidden` where callers may not choose a version."""
        if not self.pins:
            raise Forbidden(
                "Callers may not choose a version here.",
                remedy="Leave the version out, or switch `allow_pins` on.",
            )

    def _chosen(self, model: LiveModel, ask: Ask) -> LiveArm:
        if ask.pin is not None:
            self.require_pins()
        return model.choose(ask.unit, ask.pin, ask.headers, lambda: ask.features(model.reader))

    # --- the log ------------------------------------------------------------------------------------------

    def _log_batch(self, model: LiveModel, rows: list[Ask]) -> None:
        """Writes the rows' records. A log that takes none refuses the request, or lets it pass unlogged."""
        arm = rows[0].arm
        try:
            unlogged = self.journal.write_now([record_frame(model, row, self.gateway) for row in rows])
        except FairleadError:
            if arm is not None:
                arm.counters.add("shed", len(rows))
            raise
        if unlogged and arm is not None:
            arm.counters.add("unlogged", unlogged)

    def _gone(self, model: LiveModel, ask: Ask) -> None:
        """The caller went away: the row is counted and logged, and nobody waits for that."""
        ask.error = Cancelled("The caller went away.")
        ask.milliseconds = round((time.perf_counter() - ask.received) * 1000, 3)
        self.journal.add(record_frame(model, ask, self.gateway))
        # Nobody stands at the gate for it.
        asyncio.get_running_loop().call_soon(self.journal.write)
        if ask.arm is not None:
            ask.arm.counters.add("cancelled")

    def _unlogged(self, ask: Ask, error: FairleadError) -> None:
        """A log that does not take the record refuses the request, or lets it pass unlogged."""
        if ask.arm is not None:
            ask.arm.counters.add("shed" if self.journal.sheds else "unlogged")
        if self.journal.sheds:
            raise error


def _require_size(model: LiveModel, rows: int) -> None:
    limit = min(arm.version.spec.settings.max_batch_rows for arm in model.arms)
    if rows == 0:
        raise MalformedRequest("The batch has no instances.", remedy="Send at least one.")
    if rows > limit:
        raise MalformedRequest(
            f"The batch has {rows} instances; {limit} are allowed.",
            remedy="Send smaller batches, or raise max_batch_rows of the model.",
        )
