"""Errors: models and artifacts."""

from __future__ import annotations

from fairlead.errors.base import FairleadError

__all__ = [
    "ConversionRefused",
    "DigestMismatch",
    "InvalidContract",
    "InvalidModelFile",
    "InvalidReference",
    "TrustRequired",
]


class InvalidModelFile(FairleadError):
    """The file is no model that Fairlead can load."""

    code = "invalid_model_file"


class DigestMismatch(FairleadError):
    """A file's bytes are not those that were registered."""

    code = "digest_mismatch"


class ConversionRefused(FairleadError):
    """The converted model does not answer like the original."""

    code = "conversion_refused"


class TrustRequired(FairleadError):
    """Running a pickle needs the server's setting and the caller's flag together."""

    code = "trust_required"


class InvalidContract(FairleadError):
    """A data contract contradicts itself or does not fit the model."""

    code = "invalid_contract"


class InvalidReference(FairleadError):
    """The reference data cannot be used as it is."""

    code = "invalid_reference"
