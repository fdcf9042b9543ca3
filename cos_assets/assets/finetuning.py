"""From a source's SFT set to what a model finetuned on it is worth: sft_set, <target>_checkpoint, <target>_eval."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from cos_assets.assets import checks
from cos_assets.assets.checks import FILLED, SCORED, UNSEEN, Check
from cos_assets.assets.common import (
    Inputs,
    Step,
    asset,
    checkpoint_inputs,
    own,
    picture,
    result,
    single_thread_torch,
    sketch,
    target,
    target_spec,
)
from cos_assets.generation.door import Look
from cos_assets.generation.model import resolve
from cos_assets.generation.types import Model
from cos_assets.grading.answers import GRADER_VERSION
from cos_assets.judging.readable import first_look, unread
from cos_assets.judging.steps import JUDGE_VERSION
from cos_assets.judging.verdicts import verdict_counts
from cos_assets.metrics.evaluated import evaluation_metrics
from cos_assets.partitions import by_source, models_of_source
from cos_assets.pools import GPU, pool_of
from cos_assets.report import learning, sketches
from cos_assets.report.compare import percent
from cos_assets.report.figures import svg
from cos_assets.store import content_hash
from cos_assets.study import StudySpec
from cos_assets.tasks import Task
from cos_assets.training import checkpoints
from cos_assets.training.contamination import DIRTY, overlaps
from cos_assets.training.data import SCHEDULE
from cos_assets.training.evaluation import SCHEMA as EVAL
from cos_assets.training.evaluation import accuracy, evaluate
from cos_assets.training.loop import Base
from cos_assets.training.masks import wrongly_learned
from cos_assets.training.sft import Trained
from cos_assets.training.sft_sets import in_own_prompts, reference_set, sft_set

ACCURACY = "greedy accuracy, %"


def sft(spec: StudySpec) -> dg.AssetsDefinition:
    def body(step: Step, inputs: Inputs) -> dg.MaterializeResult:
        source = spec.arms[step.partition["source"]]
        problems = inputs["problems"].filter(pl.col("split") == spec.sampling.split).collect()
        if source.reference_solutions:
            frame, facts = reference_set(source, spec.task, problems, spec.seed)
        else:
            way = source.verification or spec.verification
            plan = inputs["budget_plan"].filter(pl.col("budget") == step.budget).collect()
            frame, facts = sft_set(
                source,
                way,
                dict(plan.select("model", "samples").iter_rows()),
                inputs["samples"].collect(),
                inputs["verdicts"].collect(),
                inputs["judgements"].collect(),
                problems,
                spec.task,
                spec.seed,
                spec.verifiers_of(way),
            )
            facts = {"verification": way, **facts}
        lacking = {"empty": frame.is_empty()} | ({"missing": source.rows - frame.height} if source.rows else {})
        figure = sketch(sketches.per_problem, "problems by rows to train on", frame, problems.height)
        return result(frame, facts, Check(FILLED, lacking), _unseen(spec, frame, inputs), figure=figure)

    bought = models_of_source(spec)
    own_ways = {name: (way, spec.verifiers_of(way)) for name, s in spec.sources.items() if (way := s.verification)}
    return asset(
        spec,
        "sft_set",
        body,
        checks=[FILLED, UNSEEN],
        ins={
            **_problem_inputs(spec),
            "budget_plan": own(spec, "budget_plan"),
            **{name: own(spec, name, bought) for name in ("samples", "verdicts", "judgements")},
        },
        description="Prompt and completion rows a model is finetuned on: what verifies, by the source's own rule.",
        config=[
            "sft-2",
            spec.verification,
            spec.verifiers_of(spec.verification),
            {name: source.model_dump(mode="json", exclude={"verification"}) for name, source in spec.arms.items()},
            spec.task.prompt_version,
            spec.seed,
            *([own_ways] if own_ways else []),
        ],
        partitions=by_source(spec),
    )


def checkpoint(spec: StudySpec, name: str) -> dg.AssetsDefinition:
    settings = spec.finetuning_of(name)

    def body(step: Step, inputs: Inputs) -> dg.MaterializeResult:
        base = target(step, name, inputs)
        problems = inputs["problems"].collect()
        validation = problems.filter(pl.col("split") == "validation")
        # A split that scores the finetuned models must not choose their checkpoints, too.
        scores_it = any(map(spec.is_own, spec.benchmarks.values())) and spec.evaluation.split == "validation"
        chooses = validation.height > 0 and not scores_it and spec.task.answer_kind is not None

        def score(folder: Path) -> float:
            model = resolve(str(folder), engine=base.engine, chat=base.chat, options=base.engine_options)
            buyer = step.buyer("validation", name)
            return accuracy(evaluate(model, name, validation, spec.task, _max_tokens(spec), buyer))

        choice = "/".join([content_hash(validation), str(_max_tokens(spec)), *_versions(spec.task)]) if chooses else ""
        rows = in_own_prompts(spec.task, inputs["sft_set"].collect(), problems, base.chat)
        revision = None if Path(base.model_id).is_dir() else base.revision
        untouched = Base(base.model_id, revision, base.chat, base.template)
        step.require(Check(checks.MASKED, {"wrongly_learned": wrongly_learned(rows, untouched, settings)}))
        made: list[tuple[pl.DataFrame, Trained]] = []
        for number in range(settings.seeds):
            with single_thread_torch():
                one = checkpoints.checkpoint(
                    step.buyer("training", name),
                    name,
                    base,
                    rows,
                    settings,
                    settings.steps_for(step.budget),
                    spec.seed + number,
                    score if chooses else None,
                    choice,
                    _through_pipes,
                )
            made.append(one)
        frame, trained = pl.concat([row for row, _ in made]), made[0][1]
        facts = frame.drop("curve").row(0, named=True) | {"seconds": sum(each.seconds for _, each in made)}
        if settings.seeds > 1:
            facts |= {"seeds": settings.seeds, "validation_accuracy": frame["validation_accuracy"].mean()}
        curves = picture(svg(partial(learning.of_checkpoint, frame)), "loss and validation accuracy by step")
        return result(frame, facts, model=dg.MetadataValue.path(str(trained.path)), figure=curves)

    return asset(
        spec,
        f"{name}_checkpoint",
        body,
        checks=[checks.MASKED],
        ins={
            "sft_set": own(spec, "sft_set"),
            "problems": own(spec, "problems"),
            **checkpoint_inputs(target_spec(spec, name)),
        },
        description=f"`{name}` finetuned on the source's rows; the checkpoint that validates best.",
        config=[
            "checkpoint-1",
            SCHEDULE,
            settings.model_dump(mode="json", exclude={"seeds", "num_processes"}),
            *([{"seeds": settings.seeds}] if settings.seeds > 1 else []),
            target_spec(spec, name).model_dump(mode="json"),
            _max_tokens(spec),
            spec.evaluation.split,
            spec.task.asked_version(target_spec(spec, name).chat),
            spec.seed,
        ],
        partitions=by_source(spec),
        kinds={"huggingface"},
        pool=GPU,
    )


def _through_pipes(command: Sequence[str]) -> None:
    """Run a training that has processes of its own: what it says stands in the run's log, and it ends with the run."""
    dg.PipesSubprocessClient().run(context=dg.AssetExecutionContext.get(), command=list(command))


def evaluation(spec: StudySpec, name: str) -> dg.AssetsDefinition:
    def body(step: Step, inputs: Inputs) -> dg.MaterializeResult:
        source = target_spec(spec, name)
        frames, revisions = [], []
        trained = inputs[f"{name}_checkpoint"].select("path", "hash", "seed").collect()
        for path, digest, seed in trained.iter_rows():
            folder = str(checkpoints.fetched(step.root, path, digest))
            model = resolve(folder, engine=source.engine, chat=source.chat, options=source.engine_options)
            frames.append(_evaluate(step, name, model, inputs, seed))
            revisions.append(model.revision)
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
            figure=sketch(sketches.intervals, ACCURACY, shares, f"{ACCURACY}, {percent(spec.confidence)} interval"),
        )

    return asset(
        spec,
        f"{name}_eval",
        body,
        checks=[checks.SHORT, SCORED, checks.READABLE],
        ins={f"{name}_checkpoint": own(spec, f"{name}_checkpoint"), **_problem_inputs(spec)},
        description=f"Zero-shot greedy pass@1 of the finetuned `{name}` on {_what(spec)}.",
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
            figure=sketch(sketches.intervals, ACCURACY, shares, f"{ACCURACY}, untouched models"),
        )

    return asset(
        spec,
        "base_eval",
        body,
        checks=[checks.SHORT, SCORED, checks.READABLE, checks.CONTROLLED],
        ins={
            **_problem_inputs(spec),
            **checkpoint_inputs(*(target_spec(spec, name) for name in spec.targets)),
        },
        description=f"Zero-shot greedy pass@1 of the untouched models on {_what(spec)}.",
        config=[
            *_evaluation_config(spec, spec.targets),
            {name: target_spec(spec, name).model_dump(mode="json") for name in spec.targets},
        ],
        pool=pool_of(target_spec(spec, name) for name in spec.targets),
    )


def eval_metrics(spec: StudySpec) -> dg.AssetsDefinition:
    evals = [*(f"{name}_eval" for name in spec.targets), "base_eval"]

    def body(step: Step, inputs: Inputs) -> dg.MaterializeResult:
        rows = pl.concat([inputs[name].collect() for name in evals], how="diagonal_relaxed")
        pass_at, maj_at = spec.evaluation.ks
        return result(evaluation_metrics(rows, _groups(spec, inputs), pass_at, maj_at, spec.confidence))

    return asset(
        spec,
        "eval_metrics",
        body,
        ins={name: own(spec, name) for name in evals} | _problem_inputs(spec),
        description="accuracy, pass@k, maj@k and false positives of all models; over all, by level, by subject.",
        config=["eval_metrics-2", spec.evaluation.ks, spec.confidence],
    )


def _evaluate(step: Step, name: str, model: Model, inputs: Inputs, seed: int | None) -> pl.DataFrame:
    """The answers on every benchmark, one after the other. `seed` is that of the model's training."""
    spec, frames = step.spec, []
    for benchmark, task in spec.benchmarks.items():
        problems = scored_problems(spec, inputs, benchmark).head(_asked(spec, inputs, benchmark))
        buyer = step.buyer("evaluation", f"{name} on {benchmark}" if len(spec.benchmarks) > 1 else name)
        with single_thread_torch():
            look = _look(spec, name, model, task, trained=seed is not None)
            draws, how = spec.evaluation.samples or 0, spec.evaluation.sampling(spec.seed)
            frames.append(evaluate(model, name, problems, task, _max_tokens(spec), buyer, draws, how, seed, look))
    return pl.concat(frames)


def _look(spec: StudySpec, name: str, model: Model, task: Task, trained: bool) -> Look | None:
    """What ends the evaluation of a model whose first answers cannot be read. An untouched base model may never state
    one: nobody taught it how."""
    if spec.evaluation.unreadable == "continue" or not (trained or model.chat):
        return None
    return first_look(task, f"evaluation of {name} on {task.name}", "evaluation", _max_tokens(spec))


def _left(spec: StudySpec, frame: pl.DataFrame, inputs: Inputs) -> Check:
    """What the answers to each benchmark leave unread."""
    parts = []
    for benchmark, task in spec.benchmarks.items():
        rows = frame.filter(pl.col("benchmark") == benchmark)
        parts.append(unread(rows, scored_problems(spec, inputs, benchmark), task))
    return checks.readable(parts)


def _asked(spec: StudySpec, inputs: Inputs, benchmark: str) -> int:
    """How many problems of a benchmark models are asked."""
    there = scored_problems(spec, inputs, benchmark).height
    return there if spec.evaluation.limit is None else min(there, spec.evaluation.limit)


def scored_problems(spec: StudySpec, inputs: Inputs, benchmark: str) -> pl.DataFrame:
    """The problems of a benchmark on which models are scored."""
    if spec.is_own(spec.benchmarks[benchmark]):
        return inputs["problems"].filter(pl.col("split") == spec.evaluation.split).collect()
    return inputs["benchmark_problems"].filter(pl.col("benchmark") == benchmark).drop("benchmark").collect()


def _unseen(spec: StudySpec, rows: pl.DataFrame, inputs: Inputs) -> Check:
    """Does the set hold what models are scored on, or chosen by?"""
    problems = inputs["problems"].collect()
    splits = {"validation", spec.evaluation.split} - {spec.sampling.split}
    scored = problems.filter(pl.col("split").is_in(list(splits)))
    if "benchmark_problems" in inputs:
        scored = pl.concat([scored, inputs["benchmark_problems"].collect()], how="diagonal")
    pairs = overlaps(rows, problems, scored)
    known = pairs.filter(pl.col("share") >= DIRTY)
    lines = ["| trained on | where | scored on | share of its words | shared |", "|---|---|---|---|---|"]
    lines += ["| {} | {} | {} | {:.0%} | {} |".format(*pair) for pair in pairs.head(5).iter_rows()]
    return Check(UNSEEN, {"scored_problems_known": known["scored_id"].n_unique()}, "\n".join(lines))


def _problem_inputs(spec: StudySpec) -> dict[str, dg.AssetIn]:
    foreign = spec.targets and spec.foreign_benchmarks
    tables = ["problems", *(["benchmark_problems"] if foreign else [])]
    return {name: own(spec, name) for name in tables}


def _what(spec: StudySpec) -> str:
    parts = [f"the {spec.evaluation.split} split" if spec.is_own(t) else n for n, t in spec.benchmarks.items()]
    return ", ".join(parts)


def _groups(spec: StudySpec, inputs: Inputs) -> pl.DataFrame:
    """[benchmark, problem_id, level, subject] of what models are scored on."""
    wanted = ("problem_id", "level", "subject")
    frames = [
        scored_problems(spec, inputs, name).select(pl.lit(name).alias("benchmark"), *wanted) for name in spec.benchmarks
    ]
    return pl.concat(frames)


def _facts(spec: StudySpec, frame: pl.DataFrame, inputs: Inputs) -> tuple[dict, dg.MetadataValue, dict[str, Any]]:
    """Of one model's answers: every metric on all problems, in Markdown on each level and subject, and accuracy with
    its interval on the first benchmark and each of its levels."""
    part = frame.with_columns(budget=pl.lit(None, pl.String), source=pl.lit(None, pl.String))
    pass_at, maj_at = spec.evaluation.ks
    table = evaluation_metrics(part, _groups(spec, inputs), pass_at, maj_at, spec.confidence)
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
    # Instructions are checked in truncated replies, too: these have a verdict, and are counted all the same.
    facts |= {**verdict_counts(frame), "truncated": int((frame["finish_reason"] == "length").sum())}
    facts |= {"completion_tokens": frame["completion_tokens"].sum()}
    facts |= {"mean_tokens": frame["completion_tokens"].mean(), **_figures(spec, frame, inputs)}
    return facts, dg.MetadataValue.md("\n".join(lines)), shares


def _figures(spec: StudySpec, frame: pl.DataFrame, inputs: Inputs) -> dict:
    """What else the benchmarks publish of a model's answers."""
    found: dict = {}
    for benchmark, task in spec.benchmarks.items():
        gold = scored_problems(spec, inputs, benchmark).select("problem_id", gold="answer")
        answers = frame.filter(pl.col("benchmark") == benchmark, pl.col("temperature") == 0).join(
            gold, on="problem_id", maintain_order="left"
        )
        figures = task.figures(answers.select("gold", "answer"))
        found |= {f"{benchmark}_{name}": value for name, value in figures.items()}
    return found


def _evaluation_config(spec: StudySpec, names: Iterable[str]) -> list:
    return [
        "eval-2",
        spec.evaluation.model_dump(mode="json"),
        _max_tokens(spec),
        [[*_asked_versions(spec, names, task), *_versions(task)] for task in spec.benchmarks.values()],
        spec.confidence,
    ]


def _asked_versions(spec: StudySpec, names: Iterable[str], task: Task) -> list[str]:
    """The versions of the prompts that the targets are given."""
    chats = {target_spec(spec, name).chat for name in names}
    return sorted({task.asked_version(chat) for chat in chats} or {task.prompt_version})


def _versions(task: Task) -> list[str]:
    """What a verdict, and the step checker's, depend on besides the completion."""
    return [task.reading, GRADER_VERSION, JUDGE_VERSION]


def _max_tokens(spec: StudySpec) -> int:
    return spec.evaluation.max_tokens or spec.sampling.max_tokens
