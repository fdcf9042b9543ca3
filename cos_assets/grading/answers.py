"""Grading of final answers: five verdicts, decided by a ladder of graders from the cheapest to the most expensive.

    number        the same string, else exactly the same number (see `numbers`), ignoring markup, a name ("x = 5") or
                  a unit beside it
    math          the ladder of `number`, then the same text in one notation (see `notation`); everything else goes to
                  math-verify (see `math_equality`)
    text          the same string without markup; Unicode, case, white space, quotes and a full stop are normalized
    choice        the same letter, ignoring the text around it: "(B)", "b.", "B) seven", `\\textbf{(B)}`
    tests         the answer is code; the gold contains the tests that it has to pass, in a sandbox (see `code`)
    instructions  the answer is a reply; the gold lists the instructions that it has to follow (see `instructions`)
    None          there is no gold to compare with: an answer that could have been graded has no verdict (null)

The verdicts, in the order in which they are decided:

    truncated      finish_reason is "length": the solution was cut off. It was paid for and counts as wrong, whatever
                   its text. (Not with `instructions`: there a truncated reply is graded like any other.)
    no_answer      the solution states no final answer, or the request failed (finish_reason "error")
    correct/wrong  the decision of the ladder
    grader_error   the ladder could not decide; `reason` says why. Counted separately, never as "wrong".

A second, strict grader compares the normalized strings. Where the two graders disagree, the difference is due to the
ladder's reading of numbers and mathematics.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from fractions import Fraction
from typing import get_args

import polars as pl

from cos_assets.grading import units
from cos_assets.grading.grade import Grade, Kind
from cos_assets.grading.notation import normalise, same_text, words
from cos_assets.grading.numbers import MAX_CHARACTERS, parse_number

# Increase it when any rule here or in the graders below changes: stored verdicts then count as outdated.
GRADER_VERSION = "3"

# A longer text is not a final answer, and its comparison as mathematics would only reach the time limit.
MAX_MATH_CHARACTERS = 2000

_COLUMNS = ("gold", "answer", "finish_reason")
_GRADED = {"verdict": pl.String, "reason": pl.String, "grader": pl.String}
_STRINGS = ("number", "math", "text", "choice")


def grade(rows: pl.DataFrame, kind: Kind | None, workers: int = 1, timeout: float = 5.0) -> pl.DataFrame:
    """Grade the answers of samples. Each distinct (gold, answer) is graded once.

    Parameters
    ----------
    rows : polars.DataFrame
        One row per sample, with the columns gold, answer (null: none was stated) and finish_reason, all String.
    kind : Kind or None
        The ladder of graders. None means that there is nothing to compare with: `verdict` of an answer is then null.
    workers : int
        The number of processes for math-verify. None is started if no answer needs it, and none outlives the call.
    timeout : float
        Seconds of processor time that math-verify may spend on one (gold, answer).

    Returns
    -------
    polars.DataFrame
        The same rows in the same order, with the columns `verdict`, `reason`, `grader` (String; the last two nullable)
        and `strict` (Boolean): the decision of the second grader, null if an answer was not graded or is a program or a
        whole reply.

    Raises
    ------
    ValueError
        If a column is missing or mistyped, the kind is unknown, workers < 1 or timeout <= 0.
    RuntimeError
        If math-verify, the sandbox or lm-eval is needed and cannot be started.

    Examples
    --------
    >>> rows = pl.DataFrame({"gold": ["1,200"] * 3, "answer": ["1200", "12", None], "finish_reason": ["stop"] * 3})
    >>> grade(rows, "number").select("verdict", "grader", "strict").rows()
    [('correct', 'number', False), ('wrong', 'number', False), ('no_answer', None, None)]
    """
    _check(rows, kind, workers, timeout)
    rows = rows.drop(*_GRADED, "strict", strict=False).with_columns(pl.col(_COLUMNS).cast(pl.String))
    finish = pl.col("finish_reason").fill_null("stop")
    truncated = finish == "length"
    if kind == "instructions":  # a truncated reply is checked too
        truncated &= pl.col("answer").is_null()
    to_grade = ~truncated & (finish != "error") & pl.col("answer").is_not_null() & pl.lit(kind is not None)
    pairs = rows.filter(to_grade).select("gold", "answer").unique(maintain_order=True)
    grades = _ladder(pairs.rows(), kind, workers, timeout) if kind else []
    strict = [_same_string(gold, answer) if kind in _STRINGS else None for gold, answer in pairs.rows()]
    out = rows.join(
        pl.concat(
            [
                pairs,
                pl.DataFrame(grades, schema=_GRADED, orient="row"),
                pl.DataFrame({"strict": strict}, schema={"strict": pl.Boolean}),
            ],
            how="horizontal",
        ),
        on=["gold", "answer"],
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )

    def ungraded(otherwise: pl.Expr, cut_off: str, failed: str, missing: str) -> pl.Expr:
        return (
            pl.when(truncated)
            .then(pl.lit(cut_off))
            .when(finish == "error")
            .then(pl.lit(failed))
            .when(pl.col("answer").is_null())
            .then(pl.lit(missing))
            .otherwise(otherwise)
        )

    return out.with_columns(
        verdict=ungraded(pl.col("verdict"), "truncated", "no_answer", "no_answer"),
        reason=ungraded(
            pl.col("reason"), "cut off at the token limit", "the request failed", "no final answer is stated"
        ),
        grader=pl.when(to_grade).then(pl.col("grader")),
        strict=pl.when(to_grade).then(pl.col("strict")),
    )


def _ladder(pairs: Iterable[tuple[str | None, str]], kind: Kind, workers: int, timeout: float) -> list[Grade]:
    if kind == "tests":
        from cos_assets.grading.code import grade_programs

        return grade_programs(list(pairs), workers)
    if kind == "instructions":
        from cos_assets.grading.instructions import grade_replies

        return grade_replies(list(pairs), workers)
    grades: list[Grade] = []
    hard: list[tuple[int, tuple[str, str]]] = []
    for gold, answer in pairs:
        if gold is None or not gold.strip():
            grades.append(Grade("grader_error", "the gold answer is empty", None))
        elif kind == "text":
            grades.append(_verdict(normalise_text(gold) == normalise_text(answer), "string"))
        elif kind == "choice":
            want, got = _letter(gold), _letter(answer)
            if want is None:
                grades.append(Grade("grader_error", f"the gold answer {gold[:80]!r} is not a letter", "choice"))
            else:
                grades.append(_verdict(want == got, "choice"))
        elif gold.strip() == answer.strip():
            grades.append(_verdict(True, "string"))
        else:
            decided = _numbers(gold, answer, final=kind == "number")
            if decided is None:
                hard.append((len(grades), (gold, answer)))
                decided = Grade("grader_error", "not graded", None)
            grades.append(decided)
    if hard:
        from importlib.metadata import version

        from cos_assets.grading.math_equality import equivalent

        name = f"math-verify {version('math-verify')}"
        for (position, _), outcome in zip(hard, equivalent([pair for _, pair in hard], workers, timeout), strict=True):
            if isinstance(outcome, str):
                grades[position] = Grade("grader_error", outcome, name)
            else:
                grades[position] = _verdict(outcome, name)
    return grades


def _numbers(gold: str, answer: str, final: bool) -> Grade | None:
    """Return the grade by exact numbers; None passes the pair to the next grader, unless this is the `final` one."""
    want, got = parse_number(gold), parse_number(answer)
    if want is not None and got is None:
        got = _number_in(answer)
    if want is not None and got is not None:
        return _verdict(want == got and units.same(_unit(gold), _unit(answer)) is not False, "number")
    if final:
        if want is None:
            return Grade("grader_error", f"the gold answer {gold[:80]!r} is not a number", "number")
        return Grade("wrong", "the answer is not a number", "number")
    for name, text in (("gold answer", gold), ("answer", answer)):
        if len(text) > MAX_MATH_CHARACTERS:
            reason = f"the {name} has {len(text)} characters; at most {MAX_MATH_CHARACTERS} are compared as mathematics"
            return Grade("grader_error", reason, None)
    return _verdict(True, "string") if same_text(normalise(gold), normalise(answer)) else None


# What may precede a number: `x =`, `f(2) =`, "Total =", or the sum of which it is the result.
_NAME = re.compile(r"(?:\\?[A-Za-z]+(?:_\{\w+\})?(?:\(\w+\))?|\\text\{[^{}]*\}|[\d\s.+*/()-]+(?<=[\d)\s]))\s*=")


def _number_in(answer: str) -> Fraction | None:
    """Return the number of an answer with a name, a unit or markup; None for any other text."""
    if len(answer) > MAX_CHARACTERS:
        return None
    value, _ = units.split(normalise(answer), symbols=True)
    name = _NAME.match(value)
    return parse_number(value[name.end() :] if name else value)


def _unit(text: str) -> str:
    """Return the unit of a number: "$" differs from "€", and an empty unit matches any unit."""
    return "" if re.fullmatch(r"[\d.,/\s-]*", text) else units.split(normalise(text), symbols=True)[1]


def _letter(text: str) -> str | None:
    """Return the choice that a text names: one letter, alone or before a full stop, a bracket or a colon."""
    plain = words(text[:MAX_CHARACTERS])
    found = re.match(r"[\s\"'(\[*$]*([A-Za-z])(?![A-Za-z0-9'’])\s*(?:$|[.):\]*\"'$,])", plain)
    return found[1].upper() if found else None


def _same_string(gold: str | None, answer: str) -> bool | None:
    """Return the decision of the second, strict grader; None if the gold is empty."""
    return normalise_text(gold) == normalise_text(answer) if gold and gold.strip() else None


def normalise_text(text: str) -> str:
    """Return the form in which text answers are compared.

    It is without markup, in NFKC, case folded, with single spaces, and without outer quotes or a full stop.

    Examples
    --------
    >>> normalise_text("**The  Hague**.")
    'the hague'
    """
    plain = " ".join(unicodedata.normalize("NFKC", words(text)).casefold().split())
    return plain.strip("\"'“”‘’").removesuffix(".").strip("\"'“”‘’").strip()


def _verdict(right: bool, grader: str) -> Grade:
    return Grade("correct" if right else "wrong", None, grader)


def _check(rows: pl.DataFrame, kind: str | None, workers: int, timeout: float) -> None:
    if kind is not None and kind not in get_args(Kind):
        raise ValueError(f"kind: {kind!r} is not allowed; allowed: {', '.join(get_args(Kind))}")
    if workers < 1:
        raise ValueError(f"workers: {workers} is not allowed; allowed: at least 1")
    if timeout <= 0:
        raise ValueError(f"timeout: {timeout} is not allowed; allowed: more than 0 seconds")
    for name in _COLUMNS:
        if name not in rows.columns:
            raise ValueError(f"rows to grade: column {name!r} is missing; found: {', '.join(rows.columns) or 'none'}")
        if rows.schema[name] not in (pl.String, pl.Null):
            raise ValueError(f"rows to grade: column {name!r} is {rows.schema[name]}; expected String")
