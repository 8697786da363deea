"""The threads of a model worker: one reads what gateways send, as many as the version has instances run it.

There is one thread more than instances, and they take turns: one of them leads, which is to read. When he
finds something to run and an instance free, he runs it himself; what comes meanwhile calls another to lead,
and what that one takes in forms the next run. So a lone row wakes no second thread, neither before its run
nor after.
"""

from __future__ import annotations

import collections
import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Hashable, Sequence

import numpy as np

from fairlead.engine.backlog import Backlog, Block, Job, cut, join
from fairlead.engine.callables import Run
from fairlead.engine.frames import (
    Answer,
    Array,
    Buffer,
    Cancel,
    Frame,
    FrameError,
    Frames,
    Jobs,
    Message,
    Ping,
    Pong,
    Terms,
    encode,
    pack,
    unpack,
)

__all__ = ["Crew", "described"]

ORPHAN_SECONDS = 5.0
"""Without host and without gateways for so long, a worker ends."""
_LOOK_SECONDS = 1.0


class Connection:
    """One end of a socket to a gateway or to the host. Any thread may send."""

    def __init__(self, sock: socket.socket, epoll: select.epoll) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.frames = Frames()
        self._epoll = epoll
        self._unsent: collections.deque[Buffer] = collections.deque()
        self._lock = threading.Lock()

    def send(self, buffers: Sequence[Buffer]) -> None:
        """Sends a frame; what the socket does not take at once goes out when it does."""
        with self._lock:
            idle = not self._unsent
            self._unsent.extend(buffers)
            if idle:
                self._push()
                if self._unsent:
                    self._watch(select.EPOLLIN | select.EPOLLOUT)

    def flush(self) -> None:
        """Sends more of what could not be sent."""
        with self._lock:
            self._push()
            if not self._unsent:
                self._watch(select.EPOLLIN)

    def _watch(self, events: int) -> None:
        with contextlib.suppress(OSError, ValueError):  # the reader may have closed it
            self._epoll.modify(self.sock.fileno(), events)

    def _push(self) -> None:
        while self._unsent:
            try:
                sent = self.sock.sendmsg(self._unsent if len(self._unsent) < 64 else [self._unsent[0]])
            except BlockingIOError:
                return
            except OSError:
                self._unsent.clear()  # the reader sees it, too, and forgets the connection
                return
            while self._unsent and sent >= len(self._unsent[0]):
                sent -= len(self._unsent.popleft())
            if sent:
                self._unsent[0] = memoryview(self._unsent[0])[sent:]


class Crew:
    """Serves a model to whoever connects to the listener. `host` is the first connection."""

    def __init__(self, run: Run, listener: socket.socket, host: socket.socket, instances: int) -> None:
        self._model = run
        self._listener = listener
        self._instances = instances
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        listener.setblocking(False)
        self._epoll.register(listener.fileno(), select.EPOLLIN)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._connections: dict[int, Connection] = {}
        self._join(host)
        self._alone_since: float | None = None
        self._leading = threading.Lock()
        self._followed = select.epoll()
        """Where those who do not lead wait: while nobody does, what `_epoll` finds calls one of them."""
        self._followed.register(self._epoll.fileno(), 0)
        self._ended = False
        self._mutex = threading.Lock()
        # The mutex guards what follows.
        self._backlog = Backlog(Terms())
        self._places = instances
        self._runs: dict[int, float] = {}

    def serve(self) -> None:
        """Works in this thread and as many more as needed; returns when nobody is connected any more."""
        for number in range(self._instances):
            threading.Thread(target=self._turns, name=f"run {number}", daemon=True).start()
        self._turns()

    def _turns(self) -> None:
        while not self._ended:
            if not self._leading.acquire(blocking=False):
                self._followed.poll()
                continue
            self._followed.modify(self._epoll.fileno(), 0)
            try:
                batch = self._lead()
            finally:
                # In this order: who is called must find the lead free.
                self._leading.release()
                once = 0 if self._ended else select.EPOLLONESHOT
                self._followed.modify(self._epoll.fileno(), select.EPOLLIN | once)
            while batch:
                self._work(batch)
                batch = self._next(has_place=True)

    # --- reading --------------------------------------------------------------------------------------------

    def _lead(self) -> list[Job]:
        """Reads until there is something to run; empty when all have gone."""
        while not self._ended:
            with self._mutex:
                due = self._backlog.due(time.monotonic()) if self._places else _LOOK_SECONDS
            self._read(min(due, _LOOK_SECONDS))
            if batch := self._next(has_place=False):
                return batch
            if self._is_alone():
                self._ended = True
                os.eventfd_write(self._wake, 1)
        return []

    def _is_alone(self) -> bool:
        if self._connections:
            self._alone_since = None
            return False
        now = time.monotonic()
        if self._alone_since is None:
            self._alone_since = now
        return now - self._alone_since >= ORPHAN_SECONDS

    def _read(self, seconds: float) -> None:
        for number, events in self._epoll.poll(seconds):
            if number == self._wake:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake)
            elif number == self._listener.fileno():
                with contextlib.suppress(OSError):
                    self._join(self._listener.accept()[0])
            else:
                connection = self._connections[number]
                try:
                    if events & select.EPOLLOUT:
                        connection.flush()
                    if events & ~select.EPOLLOUT:
                        self._receive(connection)
                except (OSError, EOFError, FrameError):
                    self._leave(connection)

    def _receive(self, connection: Connection) -> None:
        while True:
            space = connection.frames.space()
            try:
                count = connection.sock.recv_into(space)
            except BlockingIOError:
                return
            if count == 0:
                raise EOFError
            for frame in connection.frames.filled(count):
                self._understand(connection, frame)
            if count < len(space):
                return

    def _join(self, sock: socket.socket) -> None:
        connection = Connection(sock, self._epoll)
        self._connections[sock.fileno()] = connection
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _leave(self, connection: Connection) -> None:
        del self._connections[connection.sock.fileno()]
        connection.sock.close()
        with self._mutex:
            self._backlog.forget(connection)

    def _understand(self, connection: Connection, frame: Frame) -> None:
        message = frame.message
        now = time.monotonic()
        if isinstance(message, Jobs):
            self._take_in(connection, message, frame.payload, now)
        elif isinstance(message, Cancel):
            with self._mutex:
                left = self._backlog.cancel(connection, message.ids)
                waiting = self._backlog.rows
            if left:  # every job is answered once, so that its gateway can forget it
                connection.send(encode(Answer(left, error="cancelled", waiting=waiting)))
        elif isinstance(message, Terms):
            with self._mutex:
                self._backlog.terms = message
        elif isinstance(message, Ping):
            with self._mutex:
                running = now - min(self._runs.values(), default=now)
                waiting = self._backlog.rows
            connection.send(encode(Pong(running, waiting, os.getpid())))

    def _take_in(self, connection: Connection, message: Jobs, payload: memoryview, now: float) -> None:
        tensors = unpack(message.tensors, payload, nulls=True)
        count = 0
        for _, rows, _, _ in message.jobs:
            count += rows
        for array in tensors.values():
            if array.shape[:1] != (count,):
                raise FrameError(f"Tensors came that do not have {count} rows.")
        block = Block(tensors)
        per_row = (len(payload) + 64 * len(tensors)) // max(1, count)
        refused: list[int] = []
        start = 0
        with self._mutex:
            for number, rows, deadline, priority in message.jobs:
                job = Job(connection, number, block, start, rows, deadline, priority)
                start += rows
                if not self._backlog.add(job, rows * per_row, now):
                    refused.append(number)
            waiting = self._backlog.rows
        if refused:
            said = f"{waiting} rows wait for the model already."
            connection.send(encode(Answer(refused, error="full", message=said, waiting=waiting)))

    # --- running --------------------------------------------------------------------------------------------

    def _next(self, *, has_place: bool) -> list[Job]:
        """The jobs of the next run, with a place to run them; empty when there are none, or no place."""
        late: list[Job] = []
        batch: list[Job] = []
        with self._mutex:
            now = time.monotonic()
            if (has_place or self._places) and self._backlog.due(now) <= 0:
                batch, late = self._backlog.take(now)
            waiting = self._backlog.rows
            if batch and not has_place:
                self._places -= 1
            elif has_place and not batch:
                self._places += 1
            if waiting and self._places and bool(batch) != has_place:
                os.eventfd_write(self._wake, 1)  # somebody must lead, and look when what waits is due
        for owner, ids in _by_owner(late):
            self._send(owner, Answer(ids, error="expired", message="The deadline passed.", waiting=waiting))
        return batch

    def _work(self, jobs: list[Job]) -> None:
        """Runs the jobs together; when that fails, each alone, so that a bad one fails alone."""
        rows = 0
        for job in jobs:
            rows += job.rows
        mine = threading.get_ident()
        started = self._runs[mine] = time.monotonic()
        try:
            outputs = self._ran(join(jobs), rows)
            seconds = time.monotonic() - started
            answers: list[tuple[Hashable, list[Buffer]]] = []
            for owner, owned, part in cut(outputs, jobs):
                tensors, numbers = pack(part)
                answer = Answer(
                    [job.id for job in owned],
                    tensors,
                    rows=rows,
                    seconds=seconds,
                    counted=not answers,
                    waiting=self._backlog.rows,
                )
                answers.append((owner, encode(answer, numbers)))
        except BaseException as error:  # a model may raise anything; the worker lives on
            if len(jobs) > 1:
                for job in jobs:
                    self._work([job])
            else:
                said = Answer(
                    [jobs[0].id], error="raised", message=described(error), waiting=self._backlog.rows
                )
                self._send(jobs[0].owner, said)
            return
        finally:
            self._runs.pop(mine, None)
        for owner, buffers in answers:
            assert isinstance(owner, Connection)
            owner.send(buffers)

    def _ran(self, feed: dict[str, Array], rows: int) -> dict[str, Array]:
        most = self._backlog.terms.max_batch_rows
        if rows <= most:
            return _of_rows(self._model(feed), rows)
        parts = []
        for start in range(0, rows, most):
            part = {name: array[start : start + most] for name, array in feed.items()}
            parts.append(_of_rows(self._model(part), min(most, rows - start)))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _send(self, owner: Hashable, message: Message) -> None:
        assert isinstance(owner, Connection)
        owner.send(encode(message))


def _of_rows(outputs: dict[str, Array], rows: int) -> dict[str, Array]:
    """The outputs, once they are known to have one entry for each row: answers are cut apart by it."""
    for name, array in outputs.items():
        if array.shape[:1] != (rows,):
            raise ValueError(f"it answered shape {list(array.shape)} in {name!r} for {rows} rows")
    return outputs


def _by_owner(jobs: Sequence[Job]) -> list[tuple[Hashable, list[int]]]:
    found: dict[Hashable, list[int]] = {}
    for job in jobs:
        found.setdefault(job.owner, []).append(job.id)
    return list(found.items())


def described(error: BaseException) -> str:
    """Type and message in one line; the traceback stays here."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text if len(text) <= 300 else text[:299] + '…'}".rstrip(": ")
