"""What the machine says about itself."""

from __future__ import annotations

import os
import platform

from fairlead.runtimes.machine import cpu_name, held_bytes, peak_bytes, resident_bytes


def test_the_processor_is_named_by_its_architecture() -> None:
    assert cpu_name().split()[0] == platform.machine()


def test_memory_of_a_process_grows_with_what_it_holds_and_a_missing_process_has_none() -> None:
    before = resident_bytes(os.getpid())
    held = bytearray(b"x" * 30_000_000)
    assert resident_bytes() >= before + 25_000_000
    assert len(held) == 30_000_000
    assert resident_bytes(2**31 - 1) == 0


def test_the_most_that_a_process_has_had_stays_known_when_it_is_given_back() -> None:
    held = bytearray(b"x" * 60_000_000)
    most = resident_bytes()
    assert len(held) == 60_000_000
    del held
    assert resident_bytes() < most - 50_000_000 < peak_bytes(os.getpid())
    assert peak_bytes(2**31 - 1) == 0


def test_what_a_process_holds_is_what_it_allocated_and_has_not_freed() -> None:
    before = held_bytes()
    large, small = bytearray(30_000_000), [bytearray(1_000) for _ in range(10_000)]
    assert 40_000_000 <= held_bytes() - before < 45_000_000
    del large, small
    assert held_bytes() - before < 5_000_000
