"""From a model's present plan and a command to its next plan. Pure: no I/O, no clock, no randomness.

A move changes who gets what and nothing else; the next plan has the next generation and the same salt. Every
move shifts as few slots as its outcome allows, and all of them refuse with `InvalidPlan` what makes no plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from fairlead.errors import InvalidPlan, NothingToRollBack, RolloutInProgress
from fairlead.routing.assign import rebalance, slot_order, targets
from fairlead.routing.plan import BESIDE, HOLDOUT, SLOTS, Arm, Holdout, Layer, Plan
from fairlead.routing.targeting import Rule

__all__ = [
    "back",
    "blue_green",
    "deploy",
    "direct",
    "gaining",
    "hold_out",
    "is_split",
    "promote",
    "rollback",
    "set_weights",
    "shadow",
    "start",
    "target",
]

STABLE, CONTROL, CANARY, SHADOW = "stable", "control", "canary", "shadow"


def start(model: str, version: str, salt: str, rollout: str) -> Plan:
    """A model's first plan: one stable arm with all units."""
    return Plan(
        model=model,
        generation=1,
        salt=salt,
        arms=(Arm(name=STABLE, version=version, role="stable"),),
        slots=bytes(SLOTS),
        rollout=rollout,
    ).verify()


def deploy(
    plan: Plan,
    version: str,
    weight: float,
    rollout: str,
    *,
    layer: Layer | None = None,
    supersede: bool = False,
) -> Plan:
    """The version as a canary for `weight` percent of the units, beside a control arm of the same size.

    With a `layer` these are percents of the units in its part; the others have the stable version.

    The control arm holds the stable version, so that two equal samples are compared; above 50 % it gets what
    is left. Called again for the same canary it changes the weight: canary and control grow together out of
    the rest. Another rollout under way is `RolloutInProgress`, unless `supersede` sends its units back to
    stable first: a canary does not inherit the units of the one before.
    """
    if not 0 < weight <= 100:  # false for NaN, too
        raise InvalidPlan(
            f"A canary cannot have a weight of {weight:g} %.",
            remedy="Give a weight above 0 and up to 100 percent.",
        )
    stable = plan.stable()
    if version == stable:
        raise InvalidPlan(
            f"Version {version!r} of {plan.model!r} is in production already.",
            remedy="Deploy another version.",
            version=version,
        )
    base = plan
    if not _is_canary_of(plan, version):
        _refuse_second_rollout(plan, version, supersede)
        base = msgspec.structs.replace(direct(plan, stable), rollout=rollout)
    canary = max(1, round(weight * SLOTS / 100))
    control = min(canary, SLOTS - canary)
    arms = (
        Arm(name=STABLE, version=stable, role="stable"),
        Arm(name=CONTROL, version=stable, role="control"),
        Arm(name=CANARY, version=version, role="canary"),
    )
    counts = {STABLE: SLOTS - canary - control, CONTROL: control, CANARY: canary}
    base = msgspec.structs.replace(base, layer=layer)
    return _moved(base, _owners(base), arms, counts, generation=plan.generation + 1)


def shadow(plan: Plan, version: str, mirror: float, rollout: str, *, supersede: bool = False) -> Plan:
    """The version as a shadow: it gets copies of `mirror` percent of the requests and answers nobody.

    Called again for the same version it changes the percent. Another shadow, or a split of the traffic, is
    `RolloutInProgress`, unless `supersede` ends it first.
    """
    if not 0 < mirror <= 100:  # false for NaN, too
        raise InvalidPlan(
            f"A shadow cannot have copies of {mirror:g} % of the requests.",
            remedy="Mirror more than 0 and up to 100 percent.",
        )
    stable = plan.stable()
    if version == stable:
        raise InvalidPlan(
            f"Version {version!r} of {plan.model!r} is in production already.",
            remedy="Shadow with another version.",
            version=version,
        )
    wanted = Arm(name=SHADOW, version=version, role="shadow", mirror=mirror)
    held = next((arm for arm in plan.arms if arm.role == "shadow"), None)
    if held is not None and held.version == version:
        arms = tuple(wanted if arm is held else arm for arm in plan.arms)
        return msgspec.structs.replace(plan, generation=plan.generation + 1, arms=arms).completed()
    _refuse_second_rollout(plan, version, supersede)
    if held is not None and not supersede:
        raise RolloutInProgress(
            f"Version {held.version!r} of {plan.model!r} is a shadow already.",
            remedy=f"End it first, or supersede it with {version!r}.",
        )
    base = direct(plan, stable) if is_split(plan) else plan
    arms = tuple(arm for arm in base.arms if arm.role != "shadow")
    return msgspec.structs.replace(
        base, generation=plan.generation + 1, arms=(*arms, wanted), rollout=rollout
    ).completed()


def direct(plan: Plan, version: str) -> Plan:
    """All units to that version at once, as the stable one. Rules go on deciding before."""
    only = Arm(name=STABLE, version=version, role="stable")
    return msgspec.structs.replace(
        plan, generation=plan.generation + 1, arms=(only,), slots=bytes(SLOTS), experiment=None, layer=None
    ).completed()


def back(plan: Plan, stable: str, candidate: str) -> Plan:
    """All units to the stable version, since the candidate has failed: no rule serves it any more."""
    rules = tuple(rule for rule in plan.rules if rule.version != candidate)
    return direct(msgspec.structs.replace(plan, rules=rules), stable)


def target(plan: Plan, rules: Sequence[Rule]) -> Plan:
    """These rules before the split, in their order, instead of those that were there; nothing else moves."""
    return msgspec.structs.replace(plan, generation=plan.generation + 1, rules=tuple(rules)).completed()


def hold_out(plan: Plan, holdout: Holdout | None) -> Plan:
    """This holdout instead of the one that was there, or none; nothing else moves."""
    return msgspec.structs.replace(plan, generation=plan.generation + 1, holdout=holdout).completed()


def blue_green(plan: Plan, version: str, *, supersede: bool = False) -> Plan:
    """All units to that version at once, unless it has them or another rollout is under way."""
    if not is_split(plan) and version == plan.stable():
        raise InvalidPlan(
            f"Version {version!r} of {plan.model!r} has all traffic already.",
            remedy="Deploy another version.",
            version=version,
        )
    if not _is_canary_of(plan, version):
        _refuse_second_rollout(plan, version, supersede)
    return direct(plan, version)


def set_weights(plan: Plan, weights: Mapping[str, float], rollout: str) -> Plan:
    """The units split by the given percent per version; versions that are not named get nothing.

    Arms keep their name and role; a new version gets an arm of role `variant` named after it. The stable
    version stays the stable one when it is named, else the heaviest becomes it. A control arm goes on having
    the size of its canary.
    """
    if not weights:
        raise InvalidPlan("No weights are given.", remedy="Give each version its percent, adding up to 100.")
    counts = targets(weights)
    stable, owners = plan.stable(), _owners(plan)
    if stable not in weights:
        stable = _heaviest(plan, counts)
        owners = _crowned(plan, stable)
    controls = any(arm.role == "control" for arm in plan.arms)
    arms = [Arm(name=STABLE, version=stable, role="stable")]
    wanted = {STABLE: counts.pop(stable)}
    for version, count in counts.items():
        if not count:
            continue
        arm = _arm_of(plan, version) or Arm(
            name=_free_name(plan, weights, version), version=version, role="variant"
        )
        if arm.role == "canary" and controls:
            arms.append(Arm(name=CONTROL, version=stable, role="control"))
            wanted[CONTROL] = min(count, wanted[STABLE])
            wanted[STABLE] -= wanted[CONTROL]
        arms.append(arm)
        wanted[arm.name] = count
    # A split under way keeps its order, so that growing and shrinking again meets the same units.
    base = msgspec.structs.replace(plan, layer=None, rollout=plan.rollout if is_split(plan) else rollout)
    return _moved(base, owners, tuple(arms), wanted, generation=plan.generation + 1)


def promote(plan: Plan) -> Plan:
    """The canary, or else the only version beside the stable one, becomes stable with all units."""
    stable = plan.stable()
    candidates = [arm.version for arm in plan.arms if arm.role == "canary"] or sorted(
        {arm.version for arm in plan.arms if _has_units(arm) and arm.version != stable}
    )
    if not candidates:
        raise InvalidPlan(
            f"Nothing can be promoted: {plan.model!r} serves {stable!r} alone.",
            remedy="Deploy a version as a canary first, or deploy it directly.",
        )
    if len(candidates) > 1:
        raise InvalidPlan(
            f"Several versions of {plan.model!r} could be promoted: {', '.join(candidates)}.",
            remedy=f"Say which, for example by setting the traffic to {candidates[0]}=100.",
            choices=candidates,
        )
    return direct(plan, candidates[0])


def rollback(plan: Plan, previous: str | None, to: str | None = None) -> Plan:
    """All units to `to` when it is given; else to the stable version when others have units too, also by a
    rule; else to `previous`, the production version before, which the caller knows from history.

    Everybody has that one version afterwards: rules that serve another go. `NothingToRollBack` when there is
    no such version, or `to` has all units already.
    """
    stable = plan.stable()
    split = is_split(plan) or any(rule.version not in (None, stable) for rule in plan.rules)
    if to is not None:
        if to == stable and not split:
            raise NothingToRollBack(
                f"Version {to!r} of {plan.model!r} has all traffic already.", remedy="There is nothing to do."
            )
        return _alone(plan, to)
    if split:
        return _alone(plan, stable)
    if previous is None:
        raise NothingToRollBack(
            f"{plan.model!r} serves {stable!r} alone, and there is no earlier production version.",
            remedy="Name a version to go to, or deploy one.",
        )
    return _alone(plan, previous)


def is_split(plan: Plan) -> bool:
    """Whether a version beside the stable one has units: a rollout is under way."""
    stable = plan.stable()
    return any(weight > 0 for version, weight in plan.weights().items() if version != stable)


def gaining(before: Plan | None, after: Plan) -> list[str]:
    """The versions that get more of the units than before, or units by a rule that gave it none. The version
    that was in production is none of them: what returns to it goes back."""
    held = {} if before is None else before.weights()
    named = set() if before is None else _ruled(before)
    stable = None if before is None else before.stable()
    grown = {version for version, share in after.weights().items() if share > held.get(version, 0.0)}
    return sorted((grown | (_ruled(after) - named)) - {stable})


def _ruled(plan: Plan) -> set[str]:
    return {rule.version for rule in plan.rules if rule.version is not None}


# --- the parts of a move ------------------------------------------------------------------------------------


def _owners(plan: Plan) -> list[str]:
    names = [arm.name for arm in plan.arms]
    return [names[index] for index in plan.slots]


def _moved(
    plan: Plan, owners: list[str], arms: tuple[Arm, ...], wanted: dict[str, int], *, generation: int
) -> Plan:
    """The plan with these arms at these sizes. An empty arm goes, except for the stable one; shadows stay."""
    kept = tuple(arm for arm in arms if wanted[arm.name] or arm.role == "stable")
    served = {arm.version for arm in kept}
    shadows = tuple(arm for arm in plan.arms if arm.role == "shadow" and arm.version not in served)
    counts = {arm.name: wanted[arm.name] for arm in kept}
    index = {arm.name: position for position, arm in enumerate(kept)}
    after = rebalance(owners, counts, slot_order(plan.rollout), rest=STABLE)
    return msgspec.structs.replace(
        plan,
        generation=generation,
        arms=kept + shadows,
        slots=bytes(index[name] for name in after),
        experiment=None,
    ).completed()


def _alone(plan: Plan, version: str) -> Plan:
    """That version for everybody, without the rules that serve another."""
    rules = tuple(rule for rule in plan.rules if rule.version in (None, version))
    return direct(msgspec.structs.replace(plan, rules=rules), version)


def _has_units(arm: Arm) -> bool:
    """Whether the arm is one of the split."""
    return arm.role != "shadow" and arm.role not in BESIDE


def _is_canary_of(plan: Plan, version: str) -> bool:
    """Whether the plan is a canary rollout of that version and nothing else."""
    held = [arm for arm in plan.arms if _has_units(arm) and arm.role not in ("stable", "control")]
    others = {(arm.role, arm.version) for arm in held}
    return others == {("canary", version)}


def _refuse_second_rollout(plan: Plan, version: str, supersede: bool) -> None:
    if is_split(plan) and not supersede:
        shown = ", ".join(f"{held} {weight:g} %" for held, weight in plan.weights().items())
        raise RolloutInProgress(
            f"Another rollout owns the traffic of {plan.model!r} ({shown}).",
            remedy=f"Promote it or roll it back first, or supersede it with {version!r}.",
            weights=plan.weights(),
        )


def _heaviest(plan: Plan, counts: Mapping[str, int]) -> str:
    """Of equally heavy versions it is the one with most units now, then the first by name."""
    now = plan.weights()
    return min(counts, key=lambda version: (-counts[version], -now.get(version, 0.0), version))


def _crowned(plan: Plan, stable: str) -> list[str]:
    """The owner of each slot once `stable` has become the stable version together with the units it has.

    The units of the stable version before, which gets nothing any more, have no owner.
    """
    names = []
    for arm in plan.arms:
        if arm.version == stable:
            names.append(STABLE)
        else:
            names.append("" if arm.role in ("stable", "control") else arm.name)
    return [names[index] for index in plan.slots]


def _arm_of(plan: Plan, version: str) -> Arm | None:
    for arm in plan.arms:
        if arm.version == version and arm.role in ("canary", "variant"):
            return arm
    return None


def _free_name(plan: Plan, weights: Mapping[str, float], version: str) -> str:
    """The version's own name, with a prefix where an arm has that name already."""
    taken = {STABLE, CONTROL, CANARY, SHADOW, HOLDOUT, "pin", *(arm.name for arm in plan.arms)}
    name = version
    while name in taken or (name != version and name in weights):
        name = f"variant-{name}"
    return name
