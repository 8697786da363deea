"""Pickles on the person's own machine: opened because that person named them, or written to be sent."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairlead.errors import InvalidModelFile, MissingExtra

__all__ = ["PICKLES", "pickled", "unpickled"]

PICKLES = (".pkl", ".pickle", ".joblib")
"""Suffixes of files that hold a pickle."""


def unpickled(file: Path) -> Any:
    """The object in a pickle. This runs the code that the pickle names, in this process.

    `MissingExtra` names a library that it needs, `InvalidModelFile` what else went wrong.
    """
    try:
        return _loader()(file)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"{file.name} needs the library {error.name!r}.", remedy=f"Run `pip install {error.name}`."
        ) from error
    except Exception as error:
        # A damaged pickle raises whatever it happens to run into.
        raise InvalidModelFile(
            f"{file.name} cannot be unpickled: {type(error).__name__}: {error}.",
            remedy="Save it again with the same libraries that are installed here.",
        ) from error


def pickled(model: Any, file: Path) -> None:
    """Writes the object to that file; `InvalidModelFile` says why it cannot be pickled."""
    if "__main__" in (type(model).__module__, getattr(model, "__module__", None)):
        name = getattr(model, "__qualname__", type(model).__qualname__)
        raise InvalidModelFile(
            f"{name} is defined in this script or notebook.",
            remedy="Move it to a module that the server has, too: a pickle holds the name, not the code.",
        )
    try:
        file.write_bytes(pickle.dumps(model, protocol=5))
    except Exception as error:
        # Objects decide themselves how they fail to be pickled.
        raise InvalidModelFile(
            f"The {type(model).__qualname__} cannot be pickled: {error}.",
            remedy="Register something without open files, locks or lambdas inside.",
        ) from error


def _loader() -> Callable[[Path], Any]:
    try:
        import joblib
    except ImportError:
        return lambda file: pickle.loads(file.read_bytes())
    load: Callable[[Path], Any] = joblib.load
    return load
