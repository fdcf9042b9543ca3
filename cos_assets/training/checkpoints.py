"""One finetuned model as a row of facts: made once for the same data, base and settings, wherever it is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from cos_assets import places, progress
from cos_assets.folders import fetch, workshop
from cos_assets.generation.door import Buyer
from cos_assets.generation.ledger import book
from cos_assets.generation.model import count_parameters
from cos_assets.generation.tokens import spells_control
from cos_assets.generation.types import Model
from cos_assets.places import Place
from cos_assets.store import content_hash
from cos_assets.training.data import SCHEDULE, trained_on
from cos_assets.training.launch import Launch
from cos_assets.training.loop import Base
from cos_assets.training.settings import Finetune
from cos_assets.training.sft import Trained, finetune, training_flops

_COLUMNS: Any = {
    "target": pl.String,
    "seed": pl.Int64,
    "path": pl.String,
    "hash": pl.String,
    "base": pl.String,
    "base_hash": pl.String,
    "method": pl.String,
    "steps": pl.Int64,
    "learning_rate": pl.Float64,
    "chosen_step": pl.Int64,
    "validation_accuracy": pl.Float64,
    "tokens": pl.Int64,
    "completion_tokens": pl.Int64,
    "flops": pl.Float64,
    "params": pl.Int64,
    "examples": pl.Int64,
    "too_long": pl.Int64,
    "epochs": pl.Float64,
    "curve": pl.List(
        pl.Struct(dict.fromkeys(("learning_rate", "loss", "validation_accuracy"), pl.Float64) | {"step": pl.Int64})
    ),
    "data_hash": pl.String,
}
SCHEMA = pl.Schema(_COLUMNS)


def checkpoint(
    buyer: Buyer,
    target: str,
    base: Model,
    rows: pl.DataFrame,
    settings: Finetune,
    steps: int,
    seed: int,
    evaluate: Callable[[Path], float] | None,
    choice: str,
    launch: Launch | None = None,
) -> tuple[pl.DataFrame, Trained]:
    """Finetune `base` on `rows` (see `data.encode`); one row in the schema `SCHEMA`, and what the training took.

    The model goes to <root>/checkpoints/<name>, the name being a hash of everything it is made from: `choice` stands
    for the problems and rules behind `evaluate`. What is there is not trained again. `path` is relative to the root.
    What it took is booked in the ledger, once. With a root on an object store it is trained in the local copy, where a
    killed training goes on, and uploaded whole. `launch` starts a training with `num_processes`.
    """
    root, data = buyer.root, content_hash(trained_on(rows))
    parts = [base.fingerprint, data, settings.recipe, SCHEDULE, str(steps), str(seed), choice]
    revision = None if Path(base.model_id).is_dir() else base.revision
    tokenizer = Base(base.model_id, revision).tokenizer()
    texts = (text for column in ("prompt", "completion") for text in rows[column].drop_nulls())
    if any(spells_control(tokenizer, text) for text in texts):
        parts.append("control tokens in text are text")  # models that were trained otherwise have the name without it
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]

    def told(stage: str, done: int, total: int, tokens: int | None) -> None:
        lora = 0.0 if settings.method == "lora" else None  # what the adapters' own parameters add is little
        flops = training_flops(base.params, tokens, lora) if base.params and tokens is not None else None
        progress.report(f"{stage} {target}", done, total, tokens=tokens, flops=flops)

    with workshop(root / "checkpoints" / name) as folder:
        trained = finetune(
            rows,
            base.model_id,
            folder,
            settings,
            steps,
            seed,
            evaluate,
            told,
            revision=revision,
            chat=base.chat,
            template=base.template,
            launch=launch,
        )
    book(root, base, name, _booking(buyer, base, name, trained, root))
    path = Path("checkpoints", name, "model")
    return row(target, path, root, trained.hash, base, data, _facts(trained) | {"seed": seed}), trained


def fetched(root: Place, path: str) -> Path:
    """Where the model of a row's `path` lies on this machine, complete; fetched from an object store if need be.

    Raises FileNotFoundError where its files are gone.
    """
    gone = FileNotFoundError(f"{root / path}: the checkpoint's files are gone; materialize its asset again")
    folder, _, name = path.rpartition("/")
    try:
        found = fetch(root / folder) / name
    except FileNotFoundError:
        raise gone from None
    if not (found / "config.json").is_file():
        raise gone
    return found


def row(
    target: str, path: Path, root: Place, digest: str, base: Model | None, data_hash: str | None, facts: dict[str, Any]
) -> pl.DataFrame:
    """A checkpoint's row; what `facts` leaves out is null."""
    known = {
        "target": target,
        "path": str(path),
        "hash": digest,
        "base": _label(base, root) if base else None,
        "base_hash": base.revision if base else None,
        "params": count_parameters(places.local(root) / path),
        "data_hash": data_hash,
        **facts,
    }
    return pl.DataFrame([{name: known.get(name) for name in SCHEMA}], schema=SCHEMA, orient="row")


def _booking(buyer: Buyer, base: Model, name: str, trained: Trained, root: Place) -> dict[str, Any]:
    """A finetuning as a row of the ledger: its tokens count as often as they were trained on."""
    return {
        "prompt_hash": name,
        "sample_index": 0,
        "attempt": 1,
        "finish_reason": "stop",
        "prompt_tokens": trained.tokens - trained.completion_tokens,
        "completion_tokens": trained.completion_tokens,
        "flops": trained.flops,
        "seconds": trained.seconds,
        "engine": "training",
        "model_id": _label(base, root),
        "revision": base.revision,
        "study": buyer.study,
        "stage": buyer.stage,
        "run_id": buyer.run_id,
        "time": datetime.now(UTC),
    }


def _label(base: Model, root: Place) -> str:
    """A hub id as it is; a folder by its place under the root, else by its name: equal on all machines."""
    path, root = Path(base.model_id), places.local(root)
    if not path.is_dir():
        return base.model_id
    return str(path.relative_to(root)) if path.is_relative_to(root) else path.name


def _facts(trained: Trained) -> dict[str, Any]:
    names = set(SCHEMA) & set(Trained.__dataclass_fields__) - {"path", "hash", "base"}
    return {name: getattr(trained, name) for name in names}
