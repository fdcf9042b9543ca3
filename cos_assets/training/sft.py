"""Supervised finetuning on rows of prompt and completion, with selection of the checkpoint that validates best."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cos_assets.generation import adapters
from cos_assets.generation.model import count_parameters, hash_folder, is_model
from cos_assets.progress import no_progress_bars
from cos_assets.training import hosted
from cos_assets.training.checkpoint_selection import Candidate, assemble, best, score
from cos_assets.training.data import IGNORE, SCHEDULE, Objective, objective_of, parts_of, trained_on
from cos_assets.training.external import train_outside
from cos_assets.training.job import Job, prepare, write_json
from cos_assets.training.launch import train_apart, wait_for_others
from cos_assets.training.loop import OnStep, marked_checkpoints, train

_log = logging.getLogger(__name__)
DONE = "DONE.json"


class OnProgress(Protocol):
    def __call__(self, stage: str, done: int, total: int, tokens: int | None, loss: float | None) -> None: ...


@dataclass(frozen=True)
class Trained:
    """A finetuned model and the cost of its training. Tokens, FLOPs and seconds are totals over all learning rates."""

    path: Path
    """The model's folder. For LoRA it contains the merged model, and the folder `adapter` next to it the adapter. For a
    fine-tuning API it contains the name of the served model, and what the API does not tell is None."""
    hash: str
    """SHA-256 of the model's files."""
    base: str
    method: str
    steps: int
    learning_rate: float | None
    chosen_step: int
    validation_accuracy: float | None
    """Validation accuracy of the chosen checkpoint; None if nothing was evaluated."""
    tokens: int | None
    """Tokens of prompts and completions, counted each time they are trained on, without padding. For an external
    trainer, those that it tells, else those of steps x batch_size rows."""
    completion_tokens: int | None
    """The part of `tokens` that the loss covers."""
    flops: float | None
    seconds: float
    """Training time, without evaluation and without steps that were lost to a kill."""
    examples: int
    """Rows trained on."""
    too_long: int
    """Rows left out because they are longer than `max_length` or the model's context."""
    epochs: float
    """The average number of times that each row was trained on, at one learning rate."""
    curve: list[dict[str, Any]]
    """Per learning rate and checkpoint: learning_rate, step, loss (mean in nats per completion token since the previous
    checkpoint; None if not finite), validation_accuracy."""
    inputs: str
    """SHA-256 of the inputs of the training: rows, settings, steps and seed."""


def finetune(
    job: Job,
    out: Path,
    evaluate: Callable[[Path], float] | None = None,
    on_progress: OnProgress | None = None,
) -> Trained:
    """Finetune the job's base on its rows and keep the best checkpoint in `out`.

    `evaluate` gets a folder that `from_pretrained` loads and returns the accuracy on validation problems. It is called
    for every checkpoint of every learning rate. The best checkpoint is kept as `out/model`, with its tokenizer, in the
    base model's dtype. Ties go to the earlier step, then to the smaller learning rate. Without `evaluate` the last
    checkpoint is kept. `on_progress(stage, done, total, tokens, loss)` is called with the stages "train" (steps, the
    tokens that they trained on, and the loss at the last checkpoint) and "validate" (checkpoints, None, None).

    `out` must be used for these inputs only. `DONE.json` is written last; if it exists, nothing is trained. After a
    kill, the same call resumes from the last complete checkpoint. On a CPU with one thread, the resumed training gives
    the same bits as an uninterrupted one. A file lock makes a second process wait for the first.

    With `method: hosted`, an API trains (see `hosted`), and nothing is evaluated, because there is one candidate.

    With `num_processes`, each learning rate is trained in that many separate processes (see `launch.train_apart`, also
    for its errors). A killed training may be resumed with another number of processes.

    Raises ValueError for rows that cannot be trained on (see `data.encode`), a base that is an adapter, steps below 1,
    a seed outside 0 to 2**32 - 1, a grid of learning rates without `evaluate`, an accuracy that is not finite, a
    training without a finite loss (see `checkpoint_selection.best`), or an `out` that holds a training of other inputs.
    """
    from filelock import FileLock

    settings, base = job.settings, job.base
    if adapters.find(base.name):
        raise ValueError(
            f"model: {base.name!r} is an adapter, which cannot be finetuned; give the merged model's folder"
        )
    if job.steps < 1:
        raise ValueError(f"steps: {job.steps}; allowed: 1 or more")
    if not 0 <= job.seed < 2**32:
        raise ValueError(f"seed: {job.seed}; allowed: 0 to 2**32 - 1")
    if evaluate is None and len(settings.learning_rates) > 1:
        raise ValueError(f"learning_rate: {settings.learning_rates} needs a validation split to select from; give one")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / ".lock"), no_progress_bars():
        return _finetune(job, out, evaluate, on_progress or _silent)


def read(out: Path) -> Trained | None:
    """Read the result of `finetune` in `out`; None unless the training has ended."""
    try:
        facts = json.loads((Path(out) / DONE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Trained(path=Path(out) / "model", **facts)


def _finetune(job: Job, out: Path, evaluate: Callable[[Path], float] | None, on_progress: OnProgress) -> Trained:
    work = out / "work"
    inputs = _inputs(job)
    _forget_damaged(out)
    _claim(out, work, inputs)
    if not (out / DONE).exists():
        if not (work / DONE).exists():
            write_json(work / DONE, _make(job, work, evaluate, on_progress, inputs) | {"inputs": inputs})
        _keep(work, out)
    shutil.rmtree(work, ignore_errors=True)
    trained = read(out)
    assert trained is not None
    return trained


def _make(
    job: Job, work: Path, evaluate: Callable[[Path], float] | None, on_progress: OnProgress, inputs: str
) -> dict[str, Any]:
    """Train, select a checkpoint, and write its model to `work/chosen`. Return the fields of `Trained`, as JSON."""
    if job.settings.method == "hosted":
        facts = hosted.make(
            job, work, inputs, lambda stage, step, loss: on_progress(stage, step, job.steps, None, loss)
        )
        params, tokens = job.base.params, facts["tokens"]
        return facts | {"flops": training_flops(params, tokens) if params and tokens else None}
    wait_for_others(work)
    prepared, base, settings = prepare(job), job.base, job.settings
    encoded, plan = prepared.rows, prepared.plan
    rates = settings.learning_rates
    candidates: list[Candidate] = []
    told: int | None = None  # tokens, if an external trainer counts them
    seconds, seen = 0.0, np.zeros(len(encoded), dtype=np.int64)
    for number, rate in enumerate(rates):
        folder, on_step = work / f"lr-{rate!r}", _counter(on_progress, number, len(rates), prepared.tokens_at)
        begun = marked_checkpoints(folder)
        on_step(begun[-1].step if begun else 0, None)
        if settings.method == "external":
            checkpoints, own = train_outside(folder, job, rate, on_step)
            told = own if own is None else own + (told or 0)
        elif settings.num_processes is None:
            checkpoints = train(folder, job, rate, prepared, on_step)
        else:
            checkpoints = train_apart(folder, job, rate, on_step)
        candidates += [Candidate(rate, checkpoint) for checkpoint in checkpoints]
        seconds += checkpoints[-1].seconds
        seen += np.bincount(plan[: checkpoints[-1].step].ravel(), minlength=len(encoded))
    scores = None
    if evaluate is not None:
        progress = partial(on_progress, "validate", tokens=None, loss=None)
        scores = score(candidates, base, evaluate, work / "scores.json", progress)
    chosen = best(candidates, scores)
    model = assemble(chosen, base, work / "chosen")
    adapter = model.parent / "adapter"
    adapter_params = count_parameters(adapter) if adapter.is_dir() else None
    tokens = int(seen @ [len(row) for row in encoded]) if told is None else told
    return {
        "hash": hash_folder(model),
        "base": base.name,
        "method": settings.method,
        "steps": job.steps,
        "learning_rate": chosen.learning_rate,
        "chosen_step": chosen.checkpoint.step,
        "validation_accuracy": scores[chosen.key] if scores else None,
        "tokens": tokens,
        "completion_tokens": int(seen @ [_learned(example) for example in encoded]),
        "flops": training_flops(count_parameters(model), tokens, adapter_params, objective_of(job.rows)),
        "seconds": round(seconds, 3),
        "examples": len(encoded),
        "too_long": prepared.too_long,
        "epochs": job.steps * settings.batch_size / len(encoded),
        "curve": [
            {
                "learning_rate": c.learning_rate,
                "step": c.checkpoint.step,
                "loss": c.checkpoint.loss,
                "validation_accuracy": scores.get(c.key) if scores else None,
            }
            for c in candidates
        ],
    }


def _learned(example: Any) -> int:
    return int(sum((row.labels != IGNORE).sum() for row in parts_of(example)))


def training_flops(
    params: float, tokens: float, adapter_params: float | None = None, objective: Objective = "sft"
) -> float:
    """Return the FLOPs of training on `tokens` tokens.

    Full training takes 6·P per token, 2·P forward and 4·P backward (Kaplan et al. 2020, arXiv 2001.08361, section 2.1;
    attention over the context is not counted). P counts all parameters.

    With LoRA (`adapter_params` is given), the frozen weights need no weight gradients, which are half of the backward
    pass. A token then takes 4·P, and 6 for each adapter parameter.

    DPO passes each token through the reference model as well (2·P), and KTO also its mismatched completions through
    both models (4·P).
    """
    per_token = 6 * params if adapter_params is None else 4 * params + 6 * adapter_params
    per_token += {"sft": 0, "dpo": 2, "kto": 6}[objective] * params
    return float(per_token * tokens)


def _keep(work: Path, out: Path) -> None:
    """Move the results of `_make` from `work` to `out`, DONE.json last. Another call completes an interrupted move."""
    for name in ("model", "adapter"):
        chosen = work / "chosen" / name
        if chosen.exists():
            shutil.rmtree(out / name, ignore_errors=True)
            chosen.replace(out / name)
    (work / DONE).replace(out / DONE)


def _forget_damaged(out: Path) -> None:
    """Remove the result in `out` if its model is missing or its files have changed, so that it is trained again."""
    done = read(out)
    if done is None:
        return
    sound = is_model(done.path) and hash_folder(done.path) == done.hash
    if not sound:
        _log.warning(f"{done.path}: the model has changed since it was trained; it is trained again")
        (out / DONE).unlink()
        shutil.rmtree(done.path, ignore_errors=True)


def _claim(out: Path, work: Path, inputs: str) -> None:
    """Raise ValueError if `out` holds a training of other inputs; otherwise record `inputs` in `work`.

    Resuming from checkpoints of other inputs would silently mix the two trainings.
    """
    done = read(out)
    note = work / "inputs.json"
    known = done.inputs if done else json.loads(note.read_text(encoding="utf-8")) if note.exists() else inputs
    if known != inputs:
        raise ValueError(
            f"{out}: contains a training with other rows, settings, steps or seed; use another folder, or remove it"
        )
    if not done:
        work.mkdir(exist_ok=True)
        write_json(note, inputs)


def _inputs(job: Job) -> str:
    """Return the SHA-256 of a training's inputs, without the base model, whose folder may change."""
    digest = hashlib.sha256(job.settings.recipe.encode())
    digest.update(f"\0{SCHEDULE}\0{job.steps}\0{job.seed}\0".encode())
    digest.update(json.dumps(trained_on(job.rows).rows(), default=str).encode())
    return digest.hexdigest()


def _counter(on_progress: OnProgress, rates_before: int, rates: int, tokens_at: np.ndarray) -> OnStep:
    steps, tokens = len(tokens_at) - 1, int(tokens_at[-1])
    return lambda step, loss: on_progress(
        "train", rates_before * steps + step, rates * steps, rates_before * tokens + int(tokens_at[step]), loss
    )


def _silent(stage: str, done: int, total: int, tokens: int | None, loss: float | None) -> None:
    pass
