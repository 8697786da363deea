"""What computed an answer, in words: stands in every record, and tells a replay whether bits must agree."""

from __future__ import annotations

import platform
from functools import cache

from fairlead.runtimes.machine import cpu_name
from fairlead.runtimes.onnx import OnnxRuntime

__all__ = ["runtime_label"]

_LIBRARIES = ("numpy", "scikit-learn", "xgboost", "lightgbm")
"""What a pickle computes with, as far as it is installed here, where model workers run, too."""


@cache
def runtime_label(kind: str) -> str:
    """Library, version and kind of processor, such as `onnxruntime 1.23.2 x86_64 avx2`; for a pickle (`kind`
    `python`) Python and its numeric libraries. Two that are equal compute the same bits."""
    if kind == "onnx":
        return f"onnxruntime {OnnxRuntime.library_version} {OnnxRuntime.cpu}"
    from importlib import metadata  # only for pickles: gateways are to start quickly

    parts = [f"python {platform.python_version()}"]
    for name in _LIBRARIES:
        try:
            parts.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return " ".join([*parts, cpu_name()])
