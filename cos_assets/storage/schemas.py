"""Descriptions of all columns of all tables, for Dagster's UI and for SQL users. Tables are named after their views."""

from __future__ import annotations

from collections.abc import Mapping

_WHERE = {
    "study": "The study's name.",
    "budget": "The study's name of the budget.",
    "model": "The study's name of the sampler.",
    "source": "The data arm: a sampler's own name, or one of the study's sources.",
}
_INTERVAL = {
    "low": "Lower end of the interval, at the study's confidence.",
    "high": "Upper end of the interval.",
}
_PROBLEM = {
    "problem_id": "The problem's name, stable over versions of this table.",
    "level": "Level of difficulty, as the problem set states it; null where it has none.",
    "subject": "Subject, as the problem set states it; null where it has none.",
}
_SAMPLE = {
    "problem_id": _PROBLEM["problem_id"],
    "sample_index": "Which of the samples of one prompt, from 0; the smaller budget's are the first of the larger's.",
}
_COMPLETION = {
    "prompt_hash": "First 32 hex digits of the prompt's SHA-256; the prompt itself stands in the ledger.",
    "completion": "The text that the model gave.",
    "finish_reason": "stop: complete; length: cut off at max_tokens; error: the request failed.",
    "prompt_tokens": "Tokens of the prompt.",
    "completion_tokens": "Tokens that were generated.",
    "flops": "FLOPs of the generated tokens, 2·P each; with count_prefill of the prompt's, too.",
    "cost": "What it cost, in the price's currency; null where the study states no price.",
}
_SERVED = {
    "cached_tokens": "Tokens of the prompt that came from a cache.",
    "seconds": "Seconds of the engine; what was made in a batch shares its time evenly.",
}
_EXTRACT = "How answers are read: strict (as stated), or flexible (else the last number)."
_ANSWER = "The final answer that the solution states; null where it states none."
_GRADED = {
    "verdict": "correct, wrong, no_answer, truncated or grader_error; null where there is no gold answer.",
    "correct": "Is the verdict correct? Null where there is no gold answer.",
    "text_key": "Of correct solutions: equal for texts that differ in white space only.",
    "equations_key": "Of correct solutions: equal for the same equations in order, or, without any, the same text.",
}
_PROBLEMS = {
    **_PROBLEM,
    "split": "train, validation or test.",
    "question": "The question, as the problem set has it.",
    "answer": "The gold answer that answers are graded by; null where there is none.",
    "solution": "The reference solution; null where there is none.",
    "truth": "What the step checker holds a solution to, where the set knows how its answer is computed.",
}
_DIFFERENCE = {
    "target": "The model that was finetuned; all: the mean of all of them, per problem.",
    "benchmark": "The problem set that it was scored on.",
    "difference": "The first side less the second, paired on problems (and seeds of training).",
    **_INTERVAL,
    "n_problems": "Problems that both sides have.",
    "better": "The side that is better, where the interval leaves out zero; else cannot tell.",
}


def _side(name: str, what: str) -> dict[str, str]:
    return {
        f"{name}_value": f"{what}: the value.",
        f"{name}_low": f"{what}: lower end of its interval.",
        f"{name}_high": f"{what}: upper end of its interval.",
    }


def _expected(name: str, what: str) -> dict[str, str]:
    return {
        f"{name}_ceiling": f"{what}: the most, if every sample is as long as max_tokens allows.",
        f"{name}_expected": f"{what}: expected from the mean tokens of a solution; null where these are not known.",
        f"{name}_low": f"{what}: lower end of what the pilot lets expect.",
        f"{name}_high": f"{what}: upper end of what the pilot lets expect.",
    }


def _measure(name: str, what: str) -> dict[str, str]:
    return {
        name: f"{what}, expected in all.",
        f"{name}_low": f"{what}: lower end of the interval.",
        f"{name}_high": f"{what}: upper end of the interval.",
    }


TABLES: Mapping[str, Mapping[str, str]] = {
    "problems": _PROBLEMS,
    "benchmark_problems": {**_PROBLEMS, "benchmark": "The problem set that the problem is from."},
    "budget_plan": {
        "budget": _WHERE["budget"],
        "model": _WHERE["model"],
        "match": "What budgets are matched by: flops, price, gpu_seconds or number.",
        "match_rule": "nominal: solutions of equal length; measured: each model's own mean tokens.",
        "samples": "Samples per problem that the budget buys.",
        "exact_samples": "The same before it is rounded to a whole number.",
        "mismatch": "By how much rounding misses the budget: +0.02 spends 2 % more than the reference.",
        "reference": "Is the budget stated in samples of this model?",
        "params": "Parameters that a token passes through.",
        "unit_cost": "What a sample costs in the matched quantity.",
        "fixed_cost": "What a problem costs once, whatever the number of samples: the prompt, where it counts.",
        "tokens_per_solution": "Mean tokens of a solution: stated in the study, or of its pilot.",
        "tokens_per_prompt": "Mean tokens of a prompt: stated in the study, or of its pilot.",
        "tokens_per_second": "Generated tokens per second: stated in the study, or of its pilot.",
        "n_problems": "Problems that are sampled.",
        "completions": "Samples in all.",
        **_expected("tokens", "Generated tokens"),
        **_expected("flops", "FLOPs"),
        **_expected("cost", "Cost"),
        "seconds_expected": "Seconds expected, at tokens_per_second.",
        "currency": "Currency of the cost.",
    },
    "pilot": {**_SAMPLE, **_COMPLETION, **_SERVED, **_GRADED, "model": _WHERE["model"]},
    "prediction": {
        "budget": _WHERE["budget"],
        "scale": "Part of the budget that is spent.",
        "source": "A sampler, or a source that mixes several.",
        "problems": "Problems that are sampled.",
        "samples": "Samples per problem of each model.",
        "spend": "What that takes of the matched quantity.",
        **_measure("solved", "Problems solved by at least one sample"),
        **_measure("correct", "Correct samples"),
        **_measure("distinct", "Different correct solutions"),
    },
    "samples": {**_SAMPLE, **_COMPLETION},
    "verdicts": {
        **_SAMPLE,
        "level": _PROBLEM["level"],
        "extract": _EXTRACT,
        "answer": _ANSWER,
        **_GRADED,
        "strict": "What a second grader says, which compares normalised strings; null where it did not grade.",
        "reason": "Why the verdict is not correct, in words.",
        "grader": "Which of the graders decided.",
        "grader_version": "The version of the graders' rules.",
    },
    "sample_metrics": {
        "metric": "coverage or diversity; uniform_…: what equal numbers for all problems would have given.",
        "distinct": "What counts as one solution: exact (the text) or equations; null for coverage.",
        "denominator": "The mean is over all problems, or over the solved ones; null for coverage.",
        "level": "Level of difficulty; null: all levels together.",
        "k": "Samples per problem.",
        "value": "The mean over problems, expected of k samples.",
        **_INTERVAL,
        "n_problems": "Problems that have k samples.",
    },
    "judgements": {
        "problem_id": _PROBLEM["problem_id"],
        "sample_index": f"{_SAMPLE['sample_index'].removesuffix('.')}; null for a reference solution.",
        "control": "What is known of it: reference (a right solution) or wrong_answer; null for an ordinary judgement.",
        "judge": "The study's name of the judge.",
        "judge_version": "The version of its rules or of its prompt.",
        "label": "right, wrong, or why it could not tell: unreadable, refused, truncated, failed, undecided.",
        "first_wrong_step": "The first wrong step, from 1, as the judge counts them; null where there is none.",
        "reason": "The judge's reason, in words.",
        "wrong_reasoning": "Is the reasoning wrong? Null where the judge could not tell.",
        "correct": "Is the final answer right? Null for a reference solution.",
        "weight": "For how many samples of its problem a drawn one stands; null for a control.",
        "flops": "FLOPs of the judge, where it is a model.",
        "cost": "What the judge's reply cost; null where the study states no price.",
    },
    "judges": {
        "judge": "The study's name of the judge.",
        "reference_solutions": "Reference solutions that it could read.",
        "false_alarms": "The share of them that it calls wrong.",
        "false_alarms_low": "Lower end of the 95 % interval of false_alarms.",
        "false_alarms_high": "Upper end of the 95 % interval of false_alarms.",
        "wrong_answers": "Complete samples with a wrong answer that it could read.",
        "recall": "The share of them that it calls wrong.",
        "recall_low": "Lower end of the 95 % interval of recall.",
        "recall_high": "Upper end of the 95 % interval of recall.",
        "unread": "Controls of either kind that it could not read.",
        "tells_right_from_wrong": "Is recall less false alarms above zero, by its 95 % interval? Null for too few.",
        "no_rate": "Why it gives no false positive rate; null where it gives one.",
    },
    "labels": {
        **_SAMPLE,
        "model": _WHERE["model"],
        "annotator": "Who labelled it.",
        "label": "right, wrong or unsure.",
        "first_wrong_step": "The first wrong step, from 1; null where there is none.",
        "comment": "What the annotator wrote.",
        "text_hash": "First 16 hex digits of the SHA-256 of the solution that was shown.",
        "imported_at": "When the label was imported.",
        "latest": "Is it the annotator's latest label of this sample?",
    },
    "sft_set": {
        "problem_id": _PROBLEM["problem_id"],
        "model": "The sampler that the row is from; null for a reference solution.",
        "sample_index": "Which of its samples; null for a reference solution.",
        "prompt": "What the model is given, without few-shot examples.",
        "completion": "What it learns to write.",
        "finish_reason": "stop: with an end behind it; length: cut off, so without; null for a reference solution.",
    },
    "checkpoints": {
        "target": "The study's name of the model that was finetuned.",
        "seed": "Seed of the training.",
        "path": "Where the model lies, below COS_HOME.",
        "hash": "SHA-256 of the model's files.",
        "base": "The model that it began with.",
        "base_hash": "Revision of the base model, or the hash of its files.",
        "method": "full, lora, or scratch for a tiny model.",
        "steps": "Optimiser steps.",
        "learning_rate": "The learning rate that was kept.",
        "chosen_step": "The step of the checkpoint that was kept.",
        "validation_accuracy": "Accuracy of the kept checkpoint on the validation split; null where it was not chosen.",
        "tokens": "Tokens trained on, each as often as it was seen, at all learning rates that were tried.",
        "completion_tokens": "Those of them that the loss covers.",
        "flops": "FLOPs of the training, 6·P a token; see docs/method.md for LoRA.",
        "params": "Parameters of the model.",
        "examples": "Rows trained on.",
        "too_long": "Rows left out because they are longer than the model's context.",
        "epochs": "How often each row was seen, on average.",
        "curve": "Loss and validation accuracy of every learning rate and checkpoint.",
        "data_hash": "SHA-256 of the rows trained on.",
    },
    "evals": {
        "target": "The study's name of the model.",
        "seed": "Seed of its training; null for an untouched model.",
        "benchmark": "The problem set.",
        "problem_id": _PROBLEM["problem_id"],
        "temperature": "0: the greedy answer; else that of the drawn ones.",
        "sample_index": "Which of the answers, from 0.",
        **{name: _COMPLETION[name] for name in ("completion", "finish_reason", "completion_tokens")},
        "extract": _EXTRACT,
        "answer": _ANSWER,
        **{name: _GRADED[name] for name in ("verdict", "correct")},
        "answer_class": "Of drawn answers: those that are the same have the same number within a problem.",
        "wrong_reasoning": "Of right answers: does the step checker find a wrong step? Null where it cannot tell.",
        "budget": "The budget whose data it was finetuned on; null for an untouched model.",
        "source": "The data arm that it was finetuned on; base: untouched.",
    },
    "eval_metrics": {
        "budget": "The budget whose data the model was finetuned on; null for an untouched one.",
        "source": "The data arm that it was finetuned on; base: untouched.",
        "target": "The study's name of the model.",
        "benchmark": "The problem set.",
        "metric": "accuracy (greedy), pass (one of k is right), majority (of k), false_positive_rate.",
        "k": "Answers per problem.",
        "level": "Level of difficulty; null: all together.",
        "subject": "Subject; null: all together.",
        "value": "The mean over problems, pooled over seeds of training.",
        **_INTERVAL,
        "n_problems": "Problems.",
        "n_seeds": "Seeds of training.",
    },
    "ablations": {
        "budget": _WHERE["budget"],
        "arm": "The data arm.",
        "reference": "The arm that it is held against.",
        **_side("arm", "Greedy accuracy after training on the arm"),
        **_side("reference", "Greedy accuracy after training on the reference"),
        **_DIFFERENCE,
    },
    "report": {
        "budget": _WHERE["budget"],
        "metric": "coverage, diversity, diversity_exact, false_positive_rate or accuracy.",
        "weak": "The cheaper sampler of the pair.",
        "k_weak": "Its samples per problem.",
        **_side("weak", "The cheaper sampler"),
        "strong": "The dearer sampler of the pair.",
        "k_strong": "Its samples per problem.",
        **_side("strong", "The dearer sampler"),
        **_DIFFERENCE,
    },
    "ledger": {
        **_COMPLETION,
        **_SERVED,
        "sample_index": "Which of the samples of the prompt, from 0.",
        "attempt": "Which attempt at it, from 1: a failed one is made again by the next run, or at once.",
        "prompt": "The prompt, as the model got it.",
        "retries": "How often it was asked again within the attempt, over a lost connection or a busy server.",
        "engine": "What served the model; training for a finetuning, which is one row.",
        "model_id": "Hub id or place of the model.",
        "revision": "Revision of a hub model, or the hash of the files.",
        "temperature": "Sampling temperature; 0 is greedy.",
        "top_k": "Sampling from so many of the likeliest tokens; null: from all.",
        "top_p": "Sampling from the likeliest tokens that have this share of the probability.",
        "max_tokens": "The most tokens that could be generated.",
        "seed": "The sampling seed.",
        "stop": "Texts at which generation ends.",
        "stage": "pilot, sampling, judging, training, validation or evaluation.",
        "run_id": "The Dagster run that bought it.",
        "time": "When it came.",
        "error": "Why a request failed, or a finish reason that is unknown.",
        "fingerprint": "What names the model in the ledger: the hash of its files, or hub id and revision.",
        "filename": "The part of the ledger that holds the row.",
    },
    "lineage": {
        "asset": "The table.",
        "partition": "Its partition; null where it has none.",
        "data_version": "SHA-256 of its content.",
        "code_version": "Hash of the part of the study that it depends on.",
        "run_id": "The Dagster run that made it.",
        "time": "When it was made.",
        "rows": "Its rows.",
        "facts": "What its metadata in the UI says.",
        "input_asset": "A table that it was made from.",
        "input_partition": "The partition of that.",
        "input_data_version": "The content of that when it was read.",
    },
}


def table_of(asset: str) -> str:
    """Return the table that holds an asset's rows. Every target has a checkpoint asset and an evaluation asset."""
    for ending, table in (("_checkpoint", "checkpoints"), ("_eval", "evals")):
        if asset.endswith(ending):
            return table
    return asset


def description(asset: str, column: str) -> str | None:
    """Return the meaning of a column of an asset. None if it has no description."""
    return TABLES.get(table_of(asset), {}).get(column) or _WHERE.get(column)


def page() -> str:
    """Return the text of docs/columns.md: every column of every table.

    Write it with

        python -c "from cos_assets.storage import schemas; print(schemas.page(), end='')" > docs/columns.md
    """
    lines = ["# What every column means", "", "Tables have the names of their [views](sql.md); the UI tells the same."]
    for table, columns in TABLES.items():
        lines += ["", f"## {table}", "", "| column | |", "|---|---|"]
        lines += [f"| `{name}` | {text.replace('|', '&#124;')} |" for name, text in columns.items()]
    return "\n".join(lines) + "\n"
