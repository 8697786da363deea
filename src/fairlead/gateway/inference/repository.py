"""The model repository extension: which versions lie on this machine, and warming one of them.

What is served is decided by plans alone. Load only makes sure that a version which lies here is warm; unload
never takes away what has weight or what a rollback would need.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fairlead.errors import InUse, MalformedRequest, MethodNotAllowed, NotSupported
from fairlead.registry.versions import VersionSpec
from fairlead.serving.dataplane import DataPlane
from fairlead.serving.folder import DataFolder, ModelPlans

__all__ = ["Repository"]

_PARAMETERS = {"version", "unload_dependents"}


class Repository:
    """The versions in the plans folder. `warm` loads one into this gateway and raises what loading raises."""

    def __init__(
        self,
        plane: DataPlane,
        folder: DataFolder,
        warm: Callable[[VersionSpec], Awaitable[None]],
        *,
        control: bool,
    ) -> None:
        self._plane = plane
        self._folder = folder
        self._warm = warm
        self.control = control

    def index(self, *, ready: bool = False) -> list[dict[str, str]]:
        """Every version that lies here with its state, or only those that are `ready`."""
        reports = {report.name: report for report in self._folder.read_reports()}
        report = reports.get(self._plane.gateway)
        found = []
        for name in self._folder.models():
            plans = self._folder.read_plans(name)
            state = None if report is None else report.models.get(name)
            loaded = set() if state is None else set(state.loaded)
            live = self._plane.models.get(name)
            if live is not None:
                loaded |= set(live.pins)
            for version in sorted(_specs(plans)):
                if version in loaded:
                    found.append({"name": name, "version": version, "state": "READY", "reason": ""})
                elif not ready:
                    reason = (state.error if state is not None else None) or "not loaded by this gateway"
                    found.append({"name": name, "version": version, "state": "UNAVAILABLE", "reason": reason})
        return found

    async def load(self, name: str, parameters: dict[str, Any]) -> None:
        """Warms the model's versions that lie here, or the one that the parameter `version` names.

        Raises `MethodNotAllowed` unless it is switched on, `MalformedRequest` for what does not lie here.
        """
        self._require_control()
        specs = _specs(self._folder.read_plans(name)) if _is_plain(name) else {}
        wanted = _wanted(parameters)
        chosen = [spec for version, spec in specs.items() if wanted in (None, version)]
        if not chosen:
            raise MalformedRequest(
                f"This gateway has no {'version ' + repr(wanted[:100]) + ' of' if wanted else 'model'} "
                f"{name[:100]!r}.",
                remedy="Register the version and deploy it; the agent then brings it here.",
            )
        for spec in chosen:
            await self._warm(spec)

    def unload(self, name: str, parameters: dict[str, Any]) -> None:
        """Refuses to take away what is in use; what is not in use was unloaded already.

        Raises `MethodNotAllowed` unless it is switched on, `InUse`, `MalformedRequest`.
        """
        self._require_control()
        plans = self._folder.read_plans(name) if _is_plain(name) else None
        wanted = _wanted(parameters)
        if plans is None or (wanted is not None and wanted not in _specs(plans)):
            raise MalformedRequest(
                f"This gateway has nothing of {name[:100]!r} to unload.",
                remedy="See the repository index; what no plan names is unloaded by itself.",
            )
        kept = set() if plans.active is None else set(plans.active.keep)
        role = "is a rollback target" if wanted in kept else "has a part in the model's traffic"
        raise InUse(
            f"{'Version ' + repr(wanted) if wanted else 'A version'} of {name!r} {role}.",
            remedy="Move the traffic first; what no plan names is unloaded by itself.",
        )

    def _require_control(self) -> None:
        if not self.control:
            raise MethodNotAllowed(
                "Loading and unloading by request is switched off.",
                remedy="Set repository_control = true in the server's settings.",
            )


def _specs(plans: ModelPlans | None) -> dict[str, VersionSpec]:
    if plans is None:
        return {}
    parts = [part for part in (plans.prepare, plans.active) if part is not None]
    return {name: spec for part in parts for name, spec in part.versions.items()}


def _wanted(parameters: dict[str, Any]) -> str | None:
    for name in parameters:
        if name not in _PARAMETERS:
            raise NotSupported(
                f"Parameter {name[:100]!r} of a load or unload is not supported.",
                remedy="Register models with `fairlead register`; a load warms what was registered.",
            )
    wanted = parameters.get("version")
    if wanted is not None and not isinstance(wanted, str):
        raise MalformedRequest("Parameter 'version' is no text.")
    return wanted


def _is_plain(name: str) -> bool:
    """Whether the name could be a model's: it becomes part of a file's name."""
    return "/" not in name and not name.startswith(".")
