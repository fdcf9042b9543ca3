"""Sampling that is killed continues where it stopped, and ends with the same completions."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import polars as pl

SCRIPT = """
    import sys
    from pathlib import Path
    import torch
    from cos_assets.storage import tables
    from cos_assets import tasks
    from cos_assets import tiny
    from cos_assets.generation import generate as purchase
    from cos_assets.generation.model import resolve
    from cos_assets.generation.types import Sampling
    from cos_assets.training.sft_sets import prompts

    torch.set_num_threads(1)
    purchase.FLUSH_ROWS = 60
    task = tasks.make({"name": "arithmetic", "train": 60, "validation": 1, "test": 1})
    problems = task.load()
    asked = prompts(task, problems.filter(problems["split"] == "train"))
    model = resolve(str(tiny.shipped("wc")), engine="transformers", options={"batch_size": 30})
    sampling = Sampling(temperature=0.7, top_k=3, max_tokens=56)
    bought = purchase.generate(model, asked, 10, sampling, purchase.Buyer(Path(sys.argv[1]), "s", "sampling"))
    print(bought.new, tables.content_hash(bought.rows))
"""


def start(root: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(root)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(root: Path) -> tuple[int, str]:
    output, _ = start(root).communicate()
    new, digest = output.split()
    return int(new), digest


def parts(root: Path) -> list[Path]:
    return sorted(root.rglob("part-*.parquet"))


def test_sampling_after_two_kills_keeps_the_written_parts_and_ends_equal(tmp_path: Path) -> None:
    everything, wanted = finish(tmp_path / "undisturbed")
    assert everything == 600
    root = tmp_path / "killed"
    seen = 0
    for _ in range(2):
        process = start(root)
        while len(parts(root)) < seen + 2:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        seen = len(parts(root))
    written = pl.concat([pl.read_parquet(part) for part in parts(root)]).height
    for journal in root.rglob(".journal-*"):  # usually of a part that was not yet written
        if not journal.with_name(journal.stem.removeprefix(".journal-")).exists():
            written += journal.read_text().count("}\n")
    assert 0 < written < 600
    bought, digest = finish(root)
    assert bought == 600 - written
    assert digest == wanted
    rows = pl.concat([pl.read_parquet(part) for part in parts(root)])
    assert rows.height == rows.select("prompt_hash", "sample_index").n_unique() == 600
    assert finish(root) == (0, wanted)
