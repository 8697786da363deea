"""From a server's refusal to the error that a caller catches: the same class that the server raised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from fairlead.errors import AdminUnreachable, DataContractViolation, FairleadError, every_error

__all__ = ["error_from", "error_of"]

_BY_CODE = {cls.code: cls for cls in every_error()}
_STANDARD = {"type", "title", "status", "code", "detail", "remedy", "retryable", "violations"}


def error_from(status: int, body: bytes, url: str) -> FairleadError:
    """The error that a problem document describes, with its remedy, violations and details.

    A code that this client does not know yet is a plain `FairleadError` with the code in `details`; an answer
    that is no problem document comes from somebody else: `AdminUnreachable`.
    """
    document = _document(body)
    if document is None:
        return AdminUnreachable(
            f"{url} answered {status}, and not as Fairlead does.",
            remedy="Check the address: a proxy or another program may be listening there.",
            status=status,
        )
    error = error_of(document)
    error.details["status"] = status
    return error


def error_of(document: Mapping[str, Any]) -> FairleadError:
    """The error that the members of a problem document describe."""
    message, remedy = str(document.get("detail") or document["code"]), str(document.get("remedy") or "")
    error: FairleadError
    cls = _BY_CODE.get(document["code"], FairleadError)
    if cls is DataContractViolation:
        error = DataContractViolation(message, list(document.get("violations") or []), remedy=remedy)
    else:
        error = cls(message, remedy=remedy)
    error.details = {name: value for name, value in document.items() if name not in _STANDARD}
    if cls is FairleadError:
        error.details["code"] = document["code"]
    return error


def _document(body: bytes) -> dict[str, Any] | None:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if isinstance(document, dict) and isinstance(document.get("code"), str):
        return document
    return None
