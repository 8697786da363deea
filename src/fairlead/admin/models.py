"""Models: what there is, aliases, stages, settings, contract."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Body, Query

from fairlead.admin.callers import Who
from fairlead.admin.moments import in_utc
from fairlead.admin.problems import refusals
from fairlead.admin.schemas import (
    AliasTarget,
    AliasView,
    ContractDeclaration,
    Description,
    ProductionAt,
    SettingsChange,
)
from fairlead.admin.wire import WIRE, StrictRoute
from fairlead.contracts.contract import Contract
from fairlead.errors import (
    AliasNotFound,
    InvalidContract,
    InvalidName,
    InvalidSetting,
    MissingExtra,
    ModelNotFound,
    UnknownSetting,
    VersionNotFound,
)
from fairlead.registry import settings as serving_settings
from fairlead.registry.audit import AuditEntry
from fairlead.registry.lookup import nearest, require_model
from fairlead.registry.registry import Model, Registry
from fairlead.registry.stages import StageChange
from fairlead.registry.versions import ModelSettings

__all__ = ["model_routes"]

_MODEL = refusals(ModelNotFound)


def model_routes(registry: Registry) -> APIRouter:
    """The routes of `/models` and `/audit`."""
    routes = APIRouter(tags=["models"], route_class=StrictRoute)

    @routes.get("/models", summary="All models")
    def list_models() -> list[Annotated[Model, WIRE]]:
        """All models by name."""
        return registry.models()

    @routes.get("/models/{model}", summary="One model", responses=_MODEL)
    def get_model(model: str) -> Annotated[Model, WIRE]:
        """A model with its versions, oldest first, its aliases, and the version in production."""
        return registry.model(model)

    @routes.put("/models/{model}/description", summary="Say what a model is for", responses=_MODEL)
    def describe_model(
        model: str, body: Annotated[Description, WIRE, Body()], who: Who
    ) -> Annotated[Model, WIRE]:
        """Stands on the model's cards from now on."""
        registry.describe(model, body.description, who=who, why=body.why)
        return registry.model(model)

    # --- aliases --------------------------------------------------------------------------------------------

    @routes.get(
        "/models/{model}/aliases/{alias}",
        summary="What an alias means",
        responses=refusals(ModelNotFound, AliasNotFound),
    )
    def get_alias(model: str, alias: str) -> Annotated[AliasView, WIRE]:
        """The version that the alias means now."""
        held = registry.aliases(model)
        if alias not in held:
            raise AliasNotFound(f"Model {model!r} has no alias {alias!r}.", remedy=nearest(alias, held))
        return AliasView(model=model, alias=alias, version=held[alias])

    @routes.put(
        "/models/{model}/aliases/{alias}",
        summary="Move an alias",
        responses=refusals(ModelNotFound, VersionNotFound, AliasNotFound, InvalidName),
    )
    def put_alias(
        model: str, alias: str, body: Annotated[AliasTarget, WIRE, Body()], who: Who
    ) -> Annotated[AliasView, WIRE]:
        """Points the alias at a version, or takes it away. Its moves are kept as history."""
        registry.set_alias(model, alias, body.version, who=who, why=body.why)
        return AliasView(model=model, alias=alias, version=body.version)

    # --- stages ---------------------------------------------------------------------------------------------

    @routes.get("/models/{model}/stages", summary="How versions came to their stages", responses=_MODEL)
    def list_stages(model: str) -> list[Annotated[StageChange, WIRE]]:
        """All changes of stage, oldest first."""
        return registry.stage_history(model)

    @routes.get("/models/{model}/production", summary="Who served at a moment", responses=_MODEL)
    def get_production(
        model: str,
        at: Annotated[
            datetime | None, Query(description="The moment, with its time zone; now when it is left out.")
        ] = None,
    ) -> Annotated[ProductionAt, WIRE]:
        """The version that was in production then."""
        moment = in_utc(at or datetime.now(UTC))
        return ProductionAt(model=model, at=moment, version=registry.in_production_at(model, moment))

    # --- settings and contract ------------------------------------------------------------------------------

    @routes.get("/models/{model}/settings", summary="A model's serving settings", responses=_MODEL)
    def get_settings(model: str) -> Annotated[ModelSettings, WIRE]:
        """What holds for versions that set nothing themselves."""
        with registry.database.read() as connection:
            require_model(connection, model)
            return serving_settings.effective(serving_settings.stated(connection, model), None)

    @routes.put(
        "/models/{model}/settings",
        summary="Change a model's serving settings",
        responses=refusals(ModelNotFound, UnknownSetting, InvalidSetting, MissingExtra),
    )
    def put_settings(
        model: str, body: Annotated[SettingsChange, WIRE, Body()], who: Who
    ) -> Annotated[ModelSettings, WIRE]:
        """Answers the settings that then hold."""
        return registry.configure(model, None, body.settings, who=who, why=body.why)

    @routes.get(
        "/models/{model}/contract",
        summary="A model's data contract",
        responses=refusals(ModelNotFound, VersionNotFound),
    )
    def get_contract(model: str) -> Annotated[Contract, WIRE]:
        """That of the version in production; else the declared one; else that of the newest version."""
        return registry.contract(model)

    @routes.put(
        "/models/{model}/contract",
        summary="Declare a model's data contract",
        responses=refusals(InvalidName, InvalidContract),
    )
    def put_contract(
        model: str, body: Annotated[ContractDeclaration, WIRE, Body()], who: Who
    ) -> Annotated[Contract, WIRE]:
        """Promises it to callers: versions registered from now on have to fit it. The model may be new."""
        registry.declare_contract(model, body.contract, who=who, why=body.why)
        return body.contract

    @routes.get("/audit", summary="Who changed what, when and why")
    def list_audit(
        model: Annotated[str | None, Query(description="Of this model alone.")] = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    ) -> list[Annotated[AuditEntry, WIRE]]:
        """The newest changes first."""
        return registry.audit(model, limit)

    return routes
