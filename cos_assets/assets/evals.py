"""<target>_eval and base_eval: the answers of finetuned and of untouched models to the benchmarks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import dagster as dg
import polars as pl

from cos_assets.assets.benchmarks import (
    answer_prompts,
    answer_settings,
    groups,
    max_tokens,
    problem_inputs,
    scored_problems,
    versions,
    ways,
)
from cos_assets.assets.metadata import result, sketch
from cos_assets.assets.models import checkpoint_inputs, finetuned, target, target_spec
from cos_assets.assets.step import Inputs, Step, asset, own
from cos_assets.generation.generate import Look
from cos_assets.generation.types import Model
from cos_assets.judging.readable import first_look, unread
from cos_assets.judging.verdicts import verdict_counts
from cos_assets.metrics.evaluated import evaluation_metrics
from cos_assets.orchestration import checks
from cos_assets.orchestration.checks import SCORED, Check
from cos_assets.orchestration.partitions import by_source
from cos_assets.orchestration.pools import pool_of
from cos_assets.report import partition_figures
from cos_assets.report.compare import percent
from cos_assets.study import StudySpec
from cos_assets.tasks import Task
from cos_assets.training import checkpoints
from cos_assets.training.evaluation import SCHEMA as EVAL
from cos_assets.training.evaluation import evaluate

ACCURACY = "greedy accuracy, %"


def evaluation(spec: StudySpec, name: str) -> dg.AssetsDefinition:
    def body(step: Step, inputs: Inputs) -> dg.MaterializeResult:
        source = target_spec(spec, name)
        frames, revisions = [], []
        trained = inputs[f"{name}_checkpoint"].select("path", "hash", "seed").collect()
        for path, digest, seed in trained.iter_rows():
            model = finetuned(checkpoints.fetched(step.root, path, digest), source)
            frames.append(_evaluate(step, name, model, inputs, seed))
            revisions.append(digest)
        frame = pl.concat(frames)
        facts, groups, shares = _facts(spec, frame, inputs)
        facts |= {"checkpoint": ", ".join(map(str, revisions))}
        return result(
            frame,
            facts,
            checks.short(frame),
            checks.gradable(frame, SCORED),
            _left(spec, frame, inputs),
            by_group=groups,
            figure=sketch(
                partition_figures.intervals, ACCURACY, shares, f"{ACCURACY}, {percent(spec.confidence)} interval"
            ),
        )

    return asset(
        spec,
        f"{name}_eval",
        body,
        checks=[checks.SHORT, SCORED, checks.READABLE],
        ins={f"{name}_checkpoint": own(spec, f"{name}_checkpoint"), **problem_inputs(spec)},
        description=f"Greedy pass@1 of the finetuned `{name}` on {_what(spec)}.",
        config=_evaluation_config(spec, [name]),
        partitions=by_source(spec),
        pool=pool_of([target_spec(spec, name)]),
    )


def base_evaluation(spec: StudySpec) -> dg.AssetsDefinition:
    def body(step: Step, inputs: Inputs) -> dg.MaterializeResult:
        frames = [_evaluate(step, name, target(step, name, inputs), inputs, None) for name in spec.targets]
        frame = pl.concat(frames) if frames else EVAL.to_frame()
        told = {name: _facts(spec, part, inputs) for name, part in zip(spec.targets, frames, strict=True)}
        shares = {name: next(iter(shares.values())) for name, (_, _, shares) in told.items() if shares}
        return result(
            frame.with_columns(budget=pl.lit(None, pl.String), source=pl.lit("base")),
            {
                f"{name}_{key}": value
                for name, (facts, _, _) in told.items()
                for key, value in facts.items()
                if not key.endswith(("_low", "_high", "problems"))
            },
            checks.short(frame),
            checks.gradable(frame, SCORED),
            _left(spec, frame, inputs),
            checks.controlled(
                frame, list(spec.targets), {name: _asked(spec, inputs, name) for name in spec.benchmarks}
            ),
            figure=sketch(partition_figures.intervals, ACCURACY, shares, f"{ACCURACY}, untouched models"),
        )

    return asset(
        spec,
        "base_eval",
        body,
        checks=[checks.SHORT, SCORED, checks.READABLE, checks.CONTROLLED],
        ins={
            **problem_inputs(spec),
            **checkpoint_inputs(*(target_spec(spec, name) for name in spec.targets)),
        },
        description=f"Greedy pass@1 of the untouched models on {_what(spec)}.",
        config=[
            *_evaluation_config(spec, spec.targets),
            *([spec.seed] if spec.seed and spec.evaluation.samples else []),  # 0, the default, keeps stored versions
            {name: target_spec(spec, name).model_dump(mode="json") for name in spec.targets},
        ],
        pool=pool_of(target_spec(spec, name) for name in spec.targets),
    )


def _evaluate(step: Step, name: str, model: Model, inputs: Inputs, seed: int | None) -> pl.DataFrame:
    """Return the answers to all benchmarks. `seed` is that of the model's training; None for an untouched model."""
    spec, frames = step.spec, []
    for benchmark, task in spec.benchmarks.items():
        problems = scored_problems(spec, inputs, benchmark).head(_asked(spec, inputs, benchmark))
        buyer = step.buyer("evaluation", f"{name} on {benchmark}" if len(spec.benchmarks) > 1 else name)
        look = _look(spec, name, model, task, trained=seed is not None)
        asked = answer_prompts(spec, name, task, problems, inputs["problems"].collect())
        frames.append(evaluate(model, name, problems, asked, task, ways(spec, name), buyer, seed, look))
    return pl.concat(frames)


def _look(spec: StudySpec, name: str, model: Model, task: Task, trained: bool) -> Look | None:
    """Return the check that ends the evaluation of a model whose first answers cannot be read.

    None with `evaluation.unreadable: continue`, and for untouched base models, which were never taught to state an
    answer.
    """
    if spec.evaluation.unreadable == "continue" or not (trained or model.chat):
        return None
    return first_look(task, f"evaluation of {name} on {task.name}", "evaluation", max_tokens(spec, name))


def _left(spec: StudySpec, frame: pl.DataFrame, inputs: Inputs) -> Check:
    """Check how many of the answers, over all benchmarks, cannot be read."""
    parts = []
    for benchmark, task in spec.benchmarks.items():
        rows = frame.filter(pl.col("benchmark") == benchmark)
        parts.append(unread(rows, scored_problems(spec, inputs, benchmark), task))
    return checks.readable(parts)


def _facts(spec: StudySpec, frame: pl.DataFrame, inputs: Inputs) -> tuple[dict, dg.MetadataValue, dict[str, Any]]:
    """Return (facts, table, shares) of one model's answers.

    `facts` has every metric over all problems. `table` has them by level and by subject, in Markdown. `shares` has the
    accuracy with its interval on the first benchmark and on each of its levels.
    """
    part = frame.with_columns(budget=pl.lit(None, pl.String), source=pl.lit(None, pl.String))
    pass_at, maj_at = spec.evaluation.ks
    table = evaluation_metrics(part, groups(spec, inputs), pass_at, maj_at, spec.confidence)
    first = next(iter(spec.benchmarks))
    facts: dict[str, Any] = {}
    whole = pl.col("level").is_null() & pl.col("subject").is_null()
    for row in table.filter(whole).iter_rows(named=True):
        metric = {"accuracy": "pass_at_1", "pass": f"drawn_pass_at_{row['k']}", "majority": f"maj_at_{row['k']}"}
        key = ("" if row["benchmark"] == first else f"{row['benchmark']}_") + metric.get(row["metric"], row["metric"])
        facts |= {key: row["value"], f"{key}_low": row["low"], f"{key}_high": row["high"]}
        if row["metric"] == "accuracy":
            facts[key.replace("pass_at_1", "problems")] = row["n_problems"]
    lines = ["| benchmark | of | metric | value | interval | problems |", "|---|---|---|---|---|---|"]
    for row in table.filter(~whole).iter_rows(named=True):
        at = f"@{row['k']}" if row["metric"] in ("pass", "majority") else ""
        limits = "–" if row["low"] is None else f"{row['low']:.1%} to {row['high']:.1%}"
        of = f"level {row['level']}" if row["subject"] is None else row["subject"]
        values = (row["benchmark"], of, row["metric"] + at, f"{row['value']:.1%}", limits, row["n_problems"])
        lines.append("| " + " | ".join(map(str, values)) + " |")
    of_first = table.filter(metric="accuracy", benchmark=first).filter(pl.col("subject").is_null())
    shares = {
        "all" if level is None else f"level {level}": interval
        for level, *interval in of_first.sort("level", nulls_last=False)
        .select("level", "value", "low", "high")
        .iter_rows()
    }
    # Counted by finish_reason: instructions are checked in truncated replies too, which then have another verdict.
    facts |= {**verdict_counts(frame), "truncated": int((frame["finish_reason"] == "length").sum())}
    facts |= {"completion_tokens": frame["completion_tokens"].sum()}
    facts |= {"mean_tokens": frame["completion_tokens"].mean(), **_figures(spec, frame, inputs)}
    return facts, dg.MetadataValue.md("\n".join(lines)), shares


def _figures(spec: StudySpec, frame: pl.DataFrame, inputs: Inputs) -> dict:
    """Return the further figures that benchmarks publish of a model's answers (`Task.figures`)."""
    found: dict = {}
    for benchmark, task in spec.benchmarks.items():
        gold = scored_problems(spec, inputs, benchmark).select("problem_id", gold="answer")
        answers = frame.filter(pl.col("benchmark") == benchmark, pl.col("temperature") == 0).join(
            gold, on="problem_id", maintain_order="left"
        )
        figures = task.figures(answers.select("gold", "answer"))
        found |= {f"{benchmark}_{name}": value for name, value in figures.items()}
    return found


def _what(spec: StudySpec) -> str:
    parts = [f"the {spec.evaluation.split} split" if spec.is_own(t) else n for n, t in spec.benchmarks.items()]
    return ", ".join(parts)


def _asked(spec: StudySpec, inputs: Inputs, benchmark: str) -> int:
    """Return the number of problems of a benchmark that models answer."""
    there = scored_problems(spec, inputs, benchmark).height
    return there if spec.evaluation.limit is None else min(there, spec.evaluation.limit)


def _evaluation_config(spec: StudySpec, names: Iterable[str]) -> list:
    return [
        "eval-2",
        spec.evaluation.model_dump(mode="json"),
        _settings_of_answers(spec, names),
        [[*_asked_versions(spec, names, task), *versions(task)] for task in spec.benchmarks.values()],
        spec.confidence,
    ]


def _settings_of_answers(spec: StudySpec, names: Iterable[str]) -> int | dict[str, list]:
    """Return the `answer_settings` of each target; where no target has its own, the common max_tokens."""
    usual = spec.evaluation.max_tokens or spec.sampling.max_tokens
    found = {name: answer_settings(spec, name) for name in names}
    return usual if all(version == [usual] for version in found.values()) else found


def _asked_versions(spec: StudySpec, names: Iterable[str], task: Task) -> list[str]:
    """Return the versions of the prompts that the targets get."""
    chats = {target_spec(spec, name).chat for name in names}
    return sorted({task.asked_version(chat) for chat in chats} or {task.prompt_version})
