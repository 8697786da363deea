"""`fairlead up`: starts the processes of one machine, replaces those that die, stops them in order.

It holds one SO_REUSEPORT socket per gateway slot for its whole life, and the model host's. A replacement
inherits its predecessor's, so connections that arrive while a worker is being replaced wait in the backlog
instead of being refused.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import msgspec

from fairlead.engine.paths import listening
from fairlead.errors import DataFolderInUse, FairleadError, PortInUse
from fairlead.gateway.names import gateway_name
from fairlead.process import RESOLVED
from fairlead.serving.folder import DataFolder
from fairlead.settings import Settings, load_settings
from fairlead.telemetry.logs import configure_logs

__all__ = ["Supervisor", "require_free_port", "run_up"]

logger = logging.getLogger(__name__)

_FIRST_DELAY = 0.1
_LONGEST_DELAY = 5.0
_LONGEST_DELAY_ONCE_SERVING = 0.25
"""A worker that came as far as serving is missed: it never waits long, whatever kills it."""
_STEADY_SECONDS = 1.0
"""A process that ran so long is replaced at once; after a second early death it waits, longer each time."""


class Child:
    """One supervised process: its command, and when it may be started again."""

    def __init__(self, name: str, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self.name = name
        self._start = start
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.start_at = 0.0
        self._early_deaths = 0
        self.restarts = -1

    def start(self) -> None:
        """Starts the process."""
        self.process = self._start()
        self.started_at = time.monotonic()
        self.restarts += 1

    def died(self, now: float, *, served: bool = False) -> None:
        """Decides when it may start again."""
        self._early_deaths = 0 if now - self.started_at > _STEADY_SECONDS else self._early_deaths + 1
        # The first early death may be an accident: it costs nobody a pause.
        doublings = self._early_deaths - 2
        longest = _LONGEST_DELAY_ONCE_SERVING if served else _LONGEST_DELAY
        delay = 0.0 if doublings < 0 else min(longest, _FIRST_DELAY * 2.0**doublings)
        self.process = None
        self.start_at = now + delay

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """The processes of one machine. `roles` chooses among gateway (with its model host), agent, control and
    ingest."""

    def __init__(
        self, settings: Settings, roles: tuple[str, ...] = ("gateway", "agent", "control", "ingest")
    ) -> None:
        self.settings = settings
        self.folder = DataFolder(settings.folder).make()
        self._locks = _locks(self.folder, roles)
        self._listeners: list[socket.socket] = []
        self._reserved: socket.socket | None = None
        self._host: socket.socket | None = None
        self.children: list[Child] = []
        if "gateway" in roles:
            self._reserved = _reserve(settings)
            self._listeners = _listen(settings)
            for slot, listener in enumerate(self._listeners):
                number = listener.fileno()
                self.children.append(
                    Child(
                        gateway_name(slot), self._starter("gateway", str(slot), str(number), inherit=number)
                    )
                )
            # It keeps the workers that gateways share; a gateway that asks early waits in its backlog.
            self._host = listening(self.folder.models_socket)
            number = self._host.fileno()
            self.children.append(Child("models", self._starter("models", str(number), inherit=number)))
        if "control" in roles:
            require_free_port(settings.admin_host, settings.admin_port, "admin_port")
        for role in ("agent", "control", "ingest"):
            if role in roles:
                self.children.append(Child(role, self._starter(role)))

    @property
    def port(self) -> int:
        """The port of the data plane, also when the settings left the choice to the system."""
        return int(self._listeners[0].getsockname()[1])

    def run(self, on_ready: Callable[[Supervisor], None] = lambda _: None) -> None:
        """Supervises until SIGTERM or SIGINT, then stops everything in order."""
        with _wakeups() as signals:
            for child in self.children:
                child.start()
            announced = False
            while not signals.stopping:
                self._replace_the_dead()
                if not announced and self.ready():
                    announced = True
                    on_ready(self)
                signals.wait(self._until_next_start() if announced else 0.05)
        self.stop()

    def ready(self) -> bool:
        """Whether every gateway has reported and control takes connections."""
        reports = {report.name: report.pid for report in self.folder.read_reports()}
        for child in self.children:
            if child.process is None:
                return False
            if child.name in ("models", "agent", "ingest"):
                continue
            if child.name == "control":
                if not _answers(self.settings.admin_host, self.settings.admin_port):
                    return False
            elif reports.get(child.name) != child.process.pid:
                return False
        return True

    def stop(self) -> None:
        """Gateways first, so that answers under way come and are logged; then what they lean on; ingest last,
        so that it reads the log's end."""
        gateways = {gateway_name(slot) for slot in range(len(self._listeners))}
        for wave in (
            [child for child in self.children if child.name in gateways or child.name == "control"],
            [child for child in self.children if child.name in ("models", "agent")],
            [child for child in self.children if child.name == "ingest"],
        ):
            _stop(wave, self.settings.drain_seconds + 5.0)
        for listener in (*self._listeners, self._host, self._reserved):
            if listener is not None:
                listener.close()
        self._locks.close()

    def _replace_the_dead(self) -> None:
        now = time.monotonic()
        for child in self.children:
            if child.process is not None and (status := child.process.poll()) is not None:
                reports = {report.name: report.pid for report in self.folder.read_reports()}
                child.died(now, served=reports.get(child.name) == child.process.pid)
                logger.warning("%s ended with %s; replacing it", child.name, _describe(status))
            if child.process is None and now >= child.start_at:
                child.start()

    def _until_next_start(self) -> float | None:
        waiting = [child.start_at for child in self.children if child.process is None]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else None

    def _starter(self, *arguments: str, inherit: int | None = None) -> Callable[[], subprocess.Popen[bytes]]:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD_")},
            RESOLVED: msgspec.json.encode(self.settings).decode(),
            # One core per process: models run on their gateway's thread, and pools would fight over cores.
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "fairlead.process", *arguments]
        passed = () if inherit is None else (inherit,)

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                pass_fds=passed,
                # Ctrl-C reaches the supervisor alone, which then stops its children in order.
                process_group=0,
            )

        return start


def run_up(settings: Settings, on_ready: Callable[[Supervisor], None]) -> None:
    """Everything on one machine, until a signal."""
    Supervisor(settings).run(on_ready)


def require_free_port(host: str, port: int, setting: str) -> None:
    """Raises `PortInUse` when somebody listens there. Port 0 is always free."""
    probe = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        # Without SO_REUSEPORT this fails also where another Fairlead shares the port among its workers.
        probe.bind((host, port))
    except OSError as error:
        raise _port_error(error, host, port, setting) from error
    finally:
        probe.close()


def _listen(settings: Settings) -> list[socket.socket]:
    require_free_port(settings.host, settings.port, "port")
    listeners: list[socket.socket] = []
    port = settings.port
    for _ in range(settings.gateway_workers):
        listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            listener.bind((settings.host, port))
        except OSError as error:
            raise _port_error(error, settings.host, port, "port") from error
        port = listener.getsockname()[1]
        listeners.append(listener)
    # Listening only now: until all are bound nobody may be sent to some of them.
    for listener in listeners:
        listener.listen(2048)
    return listeners


def _reserve(settings: Settings) -> socket.socket | None:
    """Holds the gRPC port for the gateways, which share it, so that nobody else takes it meanwhile.

    The socket does not listen, so that no call ever comes to it.
    """
    if not settings.grpc_port:
        return None
    require_free_port(settings.host, settings.grpc_port, "grpc_port")
    holder = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        holder.bind((settings.host, settings.grpc_port))
    except OSError as error:
        raise _port_error(error, settings.host, settings.grpc_port, "grpc_port") from error
    return holder


def _port_error(error: OSError, host: str, port: int, setting: str) -> FairleadError:
    if error.errno == errno.EADDRINUSE:
        return PortInUse(
            f"Another program listens on {host}:{port}.",
            remedy=f"Stop it, or choose another port with --{setting.replace('_', '-')}.",
            port=port,
        )
    return PortInUse(
        f"Cannot listen on {host}:{port}: {error.strerror}.",
        remedy=f"Choose another address or port (settings host and {setting}).",
        port=port,
    )


def _locks(folder: DataFolder, roles: tuple[str, ...]) -> contextlib.ExitStack:
    """The data folder's lock of each role, held until closed: two Fairleads must not do the same work there.

    Different roles may share a folder, as a gateway and its ingest do on a cluster.
    """
    held = contextlib.ExitStack()
    for role in roles:
        file = held.enter_context((folder.run / f"{role}.lock").open("wb"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            held.close()
            raise DataFolderInUse(
                f"Another Fairlead runs on {folder.root}.",
                remedy="Stop it, or choose another folder with --data.",
                role=role,
            ) from error
    return held


def _stop(children: list[Child], seconds: float) -> None:
    for child in children:
        if child.alive and child.process is not None:
            child.process.terminate()
    until = time.monotonic() + seconds
    for child in children:
        if child.process is None:
            continue
        try:
            child.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            logger.error("%s did not stop within %.0f s and is killed", child.name, seconds)
            child.process.kill()
            child.process.wait()


def _answers(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), 0.2):
        return True
    return False


def _describe(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"


class _Signals:
    """Waits for a signal without losing one that comes just before."""

    def __init__(self, reader: socket.socket) -> None:
        self._selector = selectors.DefaultSelector()
        self._selector.register(reader, selectors.EVENT_READ)
        self._reader = reader
        self.stopping = False

    def wait(self, seconds: float | None) -> None:
        for _ in self._selector.select(seconds):
            for number in self._reader.recv(64):
                if number in (signal.SIGTERM, signal.SIGINT):
                    self.stopping = True


@contextlib.contextmanager
def _wakeups() -> Iterator[_Signals]:
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    descriptor = signal.set_wakeup_fd(writer.fileno())
    try:
        yield _Signals(reader)
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)
        reader.close()
        writer.close()


def main() -> int:
    """`python -m fairlead.supervise`: gateways and their model host, with what these need and nothing else.

    Settings come from the file and the environment; 1 when they are wrong or a port is taken.
    """
    try:
        settings = load_settings()
        configure_logs("gateways", level=settings.log_level, form=settings.log_format)
        Supervisor(settings, roles=("gateway",)).run()
    except FairleadError as error:
        print(f"fairlead: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
