"""What a source trains on: which bought samples it takes, which of them are kept, as prompt and completion."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import BeforeValidator, Field, model_validator

from cos_assets.fields import Count, Name, Spec
from cos_assets.tasks import Task
from cos_assets.training import arms
from cos_assets.training.data import truncated
from cos_assets.training.verification import Verification, verify


def _number_or_share(value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not whole and not (isinstance(value, float) and 0 < value < 1):
        raise ValueError("allowed are a whole number of problems of at least 1, or a share of them between 0 and 1")
    return value


def _way_to_deduplicate(value: Any) -> Any:
    if not isinstance(value, bool) and value not in ("exact", "equations", "near"):
        raise ValueError("allowed are true, false, exact, equations, near")
    return value


class SourceSpec(Spec):
    """A data arm: what of the bought samples an SFT set is built from.

    `take` gives shares of the budget per model (they add up to at most 1); `samples` gives samples per problem
    instead; `reference_solutions` uses the problem set's own solutions and no model. `verification` says which samples
    are kept, where that is not what the study says.

    All of these may go with the rest, which is done in this order: `problems` is a number of problems, or a share of
    them; `deduplicate` drops repeated solutions of a problem (true: exact; see `arms.deduplicated`); `keep` or
    `max_per_problem` keeps the first so many of each problem; `balance: level` keeps as many rows of each level as the
    rarest has; `rows` keeps that many in all. What is left out is drawn by the study's seed. Nothing is bought.
    """

    take: dict[Name, Annotated[float, Field(gt=0, le=1)]] | None = Field(None, min_length=1)
    samples: dict[Name, Count] | None = Field(None, min_length=1)
    reference_solutions: bool = False
    verification: Verification | None = None
    keep: Literal["all", "one_per_problem"] = "all"
    deduplicate: Annotated[bool | str, BeforeValidator(_way_to_deduplicate)] = True
    problems: Annotated[int | float, BeforeValidator(_number_or_share)] | None = None
    max_per_problem: Count | None = None
    balance: Literal["level"] | None = None
    rows: Count | None = None

    @model_validator(mode="after")
    def _one_rule(self) -> SourceSpec:
        if sum([self.take is not None, self.samples is not None, self.reference_solutions]) != 1:
            raise ValueError("give exactly one of take:, samples:, reference_solutions: true")
        if self.take is not None and sum(self.take.values()) > 1 + 1e-9:
            raise ValueError(
                f"take: shares add up to {sum(self.take.values()):g}; at most 1 (the whole budget) can be spent"
            )
        if self.reference_solutions and self.verification is not None:
            raise ValueError("verification: is for samples; reference_solutions: true takes no model's word")
        if self.keep == "one_per_problem" and self.max_per_problem is not None:
            raise ValueError("max_per_problem: keep: one_per_problem keeps one; give either")
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
        "finish_reason": pl.String,
    }
)


def prompts(task: Task, problems: pl.DataFrame, chat: bool = False) -> pl.DataFrame:
    """[problem_id, prompt] without few-shot examples: how finetuned models are trained and evaluated."""
    texts = [task.prompt(problem, chat=chat) for problem in problems.to_dicts()]
    return problems.select("problem_id").with_columns(prompt=pl.Series(texts, dtype=pl.String))


def in_own_prompts(task: Task, rows: pl.DataFrame, problems: pl.DataFrame, chat: bool) -> pl.DataFrame:
    """`rows` of an SFT set, with the prompts that a target of this kind is evaluated with. The set has those for base
    models."""
    if task.asked_version(chat) == task.asked_version():
        return rows
    own = prompts(task, problems, chat)
    return rows.drop("prompt").join(own, on="problem_id", how="left", maintain_order="left").select(rows.columns)


def reference_set(
    source: SourceSpec, task: Task, problems: pl.DataFrame, seed: int
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The problem set's own solutions in the schema `SCHEMA`, one row for every problem that has one (and that the
    source keeps), and how many each step left."""
    chosen = arms.subset(problems, source.problems, seed).filter(pl.col("solution").is_not_null())
    rows = chosen.select("problem_id", completion="solution").with_columns(
        model=pl.lit(None, pl.String), sample_index=pl.lit(None, pl.Int32), finish_reason=pl.lit(None, pl.String)
    )
    return _shaped(source, rows, problems, task, seed)


def sft_set(
    source: SourceSpec,
    verification: Verification,
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
    what the source's share buys, of the problems that it wants; keep what verifies; then as the source says. A share
    that is no whole number of samples takes one more for a part of the problems, drawn by the seed, so that exactly the
    share of the budget is spent.
    Raises ValueError where the source asks for more samples than were bought.
    """
    taken = _take(source, bought, samples, arms.subset(problems, source.problems, seed), seed)
    kept, facts = verify(taken, verification, verdicts, judgements, judges, task)
    verified = kept.height
    # One round of samples after the other, so that "first" favours no model of a mixture.
    rows, counts = _shaped(source, kept.sort("order", "sample_index", "model"), problems, task, seed)
    return rows, {"taken": taken.height, "verified": verified, **counts, "truncated": truncated(rows).sum(), **facts}


def _shaped(
    source: SourceSpec, kept: pl.DataFrame, problems: pl.DataFrame, task: Task, seed: int
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """What the source keeps of the solutions [problem_id, model, sample_index, completion, finish_reason] that it may
    use."""
    if source.deduplicate:
        how = "exact" if source.deduplicate is True else source.deduplicate
        kept = arms.deduplicated(kept, how, task)
    counts = {"distinct": kept.height}
    if most := 1 if source.keep == "one_per_problem" else source.max_per_problem:
        kept = kept.filter(pl.int_range(pl.len()).over("problem_id") < most)
    if source.balance:
        kept = arms.balanced(kept, problems, seed)
    if source.rows:
        kept = arms.drawn(kept, ["model", "problem_id", "sample_index"], source.rows, f"{seed}/rows")
    rows = kept.join(prompts(task, problems), on="problem_id", maintain_order="left")
    counts |= {"rows": rows.height, "problems": rows["problem_id"].n_unique()}
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
