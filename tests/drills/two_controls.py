"""One machine's gateways, agent and ingest over PostgreSQL, and two control processes that may be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import sqlalchemy as sa

from fairlead.client.admin import Admin
from fairlead.errors import FairleadError, StoreUnavailable
from fairlead.process import RESOLVED
from fairlead.serving.folder import DataFolder
from fairlead.settings import Settings
from fairlead.stores.database import Database
from fairlead.stores.tables import gateways, rollouts
from tests.servers import free_port
from tests.waiting import wait_until

__all__ = ["Control", "Machine"]

SUPERVISE = """
import sys
import msgspec
from fairlead.settings import Settings
from fairlead.supervise import Supervisor
Supervisor(msgspec.json.decode(sys.argv[1], type=Settings), roles=("gateway", "agent", "ingest")).run()
"""


class Control:
    """A control process of its own port; `start` again after `kill` is its replacement."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self._settings = msgspec.structs.replace(settings, admin_port=free_port())
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.admin = Admin(f"http://127.0.0.1:{self._settings.admin_port}")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Starts it; `until_ready` waits until it answers."""
        environment = {name: text for name, text in os.environ.items() if not name.startswith("FAIRLEAD_")}
        environment[RESOLVED] = msgspec.json.encode(self._settings).decode()
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fairlead.process", "control"],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def until_ready(self) -> None:
        wait_until(self._answers, 60)

    def kill(self) -> None:
        """Ends it as a crash does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.admin.close()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self._log.read_text()
        try:
            self.admin.models()
        except FairleadError:
            return False
        return True


class Machine:
    """What serves, from the start of the `with` to its end, and its two controls."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = DataFolder(folder).make()
        self.port = free_port()
        self.settings = Settings(
            data=str(folder), database_url=database_url, port=self.port, grpc_port=0, workers=2,
            log_format="text", ingest_flush_seconds=0.5,
        )  # fmt: skip
        self.database = Database(database_url)
        self._log = folder.parent / "machine.log"
        self.controls = [Control(self.settings, folder.parent / f"control-{n}.log") for n in range(2)]

    def __enter__(self) -> Machine:
        self.database.migrate()
        text = msgspec.json.encode(self.settings).decode()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SUPERVISE, text], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        for control in self.controls:
            control.start()
        for control in self.controls:
            control.until_ready()
        wait_until(lambda: len(self.folder.read_reports()) == 2, 60)
        return self

    def __exit__(self, *_: object) -> None:
        for control in self.controls:
            control.stop()
        self._process.terminate()
        self._process.wait(60)
        self.database.close()

    def holder(self, rollout: str) -> Control | None:
        """The control that attends to the rollout, as far as its lease tells."""
        with self.database.read() as connection:
            name = connection.scalar(sa.select(rollouts.c.holder).where(rollouts.c.id == rollout))
        alive = [control for control in self.controls if control.process and control.process.poll() is None]
        return next((control for control in alive if str(name).endswith(f"-{control.pid}")), None)

    @contextlib.contextmanager
    def deaf(self) -> Iterator[Callable[[], None]]:
        """From here on no plan reaches the gateways, since their agent stands still: until what this answers
        is called, or the block ends. They are still taken to be alive, for however long that is."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        agent = next(
            int(pid) for pid in children if b"agent" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        )
        over = threading.Event()

        def keep_alive() -> None:
            while not over.wait(1.0):
                with contextlib.suppress(StoreUnavailable), self.database.write() as connection:
                    connection.execute(gateways.update().values(heartbeat_at=datetime.now(UTC)))

        beating = threading.Thread(target=keep_alive, daemon=True)
        while not self._stopped(agent):
            pass
        beating.start()
        try:
            yield lambda: os.kill(agent, signal.SIGCONT)
        finally:
            os.kill(agent, signal.SIGCONT)
            over.set()
            beating.join()

    def _stopped(self, agent: int) -> bool:
        """Stops the agent, but for where that is in the middle of a transaction: nobody could write then."""
        os.kill(agent, signal.SIGSTOP)
        try:
            with self.database.write():
                return True
        except StoreUnavailable:
            os.kill(agent, signal.SIGCONT)
            return False

    @contextlib.contextmanager
    def unwritable(self) -> Iterator[sa.Connection]:
        """Within the block whoever writes a rollout's journal waits, in the middle of its transaction."""
        engine = sa.create_engine(self.database.url)
        try:
            with engine.begin() as connection:
                connection.exec_driver_sql("LOCK TABLE rollout_events IN EXCLUSIVE MODE")
                yield connection
        finally:
            engine.dispose()
