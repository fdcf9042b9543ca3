"""The processor cores that this process may use, and locks that share them among all processes of this user."""

from __future__ import annotations

import fcntl
import math
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_POLL = 0.005  # seconds


def usable_cores() -> int:
    """Return the number of cores of the affinity mask (taskset, Slurm), or fewer if a cgroup (container) limits it.

    Examples
    --------
    >>> usable_cores() >= 1
    True
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, _quota())))


def _quota() -> float:
    """Return the processor seconds per second that the cgroups of this process allow; infinity without a limit.

    Versions 1 and 2 of cgroups are supported.
    """
    try:
        lines = _OWN.read_text().splitlines()
    except OSError:
        return math.inf
    found = [math.inf]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = _CGROUPS / controllers if controllers else _CGROUPS
        own = root / path.lstrip("/")
        for folder in (own, *own.parents):
            if folder.is_relative_to(root):
                found.append(_limit(folder))
    return min(found)


def _limit(folder: Path) -> float:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if quota != "max" and int(quota) > 0 else math.inf
    except (OSError, ValueError):
        return math.inf


@contextmanager
def core(*, alone: bool = False) -> Iterator[None]:
    """Hold one of the usable cores while a program runs; with `alone`, hold all of them.

    Each core is a locked file. The jobs of one run, and of several runs together, therefore start at most as many
    programs as there are cores.

    Raises
    ------
    PermissionError
        If another user owns the folder of these files.

    Examples
    --------
    >>> with core():
    ...     print("one core is held")
    one core is held
    """
    folder = Path(tempfile.gettempdir(), f"cos-cores-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user; remove it, or set TMPDIR to a folder of your own")
    with ExitStack() as stack:
        files = [stack.enter_context((folder / str(n)).open("w")) for n in range(usable_cores())]
        if alone:
            for file in files:
                fcntl.flock(file, fcntl.LOCK_EX)
        else:
            while not any(_take(file.fileno()) for file in files):
                time.sleep(_POLL)
        yield


def _take(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
