"""Worker processes of a multi-process training: `python -m cos_assets.training.worker launch|train FOLDER PARENT`.

One `launch` process starts the `train` processes through accelerate, as `accelerate launch` does, and ends all of them
when one fails. Each `train` process reads the job in FOLDER and trains on its share of every batch. All processes exit
when their parent process exits; PARENT is the parent's process id.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from cos_assets.generation.compute import JOBS, jobs
from cos_assets.progress import no_progress_bars
from cos_assets.training.job import Job, prepare, write_json
from cos_assets.training.launch import ERROR, EVERY, JOB, LOG, PROGRESS, RATE, join
from cos_assets.training.loop import OnStep, marked_checkpoints, train_on


def main(what: str, folder: Path, parent: int) -> None:
    join(folder.parent, parent)
    if what == "launch":
        _launch(folder)
    else:
        _train(folder)


def _launch(folder: Path) -> None:
    output = os.open(folder / JOB / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    import torch
    from accelerate.commands.launch import launch_command_parser, multi_gpu_launcher
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    job = Job.read(folder / JOB)
    os.environ[JOBS] = str(jobs() * (job.settings.num_processes or 1))  # the processes share the cores
    os.environ["ACCELERATE_USE_CPU"] = str(not torch.cuda.is_available())
    options = {
        "num_processes": job.settings.num_processes,
        "num_machines": 1,
        "gpu_ids": "all",  # all GPUs in CUDA_VISIBLE_DEVICES
        "mixed_precision": "no",  # mixed precision is set in the Trainer's arguments
        "dynamo_backend": "no",
        "num_cpu_threads_per_process": 1,
        "main_process_port": 0,
    }
    given = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    own = ["--module", "cos_assets.training.worker", "train", str(folder), str(os.getpid())]
    arguments = launch_command_parser().parse_args([*given, *own])
    arguments.standalone = True  # the launcher's store holds its port, so no other process can take it
    # `launch_command` ignores num_processes on a CPU (it starts one process) and reads the user's configuration.
    try:
        multi_gpu_launcher(arguments)
    except ChildFailedError as error:
        # A killed process cannot report its end, and the others only see a lost peer. The launcher sends SIGTERM.
        for rank, failure in error.failures.items():
            if failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM:
                why = f"process {rank} was ended by {failure.signal_name()}"
                (folder / JOB / ERROR).write_text(why, encoding="utf-8")
        raise SystemExit(1) from None  # no traceback, so that the log ends with the processes' output


def _train(folder: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's handler would wait for the other processes
    inbox = folder / JOB
    try:
        job = Job.read(inbox)
        learning_rate = json.loads((inbox / RATE).read_text(encoding="utf-8"))
        with no_progress_bars():
            _work(folder, job, learning_rate)
    except Exception as error:
        # Only the first failure is the cause; the other processes fail because of it.
        with suppress(FileExistsError), (inbox / ERROR).open("x", encoding="utf-8") as file:
            file.write(f"{type(error).__name__}: {error}")
        raise


def _work(folder: Path, job: Job, learning_rate: float) -> None:
    # The run has removed unmarked checkpoints; no process trains before all have started.
    done = marked_checkpoints(folder)
    on_step = _noted(folder / JOB / PROGRESS) if _is_main() else lambda step, loss: None
    train_on(folder, job, learning_rate, prepare(job), done, on_step)


def _is_main() -> bool:
    return os.environ["RANK"] == "0"


def _noted(file: Path) -> OnStep:
    """Return a function that writes the progress to a file, at most every `EVERY` seconds. The run reads it."""
    last = 0.0

    def on_step(step: int, loss: float | None) -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY:
            last = time.monotonic()
            write_json(file, {"step": step, "loss": loss})

    return on_step


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
