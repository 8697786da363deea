"""The demo as a newcomer starts it; and that it removes nothing of anybody else's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD_")}


@pytest.mark.drill
@pytest.mark.timeout(300)
def test_every_step_of_the_demo_holds(tmp_path: Path):
    command = [sys.executable, "-m", "fairlead", "demo", "--exit"]
    done = subprocess.run(
        command, cwd=tmp_path, env=CLEAN | {"COLUMNS": "120"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every step held." in done.stdout
    assert "✗" not in done.stdout
    assert done.stdout.count("✓") >= 15


def test_the_demo_refuses_a_folder_that_it_did_not_make(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    command = [sys.executable, "-m", "fairlead", "demo", "--exit", "--data", "mine"]
    done = subprocess.run(command, cwd=tmp_path, env=CLEAN, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no demo made" in done.stderr
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
