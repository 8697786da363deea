"""A trainer at work as a process that is given a folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from fairlead.client.lineage import JOB_VARIABLE
from fairlead.retraining.log import Log
from fairlead.retraining.policy import Trainer
from fairlead.retraining.process import run_command
from fairlead.retraining.task import Task, write_task
from fairlead.retraining.webhook import variable
from fairlead.runtimes.isolation import scrubbed_environment

__all__ = ["train"]

_MOST_NAME = 200


def train(trainer: Trainer, task: Task, log: Log, wanted: Callable[[], bool]) -> str:
    """The name of the version that the trainer says it has made, as far as it is known when it has ended; all
    its processes have, too.

    Once `wanted` is false it is ended, and the answer means nothing. Raises `RuntimeFailed`,
    `DeadlineExceeded`, and `InvalidRetraining` for a variable that is not set.
    """
    command = trainer.command
    if trainer.callable is not None:
        command = (sys.executable, "-P", "-m", "fairlead.retraining.calling", trainer.callable)
    folder = Path(task.folder)
    job = write_task(task, folder)
    environment = {
        **scrubbed_environment(os.environ),
        **{name: variable(trainer, name) for name in trainer.environment},
        "FAIRLEAD_ADMIN_URL": task.admin_url,
        JOB_VARIABLE: str(job),
        "PYTHONUNBUFFERED": "1",
    }
    run_command(command, trainer, environment, log, wanted)
    said = folder / "version"
    if not said.is_file():
        return task.version
    return said.read_text("utf-8", "replace")[:_MOST_NAME].strip()
