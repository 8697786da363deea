"""Trainers as processes: ended with all that they have begun, bounded in time, memory and words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from fairlead.errors import DeadlineExceeded, RuntimeFailed
from fairlead.retraining.log import Log
from fairlead.retraining.policy import Trainer
from fairlead.retraining.process import run_command
from tests.waiting import has_ended, wait_until


def run(tmp_path: Path, code: str, *, wanted: Any = lambda: True, **limits: Any) -> str:
    trainer = Trainer(name="t", command=("x",), folder=str(tmp_path), **limits)
    log = Log()
    try:
        run_command((sys.executable, "-c", code), trainer, dict(os.environ), log, wanted)
    finally:
        run.log = log.text()  # type: ignore[attr-defined]
    return log.text()


def gone(file: Path) -> bool:
    return has_ended(int(file.read_text()))


CHILD = "import os, subprocess, sys; subprocess.Popen([sys.executable, '-c', {!r}]);"
LONG = "import os, time; open('child', 'w').write(str(os.getpid())); time.sleep(600)"


def test_what_it_says_is_kept_and_it_runs_niced(tmp_path: Path) -> None:
    said = run(tmp_path, "import os, sys; print('größe', os.nice(0)); print('err', file=sys.stderr)", nice=13)
    assert sorted(said.split()) == sorted(["größe", str(os.nice(0) + 13 if os.nice(0) < 7 else 19), "err"])


def test_one_that_fails_says_how(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailed, match="ended with status 3"):
        run(tmp_path, "raise SystemExit(3)")
    with pytest.raises(RuntimeFailed, match="died of SIGSEGV"):
        run(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(RuntimeFailed, match="not there"):
        run(tmp_path / "none", "pass")


def test_a_command_that_is_not_there_is_said_to_be(tmp_path: Path) -> None:
    log = Log()
    trainer = Trainer(name="t", command=("no-such-program",), folder=str(tmp_path))
    with pytest.raises(RuntimeFailed, match="status 127"):
        run_command(trainer.command, trainer, dict(os.environ), log, lambda: True)
    assert "'no-such-program' cannot be started" in log.text()


def test_one_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    with pytest.raises(DeadlineExceeded, match=r"longer than 1\.5 s"):
        run(tmp_path, CHILD.format(LONG) + "import time; time.sleep(600)", seconds=1.5)
    wait_until(lambda: gone(tmp_path / "child"), 5)


def test_children_that_outlive_a_trainer_are_ended(tmp_path: Path) -> None:
    wait = "import time\nwhile not os.path.exists('child'): time.sleep(0.01)"
    run(tmp_path, CHILD.format(LONG) + wait)
    wait_until(lambda: gone(tmp_path / "child"), 5)


def test_one_whose_child_takes_too_much_memory_is_ended(tmp_path: Path) -> None:
    hungry = "x = bytearray(300_000_000); import time; time.sleep(600)"
    with pytest.raises(RuntimeFailed, match="more than 150 MB"):
        run(tmp_path, CHILD.format(hungry) + "import time; time.sleep(600)", memory_mb=150.0)


def test_one_that_nobody_wants_may_tidy_up_and_is_ended(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time\n"
        "def tidy(*_): print('tidied', flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, tidy); open('ready', 'w').close(); time.sleep(600)"
    )
    assert run(tmp_path, code, wanted=lambda: not (tmp_path / "ready").exists()) == "tidied\n"


def test_one_that_will_not_stop_is_made_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.retraining.process._GRACE_SECONDS", 0.3)
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + LONG
    run(tmp_path, code, wanted=lambda: not (tmp_path / "child").exists())
    wait_until(lambda: gone(tmp_path / "child"), 5)


def test_when_control_is_killed_its_trainers_end_with_their_children(tmp_path: Path) -> None:
    control = (
        "import os, sys\n"
        "from fairlead.retraining.policy import Trainer\n"
        "from fairlead.retraining.log import Log\n"
        "from fairlead.retraining.process import run_command\n"
        f"code = {CHILD.format(LONG) + 'import time; time.sleep(600)'!r}\n"
        f"trainer = Trainer(name='t', command=('x',), folder={str(tmp_path)!r})\n"
        "run_command((sys.executable, '-c', code), trainer, dict(os.environ), Log(), lambda: True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", control])
    wait_until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text(), 20)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: gone(tmp_path / "child"), 5)


def test_a_log_keeps_how_it_began_and_how_it_ended() -> None:
    log = Log(head=10, tail=20)
    for index in range(100):
        log.add(f"line {index:03}\n".encode())
    text = log.text()
    assert text.startswith("line 000\nl")
    assert text.endswith("line 098\nline 099\n")
    assert "872 bytes are left out" in text


def test_a_log_bears_any_bytes_from_several_threads() -> None:
    log = Log()
    threads = [threading.Thread(target=lambda: [log.add(b"a\0\xff") for _ in range(100)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.text().count("\ufffd") == 800
