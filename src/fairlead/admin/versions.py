"""Versions: registering them, and what is known about each."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Body
from fastapi.responses import PlainTextResponse

from fairlead.admin.callers import Who, order
from fairlead.admin.problems import refusals
from fairlead.admin.schemas import Registered, Registration, SettingsChange, StageByHand
from fairlead.admin.wire import WIRE, StrictRoute
from fairlead.errors import (
    BlobNotFound,
    FairleadError,
    InUse,
    InvalidContract,
    InvalidModelFile,
    InvalidName,
    InvalidSetting,
    ModelNotFound,
    TrustRequired,
    UnknownSetting,
    VersionExists,
    VersionNotFound,
)
from fairlead.explanations.registered import VersionFeatures, version_features
from fairlead.registry import artifacts, registration
from fairlead.registry.card import model_card
from fairlead.registry.registry import NewVersion, Registry
from fairlead.registry.versions import ModelSettings, Version, VersionSpec
from fairlead.rollouts.traffic import Traffic
from fairlead.settings import Settings

__all__ = ["PROBES", "version_routes"]

PROBES = "probe-"
"""How names of folders in which a version is tried out begin."""

_PROBE_SECONDS = 60.0
_VERSION = refusals(ModelNotFound, VersionNotFound)


def version_routes(registry: Registry, traffic: Traffic, settings: Settings, folder: Path) -> APIRouter:
    """The routes of `/models/{model}/versions`; versions are tried out in `folder`."""
    routes = APIRouter(prefix="/models/{model}/versions", tags=["versions"], route_class=StrictRoute)

    @routes.post(
        "",
        status_code=201,
        summary="Register a version",
        responses=refusals(
            VersionExists,
            InvalidName,
            InvalidModelFile,
            InvalidContract,
            InvalidSetting,
            BlobNotFound,
            TrustRequired,
        ),
    )
    def register_version(
        model: str, body: Annotated[Registration, WIRE, Body()], who: Who
    ) -> Annotated[Registered, WIRE]:
        """Adds an immutable version, and its model if that is new.

        The model is loaded once, in a process of its own: what cannot be served is refused, and then nothing
        was added.
        """
        spec = VersionSpec(
            model=model,
            version=body.version,
            manifest=body.manifest,
            runtime=body.runtime,
            contract=body.contract,
            settings=body.settings,
            lineage=body.lineage,
            uncertainty=body.uncertainty,
        )
        new = NewVersion(
            spec=spec,
            framework=body.framework,
            created_by=who,
            metrics=body.metrics,
            tags=body.tags,
            proof=body.proof,
            scores=body.scores,
        )
        _refuse_untrusted(spec, settings, trusted=body.trust_pickle)
        registration.verify(new)
        with registry.database.read() as connection:
            registration.refuse_if_taken(connection, spec)
        registration.verify_blobs(registry.blobs, spec.manifest)
        if spec.runtime.kind == "onnx":
            new = msgspec.structs.replace(new, probe=_try_out(registry, spec, folder))
        version = registry.register(new)
        confirmation = None
        if body.set_production:
            try:
                confirmation = traffic.deploy(
                    model, version.version, order(who, body.why, None, None), strategy="direct"
                )
            except FairleadError as error:
                error.message = f"The version is registered, but got no traffic: {error.message}"
                raise
            version = registry.version(model, version.version)
        return Registered(version=version, confirmation=confirmation)

    @routes.get("", summary="A model's versions", responses=refusals(ModelNotFound))
    def list_versions(model: str) -> list[Annotated[Version, WIRE]]:
        """All versions, oldest first."""
        return registry.versions(model)

    @routes.get("/{version}", summary="One version", responses=_VERSION)
    def get_version(model: str, version: str) -> Annotated[Version, WIRE]:
        """A version, by its name or by an alias, with the settings that hold for it now."""
        return registry.version(model, registry.resolve(model, version))

    @routes.get(
        "/{version}/card", summary="The model card", response_class=PlainTextResponse, responses=_VERSION
    )
    def get_card(model: str, version: str) -> PlainTextResponse:
        """What is recorded about the version, as Markdown; what is missing is said to be missing."""
        name = registry.resolve(model, version)
        about = registry.model(model)
        version_ = registry.version(model, name)
        known = version_features(registry, version_.spec)
        importance = known.importance.features if known.importance is not None else {}
        card = model_card(
            version_,
            importance={feature: (one.share, one.error) for feature, one in importance.items()},
            leading=known.leading.scale or known.leading.reason or "",
            description=about.description,
            aliases=[alias for alias, held in about.aliases.items() if held == name],
            stages=registry.stage_history(model, name),
        )
        return PlainTextResponse(card, media_type="text/markdown; charset=utf-8")

    @routes.get("/{version}/features", summary="What a version goes by", responses=_VERSION)
    def get_features(model: str, version: str) -> Annotated[VersionFeatures, WIRE]:
        """The importance of its features on its training data, and what the leading features beside its
        answers are measured in. For its traffic, see the model's `importance`."""
        return version_features(registry, registry.spec(model, registry.resolve(model, version)))

    @routes.post(
        "/{version}/stage",
        summary="Set a stage by hand",
        responses=refusals(ModelNotFound, VersionNotFound, InUse),
    )
    def set_stage(
        model: str, version: str, body: Annotated[StageByHand, WIRE, Body()], who: Who
    ) -> Annotated[Version, WIRE]:
        """Puts the version in `staging` or `archived`, or takes it out again (`none`)."""
        registry.stage(model, version, body.stage, who=who, why=body.why)
        return registry.version(model, version)

    @routes.get("/{version}/settings", summary="A version's serving settings", responses=_VERSION)
    def get_version_settings(model: str, version: str) -> Annotated[ModelSettings, WIRE]:
        """What holds for the version: its own values, else its model's, else the defaults."""
        return registry.version(model, registry.resolve(model, version)).spec.settings

    @routes.put(
        "/{version}/settings",
        summary="Change a version's serving settings",
        responses=refusals(ModelNotFound, VersionNotFound, UnknownSetting, InvalidSetting),
    )
    def put_version_settings(
        model: str, version: str, body: Annotated[SettingsChange, WIRE, Body()], who: Who
    ) -> Annotated[ModelSettings, WIRE]:
        """Answers the settings that then hold."""
        return registry.configure(model, version, body.settings, who=who, why=body.why)

    return routes


def _refuse_untrusted(spec: VersionSpec, settings: Settings, *, trusted: bool) -> None:
    if spec.runtime.kind == "python" and not (trusted and settings.trust_pickle):
        missing = "the server's setting trust_pickle" if trusted else "trust_pickle in the request"
        raise TrustRequired(
            f"Version {spec.version!r} of {spec.model!r} is a pickle, which runs its author's code.",
            remedy=f"If you trust its author, set {missing}: both are needed.",
        )


def _try_out(registry: Registry, spec: VersionSpec, folder: Path) -> dict[str, Any]:
    """What loading and running the version took in a process of its own; raises what went wrong there."""
    from fairlead.runtimes.probe import probe

    place = Path(tempfile.mkdtemp(dir=folder, prefix=PROBES))
    try:
        files = artifacts.fetch(registry.blobs, spec.manifest, place / "files")
        return probe(files, spec.runtime, spec.contract, timeout=_PROBE_SECONDS)
    finally:
        shutil.rmtree(place, ignore_errors=True)
