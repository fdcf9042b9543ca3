"""Unique identities of processes. Process numbers are reused and repeat across containers, and clocks can be set.

An identity is a text: the machine (its boot id and its namespace of process numbers), the process number, and the
start time in ticks since that boot. Linux only: elsewhere identities are unknown, so no process counts as gone.
"""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")


def machine() -> str | None:
    """Return this boot of this machine and the namespace of process numbers, of which each container has its own."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink(_PROC / 'self/ns/pid')}"  # noqa: PTH115 (it is no path)
    except OSError:
        return None


def identity(pid: int | None = None) -> str | None:
    """Return the identity of a process of this machine, by default this one. None if it has ended, is a zombie, or is
    unknown."""
    pid = pid or os.getpid()
    try:
        state, *fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    here = machine()
    return None if here is None or state in "ZX" else f"{here} {pid} {fields[18]}"


def gone(process: object) -> bool:
    """Return whether the process with this identity has ended. False for a process of another machine and for
    anything that is not an identity."""
    here = machine()
    if here is None or not isinstance(process, str) or not process.startswith(f"{here} "):
        return False
    number, _, started = process.removeprefix(f"{here} ").partition(" ")
    return number.isdecimal() and started.isdecimal() and identity(int(number)) != process
