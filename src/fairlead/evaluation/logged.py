"""From a record of the log back to the row that the model got, or the reason why there is no way back. Pure.

Nothing is guessed: the record's feature hash proves that the features are the ones that were answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import msgspec

from fairlead.contracts.check import HIDDEN, MOST_KEPT, check_row
from fairlead.contracts.contract import Contract, Field
from fairlead.contracts.fingerprint import encode_row, feature_hash
from fairlead.errors import DataContractViolation

__all__ = ["Altered", "Refusal", "Unfit", "checked_again", "features_of", "row_of"]

_NOT_FINITE = {"nan", "inf", "-inf"}


class Unfit(Exception):
    """The record cannot be replayed. `reason` is one word for programs, the text a sentence for people."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text


class Altered(Unfit):
    """The features in the log are not those that were hashed when the record was written."""

    def __init__(self) -> None:
        super().__init__(
            "features_altered",
            "The features do not have the record's feature_hash: somebody or something has changed them.",
        )


class Refusal(NamedTuple):
    """How a contract takes a refused row when it is asked again: the rules that are broken, by field."""

    violations: list[dict[str, Any]]
    exact: bool
    """Whether the values are those that were sent; the log keeps long ones cut."""


def row_of(record: Mapping[str, Any], contract: Contract) -> list[Any]:
    """The values in the contract's order as the model got them. Raises `Unfit`, and `Altered` where they are
    not what was hashed."""
    values = [features_of(record, contract).get(field.name) for field in contract.inputs]
    if _is_as_hashed(record, contract, values):
        return values
    withheld = _withheld(contract)
    if withheld:
        raise _not_stored(withheld)
    raise Altered


def features_of(
    record: Mapping[str, Any], contract: Contract, wanted: Collection[str] | None = None
) -> dict[str, Any]:
    """The features by name, of the types of the contract that the record was read with.

    With `wanted`, the names that somebody needs: raises `Unfit` when one of them is not stored, and `Altered`
    when they are not what was hashed.
    """
    if record["contract_id"] != contract.id:
        raise Unfit("contract_unknown", f"No version has the contract {record['contract_id']!r} any more.")
    held = record["features"]
    if held is None:
        raise Unfit("features_missing", "The record has no features.")
    found = _by_field(held, contract)
    if wanted is None:
        return found
    if not _is_as_hashed(record, contract, [found[field.name] for field in contract.inputs]):
        withheld = _withheld(contract)
        if not withheld:
            raise Altered
        if needed := [name for name in withheld if name in wanted]:
            raise _not_stored(needed)
    return found


def checked_again(record: Mapping[str, Any], contract: Contract) -> Refusal:
    """What the contract says now of a row that it refused then. Raises `Unfit` when the log does not hold
    enough of it."""
    if record["contract_id"] != contract.id:
        raise Unfit("contract_unknown", f"No version has the contract {record['contract_id']!r} any more.")
    broken = record["violations"] or []
    if not broken:
        raise Unfit(
            "refused_with_others", "Other rows of its request broke the contract, and it was refused."
        )
    refused = record["refused"]
    if refused is None:
        raise Unfit("features_missing", "The record does not hold what was sent.")
    hidden = [field.name for field in contract.inputs if refused.get(field.name) == HIDDEN]
    if hidden:
        raise _not_stored(hidden)
    named = {violation["field"]: violation["rule"] for violation in broken}
    features = {name: _as_sent(value, named.get(name)) for name, value in refused.items()}
    # What it lacks and did not object to then was known to another version that was live.
    also_known = {name for name in features if name not in named}
    fields = {field.name: field for field in contract.inputs}
    exact = len(refused) < MOST_KEPT and not any(
        _may_be_cut(value, fields.get(name), named.get(name)) for name, value in features.items()
    )
    try:
        check_row(contract, features, frozenset(also_known))
    except DataContractViolation as error:
        return Refusal(error.violations, exact)
    return Refusal([], exact)


def _by_field(held: Mapping[str, Any], contract: Contract) -> dict[str, Any]:
    """Columns of the log have one spelling for names that differ in case alone, and number the second."""
    folded = {name.lower(): value for name, value in held.items()}
    seen: Counter[str] = Counter()
    found = {}
    for field in contract.inputs:
        seen[field.name.lower()] += 1
        number = seen[field.name.lower()]
        column = field.name.lower() if number == 1 else f"{field.name.lower()}_{number}"
        found[field.name] = _typed(field, folded.get(column))
    return found


def _typed(field: Field, value: Any) -> Any:
    """The value as the contract has it: where versions gave a name different types, the log's is wider."""
    try:
        if value is None or (isinstance(value, str) and field.type == "string" and not field.shape):
            return value
        if isinstance(value, str):
            value = msgspec.json.decode(value)
        if field.shape:
            return [_number(field, part) for part in value]
        return _number(field, value) if field.type in ("float", "int") else value
    except (msgspec.DecodeError, TypeError, ValueError, OverflowError):
        return value  # then the hash does not agree


def _number(field: Field, value: Any) -> Any:
    return float(value) if field.type == "float" else int(value)


def _is_as_hashed(record: Mapping[str, Any], contract: Contract, values: list[Any]) -> bool:
    try:
        return bool(record["feature_hash"] == feature_hash(contract.id, encode_row(values)))
    except (OverflowError, TypeError, ValueError):
        return False


def _withheld(contract: Contract) -> list[str]:
    return [field.name for field in contract.inputs if field.sensitivity == "sensitive"]


def _not_stored(names: list[str]) -> Unfit:
    shown = ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return Unfit("features_withheld", f"The log does not keep the sensitive feature {shown}.")


def _as_sent(value: Any, rule: str | None) -> Any:
    """What is no JSON number, or too long for one, lies in the log as text."""
    if not isinstance(value, str):
        return value
    if rule == "not_finite" and value in _NOT_FINITE:
        return float(value)
    return int(value) if rule == "range" and value.lstrip("-").isdecimal() else value


def _may_be_cut(value: Any, field: Field | None, rule: str | None) -> bool:
    """Whether the log has something else than was sent: long texts end in an ellipsis, lists and very large
    numbers became text."""
    if not isinstance(value, str):
        return False
    return value.endswith(HIDDEN) or (rule is None and field is not None and field.type != "string")
