"""Threads that decode the same struct for the first time at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

DECODE = """
import threading, time, msgspec
from fairlead.contracts.structs import prepare_structs

def slowly():
    time.sleep(0.05)
    return int

class Inner(msgspec.Struct):
    third: "slowly()"

class Outer(msgspec.Struct):
    inner: Inner
    first: int

class Odd(msgspec.Struct):
    never: "nowhere_to_be_found"

def decode(late):
    time.sleep(late)
    assert msgspec.json.decode(b'{"inner": {"third": 3}, "first": 1}', type=Outer).first == 1

prepare = {prepare}
threads = [threading.Thread(target=decode, args=(number / 100,)) for number in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(prepare)
"""


@pytest.mark.parametrize("prepare", ["prepare_structs()", "prepare_structs() and prepare_structs()"])
def test_what_was_prepared_is_decoded_by_many_threads_and_what_cannot_be_is_left_alone(prepare: str) -> None:
    code = DECODE.replace("{prepare}", prepare)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 2
