"""The one declaration of all tables: columns, types and meanings.

From it follow the schemas of frames, the views of `cos.duckdb` with their comments, the descriptions in Dagster's UI,
and docs/columns.md. To add a column, add it here. Tables are named after their views.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from cos_assets.storage.table import STUDY, Column, Derived, Table, duckdb_type


def text(meaning: str) -> Column:
    return Column(pl.String, meaning)


def int64(meaning: str) -> Column:
    return Column(pl.Int64, meaning)


def int32(meaning: str) -> Column:
    return Column(pl.Int32, meaning)


def float64(meaning: str) -> Column:
    return Column(pl.Float64, meaning)


def boolean(meaning: str) -> Column:
    return Column(pl.Boolean, meaning)


_BUDGET = {"budget": text("Name of the budget in the study.")}
_MODEL = {"model": text("Name of the sampler in the study.")}
_SOURCE = {"source": text("The data arm: a sampler's own name, or one of the study's sources.")}
_SAMPLE_SET = {**STUDY, **_BUDGET, **_MODEL}
_ARM = {**STUDY, **_BUDGET, **_SOURCE}
_TRAINED = {
    "budget": text("The budget whose data the model was finetuned on; null for an untouched model."),
    "source": text("The data arm that the model was finetuned on; base: untouched."),
}
_LIMITS = {
    "low": float64("Lower end of the interval, at the study's confidence."),
    "high": float64("Upper end of the interval, at the study's confidence."),
}
_PROBLEM_ID = {"problem_id": text("Name of the problem, stable over versions of this table.")}
_LEVEL = {"level": text("Level of difficulty, as the problem set states it; null where it has none.")}
_PROBLEM = {
    **_PROBLEM_ID,
    "split": text("train, validation or test."),
    "question": text("The question, as the problem set has it."),
    "answer": text("The gold answer that answers are graded by; null where there is none."),
    "solution": text("The reference solution; null where there is none."),
    **_LEVEL,
    "subject": text("Subject, as the problem set states it; null where it has none."),
    "truth": text("What the step checker compares a solution with, where the set states how its answer is computed."),
}
_SAMPLE = {
    **_PROBLEM_ID,
    "sample_index": int32("Index of the sample among those of one prompt, from 0. Smaller budgets use the first ones."),
}
_REPLY = {
    "completion": text("The reply that the model generated, without its reasoning."),
    "reasoning": text("The text before the reply, without its tags; null where there is none, or it is not kept."),
    "messages": text("The turns behind the prompt as JSON, of an imported trace with several; null: one turn."),
    "finish_reason": text("stop: complete; length: cut off at max_tokens; error: the request failed."),
}
_TOKENS = {
    "prompt_tokens": int64("Tokens of the prompt."),
    "completion_tokens": int64("Tokens that were generated, those of the reasoning among them."),
    "reasoning_tokens": int64("Tokens of the reasoning; null where the server does not say."),
}
_CACHED = {"cached_tokens": int64("Tokens of the prompt that came from a cache.")}
_SPEND = {
    "flops": float64("FLOPs of the generated tokens, 2·P each; with count_prefill also those of the prompt."),
    "cost": float64("Cost in the currency of the price; null where the study states no price."),
}
_SECONDS = {"seconds": float64("Seconds of the engine. Samples of one batch share its time evenly.")}
_COMPLETION = {
    "prompt_hash": text("First 32 hex digits of the prompt's SHA-256. The ledger holds the prompt itself."),
    **_REPLY,
    **_TOKENS,
    **_SPEND,
}
_ANSWER = {
    "extract": text("How answers are extracted: strict (as stated), or flexible (else the last number)."),
    "answer": text("The final answer that the solution states; null where it states none."),
}
_VERDICT = {
    "verdict": text("correct, wrong, no_answer, truncated or grader_error; null where there is no gold answer."),
    "correct": boolean("Whether the verdict is correct; null where there is no gold answer."),
}
_KEYS = {
    "text_key": text("Of correct solutions: equal for texts that differ in white space only."),
    "equations_key": text("Of correct solutions: equal for the same equations in order, or, without any, equal texts."),
}
_FIRST_WRONG_STEP = {"first_wrong_step": int32("The first wrong step, from 1; null where there is none.")}
_DIFFERENCE = {
    "difference": float64("The first side less the second, paired on problems (and seeds of training)."),
    **_LIMITS,
    "n_problems": int64("Problems that both sides have."),
    "better": text("The side that is better, if the interval excludes zero; else cannot tell."),
}
_COMPARED = {
    "target": text("The model that was finetuned; all: the mean of all of them, per problem."),
    "benchmark": text("The problem set of the evaluation."),
}


def _side(name: str, what: str) -> dict[str, Column]:
    return {
        f"{name}_value": float64(f"{what}: the value."),
        f"{name}_low": float64(f"{what}: lower end of its interval."),
        f"{name}_high": float64(f"{what}: upper end of its interval."),
    }


def _ceiling(name: str, what: str, column: Any = float64) -> dict[str, Column]:
    return {f"{name}_ceiling": column(f"{what}: the maximum, if every sample is as long as max_tokens allows.")}


def _expected(name: str, what: str) -> dict[str, Column]:
    return {
        f"{name}_expected": float64(
            f"{what}: expected from the mean tokens of a solution; null where it is not known."
        ),
        f"{name}_low": float64(f"{what}: lower end of the interval that the pilot gives."),
        f"{name}_high": float64(f"{what}: upper end of the interval that the pilot gives."),
    }


def _measure(name: str, what: str) -> dict[str, Column]:
    return {
        name: float64(f"{what}, expected in total."),
        f"{name}_low": float64(f"{what}: lower end of the interval."),
        f"{name}_high": float64(f"{what}: upper end of the interval."),
    }


TABLES: Mapping[str, Table] = {
    "problems": Table(
        "The problem set, all splits.",
        "One row per study and problem_id.",
        {**_PROBLEM},
    ),
    "benchmark_problems": Table(
        "Problems of the further sets that models are evaluated on.",
        "One row per study, benchmark and problem_id.",
        {**_PROBLEM, "benchmark": text("The problem set that the problem is from.")},
    ),
    "budget_plan": Table(
        "The number of samples that each budget buys of each model, and what they are expected to cost.",
        "One row per study, budget and model.",
        {
            **_BUDGET,
            **_MODEL,
            "match": text("What budgets are matched by: flops, price, gpu_seconds or number."),
            "match_rule": text("nominal: solutions of equal length; measured: each model's own mean tokens."),
            "samples": int64("Samples per problem that the budget buys."),
            "exact_samples": float64("Samples per problem before they are rounded to a whole number."),
            "mismatch": float64(
                "Relative error of the budget from rounding: +0.02 spends 2 % more than the reference."
            ),
            "reference": boolean("Whether the budget is stated in samples of this model."),
            "params": float64("Parameters that a token passes through."),
            "unit_cost": float64("Cost of one sample in the matched quantity."),
            "fixed_cost": float64("Cost of one problem whatever the number of samples: the prompt, where it counts."),
            "tokens_per_solution": float64("Mean tokens of a solution, from the study or its pilot."),
            "tokens_per_prompt": float64("Mean tokens of a prompt, from the study or its pilot."),
            "tokens_per_second": float64("Generated tokens per second, from the study or its pilot."),
            "n_problems": int64("Problems that are sampled."),
            "completions": int64("Samples in total."),
            **_ceiling("tokens", "Generated tokens", int64),
            **_ceiling("flops", "FLOPs"),
            **_ceiling("cost", "Cost"),
            **_expected("tokens", "Generated tokens"),
            **_expected("flops", "FLOPs"),
            **_expected("cost", "Cost"),
            "seconds_expected": float64("Seconds expected at tokens_per_second."),
            "currency": text("Currency of the cost."),
        },
    ),
    "pilot": Table(
        "A few graded samples of every model, bought before the budgets are planned.",
        "One row per study, model, problem_id and sample_index.",
        {
            **_SAMPLE,
            **_COMPLETION,
            **_VERDICT,
            **_KEYS,
            **_CACHED,
            **_SECONDS,
        },
        labels={**STUDY, **_MODEL},
    ),
    "prediction": Table(
        "What each way to spend a budget is expected to give, from the pilot.",
        "One row per study, budget, scale (part of the budget), source and number of problems.",
        {
            **_BUDGET,
            "scale": float64("Part of the budget that is spent."),
            "source": text("A sampler, or a source that mixes several."),
            "problems": int64("Problems that are sampled."),
            "samples": Column(
                pl.List(pl.Struct({"model": pl.String, "samples": pl.Int64})), "Samples per problem of each model."
            ),
            "spend": float64("Spend in the matched quantity."),
            **_measure("solved", "Problems solved by at least one sample"),
            **_measure("correct", "Correct samples"),
            **_measure("distinct", "Different correct solutions"),
        },
    ),
    "samples": Table(
        "Raw completions, exactly as bought; never edited.",
        "One row per study, budget, model, problem_id and sample_index.",
        {**_SAMPLE, **_COMPLETION},
        labels=_SAMPLE_SET,
    ),
    "verdicts": Table(
        "The answer of each sample and its verdict: correct, wrong, no_answer, truncated, grader_error.",
        "One row per study, budget, model, problem_id and sample_index.",
        {
            **_SAMPLE,
            **_LEVEL,
            **_ANSWER,
            **_VERDICT,
            "strict": boolean(
                "Result of a second grader, which compares normalized strings; null if it did not grade."
            ),
            "reason": text("Why the verdict is not correct."),
            "grader": text("The grader that decided."),
            "grader_version": text("Version of the graders' rules."),
            **_KEYS,
        },
        labels=_SAMPLE_SET,
    ),
    "sample_metrics": Table(
        "coverage@k and diversity@k of the samples, with intervals; level is null for all levels together.",
        "One row per study, budget, model, metric, distinct, denominator, level and k.",
        {
            "metric": text("coverage or diversity; uniform_…: the estimate for equal numbers of samples per problem."),
            "distinct": text("What counts as one solution: exact (the text) or equations; null for coverage."),
            "denominator": text("The mean is over all problems, or over the solved ones; null for coverage."),
            "level": text("Level of difficulty; null: all levels together."),
            "k": int64("Samples per problem."),
            "value": float64("Mean over problems of the value expected of k samples."),
            **_LIMITS,
            "n_problems": int64("Problems that have k samples."),
        },
        labels=_SAMPLE_SET,
    ),
    "judgements": Table(
        "Labels that judges give to the reasoning of samples; wrong_reasoning is null without a judgement.",
        "One row per study, budget, model, problem_id, sample_index, judge and control (null: an ordinary judgement).",
        {
            **_PROBLEM_ID,
            "sample_index": int32(f"{_SAMPLE['sample_index'].meaning} Null for a reference solution."),
            "control": text("Kind of control: reference (a right solution) or wrong_answer; null for a judgement."),
            "judge": text("Name of the judge in the study."),
            "judge_version": text("Version of the judge's rules or prompt."),
            "label": text("right, wrong, or the reason for none: unreadable, refused, truncated, failed, undecided."),
            "first_wrong_step": int32("The first wrong step, from 1, as the judge counts them; null if there is none."),
            "reason": text("The judge's reason."),
            "wrong_reasoning": boolean("Whether the reasoning is wrong; null without a judgement."),
            "correct": boolean("Whether the final answer is right; null for a reference solution."),
            "weight": float64("Number of samples of its problem that a drawn one represents; null for a control."),
            "flops": float64("FLOPs of the judge, if it is a model."),
            "cost": float64("Cost of the judge's reply; null where the study states no price."),
        },
        labels=_SAMPLE_SET,
    ),
    "labels": Table(
        "Labels that annotators give to the reasoning of samples: right, wrong, unsure.",
        "One row per study, model, problem_id, sample_index, annotator and import; the latest of an annotator counts.",
        {
            **STUDY,
            **_MODEL,
            **_SAMPLE,
            "annotator": text("Name of the annotator."),
            "label": text("right, wrong or unsure."),
            **_FIRST_WRONG_STEP,
            "comment": text("The annotator's comment."),
            "text_hash": text("First 16 hex digits of the SHA-256 of the solution that was shown."),
            "imported_at": text("Time of the import."),
        },
        labels={},
        files="*/labels/*.parquet",
        derived={
            "latest": Derived(
                """row_number() OVER (
    PARTITION BY study, model, problem_id, sample_index, annotator ORDER BY imported_at DESC, filename DESC
) = 1""",
                boolean("Whether it is the annotator's latest label of this sample."),
            )
        },
    ),
    "sft_set": Table(
        "The rows that models are finetuned on; model and sample_index identify the sample.",
        "One row per study, budget, source and solution that is trained on.",
        {
            **_PROBLEM_ID,
            "model": text("The sampler that the row is from; null for a reference solution."),
            "sample_index": int32("Index of the sample; null for a reference solution."),
            "prompt": text("The prompt, without few-shot examples."),
            "completion": text("The reply that the model is trained to write."),
            "reasoning": text("The reasoning that it is trained to write before the reply; null for none."),
            "messages": text("The turns of a trace, as JSON, whose assistant turns are trained on; null: one turn."),
            "finish_reason": text("stop: an end-of-text token follows; length: cut off; null: a reference solution."),
            "rejected": text("objective: dpo: the wrong reply of the pair, whose right one is `completion`."),
            "rejected_reasoning": text("The reasoning before it; null for none."),
            "rejected_model": text("The sampler that it is from."),
            "rejected_index": int32("Its sample_index."),
            "desirable": boolean("objective: kto: whether the reply is right."),
        },
        labels=_ARM,
    ),
    "checkpoints": Table(
        "Finetuned models: their folders, their training data and the cost of the training.",
        "One row per study, budget, source, target and seed; the tiny models have neither budget nor source.",
        {
            "target": text("Name in the study of the model that was finetuned."),
            "seed": int64("Seed of the training."),
            "path": text("Folder of the model, or of the name of a model behind an API, below COS_HOME."),
            "hash": text("SHA-256 of the model's files."),
            "base": text("The base model."),
            "base_hash": text("Revision of the base model, or the hash of its files."),
            "method": text("The method of `finetune:`, or scratch for a tiny model."),
            "steps": int64("Optimizer steps."),
            "learning_rate": float64("Learning rate of the selected checkpoint; null for a fine-tuning API."),
            "chosen_step": int64("Step of the selected checkpoint."),
            "validation_accuracy": float64(
                "Accuracy of the selected checkpoint on the validation split; null if none."
            ),
            "tokens": int64("Tokens trained on, counted as often as seen, over all learning rates that were tried."),
            "completion_tokens": int64("Those of the tokens that the loss covers; null for a fine-tuning API."),
            "flops": float64("FLOPs of the training, 6·P a token; see docs/method.md for LoRA. Null if P is unknown."),
            "params": int64("Parameters of the model."),
            "examples": int64("Rows trained on."),
            "too_long": int64("Rows left out because they are longer than the model's context."),
            "epochs": float64("Mean number of times that each row was seen."),
            "curve": Column(
                pl.List(
                    pl.Struct(
                        dict.fromkeys(("learning_rate", "loss", "validation_accuracy"), pl.Float64) | {"step": pl.Int64}
                    )
                ),
                "Loss and validation accuracy of every learning rate and checkpoint.",
            ),
            "data_hash": text("SHA-256 of the rows trained on."),
        },
        labels=_ARM,
        files="*/*_checkpoint/**/data.parquet",
    ),
    "evals": Table(
        "Answers of finetuned models to test problems, and of the untouched ones (source base, no budget).",
        "One row per study, budget, source, target, seed, benchmark, problem_id, temperature and sample_index.",
        {
            "target": text("Name of the model in the study."),
            "seed": int64("Seed of its training; null for an untouched model."),
            "benchmark": text("The problem set."),
            **_PROBLEM_ID,
            "temperature": float64("0: the greedy answer; else the temperature of the sampled answers."),
            "sample_index": int32("Index of the answer, from 0."),
            **_REPLY,
            **{name: _TOKENS[name] for name in ("completion_tokens", "reasoning_tokens")},
            **_ANSWER,
            **_VERDICT,
            "answer_class": int32("Of sampled answers: equal answers to a problem have the same number."),
            "wrong_reasoning": boolean(
                "Of right answers: whether the step checker finds a wrong step; null: unreadable."
            ),
        },
        labels={**STUDY, **_TRAINED},
        files="*/*_eval/**/data.parquet",
    ),
    "eval_metrics": Table(
        "Accuracy (greedy), pass@k, maj@k and false positive rate of finetuned and untouched models, with intervals.",
        "One row per study, budget, source, target, benchmark, metric, k, level and subject.",
        {
            **_TRAINED,
            "target": text("Name of the model in the study."),
            "benchmark": text("The problem set."),
            "metric": text("accuracy (greedy), pass (one of k is right), majority (of k), false_positive_rate."),
            "k": int64("Answers per problem."),
            "level": text("Level of difficulty; null: all together."),
            "subject": text("Subject; null: all together."),
            "value": float64("Mean over problems, pooled over seeds of training."),
            **_LIMITS,
            "n_problems": int64("Problems."),
            "n_seeds": int64("Seeds of training."),
        },
    ),
    "ablations": Table(
        "Accuracy after training on each data arm less that after training on its reference, with intervals.",
        "One row per study, budget, arm, reference, target and benchmark; target all is the mean of the targets.",
        {
            **_BUDGET,
            "arm": text("The data arm."),
            "reference": text("The arm that it is compared with."),
            **_COMPARED,
            **_side("arm", "Greedy accuracy after training on the arm"),
            **_side("reference", "Greedy accuracy after training on the reference"),
            **_DIFFERENCE,
        },
    ),
    "report": Table(
        "Paired differences between the two samplers, with intervals, and which one is better.",
        "One row per study, budget, metric, target and benchmark; target all is the mean of the targets.",
        {
            **_BUDGET,
            "metric": text("coverage, diversity, diversity_exact, false_positive_rate or accuracy."),
            **_COMPARED,
            "weak": text("The cheaper sampler of the pair."),
            "k_weak": int64("Its samples per problem."),
            **_side("weak", "The cheaper sampler"),
            "strong": text("The more expensive sampler of the pair."),
            "k_strong": int64("Its samples per problem."),
            **_side("strong", "The more expensive sampler"),
            **_DIFFERENCE,
        },
    ),
    "ledger": Table(
        "Every attempt that was paid for, by any study and stage; a finetuning is one attempt.",
        "One row per fingerprint (the model), sampling parameters, prompt_hash, sample_index and attempt.",
        {
            "prompt_hash": _COMPLETION["prompt_hash"],
            "sample_index": int32("Index of the sample among those of the prompt, from 0."),
            "attempt": int32("Number of the attempt, from 1. A failed one is repeated at once or by the next run."),
            "prompt": text("The prompt, as sent to the model."),
            "system": text("The system message; null where there is none."),
            **_REPLY,
            **_TOKENS,
            **_CACHED,
            **_SPEND,
            **_SECONDS,
            "retries": int32("Retries within the attempt, after a lost connection or for a busy server."),
            "engine": text("The engine; training for a finetuning, which is one row."),
            "model_id": text("Hub id or folder of the model."),
            "revision": text("Revision of a hub model, or the hash of the files."),
            "temperature": float64("Sampling temperature; 0 is greedy."),
            "top_k": int64("Number of most probable tokens to sample from; null: all."),
            "top_p": float64("Cumulative probability of the most probable tokens to sample from."),
            "min_p": float64("Least probability of a token relative to the most probable one; null: not used."),
            "repetition_penalty": float64("Divisor of the logits of tokens that occurred; null: not used."),
            "presence_penalty": float64("Subtracted from the logits of tokens in the text; null: not used."),
            "frequency_penalty": float64("Subtracted once per occurrence of a token; null: not used."),
            "max_tokens": int64("Maximum number of generated tokens."),
            "seed": int64("Sampling seed."),
            "stop": Column(pl.List(pl.String), "Texts at which generation ends."),
            **STUDY,
            "stage": text("pilot, sampling, judging, training, validation or evaluation."),
            "run_id": text("The Dagster run that bought it."),
            "time": Column(pl.Datetime("us", "UTC"), "Time of the completion."),
            "error": text("Why a request failed, or an unknown finish reason."),
        },
        labels={},
        files="ledger/*/*/part-*.parquet",
        derived={
            "fingerprint": Derived(
                "parse_path(filename)[-3][7:]",
                text("Name of the model in the ledger: the hash of its files, or hub id and revision."),
            )
        },
        filename=True,
    ),
    "lineage": Table(
        "The inputs, code and run of each partition of each table; facts are the figures that its asset shows.",
        "One row per study, asset, partition and input, with the data versions of both.",
        {
            "asset": text("The table."),
            "partition": text("Its partition; null where it has none."),
            "data_version": text("SHA-256 of its content."),
            "code_version": text("Hash of the part of the study that it depends on."),
            "run_id": text("The Dagster run that made it."),
            "time": Column(pl.Datetime("us", "UTC"), "Time at which it was made."),
            "rows": int64("Number of its rows."),
            "facts": text("JSON of its metadata in the UI."),
            "input_asset": text("A table that it was made from."),
            "input_partition": text("The partition of the input."),
            "input_data_version": text("SHA-256 of the input's content when it was read."),
        },
        by_hand=True,
    ),
    "judges": Table(
        "The false positive rate that each judge finds in each sample set, and the judge's errors on its controls.",
        "One row per study, budget, model and judge, as stored when the set was judged (lineage.facts).",
        {
            "judge": text("Name of the judge in the study."),
            "confidence": float64("Confidence of all intervals; null for judgements made by earlier releases."),
            "false_positive_rate": float64(
                "Share of the correct samples with wrong reasoning; null if no_rate says why."
            ),
            "low": float64("Lower end of its interval, at the study's confidence."),
            "high": float64("Upper end of its interval, at the study's confidence."),
            "corrected_by_controls": float64(
                "The rate corrected for the judge's errors on its controls (Rogan-Gladen)."
            ),
            "corrected_low": float64("Lower end of its interval."),
            "corrected_high": float64("Upper end of its interval."),
            "readable_share": float64("Share of the correct samples that the judge could read."),
            "no_rate": text("Why the judge gives no false positive rate; null where it gives one."),
            "false_alarms": float64("Share of the readable reference solutions that the judge calls wrong."),
            "false_alarms_low": float64("Lower end of its interval."),
            "false_alarms_high": float64("Upper end of its interval."),
            "reference_solutions": int64("Reference solutions that the judge was given."),
            "recall": float64("Share of the readable samples with a wrong answer that the judge calls wrong."),
            "recall_low": float64("Lower end of its interval."),
            "recall_high": float64("Upper end of its interval."),
            "wrong_answers": int64("Complete samples with a wrong answer that the judge was given."),
            "controls_unread": int64("Controls of either kind that the judge could not read."),
        },
        labels=_SAMPLE_SET,
        by_hand=True,
    ),
}


def table_of(asset: str) -> str:
    """Return the table that holds an asset's rows. Every target has a checkpoint asset and an evaluation asset.

    >>> table_of("student_checkpoint"), table_of("base_eval"), table_of("samples")
    ('checkpoints', 'evals', 'samples')
    """
    for ending, table in (("_checkpoint", "checkpoints"), ("_eval", "evals")):
        if asset.endswith(ending):
            return table
    return asset


def description(asset: str, column: str) -> str | None:
    """Return the meaning of a column of an asset. None if it has no description."""
    table = TABLES.get(table_of(asset))
    known = table.shown.get(column) if table else None
    return known.meaning if known else None


def page() -> str:
    """Return the text of docs/columns.md: every column of every table.

    Write it with

        python -c "from cos_assets.storage import schemas; print(schemas.page(), end='')" > docs/columns.md
    """
    lines = ["# Tables and columns", "", "Tables have the names of their [views](sql.md). The UI shows the same texts."]
    for name, table in TABLES.items():
        lines += ["", f"## {name}", "", f"{table.holds} {table.row}", "", "| column | type | |", "|---|---|---|"]
        lines += [
            f"| `{column}` | {duckdb_type(each.dtype)} | {each.meaning.replace('|', '&#124;')} |"
            for column, each in table.shown.items()
        ]
    return "\n".join(lines) + "\n"
