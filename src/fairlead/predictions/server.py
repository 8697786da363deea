"""The ingest process: reads the log all the time, keeps Parquet in order, and answers over a Unix socket.

Reading, flushing and answering run in threads of their own, so that none waits for another: a long query does
not delay reading, and a flush does not delay a query.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from fairlead.contracts.structs import prepare_structs
from fairlead.errors import FairleadError, InvalidQuery, MalformedRequest, Overloaded
from fairlead.predictions.answering import encode_error, listen
from fairlead.predictions.ask import HEADER_BYTES
from fairlead.predictions.ingest import Ingest
from fairlead.predictions.operations import Operations
from fairlead.predictions.query import Queries
from fairlead.settings import Settings

__all__ = ["IngestServer", "run_ingest"]

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
_MAINTAIN_SECONDS = 0.5
_MAX_REQUEST = 1 << 20
_MAX_ANSWER = 64 << 20
_MAX_WAITING = 64
_THREADS = 4


def run_ingest(settings: Settings) -> None:
    """Runs the ingest process of `settings.folder` until SIGTERM or SIGINT; then flushes and returns."""
    gc.set_threshold(100_000, 50, 50)  # records come by the thousand and hold no cycles
    ingest = Ingest(
        settings.folder,
        flush_seconds=settings.ingest_flush_seconds,
        flush_rows=settings.ingest_flush_rows,
    )
    prepare_structs()
    try:
        queries = Queries(ingest, seconds=settings.query_seconds)
        asyncio.run(IngestServer(queries, settings.folder / "run" / "ingest.sock").run())
    finally:
        ingest.close()


class _Request(msgspec.Struct):
    op: str
    args: dict[str, Any] = {}


class IngestServer:
    """Serves one log at one socket."""

    def __init__(self, queries: Queries, socket_path: Path) -> None:
        self._queries = queries
        self._ingest = queries.ingest
        self._operations = Operations(queries)
        self._path = socket_path
        self._answering = ThreadPoolExecutor(_THREADS, thread_name_prefix="query")
        self._waiting = 0
        self._decode = msgspec.json.Decoder(_Request).decode

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT, then reads and flushes what is left."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        keepers = [
            asyncio.create_task(_repeat("poll", self._ingest.catch_up, _POLL_SECONDS, stopping)),
            asyncio.create_task(_repeat("maintain", self._maintain, _MAINTAIN_SECONDS, stopping)),
        ]
        server = await asyncio.start_unix_server(self._converse, sock=listen(self._path))
        logger.info("ingesting %s", self._ingest.root.parent / "log")
        self._answering.submit(self._warm_up)
        await stopping.wait()
        server.close()
        await asyncio.gather(*keepers)
        self._path.unlink(missing_ok=True)
        self._answering.shutdown(wait=False, cancel_futures=True)
        self._queries.interrupt()
        await asyncio.to_thread(self._finish)

    def _maintain(self) -> None:
        self._ingest.maintain()
        self._operations.rebuilds.improve()

    def _warm_up(self) -> None:
        """The first query loads libraries; nobody should wait for that."""
        try:
            self._operations.answer("sql", {"sql": "SELECT count(*) FROM predictions"})
        except FairleadError as error:
            logger.warning("%s", error)

    def _finish(self) -> None:
        try:
            self._ingest.catch_up(seconds=60.0)
            self._ingest.flush()
        except FairleadError as error:
            logger.error("%s The records stay in the log until the next start.", error)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the requests of one connection, one after the other."""
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(HEADER_BYTES), "little")
                if size > _MAX_REQUEST:
                    return
                answer = await self._answer(await reader.readexactly(size))
                writer.write(len(answer).to_bytes(HEADER_BYTES, "little") + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the other side has what it wanted, or is gone
        finally:
            writer.close()

    async def _answer(self, data: bytes) -> bytes:
        if self._waiting >= _MAX_WAITING:
            return encode_error(
                Overloaded(
                    f"{self._waiting} questions wait for the prediction log.", remedy="Ask again later."
                )
            )
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._answering, self._work, data)
        finally:
            self._waiting -= 1

    def _work(self, data: bytes) -> bytes:
        try:
            request = self._decode(data)
            answer = self._operations.answer(request.op, request.args)
            if len(answer) > _MAX_ANSWER:
                raise InvalidQuery(
                    f"The answer has {len(answer) >> 20} MiB.", remedy="Ask for fewer rows or columns."
                )
        except msgspec.MsgspecError as error:
            return encode_error(MalformedRequest(f"The request cannot be read: {error}."))
        except FairleadError as error:
            return encode_error(error)
        except Exception as error:
            logger.exception("an operation failed")
            return encode_error(FairleadError(f"The prediction log failed: {error!r}."))
        return b'{"ok":' + answer + b"}"


async def _repeat(name: str, work: Callable[[], object], seconds: float, stopping: asyncio.Event) -> None:
    """Does the work again and again, in a thread of its own; what it raises is logged."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix=name) as thread:
        while not stopping.is_set():
            try:
                await loop.run_in_executor(thread, work)
            except Exception:
                logger.exception("%s failed; trying again", name)
            try:
                await asyncio.wait_for(stopping.wait(), seconds)
            except TimeoutError:
                continue
