"""The circuit breaker: leaves alone what keeps failing, and tries it again now and then. Pure."""

from __future__ import annotations

__all__ = ["Breaker"]


class Breaker:
    """Tells whether to ask something that may be down. Time is given, in seconds.

    After `failures` in a row nobody asks for `pause` seconds, then one caller may try; each failed try
    doubles the pause up to `longest`. One success ends it.
    """

    __slots__ = ("_limit", "_longest", "_pause", "_shortest", "_until", "failures")

    def __init__(self, *, failures: int = 5, pause: float = 1.0, longest: float = 30.0) -> None:
        self._limit = failures
        self._shortest = pause
        self._longest = longest
        self.failures = 0
        """How many failures there were since the last success."""
        self._pause = 0.0
        self._until = 0.0

    @property
    def open(self) -> bool:
        """Whether the dependency is being left alone."""
        return self._pause > 0

    def allows(self, now: float) -> bool:
        """Whether to ask now. While open, True makes this caller the one who tries."""
        if not self.open:
            return True
        if now < self._until:
            return False
        # Set before the outcome is known: a try that never ends holds up no later one.
        self._pause = min(2 * self._pause, self._longest)
        self._until = now + self._pause
        return True

    def seconds_left(self, now: float) -> float:
        """How long nobody asks yet."""
        return max(0.0, self._until - now) if self.open else 0.0

    def succeeded(self) -> None:
        """The dependency answered."""
        self.failures = 0
        self._pause = 0.0

    def failed(self, now: float) -> None:
        """The dependency failed or was late."""
        self.failures += 1
        if self.failures >= self._limit and not self.open:
            self._pause = self._shortest
            self._until = now + self._pause
