"""What a source trains on: which bought samples it takes, which of them are kept, as prompt and completion."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import Field, model_validator

from cos_assets.spec import Count, Name, Spec
from cos_assets.tasks import Task
from cos_assets.training.verification import verify


class SourceSpec(Spec):
    """A data arm: what of the bought samples an SFT set is built from.

    `take` gives shares of the budget per model (they add up to at most 1); `samples` gives samples per problem
    instead; `reference_solutions` uses the problem set's own solutions and no model.
    """

    take: dict[Name, Annotated[float, Field(gt=0, le=1)]] | None = Field(None, min_length=1)
    samples: dict[Name, Count] | None = Field(None, min_length=1)
    reference_solutions: bool = False
    keep: Literal["all", "one_per_problem"] = "all"
    deduplicate: bool = True

    @model_validator(mode="after")
    def _one_rule(self) -> SourceSpec:
        if sum([self.take is not None, self.samples is not None, self.reference_solutions]) != 1:
            raise ValueError("give exactly one of take:, samples:, reference_solutions: true")
        if self.take is not None and sum(self.take.values()) > 1 + 1e-9:
            raise ValueError(
                f"take: shares add up to {sum(self.take.values()):g}; at most 1 (the whole budget) can be spent"
            )
        return self

    @property
    def models(self) -> tuple[str, ...]:
        """The samplers this arm draws from."""
        return tuple(self.take or self.samples or ())


SCHEMA = pl.Schema(
    {
        "problem_id": pl.String,
        "model": pl.String,
        "sample_index": pl.Int32,
        "prompt": pl.String,
        "completion": pl.String,
    }
)


def prompts(task: Task, problems: pl.DataFrame) -> pl.DataFrame:
    """[problem_id, prompt] without few-shot examples: how finetuned models are trained and evaluated."""
    texts = [task.prompt(problem) for problem in problems.to_dicts()]
    return problems.select("problem_id").with_columns(prompt=pl.Series(texts, dtype=pl.String))


def reference_set(task: Task, problems: pl.DataFrame) -> pl.DataFrame:
    """The problem set's own solutions in the schema `SCHEMA`, one row for every problem that has one."""
    solved = problems.filter(pl.col("solution").is_not_null())
    rows = prompts(task, solved).with_columns(completion=solved["solution"])
    return rows.select((pl.col(n) if n in rows.columns else pl.lit(None, t).alias(n)) for n, t in SCHEMA.items())


def sft_set(
    source: SourceSpec,
    verification: str,
    bought: Mapping[str, int],
    samples: pl.DataFrame,
    verdicts: pl.DataFrame,
    judgements: pl.DataFrame,
    problems: pl.DataFrame,
    task: Task,
    seed: int,
    judges: Sequence[str] = ("steps",),
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The source's rows in the schema `SCHEMA`, and how many samples each step left.

    `bought` says how many samples per problem each model has at this budget; `samples`, `verdicts` and `judgements` are
    those of the source's models; `judges` are who `verification` goes by (see `verification.verify`). In order: take
    what the source's share buys, keep what verifies, drop repeated texts of a problem, keep one per problem where the
    source says so. A share that is no whole number of samples takes one
    more for a part of the problems, drawn by the seed, so that exactly the share of the budget is spent.
    Raises ValueError where the source asks for more samples than were bought.
    """
    taken = _take(source, bought, samples, problems, seed)
    kept, facts = verify(taken, verification, verdicts, judgements, judges, task)
    verified = kept.height
    # One round of samples after the other, so that "first" favours no model of a mixture.
    kept = kept.sort("order", "sample_index", "model")
    if source.deduplicate:
        text = pl.col("completion").str.replace_all(r"\s+", " ").str.strip_chars()
        kept = kept.with_columns(text=text).unique(["problem_id", "text"], keep="first", maintain_order=True)
    distinct = kept.height
    if source.keep == "one_per_problem":
        kept = kept.unique("problem_id", keep="first", maintain_order=True)
    rows = kept.join(prompts(task, problems), on="problem_id", maintain_order="left")
    counts = {"taken": taken.height, "verified": verified, "distinct": distinct, "rows": rows.height}
    counts["problems"] = rows["problem_id"].n_unique()
    counts |= facts
    return rows.select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items()), counts


def _take(
    source: SourceSpec, bought: Mapping[str, int], samples: pl.DataFrame, problems: pl.DataFrame, seed: int
) -> pl.DataFrame:
    order = problems.select("problem_id").with_row_index("order")
    parts = []
    for model in source.models:
        share = source.take[model] * bought[model] if source.take else (source.samples or {})[model]
        if share > bought[model]:
            raise ValueError(
                f"samples.{model}: {share} samples per problem are asked for; this budget buys {bought[model]}"
            )
        whole = math.floor(share + 1e-9)
        extra = round((share - whole) * order.height)
        lots = {p: hashlib.sha256(f"{seed}/{model}/{p}".encode()).digest() for p in order["problem_id"]}
        lucky = sorted(lots, key=lots.__getitem__)[:extra]
        one_more = pl.col("problem_id").is_in(lucky).cast(pl.Int32)
        mine = pl.col("model") == model
        if share < bought[model]:  # all of them may be more on some problems, where they are not shared out evenly
            mine &= pl.col("sample_index") < whole + one_more
        parts.append(samples.filter(mine))
    return pl.concat(parts).join(order, on="problem_id", maintain_order="left")
