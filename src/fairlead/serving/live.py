"""What a gateway holds in memory of one model: an immutable object per generation, swapped as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import quote

from fairlead.contracts.compile import CompiledContract
from fairlead.contracts.contract import Output
from fairlead.contracts.uncertainty import Uncertainty
from fairlead.engine.base import Engine
from fairlead.errors import NotReady, VersionNotFound
from fairlead.registry.versions import VersionSpec
from fairlead.routing.assign import slot_of
from fairlead.routing.plan import BESIDE, STAGE_OF_ROLE, Arm
from fairlead.routing.router import Router
from fairlead.routing.targeting import Columns
from fairlead.runtimes.binding import Binding, Prediction
from fairlead.runtimes.leading import Leader
from fairlead.runtimes.tables import TableBinding
from fairlead.serving.batching import Batcher, Bounds
from fairlead.serving.breaker import Breaker
from fairlead.serving.cache import cache_secret
from fairlead.serving.folder import ServingPlan
from fairlead.serving.ondemand import OnDemand
from fairlead.serving.residency import Rank
from fairlead.serving.stamps import Stamp
from fairlead.telemetry.counters import ArmKey, CounterRow

__all__ = ["CounterSource", "LiveArm", "LiveModel", "LoadedVersion"]


class CounterSource(Protocol):
    """Where the counters of an arm come from."""

    def row(self, key: ArmKey) -> CounterRow:
        """The arm's cells."""
        ...


class LoadedVersion:
    """A version that can answer. Its model is in memory and has answered a warm-up row, unless its engine
    loads it on demand."""

    __slots__ = (
        "_counters", "_uncounted", "batcher", "binding", "breaker", "digest", "engine", "holds", "leader",
        "runtime", "spec", "tables",
    )  # fmt: skip

    def __init__(self, spec: VersionSpec, engine: Engine, binding: Binding, runtime: str) -> None:
        self.spec = spec
        self.engine = engine
        self.binding = binding
        self.runtime = runtime
        self.digest = spec.manifest.digest
        self.holds = 0
        """How many requests are with the version that neither its batcher nor its engine knows of."""
        self.leader: Leader | None = None
        """What reads leading features off its rows, once somebody has asked for them."""
        self._counters: CounterRow | None = None
        self._uncounted: dict[str, int] = {}
        self.breaker = Breaker()
        self.tables = TableBinding(spec.contract, spec.runtime)
        settings = spec.settings
        target = settings.latency_target_ms
        bounds = Bounds(
            timeout=settings.timeout_ms / 1000,
            max_batch_rows=settings.max_batch_rows,
            max_rows=settings.max_queue_rows,
            max_bytes=settings.max_queue_bytes,
            latency_target=None if target is None else target / 1000,
            instances=settings.instances,
        )
        self.batcher = Batcher(engine, binding, bounds)

    @property
    def resident(self) -> bool:
        """Whether the model is in memory, here or in its worker."""
        return not isinstance(self.engine, OnDemand) or self.engine.resident

    @property
    def busy(self) -> bool:
        """Whether a request is with it."""
        return bool(self.holds or self.batcher.waiting)

    def counted_by(self, counters: CounterRow) -> None:
        """From now on these cells count what becomes of the version; also what happened before."""
        self._counters = counters
        # Rows of several arms may share a batch; one of them counts its runs, and metrics sum by version.
        self.batcher.ran = counters.ran
        for cell, amount in self._uncounted.items():
            counters.add(cell, amount)
        self._uncounted.clear()

    def count(self, cell: str, amount: int = 1) -> None:
        """Adds to a cell, as soon as there is one: a version is loaded before it has a part in traffic."""
        if self._counters is not None:
            self._counters.add(cell, amount)
        else:
            self._uncounted[cell] = self._uncounted.get(cell, 0) + amount


class LiveArm:
    """One arm ready to answer: its version, contract and counters, and what stands in each of its answers."""

    __slots__ = (
        "arm", "cache_seconds", "cache_secret", "classes", "compiled", "counters", "default", "fallback",
        "headers", "mirror_slots", "name", "role", "stage", "stale_seconds", "stamp", "training_data",
        "uncertainty", "variant", "version", "version_name",
    )  # fmt: skip

    def __init__(
        self,
        arm: Arm,
        version: LoadedVersion,
        compiled: CompiledContract,
        counters: CounterRow,
        *,
        generation: int,
        secret: bytes,
        alone: bool,
        experiment: str | None = None,
        gateway: str = "",
        uncertainty: Uncertainty | None = None,
    ) -> None:
        spec = version.spec
        self.arm = arm
        self.name = arm.name
        self.role = arm.role
        self.mirror_slots = arm.mirror_slots
        self.stage = STAGE_OF_ROLE[arm.role]
        # An arm that has all the traffic is no variant of anything.
        self.variant = None if alone else arm.name
        self.version = version
        version.counted_by(counters)
        self.version_name = arm.version
        self.compiled = compiled
        self.counters = counters
        self.cache_secret = cache_secret(secret, version.digest, compiled.id)
        self.cache_seconds = spec.settings.cache_seconds
        self.stale_seconds = spec.settings.stale_seconds
        self.fallback = spec.settings.fallback_version
        self.default = _default(spec.contract.output)
        self.training_data = spec.lineage.training_data
        self.uncertainty = uncertainty
        self.classes = spec.contract.output.classes
        self.headers = _headers(self, spec, generation)
        self.stamp = Stamp(
            source="shadow" if arm.role == "shadow" else "online",
            model=spec.model,
            arm=arm.name,
            role=arm.role,
            version=arm.version,
            generation=generation,
            contract_id=compiled.id,
            experiment=experiment,
            variant=self.variant,
            training_data=self.training_data,
            runtime=version.runtime,
            gateway=gateway,
            conformal_quantile=self.conformal_quantile,
        )

    @property
    def conformal_quantile(self) -> float | None:
        """What the uncertainty of its answers is told by; None where nothing is told."""
        return None if self.uncertainty is None else self.uncertainty.quantile


class LiveModel:
    """One model at one generation: who gets which arm, and how to read a request before that is known.

    While it is `plain` the unit's slot alone decides; else `choose` does, reading `headers` and `features`.
    `arms` are those that answer. `shadows` get copies of what was answered; one whose version could not be
    loaded is left out, and changes nothing for anybody.
    """

    __slots__ = (
        "_by_name", "_live", "_pinned", "_router", "arms", "experiment", "features", "generation", "headers",
        "kept", "name", "override", "pins", "plain", "reader", "salt", "serving", "shadows", "slots",
    )  # fmt: skip

    def __init__(
        self,
        serving: ServingPlan,
        loaded: Mapping[str, LoadedVersion],
        counters: CounterSource,
        secret: bytes,
        override: str | None = None,
        gateway: str = "",
    ) -> None:
        plan = serving.plan
        self.serving = serving
        self.name = plan.model
        self.generation = plan.generation
        self.salt = plan.salt
        self.experiment = plan.experiment
        self.override = override
        names = {name for spec in serving.versions.values() for name in spec.contract.names}
        also_known = frozenset(names)
        compiled: dict[str, CompiledContract] = {}

        def live(arm: Arm, alone: bool) -> LiveArm:
            version = loaded[arm.version]
            contract = version.spec.contract
            # Arms with equal contracts share one compiled object: the request is then decoded only once.
            ready = compiled.get(contract.id)
            if ready is None:
                ready = compiled[contract.id] = CompiledContract(contract, also_known)
            key = ArmKey(plan.model, arm.version, arm.name, arm.role)
            row = counters.row(key)
            return LiveArm(
                arm,
                version,
                ready,
                row,
                generation=plan.generation,
                secret=secret,
                alone=alone,
                experiment=plan.experiment,
                gateway=gateway,
                uncertainty=serving.versions[arm.version].uncertainty,
            )

        self._live = live
        self._pinned: dict[str, LiveArm] = {}
        router = Router(plan)
        if override is None:
            alone = sum(plan.slots.count(index) > 0 for index in range(len(plan.arms))) == 1
            answering = [index for index, arm in enumerate(plan.arms) if arm.role != "shadow"]
            self.arms = tuple(
                live(plan.arms[index], alone and plan.arms[index].role not in BESIDE) for index in answering
            )
            self.shadows = tuple(
                live(arm, alone) for arm in plan.arms if arm.role == "shadow" and arm.version in loaded
            )
            self.slots = plan.slots.translate(_places(answering))
        else:
            self.arms = (live(Arm(name="override", version=override, role="stable"), True),)
            self.shadows = ()
            self.slots = bytes(len(plan.slots))
        self._router = router
        self.plain = override is not None or router.plain
        self.headers = () if self.plain else router.headers
        self.features = frozenset() if self.plain else router.features
        self._by_name = {arm.name: arm for arm in self.arms}
        stages = plan.stages()
        for arm in self.arms:
            if arm.role in BESIDE:
                arm.stage = stages[arm.version_name]
        stable = next(arm for arm in self.arms if arm.role == "stable")
        self.reader = stable.compiled
        self.pins = {arm.version_name: arm for arm in reversed(self.arms)}
        # What only waits for a rollback may answer as a fallback, and for nobody by the plan.
        self.kept = {
            name: live(Arm(name="fallback", version=name, role="stable"), True)
            for name in loaded
            if name in serving.keep and name not in self.pins
        }
        for arm in self.kept.values():
            arm.stage = "none"

    def route(self, unit: str) -> LiveArm:
        """The arm that owns the unit's slot."""
        return self.arms[self.slots[slot_of(self.salt, unit)]]

    def choose(
        self, unit: str, pin: str | None, headers: Mapping[str, str] | None, features: Callable[[], Columns]
    ) -> LiveArm:
        """The arm of a request that is pinned, or of a model that is not plain; as `router.py` has it.

        Raises `VersionNotFound` for a pin to a version that is not loaded.
        """
        if pin is not None:
            return self._pin(pin)
        if self.plain:
            return self.route(unit)
        return self._by_name[self._router.assigned(unit, headers or {}, features).arm.name]

    def _pin(self, version: str) -> LiveArm:
        """The version under an arm of its own: what is pinned counts for nothing else."""
        found = self._pinned.get(version)
        if found is None:
            held = self.pinned(version)
            found = self._live(Arm(name="pin", version=version, role="pin"), False)
            found.stage = held.stage
            self._pinned[version] = found
        return found

    def stable_version(self) -> str:
        """The version that answers when nothing else was decided."""
        return next(arm.version_name for arm in self.arms if arm.role == "stable")

    def pinned(self, version: str) -> LiveArm:
        """The arm that holds that version, or would after a rollback; raises `VersionNotFound`."""
        arm = self.pins.get(version) or self.kept.get(version)
        if arm is None:
            raise VersionNotFound(
                f"Version {version!r} of {self.name!r} takes no traffic here.",
                remedy=f"Pin one of {', '.join(sorted({*self.pins, *self.kept}))}, or deploy it first.",
            )
        return arm

    def fallback_of(self, arm: LiveArm) -> LiveArm | None:
        """The arm that answers when the version of `arm` cannot; None when there is no other to ask."""
        if arm.fallback is None:
            return None
        wanted = self.stable_version() if arm.fallback == "stable" else arm.fallback
        if wanted == arm.version_name:
            return None
        return self.pins.get(wanted) or self.kept.get(wanted)

    def rank_of(self, version: LoadedVersion) -> Rank:
        """What the version is to this model's traffic."""
        found = Rank.UNNAMED
        for index, arm in enumerate(self.arms):
            if arm.version is version:
                if self.slots.count(index) or arm.role in BESIDE:
                    return Rank.WEIGHTED
                found = Rank.WEIGHTLESS
        if not found and any(arm.version is version for arm in self.shadows):
            return Rank.WEIGHTLESS
        if not found and any(arm.version is version for arm in self.kept.values()):
            return Rank.KEPT
        return found

    def require_healthy(self) -> None:
        """Raises `NotReady` when an arm's engine cannot answer. One that is cold, whether or not it can be
        loaded, keeps nobody from asking the others."""
        for arm in self.arms:
            if arm.version.resident and not arm.version.engine.healthy:
                raise NotReady(f"Version {arm.version_name!r} of {self.name!r} is being restarted.")


def _places(answering: list[int]) -> bytes:
    """A table that says where an arm of the plan stands among those that answer."""
    table = bytearray(256)
    for place, index in enumerate(answering):
        table[index] = place
    return bytes(table)


def _headers(arm: LiveArm, spec: VersionSpec, generation: int) -> bytes:
    """The response headers that every answer of this arm carries, ready to be sent."""
    code = spec.lineage.code_revision or ""
    provenance = (
        f'version="/v1/models/{spec.model}/versions/{spec.version}", digest="{arm.version.digest}", '
        f'code="{_visible(code)}"'
    )
    lines = [
        f"x-model-version: {spec.version}",
        f"x-variant: {arm.name}",
        f"x-plan-generation: {generation}",
        f"x-provenance: {provenance}",
    ]
    if arm.training_data:
        lines.append(f"x-training-data: {_visible(arm.training_data)}")
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def _default(output: Output) -> Prediction | None:
    """The contract's default as an answer."""
    if output.default is None:
        return None
    if output.kind == "ranking" and isinstance(output.default, tuple):
        return Prediction([{"id": key, "score": 0.0} for key in output.default])
    return Prediction(list(output.default) if isinstance(output.default, tuple) else output.default)


def _visible(text: str) -> str:
    """Text that is safe in a header: what is not plain ASCII is percent-encoded."""
    return quote(text, safe=" !#$&'()*+,-./:;<=>?@[]^_`{|}~")
