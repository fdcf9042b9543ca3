"""Checkpoint selection: write candidates as model folders, score them on validation problems and choose the best."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cos_assets.generation import compute, loaded
from cos_assets.training.job import Base, write_json
from cos_assets.training.loop import Checkpoint


@dataclass(frozen=True)
class Candidate:
    learning_rate: float
    checkpoint: Checkpoint

    @property
    def key(self) -> str:
        return f"{self.learning_rate!r}/{self.checkpoint.step}"


def score(
    candidates: Sequence[Candidate],
    base: Base,
    evaluate: Callable[[Path], float],
    remember: Path,
    on_progress: Callable[[int, int], None],
) -> dict[str, float]:
    """Return the validation accuracy by candidate key, computed by `evaluate(folder)`.

    Candidates whose loss is not finite are not evaluated. Scores are cached in the file `remember`, and a cached
    candidate is not evaluated again. Only one candidate's folder is on disk at a time. Raises ValueError for an
    accuracy that is not finite.
    """
    scores: dict[str, float] = json.loads(remember.read_text(encoding="utf-8")) if remember.exists() else {}
    for number, candidate in enumerate(candidates):
        on_progress(number, len(candidates))
        if candidate.key in scores or candidate.checkpoint.diverged:
            continue
        into = candidate.checkpoint.folder / "candidate"
        accuracy = float(evaluate(assemble(candidate, base, into)))
        if not math.isfinite(accuracy):
            raise ValueError(f"evaluate: returned {accuracy} for {candidate.key}; allowed: a finite accuracy")
        scores[candidate.key] = accuracy
        write_json(remember, scores)
        shutil.rmtree(into)
    on_progress(len(candidates), len(candidates))
    return scores


def best(candidates: Sequence[Candidate], scores: dict[str, float] | None) -> Candidate:
    """Return the candidate with the highest score. Ties go to the earlier step, then to the smaller learning rate.

    Without scores, return the last candidate. Raises ValueError when the training has diverged: with scores, if no
    candidate has one; without scores, if the loss of the last candidate is not finite.
    """
    if scores is None:
        usable = [] if candidates[-1].checkpoint.diverged else [candidates[-1]]
    else:
        usable = [c for c in candidates if c.key in scores]
    if not usable:
        tried = sorted({c.learning_rate for c in candidates})
        raise ValueError(f"learning_rate: {tried}: the loss is no longer finite; choose a lower rate")
    if scores is None:
        return usable[0]
    return min(usable, key=lambda c: (-scores[c.key], c.checkpoint.step, c.learning_rate))


def assemble(candidate: Candidate, base: Base, into: Path) -> Path:
    """Write the candidate to `into/model` with the tokenizer, dtype and `use_cache` of its base; return that folder.

    If it is an adapter, `into/model` contains the merged weights and `into/adapter` the adapter alone. The merge is in
    fp32.
    """
    import torch

    shutil.rmtree(into, ignore_errors=True)
    checkpoint = candidate.checkpoint.folder
    if (checkpoint / "adapter_config.json").is_file():
        from peft import PeftModel

        model: Any = PeftModel.from_pretrained(base.load(torch.float32), str(checkpoint))
        model.save_pretrained(str(into / "adapter"))
        model = model.merge_and_unload()
    else:
        model = Base(str(checkpoint)).load(torch.float32)
    original = base.config()
    model.to(original.dtype or torch.float32)
    # The Trainer turns the cache off, and a model saved without it generates many times slower.
    model.config.use_cache = getattr(original, "use_cache", True)
    folder = into / "model"
    model.save_pretrained(folder)
    base.tokenizer().save_pretrained(folder)
    large = loaded.worth_keeping(model.num_parameters())
    del model
    if large:
        compute.give_back_memory()
    return folder
