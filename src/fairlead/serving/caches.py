"""The tiers of the prediction cache, asked in turn: this worker's, this machine's, and all machines'."""

from __future__ import annotations

import time
from collections.abc import Callable

from fairlead.contracts.fingerprint import encode_row, feature_hash
from fairlead.runtimes.binding import Prediction
from fairlead.serving.asks import Ask
from fairlead.serving.cache import PredictionCache
from fairlead.serving.live import LiveArm
from fairlead.serving.near import NearCache
from fairlead.serving.shared import SharedCache

__all__ = ["Caches"]

_SAMPLES = 256
_WORTH = 0.05
"""Asking the machine's cache, and telling it, costs as much as a light model's row: below this share of
finds it is not worth it. A run elsewhere costs so much more that it always is."""


def _is_sample(key: bytes) -> bool:
    """Whether the key is one in sixteen."""
    return key[-1] < 16


class Caches:
    """What is known already, in `near` and `shared` where there are any. `clock` tells monotonic seconds."""

    def __init__(
        self,
        local: PredictionCache,
        *,
        near: NearCache | None = None,
        shared: SharedCache | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.local = local
        self.near = near
        self.shared = shared
        self._clock = clock
        self._near_pays = True
        self._sampled = self._found = 0

    def look_up(self, ask: Ask, arm: LiveArm) -> None:
        """Hashes the row, and takes the prediction from this machine when the arm's version allows it."""
        encoded = ask.encoded = encode_row(ask.row)
        ask.hash = feature_hash(arm.compiled.id, encoded)
        if arm.cache_seconds > 0:
            ask.key = self.local.key(arm.cache_secret, encoded)
            ask.prediction = self.local.get(ask.key, self._clock())
            if ask.prediction is None and self.near is not None:
                self._look_near(self.near, ask.key, ask, arm)
            ask.cached = ask.prediction is not None

    async def look_further(self, ask: Ask, arm: LiveArm) -> None:
        """Takes the prediction from the cache of all machines."""
        if self.shared is None or ask.key is None:
            return
        self._take(await self.shared.get(ask.key), ask, arm)
        if ask.prediction is not None:
            ask.cached = True
            if self.near is not None:
                self.near.put(ask.key, ask.prediction, arm.cache_seconds)

    def keep(self, ask: Ask, arm: LiveArm, *, far: bool = True) -> None:
        """Keeps the prediction of a row that has a key, on all machines if `far`."""
        key, prediction = ask.key, ask.prediction
        if key is None or prediction is None:
            return
        self.local.put(key, prediction, self._clock(), arm.cache_seconds)
        if self.near is not None and (self._near_pays or not arm.version.engine.inline or _is_sample(key)):
            self.near.put(key, prediction, arm.cache_seconds)
        if far and self.shared is not None:
            self.shared.put(key, prediction, arm.cache_seconds)

    def stale(self, ask: Ask, arm: LiveArm) -> Prediction | None:
        """This worker's answer of before, as long as the version's `stale_seconds` allow."""
        if ask.key is None or arm.stale_seconds <= 0:
            return None
        return self.local.stale(ask.key, self._clock(), arm.stale_seconds)

    async def close(self) -> None:
        """Lets go of what is shared."""
        if self.shared is not None:
            await self.shared.close()
        if self.near is not None:
            self.near.close()

    def _look_near(self, near: NearCache, key: bytes, ask: Ask, arm: LiveArm) -> None:
        """Asks this machine's cache, unless the model is light and a sample of the keys shows that little is
        found.

        All workers of a machine sample the same keys, and so see what sharing them all would bring.
        """
        if _is_sample(key):
            found = near.get(key)
            self._sampled += 1
            self._found += found is not None
            if self._sampled >= _SAMPLES:
                self._near_pays = self._found >= _SAMPLES * _WORTH
                self._sampled = self._found = 0
            self._take(found, ask, arm)
        elif self._near_pays or not arm.version.engine.inline:
            self._take(near.get(key), ask, arm)

    def _take(self, found: tuple[Prediction, float] | None, ask: Ask, arm: LiveArm) -> None:
        """Takes what another gateway worked out, and keeps it here for the seconds that it has left."""
        if found is not None and ask.key is not None:
            ask.prediction, left = found
            self.local.put(ask.key, ask.prediction, self._clock(), min(left, arm.cache_seconds))
            arm.counters.add("cache_shared_hits")
