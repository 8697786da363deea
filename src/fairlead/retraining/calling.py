"""A trainer that is a Python callable, in a process of its own: `python -m … MODULE:FUNCTION`.

The callable gets the `Task`. It answers a fitted model, which is registered here, or the name of a version
(or the `Version`) that it has registered itself, or nothing when the task's version is registered by then.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from fairlead.client.lineage import JOB_VARIABLE
from fairlead.client.register import register
from fairlead.client.registered import Version
from fairlead.retraining.task import Task, read_task

__all__ = ["main"]


def main() -> int:
    """Calls it; the status is 0 when a version has come of it. What goes wrong stands in the log."""
    task = read_task(Path(os.environ[JOB_VARIABLE]))
    module, _, function = sys.argv[1].partition(":")
    sys.path.insert(0, os.getcwd())
    made = getattr(importlib.import_module(module), function)(task)
    name = _registered(task, made)
    (Path(task.folder) / "version").write_text(name, "utf-8")
    print(f"The version is {name!r}.", flush=True)
    return 0


def _registered(task: Task, made: Any) -> str:
    if made is None:
        return task.version
    if isinstance(made, str):
        return made
    if isinstance(made, Version):
        return made.version
    rows = task.table()
    contract = Path(task.contract) if _takes(made, task) else None
    return register(
        made,
        task.model,
        task.version,
        reference=rows,
        target=task.target,
        contract=contract,
        why=f"Retraining {task.id}: {task.cause}",
        admin_url=task.admin_url,
    ).version


def _takes(made: Any, task: Task) -> bool:
    """Whether the model takes the champion's features, as far as it says, so that the contract stays."""
    names = getattr(made, "feature_names_in_", None)
    return names is None or list(names) == list(task.features)


if __name__ == "__main__":
    sys.exit(main())
