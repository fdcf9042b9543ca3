"""Worker processes of a multi-process training: `python -m cos_assets.training.worker launch|train FOLDER PARENT`.

One `launch` process starts the `train` processes through accelerate, as `accelerate launch` does, and ends all of them
when one fails. Each `train` process reads the job in FOLDER and trains on its share of every batch. All processes exit
when their parent process exits; PARENT is the parent's process id.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from cos_assets.progress import no_progress_bars
from cos_assets.training.data import Scheduled
from cos_assets.training.launch import ERROR, EVERY, JOB, LOG, PROGRESS, Job, join
from cos_assets.training.loop import marked_checkpoints, train_on, write_json
from cos_assets.training.sft import training_data

SAY_EVERY = 60.0  # seconds between two lines in the run's log, besides one for every checkpoint


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
        with _reports() as say, no_progress_bars():
            _work(folder, job, say)
    except Exception as error:
        # Only the first failure is the cause; the other processes fail because of it.
        with suppress(FileExistsError), (inbox / ERROR).open("x", encoding="utf-8") as file:
            file.write(f"{type(error).__name__}: {error}")
        raise


def _work(folder: Path, job: Job, say: Callable[[str], None]) -> None:
    encoded, _, plan, collator = training_data(job.rows, job.base, job.settings, job.steps, job.seed)
    tokens = np.cumsum(np.array([len(row) for row in encoded])[plan].sum(axis=1))
    train_on(
        folder,
        job.base,
        Scheduled(encoded, plan),
        collator,
        job.settings,
        marked_checkpoints(folder),  # the run has removed unmarked ones; no process trains before all have started
        steps=job.steps,
        learning_rate=job.learning_rate,
        seed=job.seed,
        on_step=lambda step: None,
        callbacks=[_progress(folder / JOB / PROGRESS, tokens, say)] if _is_main() else [],
    )


def _is_main() -> bool:
    return os.environ["RANK"] == "0"


@contextmanager
def _reports() -> Iterator[Callable[[str], None]]:
    """Yield a function that writes a line to the run's log: by Dagster Pipes in a Dagster run, else with `print`.

    Only the main process uses Dagster Pipes.
    """
    from dagster_pipes import PipesEnvVarParamsLoader, open_dagster_pipes

    if _is_main() and PipesEnvVarParamsLoader().is_dagster_pipes_process():
        with open_dagster_pipes() as pipes:
            yield pipes.log.info
    else:
        yield print


def _progress(file: Path, tokens: np.ndarray, say: Callable[[str], None]) -> Any:
    """Return a Trainer callback that writes the current step to `file` and reports progress with `say`.

    `tokens` holds, for each step, the cumulative number of tokens up to and including that step.
    """
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.first, self.began = state.global_step, time.monotonic()
            self.noted = self.said = self.began

        def on_step_end(self, args: Any, state: Any, control: Any, lr_scheduler: Any = None, **_: Any) -> None:
            now, self.rate = time.monotonic(), lr_scheduler.get_last_lr()[0]
            if now - self.noted >= EVERY:
                self.noted = now
                write_json(file, {"step": state.global_step})
            if now - self.said >= SAY_EVERY:
                self._say(state)

        def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if "loss" in state.log_history[-1]:  # logs at checkpoints have a loss; the final log does not
                self._say(state)

        def _say(self, state: Any) -> None:
            self.said = time.monotonic()
            step, seconds = state.global_step, self.said - self.began
            before = tokens[self.first - 1] if self.first else 0
            left = seconds / (step - self.first) * (len(tokens) - step)
            known = [entry for entry in state.log_history if "loss" in entry]
            learned = "" if not known else f", loss {known[-1]['loss']:.4f} at step {known[-1]['step']:,}"
            speed = (tokens[step - 1] - before) / seconds
            say(
                f"training: step {step:,} of {len(tokens):,}{learned}, learning rate now {self.rate:.3g}, "
                f"{speed:,.0f} tokens/s, {left:,.0f} s left"
            )

    return Progress()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
