"""Which checkpoint is kept: every candidate as a model folder, its validation accuracy, and the best of them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cos_assets.training.loop import Base, Checkpoint, write_json


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
    method: str,
    evaluate: Callable[[Path], float],
    remember: Path,
    on_progress: Callable[[int, int], None],
) -> dict[str, float]:
    """Validation accuracy by candidate key, from `evaluate(folder)`.

    A candidate with a loss that is not finite is not evaluated. What has been evaluated stands in the file `remember`
    and is not evaluated again. One candidate's folder is on disk at a time. Raises ValueError for an accuracy that is
    no number.
    """
    scores: dict[str, float] = json.loads(remember.read_text(encoding="utf-8")) if remember.exists() else {}
    for number, candidate in enumerate(candidates):
        on_progress(number, len(candidates))
        if candidate.key in scores or candidate.checkpoint.loss is None:
            continue
        into = candidate.checkpoint.folder / "candidate"
        accuracy = float(evaluate(assemble(candidate, base, method, into)))
        if not math.isfinite(accuracy):
            raise ValueError(f"evaluate: gave {accuracy} for {candidate.key}; allowed: a finite accuracy")
        scores[candidate.key] = accuracy
        write_json(remember, scores)
        shutil.rmtree(into)
    on_progress(len(candidates), len(candidates))
    return scores


def best(candidates: Sequence[Candidate], scores: dict[str, float] | None) -> Candidate:
    """The highest score; at a tie the earlier step, then the smaller learning rate. Without scores the last candidate.

    Raises ValueError when the training has diverged: no candidate, or not the last, has a finite loss.
    """
    if scores is None:
        usable = [candidates[-1]] if candidates[-1].checkpoint.loss is not None else []
    else:
        usable = [c for c in candidates if c.key in scores]
    if not usable:
        tried = sorted({c.learning_rate for c in candidates})
        raise ValueError(f"learning_rate: {tried}: the loss is not finite any more; choose a smaller one")
    if scores is None:
        return usable[0]
    return min(usable, key=lambda c: (-scores[c.key], c.checkpoint.step, c.learning_rate))


def assemble(candidate: Candidate, base: Base, method: str, into: Path) -> Path:
    """Write the candidate to `into/model`, with its base's tokenizer, dtype and way of generating; return that folder.

    For LoRA the adapter is merged there, and stands by itself in `into/adapter`. The merge is done in fp32.
    """
    import torch

    shutil.rmtree(into, ignore_errors=True)
    checkpoint = candidate.checkpoint.folder
    if method == "lora":
        from peft import PeftModel

        adapted = PeftModel.from_pretrained(base.load(torch.float32), str(checkpoint))
        adapted.save_pretrained(str(into / "adapter"))
        model: Any = adapted.merge_and_unload()
    else:
        model = Base(str(checkpoint)).load(torch.float32)
    original = base.config()
    model.to(original.dtype or torch.float32)
    # The Trainer switches the cache off; a model saved like that would generate many times slower.
    model.config.use_cache = getattr(original, "use_cache", True)
    folder = into / "model"
    model.save_pretrained(folder)
    base.tokenizer().save_pretrained(folder)
    return folder
