"""What a model runs on: the kind of processor, and how much memory a process holds."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

__all__ = ["cpu_name", "held_bytes", "peak_bytes", "resident_bytes", "return_freed_memory"]

_PAGE = os.sysconf("SC_PAGE_SIZE")

# Widest first. Two processors with the same widest extension round alike; others may differ in the last bit.
_EXTENSIONS = ("amx_tile", "avx512f", "avx2", "avx", "sse4_2", "sve", "asimd")


def cpu_name() -> str:
    """Architecture and widest vector extension, such as `x86_64 avx2`."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    flags = next((line.split() for line in lines if line.startswith(("flags", "Features"))), [])
    return " ".join([platform.machine(), *[name for name in _EXTENSIONS if name in flags][:1]])


def resident_bytes(pid: int | str = "self") -> int:
    """Resident memory of that process in bytes, shared pages included; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_bytes().split()
    except OSError:
        return 0
    return int(fields[1]) * _PAGE if len(fields) > 1 else 0


def peak_bytes(pid: int | str = "self") -> int:
    """The most resident memory that process has had since it started its program; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text("utf-8", "replace")
    except OSError:
        return 0
    line = next((line for line in text.splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(line.split()[1]) * 1024


class _Mallinfo(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
            "keepcost",
        )
    )  # fmt: skip


def held_bytes() -> int:
    """Bytes that this process has allocated and not freed, of all its threads.

    Growth of resident memory says less: it counts what was freed and kept, and not what lies in pages that
    were resident already. Where the C library is no glibc from 2.33 on, this is resident memory after all.
    """
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return resident_bytes()
    mallinfo.restype = _Mallinfo
    found = mallinfo()
    return int(found.uordblks + found.hblkhd)


def return_freed_memory() -> None:
    """Gives freed heap pages back to the system.

    glibc keeps what a model of some tens of megabytes frees for the next allocation of its size, which a
    gateway that unloads versions may never make. Other C libraries are left to themselves.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
