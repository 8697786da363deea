"""Trainers as a team would write them, and some that go wrong. They run in processes of their own.

Those that learn nothing import nothing to learn with: it takes seconds.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from fairlead.retraining.task import Task


def fitting(task: Task) -> Any:
    """Learns what the rows say."""
    from sklearn.linear_model import LogisticRegression

    rows = task.table().to_pandas()
    print(f"{len(rows)} rows with {', '.join(task.features)}")
    return LogisticRegression().fit(rows[list(task.features)], rows[task.target])


def contrary(task: Task) -> Any:
    """Learns the opposite."""
    from sklearn.linear_model import LogisticRegression

    rows = task.table().to_pandas()
    return LogisticRegression().fit(rows[list(task.features)], 1 - rows[task.target])


def failing(task: Task) -> Any:
    """Stumbles."""
    raise ValueError("the rows of größe 💶 are odd")


def silent(task: Task) -> None:
    """Ends well, and has registered nothing."""


def waiting(task: Task) -> Any:
    """Works until it is stopped; says by which process."""
    Path(task.folder).parent.joinpath("pid").write_text(str(os.getpid()))
    time.sleep(600)
