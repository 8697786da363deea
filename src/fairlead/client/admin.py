"""The Python client of the admin API: registry, traffic, log and history."""

from __future__ import annotations

import getpass
import socket
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from fairlead.client.alerts import AlertCalls
from fairlead.client.cost import CostCalls
from fairlead.client.drift import DriftCalls
from fairlead.client.experiments import ExperimentCalls
from fairlead.client.explanations import ExplanationCalls
from fairlead.client.freezes import FreezeCalls
from fairlead.client.gates import GateCalls
from fairlead.client.paths import json_body, path_of
from fairlead.client.performance import PerformanceCalls
from fairlead.client.profiles import ProfileCalls
from fairlead.client.registered import (
    AuditEntry,
    Confirmation,
    Gateway,
    LogRows,
    Model,
    OutcomeSummary,
    Registered,
    ShadowReport,
    StageChange,
    Status,
    Version,
    Window,
)
from fairlead.client.replays import ReplayCalls
from fairlead.client.retraining import RetrainingCalls
from fairlead.client.rollouts import RolloutCalls
from fairlead.client.session import Call, reading
from fairlead.client.syncs import SyncCalls
from fairlead.client.targeting import TargetingCalls
from fairlead.client.uploading import upload
from fairlead.contracts.contract import Contract
from fairlead.errors import MalformedRequest

if TYPE_CHECKING:
    from fairlead.runtimes.base import RuntimeSpec

__all__ = ["Admin"]

T = TypeVar("T")

Strategy = Literal["canary", "blue-green", "direct"]
HandStage = Literal["staging", "archived", "none"]


class Admin(
    RolloutCalls,
    ExperimentCalls,
    ExplanationCalls,
    CostCalls,
    GateCalls,
    FreezeCalls,
    ReplayCalls,
    RetrainingCalls,
    SyncCalls,
    TargetingCalls,
    AlertCalls,
    DriftCalls,
    ProfileCalls,
    PerformanceCalls,
):
    """Registers versions, leads traffic and looks back. Safe to share between threads; close it, or use it
    in a `with` block.

        admin = Admin("http://localhost:8080")
        admin.deploy("product-recommendations", "v2.3.1", weight=5)

    The address is `url`, else `FAIRLEAD_ADMIN_URL`, else http://localhost:8080; the key `api_key`, else
    `FAIRLEAD_API_KEY`. `user` stands in the audit log; else it is this process's user and machine. `timeout`
    is longer than a command may take to be confirmed. What the server refuses is raised as the class of
    `fairlead.errors` that says why.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        user: str | None = None,
        timeout: float = 120.0,
    ) -> None:
        super().__init__(
            url,
            api_key=api_key,
            timeout=timeout,
            variable="FAIRLEAD_ADMIN_URL",
            default="http://localhost:8080",
            headers={"x-fairlead-user": (user or _this_user()).encode()},
        )

    def __enter__(self) -> Admin:
        return self

    # --- models and versions --------------------------------------------------------------------------------

    def models(self) -> tuple[Model, ...]:
        """All models by name."""
        return self._get(path_of("models"), tuple[Model, ...])

    def model(self, model: str) -> Model:
        """One model."""
        return self._get(path_of("models", model), Model)

    def versions(self, model: str) -> tuple[Version, ...]:
        """The model's versions, oldest first."""
        return self._get(path_of("models", model, "versions"), tuple[Version, ...])

    def version(self, model: str, version: str) -> Version:
        """One version, by its name or an alias."""
        return self._get(path_of("models", model, "versions", version), Version)

    def card(self, model: str, version: str) -> str:
        """The version's model card, as Markdown."""
        path = path_of("models", model, "versions", version, "card")
        return self.send(Call(method="GET", path=path, read=bytes.decode))

    def describe(self, model: str, description: str, *, why: str = "") -> Model:
        """Says in a person's words what the model is for."""
        body = {"description": description, "why": why}
        return self._put(path_of("models", model, "description"), body, Model)

    def register_files(
        self,
        model: str,
        version: str,
        files: Mapping[str, Path],
        *,
        runtime: RuntimeSpec,
        contract: Contract,
        framework: str,
        advance: Callable[[int, int], None] = lambda done, total: None,
        **more: Any,
    ) -> Registered:
        """Uploads the files that the server does not have yet, then registers the version that they make.

        `files` are paths on this machine by their path within the version. `more` are further fields of a
        registration: metrics, tags, lineage, settings, proof, trust_pickle, set_production, why.
        `advance` hears how many bytes of how many are there.
        """
        manifest = upload(self, files, advance)
        body = {
            "version": version,
            "manifest": manifest,
            "runtime": runtime,
            "contract": contract,
            "framework": framework,
            **more,
        }
        return self._post(path_of("models", model, "versions"), body, Registered)

    # --- aliases, stages, settings, contracts ---------------------------------------------------------------

    def alias(self, model: str, alias: str, version: str | None, *, why: str = "") -> None:
        """Points the alias at a version; None takes the alias away."""
        self._put(path_of("models", model, "aliases", alias), {"version": version, "why": why}, Any)

    def resolve_alias(self, model: str, alias: str) -> str:
        """The version that the alias means."""
        return self._get(path_of("models", model, "aliases", alias), _Held).version or ""

    def stage(self, model: str, version: str, stage: HandStage, *, why: str = "") -> Version:
        """Puts a version without traffic in `staging` or `archived`, or takes it out again (`none`)."""
        body = {"stage": stage, "why": why}
        return self._post(path_of("models", model, "versions", version, "stage"), body, Version)

    def archive(self, model: str, version: str, *, why: str = "") -> Version:
        """Puts a version away that takes no traffic."""
        return self.stage(model, version, "archived", why=why)

    def stages(self, model: str) -> tuple[StageChange, ...]:
        """How the model's versions came to their stages, oldest change first."""
        return self._get(path_of("models", model, "stages"), tuple[StageChange, ...])

    def production_at(self, model: str, at: datetime | None = None) -> str | None:
        """The version that was in production at that moment, or is now; None when none was."""
        query = {} if at is None else {"at": _with_zone(at).isoformat()}
        return self._get(path_of("models", model, "production"), _Held, query).version

    def settings(self, model: str, version: str | None = None) -> dict[str, Any]:
        """The serving settings that hold for a model, or for one version."""
        return self._get(_settings_path(model, version), dict[str, Any])

    def configure(
        self, model: str, version: str | None, changes: Mapping[str, Any], *, why: str = ""
    ) -> dict[str, Any]:
        """Sets serving settings of a model or of one version; answers what holds. None takes a value back."""
        body = {"settings": dict(changes), "why": why}
        return self._put(_settings_path(model, version), body, dict[str, Any])

    def contract(self, model: str, version: str | None = None) -> Contract:
        """The contract of a version; else of the one in production, else the declared, else the newest's."""
        if version is not None:
            return msgspec.convert(self.version(model, version).spec["contract"], Contract)
        return self._get(path_of("models", model, "contract"), Contract)

    def declare_contract(self, model: str, contract: Contract, *, why: str = "") -> Contract:
        """Promises a contract for the model, which need have no version yet; later versions must fit it."""
        body = {"contract": contract, "why": why}
        return self._put(path_of("models", model, "contract"), body, Contract)

    # --- traffic --------------------------------------------------------------------------------------------

    def deploy(
        self,
        model: str,
        version: str,
        *,
        strategy: Strategy = "canary",
        weight: float = 5.0,
        supersede: bool = False,
        override: str = "",
        why: str = "",
        expected: int | None = None,
    ) -> Confirmation:
        """Gives a version traffic: as a canary at `weight` percent, or everything at once.

        Every command answers when all live gateways serve the change, or names those that do not. `expected`
        is the generation that it was decided on; the command is refused when the model serves another.
        `override` is the reason for going past a gate that failed or a freeze window.
        """
        body = {
            "version": version,
            "strategy": strategy,
            "weight": weight,
            "supersede": supersede,
            "override": override,
            "why": why,
        }
        return self._command("POST", model, "deploy", body, expected)

    def traffic(
        self,
        model: str,
        weights: Mapping[str, float],
        *,
        override: str = "",
        why: str = "",
        expected: int | None = None,
    ) -> Confirmation:
        """Splits the traffic by the given percent per version, which add up to 100."""
        named = {version: float(weight) for version, weight in weights.items()}
        body = {"weights": named, "override": override, "why": why}
        return self._command("PUT", model, "traffic", body, expected)

    def promote(
        self, model: str, *, override: str = "", why: str = "", expected: int | None = None
    ) -> Confirmation:
        """Gives the canary all traffic."""
        return self._command("POST", model, "promote", {"override": override, "why": why}, expected)

    def rollback(
        self, model: str, *, to: str | None = None, why: str = "", expected: int | None = None
    ) -> Confirmation:
        """Takes the traffic back: a split ends in favour of the version in production, else the production
        version before gets it, or `to`."""
        return self._command("POST", model, "rollback", {"to": to, "why": why}, expected)

    def _command(self, method: str, model: str, verb: str, body: Any, expected: int | None) -> Confirmation:
        # Under one key the server carries a command out once, however often it is sent.
        headers = {"idempotency-key": uuid.uuid4().hex}
        if expected is not None:
            headers["if-match"] = f'"{expected}"'
        path = path_of("models", model, verb)
        return self.send(
            Call(method=method, path=path, body=json_body(body), headers=headers, read=reading(Confirmation))
        )

    # --- looking --------------------------------------------------------------------------------------------

    def status(self) -> Status:
        """Everything at a glance: models, traffic, how versions are doing, gateways."""
        return self._get(path_of("status"), Status)

    def gateways(self) -> tuple[Gateway, ...]:
        """The gateway workers, with the generation of each model that each serves."""
        return self._get(path_of("gateways"), tuple[Gateway, ...])

    def audit(self, model: str | None = None, *, limit: int = 100) -> tuple[AuditEntry, ...]:
        """The newest changes first; of one model, or of all."""
        query = {"limit": str(limit), **({} if model is None else {"model": model})}
        return self._get(path_of("audit"), tuple[AuditEntry, ...], query)

    def metrics(self, model: str, version: str, *, window: str = "24h") -> Window:
        """How the version has answered within the window (as in 15m, 24h, 7d)."""
        path = path_of("models", model, "versions", version, "metrics")
        return self._get(path, Window, {"window": window})

    def windows(
        self, model: str, since: datetime | None = None, until: datetime | None = None, *, step: int = 60
    ) -> tuple[Window, ...]:
        """How the model's versions did, per `step` seconds, version and arm; in the last hour by default."""
        query = {"step": str(step), **_period(since, until)}
        return self._get(path_of("models", model, "windows"), tuple[Window, ...], query)

    def outcomes(
        self, model: str, since: datetime | None = None, until: datetime | None = None
    ) -> tuple[OutcomeSummary, ...]:
        """What became of the predictions made in the period, per version and arm; of the last week by
        default."""
        path = path_of("models", model, "outcomes", "summary")
        return self._get(path, tuple[OutcomeSummary, ...], _period(since, until))

    def shadow(
        self,
        model: str,
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        version: str | None = None,
    ) -> ShadowReport:
        """What a shadow would have answered beside what was answered; the latest shadow's, and of the last 24
        hours, by default."""
        query = {**({} if version is None else {"version": version}), **_period(since, until)}
        return self._get(path_of("models", model, "shadow"), ShadowReport, query)

    # --- the prediction log ---------------------------------------------------------------------------------

    def sql(self, query: str, *, limit: int = 1_000) -> LogRows:
        """The answer to one SELECT over the tables `predictions` and `outcomes`."""
        return self._post(path_of("predictions", "sql"), {"sql": query, "limit": limit}, LogRows)

    def record(self, request_id: str) -> tuple[dict[str, Any], ...]:
        """The records of one request, a row each, with the outcomes that were reported about it."""
        return self._get(path_of("predictions", request_id), tuple[dict[str, Any], ...])

    # --- sending --------------------------------------------------------------------------------------------

    def _get(self, path: str, kind: type[T], query: Mapping[str, str] | None = None) -> T:
        return self.send(Call(method="GET", path=path, query=query or {}, read=reading(kind)))

    def _put(self, path: str, body: Any, kind: type[T]) -> T:
        return self.send(Call(method="PUT", path=path, body=json_body(body), read=reading(kind)))

    def _post(self, path: str, body: Any, kind: type[T]) -> T:
        return self.send(Call(method="POST", path=path, body=json_body(body), read=reading(kind)))


class _Held(msgspec.Struct, frozen=True):
    version: str | None


def _settings_path(model: str, version: str | None) -> str:
    if version is None:
        return path_of("models", model, "settings")
    return path_of("models", model, "versions", version, "settings")


def _with_zone(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise MalformedRequest(
            f"{at} has no time zone.", remedy="Give one, as in datetime(…, tzinfo=timezone.utc)."
        )
    return at


def _period(since: datetime | None, until: datetime | None) -> dict[str, str]:
    given = {"since": since, "until": until}
    return {name: _with_zone(at).isoformat() for name, at in given.items() if at is not None}


def _this_user() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"
