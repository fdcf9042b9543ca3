"""Asset checks: the rules that results are checked against, for each partition, as the UI shows them.

Checks are computed where a result is made, from the data at hand, so nothing is read twice. Doubtful results only warn.
Mistakes that would cause money to be wasted stop everything that reads from the partition, in this run and in later
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
from cos_assets.judging.readable import MOST_UNREAD, Unread, truncated_in_reasoning

TRUNCATED = 0.10
"""Maximum share of truncated completions. They count as wrong, so a larger share measures max_tokens, not the model."""
GRADER_ERRORS = 0.02
"""Maximum share of answers without a verdict. The paper's effects are a few points, so the limit is below them."""
ALIKE, ENOUGH = 0.9, 5
"""Maximum share of problems whose samples are all the same text, and the minimum number of problems to apply it to.
Small models often repeat themselves, but an engine that ignores the seed or the temperature does so almost everywhere.
"""
MISMATCH = 0.10
"""Maximum relative difference of the samplers' spend at one budget. The nominal rule assumes equal solution lengths."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Rule:
    """A rule for results. `failing` is the effect of a failure: a warning, an error, or a stop of what reads from the
    partition."""

    name: str
    description: str
    failing: Literal["warns", "is an error", "stops"] = "warns"

    @property
    def blocks_downstream(self) -> bool:
        return self.failing == "stops"


SOUND = Rule(
    "inputs_are_sound",
    "Every input table has the content that its lineage.json recorded, and passed every check that stops.",
    "stops",
)
DISJOINT = Rule("splits_are_disjoint", "No problem occurs in two splits. White space is ignored.")
COMPLETE = Rule("every_sample_is_complete", "No sample is cut off, failed or missing.")
SHORT = Rule("few_completions_are_truncated", f"At most {TRUNCATED:.0%} of the completions were cut off at max_tokens.")
NUMBERED = Rule("repeats_are_numbered", "No sample index occurs twice in a problem.", "stops")
VARIED = Rule(
    "repeats_differ", f"With a temperature above 0, samples differ in more than {1 - ALIKE:.0%} of the problems."
)
GRADED = Rule("every_answer_is_graded", "Every solution states an answer, and every answer has a verdict.")
GRADABLE = Rule(
    "few_answers_defeat_the_grader", f"At most {GRADER_ERRORS:.0%} of the solutions end in a grader error.", "stops"
)
READABLE = Rule(
    "few_answers_are_unreadable",
    f"The grader finds no answer in fewer than {MOST_UNREAD:.0%} of the complete solutions.",
)
SCORED = replace(GRADABLE, failing="warns")
"""GRADABLE for the answers of evaluated models. It only warns, because nothing is bought from these answers."""
ADDED_UP = Rule(
    "verdicts_add_up", "Every sample has one verdict of a known kind, and every verdict has a sample.", "stops"
)
CURVED = Rule(
    "coverage_is_monotonic", "coverage@k is between 0 and 1, is inside its interval, and does not fall with k.", "stops"
)
READ = Rule(
    "every_judged_sample_is_read",
    "Every judge decided whether the reasoning is right, for every sample that it judged.",
)
TELLING = Rule(
    "judge_tells_right_from_wrong",
    "Every judge calls a larger share of wrong answers wrong than of reference solutions, by more than chance.",
)
FILLED = Rule("there_are_rows_to_train_on", "The set is not empty and has as many rows as its source requires.")
UNSEEN = Rule(
    "no_scored_problem_is_trained_on", "No row contains most of the words of a problem that models are scored on."
)
MASKED = Rule("loss_covers_the_completion", "The labels are exactly the tokens of the completion and EOS.", "stops")
CONTROLLED = Rule(
    "every_target_has_its_control",
    "The untouched model of every target answered every problem of every benchmark.",
    "is an error",
)
MATCHED = Rule(
    "budgets_are_matched",
    f"The ledger shows the same spend for all samplers of a budget in the matched quantity, within {MISMATCH:.0%}.",
)


@dataclass(frozen=True)
class Check:
    """The result of a rule on one partition."""

    rule: Rule
    counts: Mapping[str, float]
    """The findings, by name."""
    examples: str | None = None
    """In Markdown."""
    kept: bool | None = None
    """Whether the rule is kept; None: it is kept if all counts are 0."""

    @property
    def passed(self) -> bool:
        return not any(self.counts.values()) if self.kept is None else self.kept

    @property
    def sentence(self) -> str:
        """The check and its findings in one line, for a terminal or a log."""
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
    """Return a check and its findings in one line."""
    found = ", ".join(
        f"{key} {value:,.4g}" for key, value in counts.items() if isinstance(value, int | float) and value
    )
    return f"{name} ({found})" if found else name


def sound(changed: Sequence[str], stopped: Sequence[str]) -> Check:
    """Check the inputs of a step. `changed` lists tables that are not as written, `stopped` those with a failed check
    that stops."""
    lines = [f"- {line}" for line in (*changed, *stopped)]
    return Check(SOUND, {"changed": len(changed), "stopped": len(stopped)}, "\n".join(lines) or None)


def short(rows: pl.DataFrame) -> Check:
    """Check completions [completion, finish_reason]."""
    cut = int((rows["finish_reason"] == "length").sum())
    found = _share(SHORT, "truncated", cut, rows.height, TRUNCATED)
    thinking = truncated_in_reasoning(rows)
    return replace(found, counts={**found.counts, "in_reasoning": thinking}) if thinking else found


def numbered(rows: pl.DataFrame, keys: Sequence[str] = ("problem_id", "sample_index")) -> Check:
    return Check(NUMBERED, {"repeated": rows.height - rows.select(keys).n_unique() if rows.height else 0})


def varied(rows: pl.DataFrame, temperature: float) -> Check:
    """Check samples [problem_id, completion, reasoning] that were drawn at `temperature`."""
    text = pl.struct("completion", "reasoning")
    texts = rows.group_by("problem_id").agg(samples=pl.len(), texts=text.n_unique())
    repeated = texts.filter(pl.col("samples") > 1)
    alike = repeated.filter(pl.col("texts") == 1).height
    share = alike / repeated.height if repeated.height else 0.0
    kept = temperature == 0 or repeated.height < ENOUGH or share <= ALIKE
    return Check(VARIED, {"problems_with_repeats": repeated.height, "all_alike": alike, "share": share}, kept=kept)


def gradable(rows: pl.DataFrame, rule: Rule = GRADABLE) -> Check:
    """Check verdicts [verdict]."""
    return _share(rule, "grader_error", int((rows["verdict"] == "grader_error").sum()), rows.height, GRADER_ERRORS)


def readable(parts: Sequence[Unread]) -> Check:
    """Check the unread answers of one or more problem sets together."""
    complete, unread = sum(part.complete for part in parts), sum(part.unread for part in parts)
    counts = {
        "unread": unread,
        "complete": complete,
        "share": unread / complete if complete else 0.0,
        "flexible_would_read": sum(part.lenient_read for part in parts),
        "flexible_would_be_right": sum(part.lenient_correct for part in parts),
    }
    endings = [text for part in parts for text in part.endings]
    examples = "Ends of such solutions:\n\n" + "\n\n".join(map(markdown_block, endings)) if endings else None
    return Check(READABLE, counts, examples, kept=counts["share"] < MOST_UNREAD)


def added_up(samples: pl.DataFrame, verdicts: pl.DataFrame, has_gold: bool) -> Check:
    """Check verdicts against their samples. Without gold answers (`has_gold` false) a verdict may be null."""
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
    """Check the coverage curves of sample metrics.

    Values are only compared where they are over equally many problems: with fewer problems at a larger k, coverage may
    be lower.
    """
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
    """Check the untouched models' greedy answers [target, benchmark, problem_id, temperature]. `problems` has the
    number of problems of each benchmark."""
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
    """Check how far the most expensive sampler of a budget is from the cheapest, in the quantity that the plan matches.

    `samples` are all samples [budget, model, flops, cost, completion_tokens]. A sampler whose spend the ledger does not
    know is left out.
    """
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
        "| budget | model | spent |",
        "|---|---|---|",
        *("| {} | {} | {:.4g} |".format(*row) for row in shares.rows()),
    ]
    return Check(MATCHED, counts, "\n".join(lines), kept=max(counts.values(), default=0.0) <= MISMATCH)


def _share(rule: Rule, name: str, part: int, whole: int, most: float) -> Check:
    share = part / whole if whole else 0.0
    return Check(rule, {name: part, "of": whole, "share": share}, kept=share <= most)
