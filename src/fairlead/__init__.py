"""Fairlead: from a fitted model to a watched canary."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fairlead.client.admin import Admin
    from fairlead.client.http import AsyncClient, Client
    from fairlead.client.register import register
    from fairlead.errors import FairleadError

__all__ = ["Admin", "AsyncClient", "Client", "FairleadError", "__version__", "register"]

__version__ = "0.1.0"

# Nothing is loaded before it is used, not even `typing`: a gateway imports this package, too.
_LAZY = {
    "Admin": "fairlead.client.admin",
    "AsyncClient": "fairlead.client.http",
    "Client": "fairlead.client.http",
    "FairleadError": "fairlead.errors",
    "register": "fairlead.client.register",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    found = globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
