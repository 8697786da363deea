"""Replaying checkouts as live requests, with several callers at once, and telling the outcomes afterwards."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from fairlead.client.http import AsyncClient
from fairlead.errors import FairleadError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Answered", "Replay", "replay", "report_outcomes"]

_CALLERS = 16


class Answered(msgspec.Struct, frozen=True):
    """One answered request: which checkout it was, and what came back."""

    index: int
    request_id: str
    version: str
    sent_at: float


class Replay(msgspec.Struct, kw_only=True):
    """What happened to the requests of one replay."""

    answered: list[Answered] = []
    failures: Counter[str] = msgspec.field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def requests(self) -> int:
        """Requests sent."""
        return len(self.answered) + sum(self.failures.values())


async def replay(
    url: str,
    model: str,
    rows: pd.DataFrame,
    features: Sequence[str],
    *,
    on_answer: Callable[[int], None] = lambda done: None,
    stop: asyncio.Event | None = None,
) -> Replay:
    """Asks for each checkout in the order of time, `unit` being the customer; several callers share the work.

    Ends early when `stop` is set. A request that fails is counted by its error's code, never repeated.
    """
    result = Replay()
    columns = {name: rows[name].astype(float).tolist() for name in features}
    customers = rows["customer"].tolist()
    following = iter(range(len(rows)))
    started = time.perf_counter()

    async with AsyncClient(url, timeout=10.0) as client:

        async def caller() -> None:
            for index in following:
                if stop is not None and stop.is_set():
                    return
                values = {name: columns[name][index] for name in features}
                sent_at = time.perf_counter()
                try:
                    answer = await client.predict(model, values, unit=customers[index], use_case="checkout")
                except FairleadError as error:
                    result.failures[error.code] += 1
                else:
                    result.answered.append(Answered(index, answer.request_id, answer.model_version, sent_at))
                on_answer(result.requests)

        await asyncio.gather(*(caller() for _ in range(_CALLERS)))
    result.seconds = time.perf_counter() - started
    return result


async def report_outcomes(url: str, model: str, rows: pd.DataFrame, done: Replay) -> int:
    """Tells, for each answered checkout, whether the customer did buy again; returns how many were taken."""
    truth = rows["bought_again"].tolist()
    events: list[dict[str, Any]] = [
        {
            "request_id": each.request_id,
            "metric": "label",
            "value": truth[each.index],
            "outcome_id": f"{each.request_id}/label",
        }
        for each in done.answered
    ]
    taken = 0
    async with AsyncClient(url, timeout=30.0) as client:
        for start in range(0, len(events), 1000):
            taken += await client.outcomes(model, events[start : start + 1000])
    return taken
