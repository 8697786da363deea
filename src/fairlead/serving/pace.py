"""How old what is read may be, and whether one more answer would still be in time.

Nobody tells when a request arrived, only when it was read. What one look at the sockets found is a pass: it
arrived after the pass before had begun, if that led straight to this one, else just now. Times are
`time.perf_counter` and are handed in.
"""

from __future__ import annotations

__all__ = ["Pace"]

_FEW = 100
_PATIENCE = 5
_TELLING = 16
"""So many walks through the gates tell what one more will take."""
_ADAPTION = 0.2
_PAUSE = 0.005
"""Between two passes of a busy loop lies what answers of several requests at a time take to leave."""


class Pace:
    """Keeps passes in mind, and the turns within them. A turn shall not take more than `max_turn` seconds.

    While passes are long, a request that would be older than five such turns is refused: so the queue stays
    short, and what is answered is answered soon. What is said of long passes is said of those with many
    requests: if one with few is long, something else held it up.
    """

    __slots__ = (
        "_before_began", "_before_ended", "_before_seen", "_began", "_each", "_max_turn", "_seen", "_turn"
    )  # fmt: skip

    def __init__(self, max_turn: float) -> None:
        self._max_turn = max_turn
        self._began = self._turn = 0.0  # when this pass and its present turn began
        self._seen = 0
        self._before_began = self._before_ended = 0.0
        self._before_seen = 0
        self._each = 0.0  # what a walk takes once its gate has opened

    def begin(self, now: float) -> None:
        """A pass begins with what is read now."""
        self._began = self._turn = now

    def end(self, now: float) -> None:
        """The pass is over, and so is its last turn."""
        self._before_began, self._before_ended, self._before_seen = self._began, now, self._seen
        self._seen = 0

    def opened(self, began: float, now: float, walks: int) -> None:
        """The gates were opened at `began` for so many walks, which took until `now`."""
        self._turn = now
        if walks >= _TELLING:
            self._each += _ADAPTION * ((now - began) / walks - self._each)

    def is_enough(self, now: float, walks: int) -> bool:
        """Whether the turn has taken on what it may: its gates should open now."""
        return walks > 0 and now - self._turn + walks * self._each > self._max_turn

    def has_room(self, now: float, walks: int, deadline: float | None, since: float, arrived: float) -> bool:
        """Whether one more request, read now, can be answered in time while `walks` wait at the gates.

        It is there since `arrived` if it had to wait, else since its `arrival`.
        """
        self._seen += 1
        waited = self._waited(now)
        age = now - (arrived or self.arrival(now, since))
        takes = walks * self._each
        busy = waited > self._max_turn / 2 and self._before_seen >= _FEW
        if busy:
            if age + takes > _PATIENCE * self._max_turn:
                return False
            # Others will join the turn, and its answers leave together.
            takes = max(takes, self._turn + self._max_turn - now)
        return deadline is None or now + takes + (0.0 if arrived else age) <= deadline

    def arrival(self, now: float, since: float) -> float:
        """When, at the earliest, that may have arrived which is read now on a connection read at `since`."""
        return max(since, now - self._waited(now))

    def _waited(self, now: float) -> float:
        """For how many seconds a request that is read now may have lain unread."""
        if self._began - self._before_ended < self._before_ended - self._before_began + _PAUSE:
            return now - self._before_began
        return now - self._began
