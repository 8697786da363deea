"""The plans folder: how the agent tells the gateways of this machine what to serve, and how they report.

Plain JSON files, each written whole by a rename, so that a reader never sees half of one. Gateways need no
database, no network and no running agent to read them: what lies there is what they serve.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import tempfile
import time
from pathlib import Path
from typing import TypeVar

import msgspec

from fairlead.registry.versions import VersionSpec
from fairlead.routing.plan import Plan
from fairlead.stores.files import write_whole

__all__ = [
    "DataFolder",
    "FolderWatch",
    "GatewayReport",
    "ModelPlans",
    "ModelReport",
    "Override",
    "ServingPlan",
]

_T = TypeVar("_T")


class ServingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A plan with all that is needed to serve it.

    `versions` holds the arms' versions and those in `keep`: earlier production versions that stay loaded so
    that a rollback need not wait.
    """

    plan: Plan
    versions: dict[str, VersionSpec]
    keep: tuple[str, ...] = ()


class ModelPlans(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `plans/<model>.json`: what to serve, and what to load for the next generation."""

    model: str
    active: ServingPlan | None = None
    prepare: ServingPlan | None = None


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """A local rollback by a person on this machine: all traffic to `version` until a newer generation.

    `signature` is HMAC-SHA-256 under the deployment secret over the other fields; an override that does not
    verify is ignored and reported.
    """

    model: str
    version: str
    base_generation: int
    at: float
    who: str
    why: str
    signature: str = ""

    def signed(self, secret: bytes) -> Override:
        """This override with its signature."""
        return msgspec.structs.replace(self, signature=self._mac(secret))

    def verifies(self, secret: bytes) -> bool:
        """Whether the signature is right."""
        return hmac.compare_digest(self.signature, self._mac(secret))

    def _mac(self, secret: bytes) -> str:
        unsigned = msgspec.structs.replace(self, signature="")
        return hmac.new(secret, msgspec.json.encode(unsigned, order="sorted"), hashlib.sha256).hexdigest()


class ModelReport(msgspec.Struct, frozen=True, kw_only=True):
    """How far one gateway is with one model. `loaded` maps each loaded version to its bytes of memory.
    `cold` are those that it loads when they are asked. `failed_generation` with `error` is what it could not
    prepare."""

    prepared: int = 0
    active: int = 0
    override: str | None = None
    loaded: dict[str, int] = {}
    cold: tuple[str, ...] = ()
    failed_generation: int = 0
    error: str | None = None


class GatewayReport(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `run/gateways/<name>.json`, rewritten on every change and once a second."""

    name: str
    host: str
    pid: int
    slot: int
    address: str
    started_at: float
    at: float
    draining: bool = False
    models: dict[str, ModelReport] = {}


class DataFolder:
    """The paths of a data folder and the small files that processes exchange through it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.plans = root / "plans"
        self.overrides = root / "plans" / "overrides"
        self.versions = root / "versions"
        self.run = root / "run"
        self.reports = root / "run" / "gateways"
        self.counters = root / "run" / "counters"
        self.firing = root / "run" / "alerts.json"
        self.measured = root / "run" / "measured"
        self.models_socket = root / "run" / "models.sock"
        self.log = root / "log"
        self.predictions = root / "predictions"
        self.bins = root / "bins"
        self.ingest_socket = root / "run" / "ingest.sock"
        self.explaining_socket = root / "run" / "explain.sock"

    def make(self) -> DataFolder:
        """Makes the folders that do not exist; returns itself."""
        for folder in (self.overrides, self.versions, self.reports, self.counters, self.log):
            folder.mkdir(parents=True, exist_ok=True)
        return self

    def place(self) -> str:
        """The name that tells this folder's counters from those of others, made on first use."""
        # Beside the counters: who deletes the one deletes the other, and both begin anew.
        path = self.run / "place"
        if not path.exists():
            self.run.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self.run, prefix=".place-") as made:
                made.write(secrets.token_hex(8))
                made.flush()
                with contextlib.suppress(FileExistsError):  # whoever is first has named it
                    os.link(made.name, path)
        return path.read_text("utf-8")

    def secret(self) -> bytes:
        """The deployment secret: 32 bytes, made on first use, readable by its owner only."""
        path = self.root / "secret"
        try:
            return path.read_bytes()
        except FileNotFoundError:
            self.root.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=self.root, prefix=".secret-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
        try:
            os.link(temporary, path)  # fails when another process was first: its secret counts
        except FileExistsError:
            pass
        finally:
            os.unlink(temporary)
        return path.read_bytes()

    def read_plans(self, model: str) -> ModelPlans | None:
        """What to serve of that model; None when there is no file."""
        return _read(self.plans / f"{model}.json", ModelPlans)

    def write_plans(self, plans: ModelPlans) -> None:
        """Replaces the model's file."""
        write_whole(self.plans / f"{plans.model}.json", msgspec.json.encode(plans))

    def models(self) -> list[str]:
        """The names of the models that have a file."""
        return sorted(path.stem for path in self.plans.glob("*.json"))

    def stamps(self) -> dict[str, tuple[int, ...]]:
        """For each model that has a file, numbers that change when it or the model's override is replaced.

        The kernel's clock for modification times ticks only every few milliseconds: what is younger than that
        has other numbers each time.
        """
        found = _stamps(self.plans)
        overrides = _stamps(self.overrides)
        return {name: (*found[name], *overrides.get(name, ())) for name in sorted(found)}

    def read_override(self, model: str) -> Override | None:
        """The local override of that model, verified or not."""
        return _read(self.overrides / f"{model}.json", Override)

    def write_override(self, override: Override) -> None:
        """Puts a signed override where the gateways find it."""
        write_whole(self.overrides / f"{override.model}.json", msgspec.json.encode(override))

    def remove_override(self, model: str) -> None:
        """Takes the override away, if there is one."""
        (self.overrides / f"{model}.json").unlink(missing_ok=True)

    def write_report(self, report: GatewayReport) -> None:
        """Replaces the gateway's report."""
        write_whole(self.reports / f"{report.name}.json", msgspec.json.encode(report))

    def read_reports(self) -> list[GatewayReport]:
        """The reports of all gateways of this machine, also of dead ones: look at `at`.

        A damaged one is left out: its gateway replaces it within a second.
        """
        found = []
        for path in sorted(self.reports.glob("*.json")):
            with contextlib.suppress(msgspec.MsgspecError):
                found.append(_read(path, GatewayReport))
        return [report for report in found if report is not None]

    def remove_report(self, name: str) -> None:
        """Takes a gateway's report away when it has stopped for good."""
        (self.reports / f"{name}.json").unlink(missing_ok=True)


_SETTLED_NS = 50_000_000
"""A file that is older has the modification time that its last replacement gave it, and no other."""


class FolderWatch:
    """Tells cheaply whether files in some folders were replaced since the last time it was asked."""

    def __init__(self, *folders: Path) -> None:
        self._folders = folders
        self._seen: tuple[int, ...] = ()
        self._settled = False

    def changed(self) -> bool:
        """Whether anything may have changed. True once more shortly after a change: the kernel's clock for
        modification times ticks only every few milliseconds, and two changes may share a tick."""
        now = time.time_ns()
        stamps = tuple(_modified(folder) for folder in self._folders)
        if stamps != self._seen:
            self._seen = stamps
            self._settled = False
            return True
        if not self._settled and now - max(stamps, default=0) > _SETTLED_NS:
            self._settled = True
            return True
        return False


def _read(path: Path, kind: type[_T]) -> _T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None


def _stamps(folder: Path) -> dict[str, tuple[int, ...]]:
    now = time.time_ns()
    found: dict[str, tuple[int, ...]] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name.removesuffix(".json")
                if name != entry.name and not name.startswith("."):
                    about = entry.stat()
                    young = now if now - about.st_mtime_ns < _SETTLED_NS else 0
                    found[name] = (about.st_ino, about.st_mtime_ns, about.st_size, young)
    except FileNotFoundError:
        return {}
    return found


def _modified(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
