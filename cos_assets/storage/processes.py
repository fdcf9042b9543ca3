"""What tells a process from all others: numbers are used again, other containers use the same ones, and clocks are set.

An identity is a text: the machine (its boot, and the space of process numbers), the number, and the start in ticks
since that boot. Linux only: elsewhere nothing is known, and so no process counts as gone.
"""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")


def machine() -> str | None:
    """This boot of this machine, and the space of process numbers in it, which each container has for itself."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink(_PROC / 'self/ns/pid')}"  # noqa: PTH115 (it is no path)
    except OSError:
        return None


def identity(pid: int | None = None) -> str | None:
    """Of a process of this machine, by default of this one; None where it is gone or a zombie, or cannot be known."""
    pid = pid or os.getpid()
    try:
        state, *fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    here = machine()
    return None if here is None or state in "ZX" else f"{here} {pid} {fields[18]}"


def gone(process: object) -> bool:
    """Has the process with this identity ended? False for one of another machine, and for what is no identity."""
    here = machine()
    if here is None or not isinstance(process, str) or not process.startswith(f"{here} "):
        return False
    return identity(int(process.split()[-2])) != process
