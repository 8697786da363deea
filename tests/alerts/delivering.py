"""Processes that make alerts of looks and deliver them, to be killed at what `FAIRLEAD_KILL_AT` names.

Each line of the input is one: its variables, the database's URL, how many messages, and minutes, as JSON;
what it ended with is answered. They are forked from here, since importing takes longer than what they do.

Five hours later one looks again, and reminds. It delivers so many minutes after that, when what a killed one
had taken is free again.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from datetime import UTC, datetime, timedelta

from fairlead.alerts import alerting, channels, delivery, ledger
from fairlead.alerts.reading import read_config
from fairlead.monitoring.findings import Finding
from fairlead.monitoring.loop import LEASE, Look, Loop
from fairlead.stores import leases
from fairlead.stores.database import Database

CONFIG = read_config(
    {
        "channels": {"ops": {"type": "webhook", "url_env": "OPS_URL"}},
        "delivery": {"hosts": ["127.0.0.1"], "private": ["127.0.0.0/8"]},
        "rules": {"errors": {"channels": ["ops"], "after": "1 of 1"}},
    }
)
T0 = datetime.now(UTC)


class Eye:
    """Finds one model after the other to be failing."""

    name, seconds = "eye", 1.0

    def __init__(self, number: int) -> None:
        self.number = number

    def look(self, now: datetime) -> list[Finding]:
        return [
            Finding(
                model=f"m{each}", kind="errors", subject="failed answers", status="alarm",
                sentence="It fails.", start=now, end=now,
            )
            for each in range(self.number)
        ]  # fmt: skip


def killed_at(point: str) -> None:
    if os.environ.get("FAIRLEAD_KILL_AT") == point:
        os.kill(os.getpid(), signal.SIGKILL)


def main(url: str, number: int, minutes: int) -> None:
    database = Database(url)
    database.migrate()
    name = f"control-{os.getpid()}"
    with database.write() as connection:
        now = datetime.now(UTC)
        leases.take(connection, LEASE, name, now=now, until=now + timedelta(hours=9))
    hook(ledger, "queue", "before the message is written", "after the message is written")
    hook(channels.Webhook, "send", "before it is sent", "after it is sent")
    hook(ledger, "delivered", "before it is marked", "after it is marked")
    told = alerting.Alerting(database, CONFIG)

    def tell(look: Look, holder: str) -> None:
        told(look, holder)
        killed_at("after the look is told")

    loop = Loop(database, [], [tell], name=name)
    for each in range(number):
        loop.look(Eye(each + 1))
    later = datetime.now(UTC) + timedelta(hours=5)
    hook(ledger, "queue", "before the reminder is written", "after the reminder is written")
    Loop(database, [], [tell], name=name, clock=lambda: later).look(Eye(number))
    killed_at("after the reminder is told")
    later += timedelta(minutes=minutes)
    delivery.Deliveries(database, CONFIG, name=name, clock=lambda: later).deliver("ops")
    database.close()


def hook(owner: object, name: str, before: str, after: str) -> None:
    """Lets the process be killed before and after that function has done its work."""
    function = getattr(owner, name)

    def hooked(*args: object, **kwargs: object) -> object:
        killed_at(before)
        answer = function(*args, **kwargs)
        killed_at(after)
        return answer

    setattr(owner, name, hooked)


def serve() -> None:
    """One process after the other."""
    for line in sys.stdin:
        variables, arguments = json.loads(line)
        child = os.fork()
        if child == 0:
            os.environ.update(variables)
            status = 1
            try:
                main(*arguments)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
