"""One finetuning as an object, and the data that follow from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from pydantic import TypeAdapter

from cos_assets.generation.types import Chat
from cos_assets.generation.weights import load_network
from cos_assets.training.data import (
    Collator,
    Labelled,
    Pair,
    Row,
    Scheduled,
    encode_examples,
    objective_of,
    parts_of,
    schedule,
    trained_on,
)
from cos_assets.training.packing import Packer
from cos_assets.training.settings import Finetune


@dataclass(frozen=True)
class Base:
    """The model that is finetuned.

    `name` is a folder or a hub id, and `revision` the hub revision. With `chat`, prompts use the model's chat template.
    For a model behind an API (method: hosted), `name` is the served name, `options` are the engine's options, and
    `params` is the number of parameters, if it is known.
    """

    name: str
    revision: str | None = None
    chat: Chat | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    params: float | None = None

    def load(self, dtype: Any, **settings: Any) -> Any:
        return load_network(self.name, revision=self.revision, dtype=dtype, **settings)

    def config(self) -> Any:
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(self.name, revision=self.revision, trust_remote_code=False)

    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.name, revision=self.revision, trust_remote_code=False)


@dataclass(frozen=True)
class Job:
    """One finetuning: rows (see `data.encode`), base model, settings, number of optimizer steps, and seed."""

    rows: pl.DataFrame
    base: Base
    settings: Finetune
    steps: int
    seed: int

    def write(self, folder: Path) -> None:
        """Write the job to a new folder, from which another process reads it."""
        folder.mkdir(parents=True)
        trained_on(self.rows).write_parquet(folder / "rows.parquet")
        settings = self.settings.model_dump(mode="json", exclude_unset=True)
        base = [self.base.name, self.base.revision, TypeAdapter(Chat | None).dump_python(self.base.chat, mode="json")]
        facts = {"steps": self.steps, "seed": self.seed, "base": base, "settings": settings}
        write_json(folder / "job.json", facts)

    @classmethod
    def read(cls, folder: Path) -> Job:
        facts = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        settings, (name, revision, chat) = Finetune.model_validate(facts.pop("settings")), facts.pop("base")
        base = Base(name, revision, TypeAdapter(Chat | None).validate_python(chat))
        return cls(rows=pl.read_parquet(folder / "rows.parquet"), base=base, settings=settings, **facts)


class Prepared(NamedTuple):
    """The data of a job, ready for training."""

    rows: list[Row] | list[Pair] | list[Labelled]
    """The encoded rows, without those that are too long."""
    too_long: int
    """Rows left out because they are longer than `max_length` or the model's context."""
    plan: np.ndarray
    """The schedule: indices into `rows`, of shape [steps, batch_size]."""
    collator: Collator

    @property
    def dataset(self) -> Scheduled:
        """The rows in the order of the schedule, steps x batch_size."""
        return Scheduled(self.rows, self.plan)

    @property
    def longest(self) -> int:
        """The number of tokens of the longest row."""
        return max(len(row) for example in self.rows for row in parts_of(example))

    @property
    def tokens_at(self) -> np.ndarray:
        """The number of tokens that are trained on in the first n steps, for n from 0 to the number of steps."""
        return np.cumsum([0, *np.array([len(row) for row in self.rows])[self.plan].sum(axis=1)])


def prepare(job: Job) -> Prepared:
    """Encode and schedule the rows of a job. Raises ValueError for rows that cannot be trained on (`data.encode`)."""
    base, settings = job.base, job.settings
    tokenizer = base.tokenizer()
    config = base.config().get_text_config()
    context = getattr(config, "max_position_embeddings", None)  # not every model states one
    limit = min((n for n in (settings.max_length, context) if n), default=None)
    if settings.packing and objective_of(job.rows) != "sft":
        raise ValueError(f"packing: is not available with objective: {objective_of(job.rows)}; leave it out")
    encoded, too_long = encode_examples(job.rows, tokenizer, limit, base.chat)
    plan = schedule([len(row) for row in encoded], job.steps, settings.batch_size, job.seed)
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    collator = Packer(pad, context, config.hidden_size) if settings.packing else Collator(pad)
    return Prepared(encoded, too_long, plan, collator)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    temporary.replace(path)
