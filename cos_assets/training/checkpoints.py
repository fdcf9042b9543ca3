"""One finetuned model as a row of facts: made once for the same data, base and settings, wherever it is asked for."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from cos_assets import progress
from cos_assets.generation.generate import Buyer
from cos_assets.generation.ledger import book
from cos_assets.generation.model import count_parameters, hash_folder
from cos_assets.generation.tokens import spells_control
from cos_assets.generation.types import Model
from cos_assets.storage import paths
from cos_assets.storage.artifacts import FILES, fetch, workshop
from cos_assets.storage.paths import Place
from cos_assets.storage.tables import content_hash
from cos_assets.training.data import SCHEDULE, trained_on
from cos_assets.training.launch import Launch
from cos_assets.training.loop import Base, write_json
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
_NOTE = ".written.json"


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


def fetched(root: Place, path: str, digest: str) -> Path:
    """Where the model of a row's `path` is on this machine; fetched from an object store if need be.

    Its files are hashed each time. Raises FileNotFoundError where they are gone, and ValueError where they are not
    those of the row's `hash`.
    """
    folder, _, name = path.rpartition("/")
    advice = "`cos run` makes it again" if isinstance(root, Path) else "`cos run STUDY --again` makes it again"
    for _attempt in range(2):
        try:
            found = fetch(root / folder) / name
            known = hash_of(found)
        except FileNotFoundError:
            known = None
        if known is None:
            raise FileNotFoundError(f"{root / path}: this model is gone; {advice}")
        if known == digest:
            return found
        if isinstance(root, Path):
            break
        shutil.rmtree(found.parent)  # a copy, which is fetched again
    raise ValueError(f"{root / path}: this model has other files than its table names; {advice}")


def intact(root: Place, frame: pl.DataFrame) -> bool:
    """Are the models of a checkpoint table there, as they were written? Sizes and times of change are compared first,
    and the content where they differ."""
    return all(_intact(root, path, digest) for path, digest in frame.select("path", "hash").iter_rows())


def _intact(root: Place, path: str, digest: str) -> bool:
    model = paths.local(root) / path
    if not isinstance(root, Path) and not model.is_dir():
        return (root / Path(path).parent.as_posix() / FILES).is_file()
    if _noted(model) == {"hash": digest, "files": _looks(model)}:
        return True
    if hash_of(model) == digest:
        note(model, digest)
        return True
    if isinstance(root, Path):
        return False
    shutil.rmtree(model.parent)  # a copy, which is fetched when it is needed
    return _intact(root, path, digest)


def note(model: Path, digest: str) -> None:
    """Keep beside a model what its files look like with this hash."""
    write_json(model.with_name(_NOTE), {"hash": digest, "files": _looks(model)})


def noted_hash(model: Path) -> str | None:
    """The hash that a model had when it was made; None where there is no note of it."""
    return (_noted(model) or {}).get("hash")


def hash_of(model: Path) -> str | None:
    """The hash of a model's files; None where there are none."""
    return hash_folder(model) if (model / "config.json").is_file() else None


def _noted(model: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(model.with_name(_NOTE).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _looks(model: Path) -> dict[str, list[int]]:
    files = [file for file in model.iterdir() if file.is_file()] if model.is_dir() else []
    return {file.name: [file.stat().st_size, file.stat().st_mtime_ns] for file in sorted(files)}


def row(
    target: str, path: Path, root: Place, digest: str, base: Model | None, data_hash: str | None, facts: dict[str, Any]
) -> pl.DataFrame:
    """A checkpoint's row; what `facts` leaves out is null."""
    note(paths.local(root) / path, digest)
    known = {
        "target": target,
        "path": str(path),
        "hash": digest,
        "base": _label(base, root) if base else None,
        "base_hash": base.revision if base else None,
        "params": count_parameters(paths.local(root) / path),
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
    path, root = Path(base.model_id), paths.local(root)
    if not path.is_dir():
        return base.model_id
    return str(path.relative_to(root)) if path.is_relative_to(root) else path.name


def _facts(trained: Trained) -> dict[str, Any]:
    names = set(SCHEMA) & set(Trained.__dataclass_fields__) - {"path", "hash", "base"}
    return {name: getattr(trained, name) for name in names}
