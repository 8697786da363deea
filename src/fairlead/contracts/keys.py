"""Keys and values that people write into a document: what is not known is refused with what is."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from fairlead.errors import FairleadError

__all__ = ["known_keys", "misfit"]

_WORDS = {
    "float": "a number",
    "int": "a whole number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table of keys and values",
    "null": "nothing",
}


def known_keys(
    document: object, known: Collection[str], where: str, error: type[FairleadError]
) -> Mapping[str, Any]:
    """The document, where it is a table all of whose keys are known; else raises `error`, which names the key
    and the nearest known one, so that a typing error never becomes a default."""
    if not isinstance(document, Mapping):
        raise error(
            f"{where[:1].upper()}{where[1:]} is no table of keys and values.",
            remedy="Write keys and values, as in {key: value}.",
        )
    for key in document:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
            raise error(
                f"Unknown key {key!r} in {where}.",
                remedy=f"Did you mean {near[0]!r}? Known keys: {', '.join(known)}.",
                key=str(key),
            )
    return document


def misfit(
    error: msgspec.ValidationError, kind: type[msgspec.Struct], document: str
) -> tuple[str, str | None]:
    """What msgspec says of a value that does not fit `kind`, in the words of whoever wrote it: where it
    stands and what is wrong with it; and what would do instead, where that can be listed."""
    reason, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    where = path or document
    choices = _choices(kind, re.sub(r"\[[^]]*\]", "", path).split("."))
    wrong = re.fullmatch(r"Invalid enum value (.*)", reason)
    if wrong is not None and choices:
        return f"{where} is {wrong[1]}.", f"Use one of {', '.join(map(str, choices))}."
    told = re.sub(r"`([^`]*)`", lambda found: _plain(found[1]) or found[0], reason)
    return f"{where}: {told}.", None


def _plain(types: str) -> str:
    """Types in plain words; nothing where it is the name of something else."""
    names = types.split(" | ")
    return " or ".join(_WORDS[name] for name in names) if set(names) <= _WORDS.keys() else ""


def _choices(kind: Any, names: list[str]) -> tuple[Any, ...]:
    """The values that the field at the end of these names takes, where they can be listed."""
    for name in names:
        structs = [part for part in _parts(kind) if isinstance(part, type)]
        kind = next((hints[name] for part in structs if name in (hints := typing.get_type_hints(part))), None)
    return tuple(value for part in _parts(kind) for value in _literals(part))


def _literals(part: Any) -> tuple[Any, ...]:
    return typing.get_args(part) if typing.get_origin(part) is typing.Literal else ()


def _parts(kind: Any) -> list[Any]:
    """A type, or those that a union or a collection is made of."""
    if typing.get_origin(kind) in (None, typing.Literal):
        return [kind]
    return [found for part in typing.get_args(kind) for found in _parts(part)]
