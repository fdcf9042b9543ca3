"""The estimate of a training's memory against the measured peak of a process, for SmolLM2-135M-Instruct."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_MEASURE = """
import json, sys
from pathlib import Path
import numpy as np
import polars as pl
import torch
from cos_assets.training import loop
from cos_assets.training.data import Collator, Row
from cos_assets.training.job import Base, Job, Prepared
from cos_assets.training.settings import Finetune

model, out, settings, length = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4])
settings = Finetune(steps=2, batch_size=4, checkpoints=1, **settings)
rows = [Row(np.arange(100, 100 + length), 1) for _ in range(4)]
prepared = Prepared(rows, 0, np.zeros((2, 4), dtype=np.int64), Collator(0))
loop.train(out, Job(pl.DataFrame(), Base(model), settings, 2, 0), 1e-5, prepared, lambda step, loss: None)
# Not ru_maxrss, which begins with the size of the process that started this one.
print(1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]))
"""


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gradient_checkpointing": True, "chunked_loss": True},
        {"method": "lora"},
    ],
    ids=["full", "full, with less memory", "lora"],
)
def test_the_estimate_is_within_15_percent_of_the_measured_peak(
    smollm2: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    from cos_assets.training import memory
    from cos_assets.training.settings import Finetune

    settings = {"precision": "fp32", "gradient_checkpointing": False, "chunked_loss": False, **settings}
    known = memory.estimate(str(smollm2), None, Finetune(steps=2, batch_size=4, **settings), 192, False)
    assert known is not None
    command = [sys.executable, "-c", _MEASURE, str(smollm2), str(tmp_path), json.dumps(settings), "192"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert known.total == pytest.approx(float(done.stdout.split()[-1]), rel=0.15)
