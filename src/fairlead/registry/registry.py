"""The registry: models and their immutable versions, and one door to all that is recorded about them.

Each noun has its own file (`aliases`, `stages`, `settings`, `declared`, `audit`) whose functions work within
a transaction that is given to them. Here transactions begin and end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from fairlead.contracts.contract import Contract
from fairlead.registry import aliases, audit, declared, listing, registration, settings, stages
from fairlead.registry.aliases import AliasMove
from fairlead.registry.audit import AuditEntry
from fairlead.registry.listing import Model
from fairlead.registry.lookup import require_model, require_version
from fairlead.registry.registration import NewVersion
from fairlead.registry.settings import SettingsRevision
from fairlead.registry.stages import HandStage, StageChange
from fairlead.registry.versions import ModelSettings, Version, VersionSpec, verify_name
from fairlead.routing.plan import Stage
from fairlead.stores import tables
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database

__all__ = ["Model", "NewVersion", "Registry"]


class Registry:
    """Reads and changes the registry. Every change is one transaction with its audit entry."""

    def __init__(
        self, database: Database, blobs: Blobs, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.database = database
        self.blobs = blobs
        self._clock = clock

    # --- models and versions --------------------------------------------------------------------------------

    def register(self, new: NewVersion) -> Version:
        """Adds a version, and its model if that is new.

        `VersionExists` when the name is taken, whatever the content; `BlobNotFound` when the artifact store
        lacks a file; `InvalidName`, `InvalidContract`, `InvalidModelFile`, `InvalidSetting` as they say. Then
        nothing was added.
        """
        spec = new.spec
        registration.verify(new)
        with self.database.read() as connection:
            registration.refuse_if_taken(connection, spec)
        registration.verify_blobs(self.blobs, spec.manifest)
        with self.database.write() as connection:
            registration.add(connection, new, at=self._clock())
        return self.version(spec.model, spec.version)

    def models(self) -> list[Model]:
        """All models by name."""
        with self.database.read() as connection:
            return listing.models(connection)

    def model(self, name: str) -> Model:
        """One model, or `ModelNotFound`."""
        with self.database.read() as connection:
            require_model(connection, name)
            return listing.models(connection, name)[0]

    def describe(self, model: str, description: str, who: str, why: str = "") -> None:
        """Says in a person's words what the model is for."""
        with self.database.write() as connection:
            require_model(connection, model)
            connection.execute(
                tables.models.update().where(tables.models.c.name == model).values(description=description)
            )
            audit.append(connection, at=self._clock(), who=who, action="describe", model=model, why=why)

    def versions(self, model: str) -> list[Version]:
        """The model's versions, oldest first."""
        with self.database.read() as connection:
            require_model(connection, model)
            return listing.versions(connection, model)

    def version(self, model: str, version: str) -> Version:
        """One version, its settings as they hold now; `ModelNotFound` or `VersionNotFound`."""
        with self.database.read() as connection:
            require_version(connection, model, version)
            return listing.versions(connection, model, version)[0]

    def spec(self, model: str, version: str) -> VersionSpec:
        """All that a gateway needs to serve the version, with the settings as they hold now."""
        return self.version(model, version).spec

    # --- aliases --------------------------------------------------------------------------------------------

    def resolve(self, model: str, reference: str) -> str:
        """The version that a version's name or an alias means, or `VersionNotFound`."""
        with self.database.read() as connection:
            return aliases.resolve(connection, model, reference)

    def set_alias(self, model: str, alias: str, version: str | None, who: str, why: str = "") -> None:
        """Points an alias at a version; None takes the alias away."""
        with self.database.write() as connection:
            aliases.move(connection, model, alias, version, at=self._clock(), who=who, why=why)

    def aliases(self, model: str) -> dict[str, str]:
        """Which version each alias means now."""
        with self.database.read() as connection:
            require_model(connection, model)
            return aliases.current(connection, model)

    def alias_history(self, model: str, alias: str | None = None) -> list[AliasMove]:
        """All moves of one alias, or of all, oldest first."""
        with self.database.read() as connection:
            require_model(connection, model)
            return aliases.history(connection, model, alias)

    # --- stages ---------------------------------------------------------------------------------------------

    def stage(self, model: str, version: str, stage: HandStage, who: str, why: str = "") -> None:
        """Sets `staging`, `archived` or `none` on a version that no plan names, else `InUse`."""
        with self.database.write() as connection:
            stages.set_by_hand(connection, model, version, stage, at=self._clock(), who=who, why=why)

    def archive(self, model: str, version: str, who: str, why: str = "") -> None:
        """Puts a version away; `InUse` while a plan names it."""
        self.stage(model, version, "archived", who=who, why=why)

    def record_stages(
        self,
        connection: sa.Connection,
        model: str,
        stages_of_plan: Mapping[str, Stage],
        generation: int,
        who: str,
        why: str = "",
        at: datetime | None = None,
    ) -> list[StageChange]:
        """Within the plan's own transaction: every version takes the stage that the plan gives it."""
        return stages.record(
            connection,
            model,
            stages_of_plan,
            generation=generation,
            at=at or self._clock(),
            who=who,
            why=why,
        )

    def stage_history(self, model: str, version: str | None = None) -> list[StageChange]:
        """All changes of stage, oldest first."""
        with self.database.read() as connection:
            return stages.history(connection, model, version)

    def in_production_at(self, model: str, at: datetime) -> str | None:
        """The version that served in production at that moment, or None."""
        with self.database.read() as connection:
            return stages.in_production_at(connection, model, at)

    # --- settings and contracts -----------------------------------------------------------------------------

    def configure(
        self, model: str, version: str | None, changes: Mapping[str, Any], who: str, why: str = ""
    ) -> ModelSettings:
        """Sets serving settings of a model, or of one version; None takes a value back."""
        with self.database.write() as connection:
            return settings.change(connection, model, version, changes, at=self._clock(), who=who, why=why)

    def settings_history(self, model: str, version: str | None = None) -> list[SettingsRevision]:
        """All revisions of the model's own settings, or of one version's, oldest first."""
        with self.database.read() as connection:
            return settings.history(connection, model, version)

    def declare_contract(self, model: str, contract: Contract, who: str, why: str = "") -> None:
        """Promises a contract for a model, which need have no version yet; later versions must fit it."""
        verify_name("model", model)
        contract.verify()
        with self.database.write() as connection:
            now = self._clock()
            registration.make_model(connection, model, at=now, who=who)
            declared.declare(connection, model, contract, at=now, who=who, why=why)

    def contract(self, model: str, version: str | None = None) -> Contract:
        """The contract of a version; else of the one in production, else the declared, else the newest's."""
        with self.database.read() as connection:
            return listing.contract(connection, model, version)

    # --- audit ----------------------------------------------------------------------------------------------

    def audit(self, model: str | None = None, limit: int = 100) -> list[AuditEntry]:
        """The newest changes, newest first; of one model, or of all."""
        with self.database.read() as connection:
            return audit.entries(connection, model, limit)

    def audit_entry(
        self,
        connection: sa.Connection,
        *,
        who: str,
        action: str,
        model: str | None = None,
        version: str | None = None,
        why: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Adds an entry to the caller's transaction."""
        audit.append(
            connection,
            at=self._clock(),
            who=who,
            action=action,
            model=model,
            version=version,
            why=why,
            details=details,
        )
