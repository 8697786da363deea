"""What computed an answer, in words."""

import platform
from importlib import metadata

from fairlead.runtimes.label import runtime_label
from fairlead.runtimes.machine import cpu_name


def test_onnx_is_named_with_its_version_and_the_kind_of_processor() -> None:
    assert runtime_label("onnx") == f"onnxruntime {metadata.version('onnxruntime')} {cpu_name()}"


def test_a_pickle_is_named_with_what_it_computes_with() -> None:
    label = runtime_label("python")
    assert label.startswith(f"python {platform.python_version()} numpy {metadata.version('numpy')} ")
    assert f"scikit-learn {metadata.version('scikit-learn')}" in label
    assert label.endswith(cpu_name())
