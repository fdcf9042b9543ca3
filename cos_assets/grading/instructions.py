"""Grading of instruction following: IFEval (Zhou et al. 2023, arXiv 2311.07911), scored by lm-eval.

The gold is JSON: {"prompt": ..., "instruction_id_list": ["punctuation:no_comma", ...], "kwargs": [{...}, ...]}, with
one entry of `kwargs` for each instruction. The answer is the whole reply. The strict score uses the reply as it is.
The loose score also uses it without its first line, its last line, both, and without asterisks; an instruction passes
if it passes in any of these variants.

The checkers are lm-eval's, in worker processes with a time limit (see `isolated_workers`). Two of them use random
numbers, which are seeded here: the language detector, and the letter counter. The latter picks a random letter if it
has to count a character that is not a letter (`#`, `!`: two of the published prompts).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import polars as pl

from cos_assets.grading import isolated_workers
from cos_assets.grading.grade import Grade

NAME = "lm-eval"
INSTALL = "'cos-assets[ifeval]' (in a checkout: pip install --no-deps -r requirements/ifeval.txt)"
TIMEOUT = 30.0  # seconds of processor time for one reply; a typical one takes a few milliseconds
_LISTS = {"strict_list": pl.List(pl.Boolean), "loose_list": pl.List(pl.Boolean)}


def grade_replies(pairs: Sequence[tuple[str | None, str]], workers: int) -> list[Grade]:
    """Grade replies by the strict score: correct if every instruction is followed.

    Parameters
    ----------
    pairs : sequence of tuple
        (gold, reply): the gold as the module's docstring describes it.
    workers : int
        The number of worker processes.

    Returns
    -------
    list of Grade
        One grade per pair, in order. `reason` of a wrong reply names the instructions that are not followed. A gold
        that cannot be read and a reply that takes more than `TIMEOUT` seconds of processor time give "grader_error".

    Raises
    ------
    RuntimeError
        If lm-eval or a package that it needs is not installed.
    """
    return [_grade(gold, flags) for (gold, _), flags in zip(pairs, _flags(pairs, workers), strict=True)]


def ifeval_scores(rows: pl.DataFrame, workers: int = 1) -> pl.DataFrame:
    """Return replies with the scores that every published figure of IFEval is made of.

    Parameters
    ----------
    rows : polars.DataFrame
        One row per reply, with the columns gold and answer (String). A null answer follows no instruction. Each
        distinct pair is scored once.
    workers : int
        The number of worker processes.

    Returns
    -------
    polars.DataFrame
        The same rows with the columns `strict_all` and `loose_all` (Boolean: whether every instruction is followed),
        `strict_list` and `loose_list` (one Boolean for each instruction, in the gold's order) and `unscored` (String:
        the reason why the other four are null, or null).

    Raises
    ------
    RuntimeError
        If lm-eval or a package that it needs is not installed.
    """
    pairs = rows.select(pl.col("gold", "answer").cast(pl.String)).unique(maintain_order=True)
    found = _flags([(gold, answer or "") for gold, answer in pairs.rows()], workers)
    scores = pl.DataFrame(
        [(None, None, flags) if isinstance(flags, str) else (*flags, None) for flags in found],
        schema={**_LISTS, "unscored": pl.String},
        orient="row",
    ).select(
        pl.col("strict_list").list.all().alias("strict_all"),
        pl.col("loose_list").list.all().alias("loose_all"),
        *_LISTS,
        "unscored",
    )
    return rows.join(
        pl.concat([pairs, scores], how="horizontal"),
        on=["gold", "answer"],
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )


def ifeval_figures(scores: pl.DataFrame) -> dict[str, float | int | None]:
    """Return the four published figures of IFEval and the number of replies that could not be scored.

    The figures are shares in [0, 1]: strict and loose, of prompts and of instructions (Zhou et al. 2023, arXiv
    2311.07911). Unscored replies are excluded from the shares.

    Parameters
    ----------
    scores : polars.DataFrame
        The result of `ifeval_scores`.

    Returns
    -------
    dict
        prompt_strict, instruction_strict, prompt_loose, instruction_loose (None if no reply was scored) and unscored.

    Examples
    --------
    >>> scores = {"strict_all": [True, False], "strict_list": [[True, True], [True, False]]}
    >>> scores |= {"loose_all": [True, True], "loose_list": [[True, True], [True, True]]}
    >>> ifeval_figures(pl.DataFrame(scores))
    {'prompt_strict': 0.5, 'instruction_strict': 0.75, 'prompt_loose': 1.0, 'instruction_loose': 1.0, 'unscored': 0}
    """

    def share(flags: pl.Series) -> float | None:
        return float(flags.sum() / flags.count()) if flags.count() else None

    return {
        "prompt_strict": share(scores["strict_all"]),
        "instruction_strict": share(scores["strict_list"].explode()),
        "prompt_loose": share(scores["loose_all"]),
        "instruction_loose": share(scores["loose_list"].explode()),
        "unscored": scores["strict_all"].null_count(),
    }


def _grade(gold: str | None, flags: tuple[list[bool], list[bool]] | str) -> Grade:
    if isinstance(flags, str):
        return Grade("grader_error", flags, NAME)
    from importlib.metadata import version

    grader = f"{NAME} {version(NAME)}"
    ids = json.loads(gold or "")["instruction_id_list"]
    broken = [name for name, followed in zip(ids, flags[0], strict=True) if not followed]
    return Grade("wrong", f"not followed: {', '.join(broken)}", grader) if broken else Grade("correct", None, grader)


def _flags(pairs: Sequence[tuple[str | None, str]], workers: int) -> list[tuple[list[bool], list[bool]] | str]:
    """Return (strict, loose) flags of the instructions for each pair, or the reason why there are none."""
    items = [_item(gold, reply) for gold, reply in pairs]
    good = [item for item in items if isinstance(item, dict)]
    answers = iter(isolated_workers.ask(__name__, good, workers, TIMEOUT, NAME, INSTALL))
    found = [next(answers) if isinstance(item, dict) else item for item in items]
    return [flags if isinstance(flags, str) else (flags[0], flags[1]) for flags in found]


def _item(gold: str | None, reply: str) -> dict[str, Any] | str:
    try:
        found = json.loads(gold or "")
        prompt, ids, kwargs = found["prompt"], found["instruction_id_list"], found["kwargs"]
        good = isinstance(prompt, str) and len(ids) == len(kwargs) > 0 and all(isinstance(k, dict) for k in kwargs)
    except (ValueError, TypeError, KeyError):
        good = False
    if not good:
        return f'the gold {(gold or "")[:80]!r} is not {{"prompt", "instruction_id_list", "kwargs"}} of equal lists'
    return {"prompt": prompt, "ids": ids, "kwargs": kwargs, "reply": reply}


_checkers: Any = None


def _score(item: dict[str, Any]) -> tuple[list[bool], list[bool]] | str:
    """Score one reply in the worker."""
    import random

    global _checkers
    _checkers = _checkers or _load()
    if unknown := [name for name in item["ids"] if name not in _checkers.instructions_registry.INSTRUCTION_DICT]:
        return f"the instruction {unknown[0]!r} is unknown to {NAME}"
    asked = _checkers.InputExample(0, item["ids"], item["prompt"], item["kwargs"])
    flags = []
    for test in (_checkers.test_instruction_following_strict, _checkers.test_instruction_following_loose):
        random.seed(0)
        flags.append([bool(followed) for followed in test(asked, item["reply"]).follow_instruction_list])
    return flags[0], flags[1]


def _load() -> Any:
    """Return lm-eval's module for IFEval.

    The packages around it load the whole harness and its dependencies. They are replaced by empty packages of the
    same names, because the checkers do not use them.
    """
    import sys
    from importlib.metadata import PackageNotFoundError, distribution
    from types import ModuleType

    import langdetect
    import nltk

    try:
        bundled = distribution("llama-index-core").locate_file("llama_index/core/_static/nltk_cache")
        nltk.data.path.append(str(bundled))
    except PackageNotFoundError:
        pass  # NLTK's own folders may contain it
    try:
        nltk.data.find("tokenizers/punkt_tab")  # otherwise lm-eval would download it
    except LookupError:
        raise LookupError(
            "NLTK's data punkt_tab is missing (run `python -m nltk.downloader punkt_tab`, or install llama-index-core)"
        ) from None
    langdetect.DetectorFactory.seed = 0
    for package in ("lm_eval", "lm_eval.tasks"):
        module = ModuleType(package)
        module.__path__ = [str(distribution(NAME).locate_file(package.replace(".", "/")))]
        sys.modules[package] = module
    from lm_eval.tasks.ifeval import utils

    return utils


if __name__ == "__main__":
    warm_up = {
        "prompt": "",
        "ids": ["length_constraints:number_sentences", "change_case:english_lowercase"],
        "kwargs": [{"relation": "at least", "num_sentences": 1}, {}],
        "reply": "all is well. nothing is amiss.",
    }
    isolated_workers.serve(NAME, _score, warm_up)
