"""A finetuning in two separate processes, started as a program: `python -m support.toy_apart OUT BASE` in tests/."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from cos_assets.training.settings import Finetune
from cos_assets.training.sft import Trained
from support.toy_training import finetune, make_rows

STEPS = 160
Progress = Callable[[str, int, int], None]


def train(out: Path, base: Path, method: str = "full", processes: int | None = 2, *rest: Any, **more: Any) -> Trained:
    given: dict[str, Any] = {"steps": STEPS, "batch_size": 8, "learning_rate": 2e-3, "checkpoints": 4}
    given |= {"method": method, "num_processes": processes, "gradient_accumulation": 2}
    if method == "lora":
        given["lora"] = {"r": 4, "dropout": 0.1}  # each process draws random numbers at every step
    return finetune(make_rows(40), base, out, Finetune.model_validate(given), STEPS, 3, None, *rest, **more)


def processes_of(out: Path, role: str = "") -> list[psutil.Process]:
    """The processes that train in `out`."""
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        here = "cos_assets.training.worker" in command and any(part.startswith(str(out)) for part in command)
        if here and (not role or role in command):
            found.append(process)
    return found


if __name__ == "__main__":
    train(Path(sys.argv[1]), Path(sys.argv[2]), "lora")
