"""A trainer at work: as a process that is given a folder, or elsewhere by a webhook."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import msgspec

from fairlead.client.lineage import JOB_VARIABLE
from fairlead.errors import DeadlineExceeded, InvalidRetraining, RuntimeFailed
from fairlead.retraining.policy import Trainer
from fairlead.retraining.process import Log, run_command
from fairlead.retraining.task import Task, write_task
from fairlead.runtimes.isolation import scrubbed_environment

__all__ = ["train"]

_CALL_SECONDS = 30.0
_LOOK_SECONDS = 0.5
_SHOWN = 2_000
_MOST_NAME = 200


def train(
    trainer: Trainer, task: Task, log: Log, wanted: Callable[[], bool], registered: Callable[[], bool]
) -> str:
    """The name of the version that the trainer says it has made, as far as it is known when it has ended; all
    its processes have, too.

    A webhook is called and answers at once; it has worked when `registered` tells that the task's version is
    there. Once `wanted` is false it is ended, and the answer means nothing. Raises `RuntimeFailed`,
    `DeadlineExceeded`, and `InvalidRetraining` for a variable that is not set.
    """
    if trainer.webhook is not None:
        _call(trainer, task, log)
        _wait(trainer, task, wanted, registered)
        return task.version
    command = trainer.command
    if trainer.callable is not None:
        command = (sys.executable, "-P", "-m", "fairlead.retraining.calling", trainer.callable)
    folder = Path(task.folder)
    job = write_task(task, folder)
    environment = {
        **scrubbed_environment(os.environ),
        **{name: _variable(trainer, name) for name in trainer.environment},
        "FAIRLEAD_ADMIN_URL": task.admin_url,
        JOB_VARIABLE: str(job),
        "PYTHONUNBUFFERED": "1",
    }
    run_command(command, trainer, environment, log, wanted)
    said = folder / "version"
    if not said.is_file():
        return task.version
    return said.read_text("utf-8", "replace")[:_MOST_NAME].strip()


def _variable(trainer: Trainer, name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise InvalidRetraining(
            f"Trainer {trainer.name!r} asks for the variable {name}, which control's environment lacks.",
            remedy="Set it where control runs, and restart control.",
        )
    return value


def _call(trainer: Trainer, task: Task, log: Log) -> None:
    assert trainer.webhook is not None
    headers = {"content-type": "application/json", "idempotency-key": task.id}
    if trainer.token_env is not None:
        headers["authorization"] = f"Bearer {_variable(trainer, trainer.token_env)}"
    told = msgspec.json.encode(msgspec.structs.replace(task, data="", folder="", contract=""))
    try:
        answer = httpx2.post(trainer.webhook, content=told, headers=headers, timeout=_CALL_SECONDS)
    except httpx2.HTTPError as error:
        raise RuntimeFailed(
            f"The webhook of trainer {trainer.name!r} cannot be called: {error!r}.",
            remedy="Is it up, and reachable from where control runs?",
        ) from error
    log.add(f"The webhook answered {answer.status_code}: {answer.text[:_SHOWN]}\n".encode())
    if not answer.is_success:
        raise RuntimeFailed(
            f"The webhook of trainer {trainer.name!r} answered {answer.status_code}.",
            remedy="Its answer stands in the log: `fairlead retrain --log`.",
        )


def _wait(trainer: Trainer, task: Task, wanted: Callable[[], bool], registered: Callable[[], bool]) -> None:
    until = time.monotonic() + trainer.seconds
    while wanted() and not registered():
        if time.monotonic() > until:
            raise DeadlineExceeded(
                f"Trainer {trainer.name!r} has not registered {task.version!r} within {trainer.seconds:g} s.",
                remedy=f"Look there, or raise trainers.{trainer.name}.seconds.",
            )
        time.sleep(_LOOK_SECONDS)
