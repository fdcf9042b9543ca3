"""What results are held to: each rule stands in the UI, and says of each partition whether it is kept.

Checks are computed where a result is made, from what is at hand there: nothing is read twice. What only is doubtful
warns. What would make money be spent on a mistake stops all that reads from the partition, in this run and in later
ones, until the partition has been made again and passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import dagster as dg
import polars as pl

from cos_assets.budget.matching import RULES
from cos_assets.escape import markdown_block
from cos_assets.grading.grade import VERDICTS
from cos_assets.judging.readable import MOST_UNREAD, Unread

TRUNCATED = 0.10
"""Share of completions that may be cut off. They count as wrong: with more of them, max_tokens is what is measured."""
GRADER_ERRORS = 0.02
"""Share of answers that may be left without a verdict. The paper's effects are a few points, so this is below them."""
ALIKE, ENOUGH = 0.9, 5
"""Share of problems, of at least so many, whose samples may all be the same text. Small models often repeat themselves;
all but the same everywhere is what an engine gives that ignores the seed or the temperature."""
MISMATCH = 0.10
"""By how much of the budget samplers may differ in what they took. The nominal rule takes solutions of equal length."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Rule:
    """What is held to. `failing` warns, is an error, or stops what reads from the partition."""

    name: str
    description: str
    failing: Literal["warns", "is an error", "stops"] = "warns"

    @property
    def blocks_downstream(self) -> bool:
        return self.failing == "stops"


SOUND = Rule(
    "inputs_are_sound",
    "The tables that are read have the content that lineage.json recorded, and no check stops what reads from them.",
    "stops",
)
DISJOINT = Rule("splits_are_disjoint", "No problem stands in two splits, whatever its white space.")
COMPLETE = Rule("every_sample_is_complete", "No sample was cut off, failed, or could not be had.")
SHORT = Rule("few_completions_are_truncated", f"At most {TRUNCATED:.0%} of the completions were cut off at max_tokens.")
NUMBERED = Rule("repeats_are_numbered", "No sample index stands twice in a problem: nothing counts double.", "stops")
VARIED = Rule(
    "repeats_differ", f"With a temperature above 0, samples differ in more than {1 - ALIKE:.0%} of the problems."
)
GRADED = Rule("every_answer_is_graded", "Every solution states an answer, and every answer has a verdict.")
GRADABLE = Rule(
    "few_answers_defeat_the_grader", f"At most {GRADER_ERRORS:.0%} of the solutions end in a grader error.", "stops"
)
READABLE = Rule(
    "few_answers_are_unreadable",
    f"Fewer than {MOST_UNREAD:.0%} of the complete solutions state no answer that is read.",
)
SCORED = replace(GRADABLE, failing="warns")
"""The same of finetuned models' answers, from which nothing is bought any more."""
ADDED_UP = Rule("verdicts_add_up", "One verdict of a known kind for every sample, and none for anything else.", "stops")
CURVED = Rule(
    "coverage_is_monotonic", "coverage@k is between 0 and 1, inside its interval, never less at a larger k.", "stops"
)
READ = Rule("every_judged_sample_is_read", "Every judge told whether the reasoning is right.")
TELLING = Rule(
    "judge_tells_right_from_wrong",
    "Every judge calls more of the wrong answers wrong than of the reference solutions, by more than chance.",
)
FILLED = Rule("there_are_rows_to_train_on", "The set is not empty, and has the rows that its source asks for.")
UNSEEN = Rule(
    "no_scored_problem_is_trained_on", "No row holds most of the words of a problem that models are scored on."
)
MASKED = Rule("loss_covers_the_completion", "Labels are the completion's tokens and EOS, and nothing else.", "stops")
CONTROLLED = Rule(
    "every_target_has_its_control",
    "The untouched model of every target answered every problem of every benchmark.",
    "is an error",
)
MATCHED = Rule(
    "budgets_are_matched",
    f"By the ledger, the samplers of a budget took the same of what is matched, within {MISMATCH:.0%}.",
)


@dataclass(frozen=True)
class Check:
    """Whether a rule is kept, and by how much."""

    rule: Rule
    counts: Mapping[str, float]
    """What was found, by name."""
    examples: str | None = None
    """In Markdown."""
    kept: bool | None = None
    """None: it is kept where all counts are 0."""

    @property
    def passed(self) -> bool:
        return not any(self.counts.values()) if self.kept is None else self.kept

    @property
    def sentence(self) -> str:
        """For who reads the terminal or a log."""
        return sentence(self.rule.name, self.counts)

    @property
    def metadata(self) -> dict[str, Any]:
        return dict(self.counts) | ({"examples": dg.MetadataValue.md(self.examples)} if self.examples else {})

    @property
    def severity(self) -> dg.AssetCheckSeverity:
        warns = self.rule.failing == "warns"
        return dg.AssetCheckSeverity.WARN if warns else dg.AssetCheckSeverity.ERROR

    def outcome(self) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(
            check_name=self.rule.name, passed=self.passed, severity=self.severity, metadata=self.metadata
        )


def sentence(name: str, counts: Mapping[str, Any]) -> str:
    """A check and what it found, in one line."""
    found = ", ".join(
        f"{key} {value:,.4g}" for key, value in counts.items() if isinstance(value, int | float) and value
    )
    return f"{name} ({found})" if found else name


def sound(changed: Sequence[str], stopped: Sequence[str]) -> Check:
    """`changed` says which tables are not what was written, `stopped` which failed a check that stops."""
    lines = [f"- {line}" for line in (*changed, *stopped)]
    return Check(SOUND, {"changed": len(changed), "stopped": len(stopped)}, "\n".join(lines) or None)


def short(rows: pl.DataFrame) -> Check:
    """Of completions [finish_reason]."""
    cut = int((rows["finish_reason"] == "length").sum())
    return _share(SHORT, "truncated", cut, rows.height, TRUNCATED)


def numbered(rows: pl.DataFrame, keys: Sequence[str] = ("problem_id", "sample_index")) -> Check:
    return Check(NUMBERED, {"repeated": rows.height - rows.select(keys).n_unique() if rows.height else 0})


def varied(rows: pl.DataFrame, temperature: float) -> Check:
    """Of samples [problem_id, completion] that were drawn at a temperature."""
    texts = rows.group_by("problem_id").agg(samples=pl.len(), texts=pl.col("completion").n_unique())
    repeated = texts.filter(pl.col("samples") > 1)
    alike = repeated.filter(pl.col("texts") == 1).height
    share = alike / repeated.height if repeated.height else 0.0
    kept = temperature == 0 or repeated.height < ENOUGH or share <= ALIKE
    return Check(VARIED, {"problems_with_repeats": repeated.height, "all_alike": alike, "share": share}, kept=kept)


def gradable(rows: pl.DataFrame, rule: Rule = GRADABLE) -> Check:
    """Of verdicts [verdict]."""
    return _share(rule, "grader_error", int((rows["verdict"] == "grader_error").sum()), rows.height, GRADER_ERRORS)


def readable(parts: Sequence[Unread]) -> Check:
    """Of what each problem set leaves unread."""
    complete, unread = sum(part.complete for part in parts), sum(part.unread for part in parts)
    counts = {
        "unread": unread,
        "complete": complete,
        "share": unread / complete if complete else 0.0,
        "flexible_would_read": sum(part.lenient_read for part in parts),
        "flexible_would_be_right": sum(part.lenient_correct for part in parts),
    }
    endings = [text for part in parts for text in part.endings]
    examples = "They end:\n\n" + "\n\n".join(map(markdown_block, endings)) if endings else None
    return Check(READABLE, counts, examples, kept=counts["share"] < MOST_UNREAD)


def added_up(samples: pl.DataFrame, verdicts: pl.DataFrame, has_gold: bool) -> Check:
    """`has_gold`: without gold answers a complete solution has no verdict (null)."""
    keys = ["problem_id", "sample_index"]
    known = (
        pl.col("verdict").is_in(VERDICTS)
        if has_gold
        else pl.col("verdict").is_in(VERDICTS) | pl.col("verdict").is_null()
    )
    counts = {
        "without_verdict": samples.join(verdicts, on=keys, how="anti").height,
        "of_no_sample": verdicts.join(samples, on=keys, how="anti").height,
        "twice": verdicts.height - verdicts.select(keys).n_unique() if verdicts.height else 0,
        "of_no_known_kind": verdicts.filter(~known.fill_null(False)).height,
    }
    return Check(ADDED_UP, counts)


def curved(metrics: pl.DataFrame) -> Check:
    """Of sample metrics. Where fewer problems have as many samples, coverage is that of others, and may be less."""
    rows = metrics.filter(pl.col("metric") == "coverage", pl.col("value").is_not_nan()).sort("level", "k")
    inside = pl.col("value").is_between(pl.col("low").fill_nan(0) - _ROUNDING, pl.col("high").fill_nan(1) + _ROUNDING)
    before = pl.col("value").shift().over("level", "n_problems")
    counts = {
        "outside_0_to_1": rows.filter(~pl.col("value").is_between(-_ROUNDING, 1 + _ROUNDING)).height,
        "outside_the_interval": rows.filter(~inside).height,
        "less_at_a_larger_k": rows.filter(pl.col("value") < before - _ROUNDING).height,
    }
    return Check(CURVED, counts)


def controlled(answers: pl.DataFrame, targets: Sequence[str], problems: Mapping[str, int]) -> Check:
    """Of the untouched models' greedy answers [target, benchmark, problem_id, temperature]; `problems` says how many
    each benchmark has."""
    greedy = answers.filter(pl.col("temperature") == 0)
    answered = {
        (target, benchmark): count
        for target, benchmark, count in greedy.group_by("target", "benchmark")
        .agg(pl.col("problem_id").n_unique())
        .iter_rows()
    }
    lacking = {
        f"{target} on {benchmark}": count - answered.get((target, benchmark), 0)
        for target in targets
        for benchmark, count in problems.items()
    }
    missing = {pair: count for pair, count in lacking.items() if count}
    return Check(CONTROLLED, {"unanswered": sum(missing.values())} | missing)


def matched(samples: pl.DataFrame, plan: pl.DataFrame) -> Check:
    """Of all samples [budget, model, flops, cost, completion_tokens]: how far the dearest sampler of a budget is from
    the cheapest, in what the plan matches. Where the ledger does not know, nothing is said."""
    column = RULES[str(plan["match"].first()) if plan.height else "number"].spent()
    speed = plan.select("budget", "model", "tokens_per_second")
    took = (
        samples.join(speed, on=["budget", "model"], how="left")
        .group_by("budget", "model")
        .agg(took=pl.when(column.is_null().any()).then(None).otherwise(column.sum()))
        .drop_nulls()
        .filter(pl.col("took") > 0)
    )
    spread = took.group_by("budget").agg(off=pl.col("took").max() / pl.col("took").min() - 1).sort("budget")
    counts = {str(budget): off for budget, off in spread.iter_rows()}
    shares = took.sort("budget", "model")
    lines = [
        "| budget | model | took |",
        "|---|---|---|",
        *("| {} | {} | {:.4g} |".format(*row) for row in shares.rows()),
    ]
    return Check(MATCHED, counts, "\n".join(lines), kept=max(counts.values(), default=0.0) <= MISMATCH)


def _share(rule: Rule, name: str, part: int, whole: int, most: float) -> Check:
    share = part / whole if whole else 0.0
    return Check(rule, {name: part, "of": whole, "share": share}, kept=share <= most)
