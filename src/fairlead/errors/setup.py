"""Errors: set-up."""

from __future__ import annotations

from fairlead.errors.base import FairleadError

__all__ = [
    "AdminUnreachable",
    "DataFolderInUse",
    "InvalidSetting",
    "MissingExtra",
    "PortInUse",
    "UnknownSetting",
]


class UnknownSetting(FairleadError):
    """No setting has that name."""

    code = "unknown_setting"


class InvalidSetting(FairleadError):
    """A setting's value breaks its rule."""

    code = "invalid_setting"


class PortInUse(FairleadError):
    """Another program listens on that port."""

    code = "port_in_use"


class DataFolderInUse(FairleadError):
    """Another Fairlead runs on that data folder."""

    code = "data_folder_in_use"


class MissingExtra(FairleadError):
    """A library of an optional extra is not installed."""

    code = "missing_extra"


class AdminUnreachable(FairleadError):
    """The admin API or the gateway does not answer at that address."""

    code = "unreachable"
    retryable = True
