"""The models of one gateway that need not stay in memory: their sizes, the budget, and who leaves when."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

from fairlead.engine.base import Engine
from fairlead.serving.live import LoadedVersion
from fairlead.serving.ondemand import OnDemand
from fairlead.serving.residency import Rank, Resident, gone_idle, to_evict

__all__ = ["Entry", "Residents"]

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 0.005
"""How soon a load looks again whether a model that was busy is free to go."""


class Entry:
    """A model that is loaded on demand, and the versions that are wrapped around it."""

    def __init__(self, key: bytes, engine: OnDemand, versions: list[LoadedVersion]) -> None:
        self.key = key
        self.engine = engine
        self.versions = versions
        self.bytes = 0
        """What it takes of the budget: 0 while it is cold, and for a model in another process."""
        self.expected = 0
        """What it is thought to take when it is loaded; 0 until that is known."""


class Residents:
    """Keeps models within `budget` bytes (0: no bound). Use from the gateway's event loop.

    `rank_of` tells what a version is to its model's traffic. `at_rest` calls back, now or soon, when no row
    is on its way to an inline model.
    """

    def __init__(
        self,
        budget: int,
        rank_of: Callable[[LoadedVersion], Rank],
        at_rest: Callable[[Callable[[], None]], None],
    ) -> None:
        self.budget = budget
        self._rank_of = rank_of
        self._at_rest = at_rest
        self._entries: dict[bytes, Entry] = {}
        self._making = asyncio.Lock()
        self._changed: set[str] = set()

    @property
    def taken(self) -> int:
        """What the models in memory take of the budget."""
        return sum(entry.bytes for entry in self._entries.values())

    def add(self, entry: Entry) -> None:
        """A model that may be cold from now on."""
        self._entries[entry.key] = entry

    def remove(self, key: bytes) -> None:
        """A model that no version is wrapped around any more."""
        self._entries.pop(key, None)

    def take_changed(self) -> set[str]:
        """The names of the models that were loaded or evicted since this was asked last."""
        changed, self._changed = self._changed, set()
        return changed

    def resident(self) -> list[LoadedVersion]:
        """The versions in memory, those that ran last first."""
        here = [entry for entry in self._entries.values() if entry.engine.resident]
        here.sort(key=lambda entry: entry.engine.used, reverse=True)
        return [version for entry in here for version in entry.versions]

    def fits(self, version: LoadedVersion) -> bool:
        """Whether the version would fit without another leaving, as far as its size is known."""
        entry = next((entry for entry in self._entries.values() if version in entry.versions), None)
        if entry is None or not self.budget:
            return entry is not None
        return self.taken + (entry.expected or _size_of_files(entry)) <= self.budget

    @asynccontextmanager
    async def room(self, key: bytes) -> AsyncIterator[None]:
        """Within, the model may be loaded into this process: there is room for it, and no other one is being
        loaded, so that what it takes can be measured. Set the entry's size with `came` before leaving."""
        entry = self._entries.get(key)
        if not self.budget or entry is None:
            yield
            return
        async with self._making:
            await self._make_room(key, entry.expected or _size_of_files(entry))
            yield
            if entry.bytes > self.budget:
                logger.warning(
                    "%s takes %.1f MB, more than memory_budget_mb allows for all models: it is served alone",
                    _named(entry.versions),
                    entry.bytes / 1e6,
                )
            await self._make_room(key, 0)

    def came(self, key: bytes, size: int) -> None:
        """The model is in memory and takes so many bytes of the budget: 0 when it is in another process."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.bytes = entry.expected = size
            self._note(entry)

    def failed(self, key: bytes) -> None:
        """The model did not stay in memory after all."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.bytes = 0

    async def sweep(self, now: float) -> None:
        """Evicts what has had no request for its own time."""
        idle = gone_idle(self._residents(), now)
        if idle:
            # Looked at again when nothing is on its way: a request may have come meanwhile.
            await self._evict(lambda: set(idle).intersection(gone_idle(self._residents(), now)), "idle")

    # --- leaving --------------------------------------------------------------------------------------------

    async def _make_room(self, key: bytes, wanted: int) -> None:
        """Evicts until `wanted` bytes fit, or nothing that may ever go is left but the model itself."""
        while self.taken + wanted > self.budget:
            await self._evict(lambda: to_evict(self._residents(but=key), self._left(key), wanted), "for room")
            if self.taken + wanted <= self.budget:
                return
            if not any(other.busy and other.rank is not Rank.PREPARED for other in self._residents(but=key)):
                return  # larger than all that there is, or what was prepared fills the budget
            await asyncio.sleep(_RETRY_SECONDS)

    def _left(self, key: bytes) -> int:
        return self.budget - self._entries[key].bytes if key in self._entries else self.budget

    async def _evict(self, choose: Callable[[], Collection[bytes]], why: str) -> None:
        """Lets go of what `choose` names at a moment when nothing is on its way to it."""
        leaving: asyncio.Future[list[Engine]] = asyncio.get_running_loop().create_future()

        def go() -> None:
            chosen = [self._entries[key] for key in choose()]
            gone = [self._put_to_sleep(entry, why) for entry in chosen]
            if not leaving.done():
                leaving.set_result([engine for engine in gone if engine is not None])

        self._at_rest(go)
        for engine in await leaving:
            await engine.stop()

    def _put_to_sleep(self, entry: Entry, why: str) -> Engine | None:
        logger.info("evicted %s (%s)", _named(entry.versions), why)
        entry.bytes = 0
        entry.versions[-1].count("evictions")
        self._note(entry)
        return entry.engine.sleep()

    def _residents(self, but: bytes | None = None) -> list[Resident]:
        return [
            self._as_resident(entry)
            for entry in self._entries.values()
            if (entry.engine.resident or entry.bytes) and entry.key != but
        ]

    def _as_resident(self, entry: Entry) -> Resident:
        ranks = [self._rank_of(version) for version in entry.versions]
        first = max(ranks)
        # Of those that matter most the longest idle time counts, and "never" before all.
        wished = [
            version.spec.settings.idle_unload_seconds
            for version, rank in zip(entry.versions, ranks, strict=True)
            if rank == first
        ]
        # What is being loaded takes its part already, and cannot go before it has come.
        arriving = not entry.engine.resident
        return Resident(
            key=entry.key,
            bytes=entry.bytes,
            used=entry.engine.used,
            rank=first,
            busy=arriving or entry.engine.busy or any(version.busy for version in entry.versions),
            idle=max(wished) if all(wished) else 0.0,
        )

    def _note(self, entry: Entry) -> None:
        self._changed.update(version.spec.model for version in entry.versions)


def _size_of_files(entry: Entry) -> int:
    return sum(file.size for file in entry.versions[-1].spec.manifest.files)


def _named(versions: list[LoadedVersion]) -> str:
    spec = versions[-1].spec
    return f"{spec.model} {spec.version}"
