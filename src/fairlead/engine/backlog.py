"""What waits for a model in its worker: jobs by priority, then arrival, and which of them make the next run.

Pure: it is told the time, and locks nothing.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fairlead.engine.frames import Terms

__all__ = ["Backlog", "Block", "Job", "cut", "join"]

Array = npt.NDArray[Any]

_LAST = 1 << 62
"""The level of priority 0, behind every stated one."""


class Block:
    """Tensors that arrived together: the rows of one or more jobs."""

    __slots__ = ("_kind", "tensors")

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        self.tensors = tensors
        self._kind: list[Any] | None = None

    def joins(self, other: Block) -> bool:
        """Whether both can be joined along their first axis."""
        return self is other or self.kind == other.kind

    @property
    def kind(self) -> list[Any]:
        """Names, types and shapes of a row. Found out when somebody asks: a lone block has nobody to join."""
        if self._kind is None:
            self._kind = [(name, array.dtype.num, array.shape[1:]) for name, array in self.tensors.items()]
        return self._kind


class Job:
    """Rows that are answered together: `rows` of `block` from `start` on. `owner` is who asked."""

    __slots__ = ("arrived", "block", "bytes", "deadline", "id", "level", "owner", "rows", "start", "waiting")

    def __init__(
        self,
        owner: Hashable,
        number: int,
        block: Block,
        start: int,
        rows: int,
        deadline: float,
        priority: int,
    ) -> None:
        self.owner = owner
        self.id = number
        self.block = block
        self.start = start
        self.rows = rows
        self.deadline = deadline
        self.level = priority or _LAST
        self.arrived = 0.0
        self.bytes = 0
        self.waiting = False


class Backlog:
    """A bounded queue. `rows` and `bytes` are what waits in it."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.rows = 0
        self.bytes = 0
        self._heap: list[tuple[int, int, Job]] = []
        self._jobs: dict[tuple[Hashable, int], Job] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job, size: int, now: float) -> bool:
        """Takes the job of that many bytes; False when it is full. An empty queue takes whatever comes."""
        terms = self.terms
        full = self.rows + job.rows > terms.max_queue_rows or self.bytes + size > terms.max_queue_bytes
        if full and self._jobs:
            return False
        job.arrived, job.bytes, job.waiting = now, size, True
        self._count += 1
        heapq.heappush(self._heap, (job.level, self._count, job))
        self._jobs[job.owner, job.id] = job
        self.rows += job.rows
        self.bytes += size
        return True

    def cancel(self, owner: Hashable, ids: Iterable[int]) -> list[int]:
        """Forgets those jobs of that owner that still wait, and says which."""
        found = []
        for number in ids:
            if (job := self._jobs.get((owner, number))) is not None:
                self._leaves(job)
                found.append(number)
        return found

    def forget(self, owner: Hashable) -> None:
        """Forgets all jobs of that owner."""
        self.cancel(owner, [job.id for job in self._jobs.values() if job.owner is owner])

    def due(self, now: float) -> float:
        """Seconds until there is something to take: infinite when nothing waits."""
        if not self._jobs:
            return math.inf
        if self.terms.queue_delay <= 0 or self.rows >= self.terms.max_batch_rows:
            return 0.0
        oldest = next(iter(self._jobs.values()))
        return max(0.0, oldest.arrived + self.terms.queue_delay - now)

    def take(self, now: float) -> tuple[list[Job], list[Job]]:
        """The jobs of the next run, and those that are too late for one. The first one decides which kind of
        tensors is joined; a job of more rows than a run may have comes alone."""
        batch: list[Job] = []
        late: list[Job] = []
        others: list[tuple[int, int, Job]] = []
        rows = 0
        while self._heap:
            entry = heapq.heappop(self._heap)
            job = entry[2]
            if not job.waiting:
                continue
            if job.deadline <= now:
                self._leaves(job)
                late.append(job)
            elif batch and not job.block.joins(batch[0].block):
                others.append(entry)
            elif batch and rows + job.rows > self.terms.max_batch_rows:
                others.append(entry)
                break
            else:
                self._leaves(job)
                batch.append(job)
                rows += job.rows
        for entry in others:
            heapq.heappush(self._heap, entry)
        return batch, late

    def _leaves(self, job: Job) -> None:
        job.waiting = False
        del self._jobs[job.owner, job.id]
        self.rows -= job.rows
        self.bytes -= job.bytes


def join(jobs: Sequence[Job]) -> dict[str, Array]:
    """The tensors of these jobs, one after the other along the first axis."""
    if len(jobs) == 1:
        job = jobs[0]
        return {name: array[job.start : job.start + job.rows] for name, array in job.block.tensors.items()}
    pieces: list[tuple[Block, int, int]] = []
    for job in jobs:
        if pieces and pieces[-1][0] is job.block and pieces[-1][2] == job.start:
            pieces[-1] = (job.block, pieces[-1][1], job.start + job.rows)
        else:
            pieces.append((job.block, job.start, job.start + job.rows))
    if len(pieces) == 1:
        block, start, end = pieces[0]
        return {name: array[start:end] for name, array in block.tensors.items()}
    return {
        name: np.concatenate([block.tensors[name][start:end] for block, start, end in pieces])
        for name in pieces[0][0].tensors
    }


def cut(
    outputs: Mapping[str, Array], jobs: Sequence[Job]
) -> list[tuple[Hashable, list[Job], dict[str, Array]]]:
    """Each owner's jobs, in their order, with the outputs that belong to them."""
    if len(jobs) == 1 or len({job.owner for job in jobs}) == 1:
        return [(jobs[0].owner, list(jobs), dict(outputs))]
    mine: dict[Hashable, list[Job]] = {}
    places: dict[Hashable, list[Array]] = {}
    start = 0
    for job in jobs:
        mine.setdefault(job.owner, []).append(job)
        places.setdefault(job.owner, []).append(np.arange(start, start + job.rows))
        start += job.rows
    found = []
    for owner, owned in mine.items():
        index = np.concatenate(places[owner])
        found.append((owner, owned, {name: array[index] for name, array in outputs.items()}))
    return found
