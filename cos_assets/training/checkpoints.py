"""Checkpoint tables: one row per finetuned model. The same data, base and settings are trained only once."""

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
from cos_assets.generation.model import count_parameters, hash_folder, is_model, served_name
from cos_assets.generation.tokens import spells_control
from cos_assets.generation.types import Model
from cos_assets.storage import paths
from cos_assets.storage.artifacts import FILES, fetch, workshop
from cos_assets.storage.paths import Place
from cos_assets.storage.schemas import TABLES
from cos_assets.storage.tables import content_hash
from cos_assets.training.data import SCHEDULE, trained_on
from cos_assets.training.job import Job, write_json
from cos_assets.training.settings import Hosted
from cos_assets.training.sft import Trained, finetune, training_flops

SCHEMA = TABLES["checkpoints"].schema
_NOTE = ".written.json"


def checkpoint(
    buyer: Buyer,
    target: str,
    base: Model,
    job: Job,
    evaluate: Callable[[Path], float] | None,
    choice: str,
) -> tuple[pl.DataFrame, Trained]:
    """Run a finetuning of `base`; return one row in the schema `SCHEMA`, and the training's result.

    The model is stored in <root>/checkpoints/<name>, where the name is a hash of all inputs of the training. In it,
    `choice` represents the problems and rules behind `evaluate`. A model that exists is not trained again. `path` is
    relative to the root. The cost is booked in the ledger once. If the root is on an object store, the model is trained
    in the local copy, where a killed training resumes, and is uploaded when it is complete.
    """
    root, data = buyer.root, content_hash(trained_on(job.rows))
    parts = [base.fingerprint, data, job.settings.recipe, SCHEDULE, str(job.steps), str(job.seed), choice]
    if job.settings.method != "hosted" and _spells_control(job):
        parts.append("control tokens in text are text")  # keeps the names of models without such text
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]

    def shown(stage: str, done: int, total: int, tokens: int | None, loss: float | None) -> None:
        lora = 0.0 if "lora" in job.settings.method else None  # the adapters' own parameters add little
        flops = training_flops(base.params, tokens, lora) if base.params and tokens is not None else None
        progress.report(f"{stage} {target}", done, total, tokens=tokens, flops=flops, loss=loss)

    with workshop(root / "checkpoints" / name) as folder:
        trained = finetune(job, folder, evaluate, shown)
    book(root, base, name, _booking(buyer, base, name, trained, job.settings.hosted, root))
    path = Path("checkpoints", name, "model")
    return row(target, path, root, trained.hash, base, data, _facts(trained) | {"seed": job.seed}), trained


def fetched(root: Place, path: str, digest: str) -> Path:
    """Return the local folder of the model at a row's `path`, and fetch it from an object store if needed.

    The files are hashed on each call. Raises FileNotFoundError if they are missing, and ValueError if their hash is not
    `digest`, the row's `hash`.
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
            raise FileNotFoundError(f"{root / path}: this model is missing; {advice}")
        if known == digest:
            return found
        if isinstance(root, Path):
            break
        shutil.rmtree(found.parent)  # a local copy, which is fetched again
    raise ValueError(f"{root / path}: the files of this model differ from those in its table; {advice}")


def intact(root: Place, frame: pl.DataFrame) -> bool:
    """Return whether the models of a checkpoint table exist and are unchanged.

    Sizes and modification times are compared first, and the content only if they differ. For an object store without a
    local copy, only the existence of the model's file list is checked.
    """
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
    shutil.rmtree(model.parent)  # a local copy, which is fetched again when needed
    return _intact(root, path, digest)


def note(model: Path, digest: str) -> None:
    """Store the hash of a model and the sizes and modification times of its files in a file next to the model."""
    write_json(model.with_name(_NOTE), {"hash": digest, "files": _looks(model)})


def noted_hash(model: Path) -> str | None:
    """Return the hash that `note` stored for a model; None if there is none."""
    return (_noted(model) or {}).get("hash")


def hash_of(model: Path) -> str | None:
    """Return the hash of a model's files; None if the folder has no model."""
    return hash_folder(model) if is_model(model) else None


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
    """Return a checkpoint's row in the schema `SCHEMA`, with null for columns missing from `facts`; call `note`."""
    note(paths.local(root) / path, digest)
    folder = paths.local(root) / path
    known = {
        "target": target,
        "path": str(path),
        "hash": digest,
        "base": _label(base, root) if base else None,
        "base_hash": base.revision if base else None,
        "params": count_parameters(folder) if served_name(folder) is None else base and base.params,
        "data_hash": data_hash,
        **facts,
    }
    return pl.DataFrame([{name: known.get(name) for name in SCHEMA}], schema=SCHEMA, orient="row")


def _spells_control(job: Job) -> bool:
    tokenizer = job.base.tokenizer()
    written = trained_on(job.rows).select(pl.col(pl.String).exclude("finish_reason"))
    texts = (text for column in written for text in column.drop_nulls())
    return any(spells_control(tokenizer, text) for text in texts)


def _booking(
    buyer: Buyer, base: Model, name: str, trained: Trained, hosted: Hosted | None, root: Place
) -> dict[str, Any]:
    """Return the ledger row of a finetuning. Tokens are counted each time they are trained on.

    An API does not tell which of the tokens the loss covers; all of them are recorded as tokens of the prompt.
    """
    price = hosted.price if hosted else None
    return {
        "prompt_hash": name,
        "sample_index": 0,
        "attempt": 1,
        "finish_reason": "stop",
        "prompt_tokens": None if trained.tokens is None else trained.tokens - (trained.completion_tokens or 0),
        "completion_tokens": trained.completion_tokens,
        "flops": trained.flops,
        "cost": price.training * trained.tokens / 1e6 if price and trained.tokens is not None else None,
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
    """Return a label of the base model that is the same on all machines.

    It is the hub id, the path relative to the root for a folder under the root, or the name of another folder.
    """
    path, root = Path(base.model_id), paths.local(root)
    if not path.is_dir():
        return base.model_id
    return str(path.relative_to(root)) if path.is_relative_to(root) else path.name


def _facts(trained: Trained) -> dict[str, Any]:
    names = set(SCHEMA) & set(Trained.__dataclass_fields__) - {"path", "hash", "base"}
    return {name: getattr(trained, name) for name in names}
