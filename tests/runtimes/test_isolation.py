"""What a model's process is given."""

from __future__ import annotations

import os

from fairlead.runtimes.isolation import scrubbed_environment


def test_only_what_a_model_needs_is_passed_on() -> None:
    given = {
        "PATH": "/bin",
        "HOME": "/home/a",
        "LC_ALL": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "FAIRLEAD_DATABASE_URL": "postgresql://secret",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "OMP_NUM_THREADS": "64",
    }
    assert scrubbed_environment(given, threads=2) == {
        "PATH": "/bin",
        "HOME": "/home/a",
        "LC_ALL": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
    }


def test_a_relative_path_of_modules_means_the_same_in_another_folder() -> None:
    found = scrubbed_environment({"PYTHONPATH": os.pathsep.join(["src", "", "/opt/lib"])})
    assert found["PYTHONPATH"] == os.pathsep.join([os.path.abspath("src"), "/opt/lib"])
