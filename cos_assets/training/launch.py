"""Training in separate processes, one per GPU: write the job, start the processes and follow their progress.

All communication goes through files in the training's folder: rows and settings, progress, checkpoints, output, and
the error if the training fails. `worker` contains the code of the processes. Their GPU memory is free after they end.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cos_assets.training.job import Job, write_json
from cos_assets.training.loop import Checkpoint, OnStep, complete_checkpoints, ended
from cos_assets.training.settings import Finetune

JOB = "job"
RATE, PROGRESS, LOG, ERROR = "learning_rate.json", "progress.json", "output.log", "error.txt"
EVERY = 0.2  # seconds between two checks of the progress, and of the parent process
_TAIL = 3000  # characters


def train_apart(folder: Path, job: Job, learning_rate: float, on_step: OnStep) -> list[Checkpoint]:
    """Run `loop.train` in `job.settings.num_processes` separate processes.

    The processes end with the training. Without GPUs they share the CPU. Raises ValueError if this machine has GPUs,
    but fewer than processes. Raises RuntimeError, with the end of their output, when a process fails; the next call
    resumes from the last complete checkpoint.
    """
    done = complete_checkpoints(folder)
    if not ended(done, job.steps):
        check_gpus(job.settings)
        inbox = folder / JOB
        shutil.rmtree(inbox, ignore_errors=True)
        job.write(inbox)
        write_json(inbox / RATE, learning_rate)
        command = [sys.executable, "-m", "cos_assets.training.worker", "launch", str(folder), str(os.getpid())]
        with _followed(inbox / PROGRESS, on_step):
            try:
                subprocess.run(command, check=True)
            except subprocess.CalledProcessError as error:
                raise RuntimeError(f"num_processes: {job.settings.num_processes}: {_why(inbox, error)}") from error
        done = complete_checkpoints(folder)
    on_step(job.steps, done[-1].loss)
    return done


def check_gpus(settings: Finetune) -> None:
    """Raise ValueError if `num_processes` exceeds the GPUs of this machine. Without any GPU, the CPU is used."""
    import torch

    if torch.cuda.is_available() and (settings.num_processes or 1) > (found := torch.cuda.device_count()):
        raise ValueError(f"num_processes: {settings.num_processes} is more than the {found} GPUs of this machine")


def wait_for_others(folder: Path) -> None:
    """Wait until no process of a training in `folder` is left.

    The processes end shortly after the run that started them, but not immediately (see `join`).
    """
    with (folder / ".processes").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


def join(folder: Path, parent: int, last: Callable[[], object] = lambda: None) -> None:
    """Register this process as part of a training in `folder`, and exit when its parent process exits, after `last`.

    The lock is taken before the parent is checked. After the parent's death, a caller of `wait_for_others` therefore
    either waits for this process too, or this process exits here.
    """
    lock = os.open(folder / ".processes", os.O_RDWR | os.O_CREAT)  # held until the process ends
    fcntl.flock(lock, fcntl.LOCK_SH)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(EVERY)
        last()
        os._exit(1)

    if os.getppid() != parent:
        last()
        os._exit(1)
    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _followed(progress: Path, on_step: OnStep) -> Iterator[None]:
    """Call `on_step` with each new step in the file `progress` while the block runs."""
    over = threading.Event()

    def follow() -> None:
        last = 0
        while not over.wait(EVERY):
            with suppress(FileNotFoundError):
                known = json.loads(progress.read_text(encoding="utf-8"))
                if known["step"] != last:
                    on_step(last := known["step"], known["loss"])

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _why(inbox: Path, error: Exception) -> str:
    """Return the message of the first failed process (else of `error`) and the end of the processes' output."""
    said, tail = inbox / ERROR, tail_of(inbox / LOG)
    first = said.read_text(encoding="utf-8") if said.exists() else str(error)
    return f"{first}\n{tail}" if tail else first


def tail_of(log: Path) -> str:
    """Return the end of a log, or "" if there is none."""
    return log.read_text(encoding="utf-8", errors="replace")[-_TAIL:] if log.exists() else ""
