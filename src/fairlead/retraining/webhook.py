"""A trainer that works elsewhere: how it is told to begin. What it says then, it says by `handing.py`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import httpx2
import msgspec

from fairlead.errors import InvalidRetraining, RuntimeFailed
from fairlead.retraining.policy import Trainer
from fairlead.retraining.task import Task

__all__ = ["call", "variable"]

_CALL_SECONDS = 10.0
_PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Between the calls, where one did not get through."""
_STEP_SECONDS = 0.5
_SHOWN = 2_000
_BUSY = (408, 425, 429)


def call(
    trainer: Trainer, task: Task, token: str, say: Callable[[str], None], wanted: Callable[[], bool]
) -> None:
    """Tells the webhook of the job, and returns once it has taken it, or is not `wanted` any more.

    It is sent the task as JSON, with the `token` by which it may fetch the rows, say how it goes and hand
    in; never along a redirect. Where it does not answer, or answers that it cannot now (5xx, 408, 425, 429),
    it is called again, five times in all, under the same `Idempotency-Key`. `say` gets a line for each call.
    Raises `RuntimeFailed` when it has not taken it, and `InvalidRetraining` for a variable that is not set.
    """
    assert trainer.webhook is not None
    headers = {"content-type": "application/json", "idempotency-key": task.id}
    if trainer.token_env is not None:
        headers["authorization"] = f"Bearer {variable(trainer, trainer.token_env)}"
    told = msgspec.json.encode(_elsewhere(trainer, task, token))
    for pause in (*_PAUSES, None):
        problem, again = _try(trainer.webhook, told, headers, say)
        if problem is None or not wanted():
            return
        if not again or pause is None:
            raise RuntimeFailed(
                f"The webhook of trainer {trainer.name!r} {problem}.",
                remedy="Is it up, and reachable from where control runs? `fairlead retrain --log` has its "
                "answers.",
            )
        _rest(pause, wanted)
        if not wanted():
            return


def variable(trainer: Trainer, name: str) -> str:
    """The value of a variable of control's environment that the trainer's settings name; raises
    `InvalidRetraining`."""
    value = os.environ.get(name)
    if value is None:
        raise InvalidRetraining(
            f"Trainer {trainer.name!r} asks for the variable {name}, which control's environment lacks.",
            remedy="Set it where control runs, and restart control.",
        )
    return value


def _elsewhere(trainer: Trainer, task: Task, token: str) -> Task:
    """The task as it is told to somebody without this machine's files."""
    address = (trainer.back or task.admin_url).rstrip("/")
    door = f"{address}/api/v1/models/{task.model}/retrainings/{task.id}"
    return msgspec.structs.replace(
        task, data="", folder="", contract="", admin_url=address, data_url=f"{door}/data",
        log_url=f"{door}/log", result_url=f"{door}/result", token=token,
    )  # fmt: skip


def _try(
    url: str, body: bytes, headers: dict[str, str], say: Callable[[str], None]
) -> tuple[str | None, bool]:
    """What went wrong with one call, if anything, and whether another one may go well."""
    try:
        with httpx2.stream("POST", url, content=body, headers=headers, timeout=_CALL_SECONDS) as answer:
            status, words = answer.status_code, _beginning(answer)
    except httpx2.HTTPError as error:
        say(f"The webhook did not answer: {error!r}\n")
        return f"does not answer: {error!r}", True
    say(f"The webhook answered {status}: {words}\n")
    if 200 <= status < 300:
        return None, False
    if 300 <= status < 400:
        return f"leads elsewhere ({status}), and is not followed there", False
    return f"answered {status}", status >= 500 or status in _BUSY


def _beginning(answer: httpx2.Response) -> str:
    """How the answer begins; however slowly it comes, and however long it is."""
    until = time.monotonic() + _CALL_SECONDS
    held = bytearray()
    try:
        for piece in answer.iter_bytes():
            held += piece
            if len(held) >= _SHOWN or time.monotonic() > until:
                break
    except httpx2.HTTPError:
        held += "… (it broke off)".encode()
    return bytes(held[:_SHOWN]).decode("utf-8", "replace")


def _rest(seconds: float, wanted: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while wanted() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _STEP_SECONDS))
