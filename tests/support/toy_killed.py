"""Finetunings that kill themselves with SIGKILL, each in a separate process.

`start` forks from a server that has loaded torch and transformers once, so that processes start fast.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

STEPS = 12
_LORA = {"lora": {"r": 4, "dropout": 0.2}}  # dropout draws random numbers at every step
SETTINGS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"method": "lora", "packing": True, **_LORA},  # the check of packing must not draw random numbers
    "lean": {"gradient_checkpointing": True, "chunked_loss": True, "optimizer": "adamw_8bit"},
    "dpo": {"method": "lora", **_LORA},
    "qlora": {"method": "qlora", "gradient_checkpointing": True, **_LORA},
}
"""Settings by name. With LoRA, recomputed activations need the same dropout."""


def start_server() -> None:
    """Start the server, which loads the libraries in the background."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["transformers.trainer", "transformers.models.llama.modeling_llama", "peft"])
    forkserver.ensure_running()


def start(out: Path, base: Path, method: str, moment: str) -> int:
    """Run a finetuning in a process that kills itself at `moment`; return its exit code: -9 for SIGKILL, 0 if it
    completed."""
    process = multiprocessing.get_context("forkserver").Process(target=run, args=(out, base, method, moment))
    process.start()
    process.join(timeout=300)
    assert process.exitcode is not None
    return process.exitcode


def run(out: Path, base: Path, method: str, moment: str) -> None:
    """Finetune on sums with two learning rates; every evaluation is recorded in a file next to `out`."""
    import torch

    from cos_assets.training.settings import Finetune
    from support.toy_training import accuracy, finetune, make_rows

    torch.set_num_threads(1)
    given: dict[str, Any] = {"steps": STEPS, "batch_size": 8, "learning_rate": [2e-2, 5e-3], "checkpoints": 3}
    given |= SETTINGS[method]
    rows = make_rows(21)
    if method == "dpo":
        rows = rows.with_columns(rejected=rows["completion"].shuffle(seed=0))
    counts = _kill_at(moment)

    def evaluate(folder: Path) -> float:
        counts("evaluate")
        with out.with_suffix(".log").open("a") as log:
            log.write(f"{folder.relative_to(out)}\n")
        return accuracy(folder, rows.head(4))

    def on_progress(stage: str, done: int, total: int, tokens: int | None, loss: float | None) -> None:
        if stage == "train":
            counts(f"step {done}")

    finetune(rows, base, out, Finetune.model_validate(given), STEPS, 3, evaluate, on_progress)


def _kill_at(moment: str) -> Any:
    """Set up SIGKILL for one moment; the returned function counts events without a hook."""
    import torch

    what, _, number = moment.partition(" #")
    seen = 0

    def event(name: str, last_act: Callable[[], Any] = lambda: None) -> None:
        nonlocal seen
        seen += name == what
        if seen == int(number or 1):
            last_act()
            os.kill(os.getpid(), signal.SIGKILL)

    save, replace = torch.save, os.replace

    def torch_save(value: Any, path: str, *args: Any, **kwargs: Any) -> None:
        save(value, path, *args, **kwargs)
        whole = Path(path).read_bytes()
        event(f"half of {Path(path).name}", lambda: Path(path).write_bytes(whole[: len(whole) // 2]))

    def os_replace(source: Any, target: Any, *args: Any, **kwargs: Any) -> None:
        event(f"before {Path(target).name}")
        replace(source, target, *args, **kwargs)
        event(f"after {Path(target).name}")

    torch.save, os.replace = torch_save, os_replace
    return event
