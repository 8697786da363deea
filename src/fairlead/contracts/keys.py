"""Keys that people write into a document: one that is not known is refused with the nearest that is."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from fairlead.errors import FairleadError

__all__ = ["known_keys"]


def known_keys(
    document: object, known: Collection[str], where: str, error: type[FairleadError]
) -> Mapping[str, Any]:
    """The document, where it is a table all of whose keys are known; else raises `error`, which names the key
    and the nearest known one, so that a typing error never becomes a default."""
    if not isinstance(document, Mapping):
        raise error(
            f"{where[:1].upper()}{where[1:]} is no table of keys and values.",
            remedy="Write keys and values.",
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
