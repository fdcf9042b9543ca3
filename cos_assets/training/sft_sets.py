"""SFT sets: select the samples of a data arm (source), filter them, and write them as prompt and completion rows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import BeforeValidator, Field, model_validator

from cos_assets.fields import Count, Name, Spec
from cos_assets.storage.schemas import TABLES
from cos_assets.tasks import Task
from cos_assets.training import arms, pairs
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
    """A data arm: which of the bought samples an SFT set is built from.

    Exactly one of three rules selects the samples. `take` gives shares of the budget per model (they add up to at most
    1). `samples` gives samples per problem and model. `reference_solutions` uses the problem set's own solutions and no
    model. `verification` overrides the study's rule for which samples are kept.

    The other fields combine with each rule and apply in this order. `problems` is a number of problems, or a share
    of them. `deduplicate` drops repeated solutions of a problem (true: exact; see `arms.deduplicated`). `keep` or
    `max_per_problem` keeps the first rows of each problem. `balance: level` keeps as many rows of each level as the
    rarest level has. `rows` is the number of rows in total. `reasoning: strip` trains on the replies alone. Draws
    of problems and rows depend on the study's seed. Building an SFT set buys no samples.

    `objective` is what a row is. sft: a right sample. dpo: a right and a wrong sample of the same problem. kto: a right
    or a wrong sample, with a label (see `pairs`). Wrong samples are repeated and filtered like right ones.
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
    reasoning: Literal["keep", "strip"] = Field("keep", exclude_if=lambda value: value == "keep")
    objective: Literal["sft", "dpo", "kto"] = Field("sft", exclude_if=lambda value: value == "sft")

    @model_validator(mode="after")
    def _one_rule(self) -> SourceSpec:
        if sum([self.take is not None, self.samples is not None, self.reference_solutions]) != 1:
            raise ValueError("give exactly one of take:, samples:, reference_solutions: true")
        if self.take is not None and sum(self.take.values()) > 1 + 1e-9:
            raise ValueError(
                f"take: shares add up to {sum(self.take.values()):g}; at most 1 (the whole budget) can be spent"
            )
        if self.reference_solutions and self.verification is not None:
            raise ValueError("verification: is not allowed with reference_solutions: true, which uses no samples")
        if self.objective != "sft" and (self.reference_solutions or self.verification == "none"):
            raise ValueError(
                f"objective: {self.objective} needs right and wrong samples; it is not allowed with"
                " reference_solutions: true or verification: none"
            )
        if self.keep == "one_per_problem" and self.max_per_problem is not None:
            raise ValueError("max_per_problem: is not allowed with keep: one_per_problem; give one of the two")
        return self

    @property
    def models(self) -> tuple[str, ...]:
        """The sampled models of this arm."""
        return tuple(self.take or self.samples or ())


SCHEMA = TABLES["sft_set"].schema


def prompts(task: Task, problems: pl.DataFrame, chat: bool = False) -> pl.DataFrame:
    """Return [problem_id, prompt] without few-shot examples, as used to train and evaluate finetuned models."""
    texts = [task.prompt(problem, chat=chat) for problem in problems.to_dicts()]
    return problems.select("problem_id").with_columns(prompt=pl.Series(texts, dtype=pl.String))


def in_own_prompts(task: Task, rows: pl.DataFrame, problems: pl.DataFrame, chat: bool) -> pl.DataFrame:
    """Replace the prompts in `rows` of an SFT set by those that this kind of target (chat or not) is evaluated with.

    An SFT set contains the prompts for base models.
    """
    if task.asked_version(chat) == task.asked_version():
        return rows
    own = prompts(task, problems, chat)
    return rows.drop("prompt").join(own, on="problem_id", how="left", maintain_order="left").select(rows.columns)


def reference_set(
    source: SourceSpec, task: Task, problems: pl.DataFrame, seed: int
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Return the problem set's own solutions in the schema `SCHEMA`, and the number of rows after each step.

    There is one row for every problem that has a solution and that the source keeps.
    """
    chosen = arms.subset(problems, source.problems, seed).filter(pl.col("solution").is_not_null())
    rows = chosen.select("problem_id", completion="solution").with_columns(
        model=pl.lit(None, pl.String),
        sample_index=pl.lit(None, pl.Int32),
        reasoning=pl.lit(None, pl.String),
        messages=pl.lit(None, pl.String),
        finish_reason=pl.lit(None, pl.String),
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
    """Return the source's rows in the schema `SCHEMA`, and the number of samples after each step.

    `bought` is the number of samples per problem of each model at this budget. `samples`, `verdicts` and `judgements`
    are those of the source's models. `judges` are the judges for `verification` (see `verification.verify`).

    The steps are: take the samples that the source's share buys, on the problems that the source selects; keep those
    that pass verification; apply the other fields of the source (see `SourceSpec`). If a share is not a whole number of
    samples per problem, some problems, drawn by the seed, get one sample more, so that exactly the share of the budget
    is spent.

    Raises ValueError if the source asks for more samples than were bought.
    """
    taken = _take(source, bought, samples, arms.subset(problems, source.problems, seed), seed)
    kept, facts = verify(taken, verification, verdicts, judgements, judges, task)
    verified = kept.height
    # Sorted by sample index before model, so that "first" favors no model of a mixture.
    order = ("order", "sample_index", "model")
    wrong = None if source.objective == "sft" else pairs.rejected(taken, verdicts).sort(*order)
    rows, counts = _shaped(source, kept.sort(*order), problems, task, seed, wrong)
    return rows, {"taken": taken.height, "verified": verified, **counts, "truncated": truncated(rows).sum(), **facts}


def _shaped(
    source: SourceSpec,
    kept: pl.DataFrame,
    problems: pl.DataFrame,
    task: Task,
    seed: int,
    wrong: pl.DataFrame | None = None,
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Apply the filters of the source to the solutions `kept`; return rows in the schema `SCHEMA`, and counts.

    `kept` has the columns [problem_id, model, sample_index, completion, reasoning, messages, finish_reason]. `wrong`
    has the same, and is given for an objective other than sft.
    """
    if source.deduplicate:
        how = "exact" if source.deduplicate is True else source.deduplicate
        kept = arms.deduplicated(kept, how, task)
        wrong = None if wrong is None else arms.deduplicated(wrong, how, task)
    counts = {"distinct": kept.height}
    if wrong is not None:
        counts["wrong"] = wrong.height
        join = pairs.paired if source.objective == "dpo" else pairs.labelled
        kept = join(kept, wrong, seed)
    if most := 1 if source.keep == "one_per_problem" else source.max_per_problem:
        kept = kept.filter(pl.int_range(pl.len()).over("problem_id") < most)
    if source.balance:
        kept = arms.balanced(kept, problems, seed)
    if source.rows:
        kept = arms.drawn(kept, ["model", "problem_id", "sample_index"], source.rows, f"{seed}/rows")
    if source.reasoning == "strip":
        thoughts = ("reasoning", "messages", "rejected_reasoning")
        kept = kept.with_columns(pl.lit(None, pl.String).alias(name) for name in thoughts)
    rows = kept.join(prompts(task, problems), on="problem_id", maintain_order="left")
    rows = rows.with_columns(pl.lit(None, SCHEMA[name]).alias(name) for name in SCHEMA.keys() - set(rows.columns))
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
                f"samples.{model}: {share} is more than the {bought[model]} samples per problem that this budget buys"
            )
        whole = math.floor(share + 1e-9)
        extra = round((share - whole) * order.height)
        lots = {p: hashlib.sha256(f"{seed}/{model}/{p}".encode()).digest() for p in order["problem_id"]}
        lucky = sorted(lots, key=lots.__getitem__)[:extra]
        one_more = pl.col("problem_id").is_in(lucky).cast(pl.Int32)
        mine = pl.col("model") == model
        if share < bought[model]:  # an uneven allocation has more on some problems; a full share takes all
            mine &= pl.col("sample_index") < whole + one_more
        parts.append(samples.filter(mine))
    return pl.concat(parts).join(order, on="problem_id", maintain_order="left")
