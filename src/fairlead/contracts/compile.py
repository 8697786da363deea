"""A contract compiled for the request path: decoding and checking a clean request is one pass in native code.

msgspec stops at the first thing it does not like. So the compiled type holds every rule, also those that only
flag or impute; a request that it refuses takes the slower way through `check.py`, which finds everything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import msgspec

from fairlead.contracts.check import Finding, check_row, nearest
from fairlead.contracts.contract import Contract, Field
from fairlead.errors import MalformedRequest

__all__ = ["BatchReading", "CompiledContract", "Reading", "RowReading", "parse_json"]

_T = TypeVar("_T")

_INT64 = (-(2**63), 2**63 - 1)
_MAX_FLOAT = 1.7976931348623157e308

_BODY_FIELDS: tuple[tuple[str, Any, Any], ...] = (
    ("unit", str | int | None, None),
    ("entity", str | int | None, None),
    ("request_id", str | None, None),
    ("return_probabilities", bool, False),
    ("explain", Literal["top"] | None, None),
)
_INSTANCE_FIELDS = ("features", "unit", "entity")


class Reading:
    """A decoded predict request: who asks, what for, and its features, not yet bound to a version.

    The features were decoded with one contract. Asking for the row under another one decodes again, which
    happens only while versions with different contracts share a model's traffic.
    """

    __slots__ = (
        "_body",
        "_compiled",
        "_features",
        "_raw",
        "entity",
        "explain",
        "probabilities",
        "request_id",
        "unit",
    )

    def __init__(self, compiled: CompiledContract, body: bytes) -> None:
        self._body = body
        self._compiled = compiled
        self._raw: dict[str, Any] | None = None
        self._features: Any = None
        try:
            decoded = compiled.decode_body(body)
        except msgspec.ValidationError:
            self._raw = read_object(body, {"features", *(name for name, _, _ in _BODY_FIELDS)})
            decoded = _envelope(self._raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise malformed(error) from error
        else:
            self._features = decoded.features
        self.unit = None if decoded.unit is None else str(decoded.unit)
        self.entity = None if decoded.entity is None else str(decoded.entity)
        self.request_id: str | None = decoded.request_id
        self.probabilities: bool = decoded.return_probabilities
        self.explain: bool = decoded.explain is not None

    def row(self, compiled: CompiledContract) -> tuple[tuple[Any, ...], list[Finding]]:
        """The row in that contract's order and the findings that only flag.

        Raises `DataContractViolation` naming every field and rule that rejects.
        """
        if self._features is not None and compiled is self._compiled:
            return compiled.as_row(self._features), []
        if self._raw is None:
            self._raw = parse_json(self._body)
        return check_row(compiled.contract, features_of(self._raw), compiled.also_known)


class BatchReading:
    """A decoded batch: its rows' units, and the rows once they are bound to a version."""

    explain = False
    __slots__ = ("_body", "_compiled", "_features", "_raw", "probabilities", "request_id", "units")

    def __init__(self, compiled: CompiledContract, body: bytes) -> None:
        self._body = body
        self._compiled = compiled
        self._raw: list[Any] | None = None
        self._features: list[Any] | None = None
        try:
            decoded = compiled.decode_batch(body)
        except msgspec.ValidationError:
            raw = read_object(body, {"instances", "request_id", "return_probabilities"})
            decoded = _convert(raw, _BatchEnvelope)
            instances = raw.get("instances")
            if not isinstance(instances, list):
                raise MalformedRequest(
                    "The body has no list 'instances'.",
                    remedy='Send {"instances": [{"features": {…}}, …]}.',
                ) from None
            self._raw = [_instance(value, index) for index, value in enumerate(instances)]
            units = [value.get("unit", value.get("entity")) for value in self._raw]
            self.units = [_unit(value, index) for index, value in enumerate(units)]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise malformed(error) from error
        else:
            self._features = [instance.features for instance in decoded.instances]
            units = [i.entity if i.unit is None else i.unit for i in decoded.instances]
            self.units = [None if unit is None else str(unit) for unit in units]
        self.request_id: str | None = decoded.request_id
        self.probabilities: bool = decoded.return_probabilities

    def __len__(self) -> int:
        return len(self.units)

    def row(self, index: int, compiled: CompiledContract) -> tuple[tuple[Any, ...], list[Finding]]:
        """Like `Reading.row`, for the row at that index."""
        if self._features is not None and compiled is self._compiled:
            return compiled.as_row(self._features[index]), []
        if self._raw is None:
            self._raw = parse_json(self._body)["instances"]
        return check_row(compiled.contract, features_of(self._raw[index]), compiled.also_known)


class RowReading:
    """One row that is known already to keep a contract, such as one that came as an array."""

    explain = False
    __slots__ = ("_compiled", "_row", "probabilities")

    def __init__(self, compiled: CompiledContract, row: tuple[Any, ...]) -> None:
        self._compiled = compiled
        self._row = row
        self.probabilities = False

    def row(self, compiled: CompiledContract) -> tuple[tuple[Any, ...], list[Finding]]:
        """Like `Reading.row`."""
        if compiled is self._compiled:
            return self._row, []
        names = self._compiled.contract.names
        return check_row(compiled.contract, dict(zip(names, self._row, strict=True)), compiled.also_known)


class CompiledContract:
    """A contract ready to decode request bodies.

    `also_known` are names of other live versions' contracts: a caller who serves two versions at once sends
    the union, so those are dropped, while a name that no version knows is refused.
    """

    __slots__ = (
        "_positional",
        "_size",
        "also_known",
        "contract",
        "decode_batch",
        "decode_body",
        "id",
        "row_type",
    )  # fmt: skip

    def __init__(self, contract: Contract, also_known: frozenset[str] = frozenset()) -> None:
        self.contract = contract
        self.id = contract.id
        self.also_known = also_known - set(contract.names)
        self._size = len(contract.inputs)
        self.row_type = _row_type(contract, sorted(self.also_known))
        self._positional = _row_type(contract, [], positional=True)
        body = msgspec.defstruct(
            "PredictBody",
            [("features", self.row_type), *_BODY_FIELDS],
            forbid_unknown_fields=True,
            gc=False,
        )
        instance = msgspec.defstruct(
            "Instance",
            [
                ("features", self.row_type),
                ("unit", str | int | None, None),
                ("entity", str | int | None, None),
            ],
            forbid_unknown_fields=True,
        )
        batch = msgspec.defstruct(
            "BatchBody",
            [
                ("instances", list[instance]),  # type: ignore[valid-type]  # a type made at run time
                ("request_id", str | None, None),
                ("return_probabilities", bool, False),
            ],
            forbid_unknown_fields=True,
        )
        self.decode_body: Callable[[bytes], Any] = msgspec.json.Decoder(body).decode
        self.decode_batch: Callable[[bytes], Any] = msgspec.json.Decoder(batch).decode

    def read(self, body: bytes) -> Reading:
        """A predict request; raises `MalformedRequest` when the bytes are none."""
        return Reading(self, body)

    def read_batch(self, body: bytes) -> BatchReading:
        """A batch request; raises `MalformedRequest` when the bytes are none."""
        return BatchReading(self, body)

    def positional(self, values: list[Any]) -> tuple[Any, ...] | None:
        """The row of values in contract order when they keep every rule at first sight, else None."""
        try:
            return msgspec.structs.astuple(msgspec.convert(values, self._positional))
        except msgspec.ValidationError:
            return None

    def as_row(self, features: Any) -> tuple[Any, ...]:
        """The decoded features as a tuple in contract order."""
        row = msgspec.structs.astuple(features)
        return row[: self._size] if self.also_known else row

    def check(self, features: Mapping[str, Any]) -> tuple[tuple[Any, ...], list[Finding]]:
        """The row and flags of features that are already Python values."""
        return check_row(self.contract, features, self.also_known)


class _Envelope(msgspec.Struct):
    unit: str | int | None = None
    entity: str | int | None = None
    request_id: str | None = None
    return_probabilities: bool = False
    explain: Literal["top"] | None = None


class _BatchEnvelope(msgspec.Struct):
    request_id: str | None = None
    return_probabilities: bool = False


def _envelope(raw: Mapping[str, Any]) -> _Envelope:
    return _convert(raw, _Envelope)


def _convert(raw: Mapping[str, Any], kind: type[_T]) -> _T:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise MalformedRequest(
            f"The body does not fit: {error}.", remedy="See the model's OpenAPI document."
        ) from error


def features_of(raw: Any) -> Mapping[str, Any]:
    """The features object of a decoded body; raises `MalformedRequest` when there is none."""
    features = raw.get("features") if isinstance(raw, dict) else None
    if not isinstance(features, dict):
        raise MalformedRequest(
            "The body has no object 'features'.", remedy='Send {"features": {"name": value, …}}.'
        )
    return features


def read_object(body: bytes, known: set[str]) -> dict[str, Any]:
    """The body as a dict whose keys are all known; raises `MalformedRequest` otherwise."""
    raw = parse_json(body)
    if not isinstance(raw, dict):
        raise MalformedRequest("The body is not a JSON object.", remedy='Send {"features": {…}}.')
    for name in raw:
        if name not in known:
            near = nearest(name, known)
            raise MalformedRequest(
                f"The body has an unknown member {name!r}.",
                remedy=f"Did you mean {near!r}?" if near else f"Known are {', '.join(sorted(known))}.",
            )
    return raw


def parse_json(body: bytes) -> Any:
    """The body as Python values. The literals NaN and Infinity are malformed; 1e999 becomes infinity, which
    the contract then refuses by name."""
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise malformed(error) from error


def malformed(error: Exception) -> MalformedRequest:
    """`MalformedRequest` with the parser's own words."""
    return MalformedRequest(
        f"The body is not valid JSON: {error}.", remedy="Send UTF-8 JSON; NaN and Infinity are not JSON."
    )


def _refuse_constant(literal: str) -> NoReturn:
    raise ValueError(f"the literal {literal} is not JSON")


def _instance(value: Any, index: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedRequest(f"instances[{index}] is not an object.", remedy='Send {"features": {…}}.')
    for name in value:
        if name not in _INSTANCE_FIELDS:
            raise MalformedRequest(
                f"instances[{index}] has an unknown member {name!r}.",
                remedy=f"Known are {', '.join(_INSTANCE_FIELDS)}.",
            )
    return value


def _unit(value: Any, index: int) -> str | None:
    if value is None:
        return None
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    raise MalformedRequest(f"instances[{index}].unit is neither text nor a whole number.")


# --- the row type -------------------------------------------------------------------------------------------


def _row_type(contract: Contract, also_known: list[str], *, positional: bool = False) -> type[Any]:
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    rename: dict[str, str] = {}
    # Attributes are numbered, since a feature may be called anything, also "class" or "größe (cm)".
    for index, field in enumerate(contract.inputs):
        attribute = f"f{index}"
        rename[attribute] = field.name
        kind = _type_of(field)
        if field.required:
            fields.append((attribute, kind))
        else:
            fields.append((attribute, kind, _default(field)))
    for index, name in enumerate(also_known):
        attribute = f"x{index}"
        rename[attribute] = name
        fields.append((attribute, Any, None))
    return msgspec.defstruct(
        "Features",
        fields,
        rename=rename,
        kw_only=True,
        forbid_unknown_fields=True,
        gc=False,
        array_like=positional,
    )


def _default(field: Field) -> Any:
    if field.default is not None and field.type == "float":
        return float(field.default)
    return field.default


def _type_of(field: Field) -> Any:
    kind = _scalar_type(field)
    if field.shape:
        length = field.shape[0]
        kind = list[kind]  # type: ignore[valid-type]  # a type made at run time
        if length >= 0:
            kind = Annotated[kind, msgspec.Meta(min_length=length, max_length=length)]
    return kind | None if field.nullable else kind


def _scalar_type(field: Field) -> Any:
    if field.categories is not None and field.type == "string":
        return Literal[tuple(field.categories)]
    match field.type:
        case "bool":
            return bool if not field.categories or len(set(field.categories)) == 2 else _Never
        case "string":
            return str
        case "int":
            if field.categories is not None:
                return Literal[tuple(field.categories)]
            low = _INT64[0] if field.minimum is None else max(_INT64[0], math.ceil(field.minimum))
            high = _INT64[1] if field.maximum is None else min(_INT64[1], math.floor(field.maximum))
            return Annotated[int, msgspec.Meta(ge=low, le=high)]
        case "float":
            low_f = -_MAX_FLOAT if field.minimum is None else float(field.minimum)
            high_f = _MAX_FLOAT if field.maximum is None else float(field.maximum)
            return Annotated[float, msgspec.Meta(ge=low_f, le=high_f)]


class _Never(msgspec.Struct):
    """A type that no scalar matches: sends the value to the slower check, which knows what to say."""
