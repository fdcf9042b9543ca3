"""<role>_checkpoint of TinyModels: small models trained from scratch, with the same table as any other checkpoint."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any, Literal

import dagster as dg
import polars as pl
from pydantic import Field

from cos_assets import progress, tasks, tiny
from cos_assets.assets.metadata import result
from cos_assets.assets.step import shown_in
from cos_assets.fields import Spec, StudyName
from cos_assets.generation.model import hash_folder
from cos_assets.storage.artifacts import workshop
from cos_assets.storage.paths import Place
from cos_assets.training import checkpoints

Role = Literal["student", "wc", "se"]


class TinyModelsSpec(Spec):
    """The tiny models to make, and their training data.

    Without `task` they are the demo's models: trained on its corpus of careless solutions, or copied from the files
    that ship with the package. With `task` they are trained on the reference solutions of its training split, with a
    tokenizer made from these texts.
    """

    name: StudyName
    roles: list[Role] = Field(["student", "wc", "se"], min_length=1)
    task: tasks.Chosen | None = None
    from_scratch: bool = Field(False, description="Train the demo's models here instead of using the shipped ones.")
    steps: int = Field(1500, ge=1)
    seed: int = Field(0, ge=0, lt=2**31)
    vocab_size: int = Field(2000, ge=300, description="Vocabulary size of the tokenizer that is trained for a task.")

    @property
    def shipped(self) -> bool:
        """Whether the shipped files are used. COS_FROM_SCRATCH=1 (`cos run --from-scratch`) has the effect of
        `from_scratch: true` in every file."""
        return self.task is None and not (self.from_scratch or os.environ.get("COS_FROM_SCRATCH") == "1")


def build_tiny_models(spec: TinyModelsSpec) -> list[dg.AssetsDefinition]:
    return [_checkpoint(spec, role) for role in spec.roles]


def _checkpoint(spec: TinyModelsSpec, role: str) -> dg.AssetsDefinition:
    made_from = ["tiny-1", role, "shipped"] if spec.shipped else _recipe(spec, role)

    @dg.asset(
        name=f"{role}_checkpoint",
        key_prefix=spec.name,
        group_name=spec.name,
        description=f"The tiny model `{role}`, a Hugging Face checkpoint trained from scratch.",
        code_version=hashlib.sha256(repr(made_from).encode()).hexdigest()[:12],
        kinds={"huggingface"},
        required_resource_keys={"io_manager"},
    )
    def checkpoint(context) -> Any:  # context is not annotated: Dagster cannot resolve string annotations
        root: Place = context.resources.io_manager.path
        name = hashlib.sha256(repr(made_from).encode()).hexdigest()[:24]
        if spec.shipped:
            source = tiny.shipped(role)
            name = f"{role}-{hash_folder(source)[:16]}"
        with workshop(root / "checkpoints" / name) as folder:
            out = folder / "model"
            known = hash_folder(source) if spec.shipped else checkpoints.noted_hash(out)
            digest = checkpoints.hash_of(out)
            if digest is None or known not in (None, digest):
                shutil.rmtree(out, ignore_errors=True)
                with progress.shown_by(shown_in(context)):
                    if spec.shipped:
                        _copy(source, out)
                    else:
                        _train(spec, role, out)
        digest = hash_folder(out)
        facts = {"method": "scratch", "steps": spec.steps}
        frame = checkpoints.row(role, Path("checkpoints", name, "model"), root, digest, None, None, facts)
        shown = {"shipped": spec.shipped, "params": frame["params"].item(), "hash": digest}
        return result(frame, shown, model=dg.MetadataValue.path(str(out)))

    return checkpoint


def _recipe(spec: TinyModelsSpec, role: str) -> list[Any]:
    task = None if spec.task is None else [spec.task.model_dump(mode="json"), spec.vocab_size]
    return ["tiny-1", role, task, spec.steps, spec.seed]


def _train(spec: TinyModelsSpec, role: str, out: Path) -> None:
    from cos_assets.tiny.tokenizer import bpe_tokenizer
    from cos_assets.tiny.train import SHAPES, train, train_from_texts

    def say(done: int, total: int) -> None:
        progress.report(f"training {role} from scratch", done, total)

    if spec.task is None:
        train(role, out, steps=spec.steps, seed=spec.seed, on_progress=say)
        return
    known = spec.task.load().filter((pl.col("split") == "train") & pl.col("solution").is_not_null())
    if known.is_empty():
        raise ValueError(f"task: {spec.task.name!r} has no training problem with a solution to learn from")
    pairs = [(spec.task.prompt(problem), problem["solution"]) for problem in known.to_dicts()]
    tokenizer = bpe_tokenizer([prompt + solution for prompt, solution in pairs], spec.vocab_size)
    context = SHAPES[role].context
    short = [pair for pair in pairs if len(tokenizer("".join(pair))["input_ids"]) < context - 1]
    train_from_texts(short, tokenizer, SHAPES[role], out, spec.steps, seed=spec.seed, on_progress=say)


def _copy(source: Path, out: Path) -> None:
    """Copy all files or none: the folder gets its final name when it is complete."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(source, temporary)
    shutil.rmtree(out, ignore_errors=True)
    temporary.replace(out)
