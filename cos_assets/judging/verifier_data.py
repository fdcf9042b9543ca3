"""Export of labeled samples as training data for verifiers: JSON lines with the columns of TRL's trainers.

    outcome.jsonl      {prompt, completion, label}: whether the final answer is right (unpaired preference)
    process.jsonl      {prompt, completions, labels}: the steps and whether each is right (PRMTrainer)
    preference.jsonl   {prompt, chosen, rejected}: a right and a wrong solution of one problem (RewardTrainer)

`prompt` is the question. Steps after the first wrong one are left out, because they were not judged (as in PRM800K,
Lightman et al. 2023, arXiv 2305.20050).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from cos_assets.judging import steps as step_checker
from cos_assets.judging.labels import LabelError, quoted, step_of_equation, views
from cos_assets.judging.llm import steps
from cos_assets.storage import catalog
from cos_assets.storage.paths import Place, replace

_KEY = ["model", "problem_id", "sample_index"]


def export(root: Place, study: str, out: Path, judge: str | None = None) -> dict[str, int]:
    """Write the three files to `out`; return their numbers of rows, and the number of labels without a usable step.

    The samples are those with the verdict correct or wrong, each text of a problem once. The label of the reasoning is
    that of the annotators if they agree, else that of `judge` (optional if the study has one judge). In `preference`, a
    chosen sample has a right answer and reasoning that is not known to be wrong. Each sample is in at most one pair.
    Raises LabelError if there is nothing to export or the judge does not exist.
    """
    samples = _samples(root, study)
    labels = _labels(root, study, judge)
    rows = samples.join(labels, on=_KEY, how="left").sort(_KEY)
    # Of equal texts, prefer one that has a label.
    rows = rows.sort(pl.col("label").is_null(), maintain_order=True).unique(["problem_id", "text"], maintain_order=True)
    rows = rows.sort("problem_id", "model", "sample_index")
    process = [(row["question"], *_steps(row)) for row in rows.drop_nulls("label").to_dicts()]
    told = [{"prompt": q, "completions": done, "labels": right} for q, done, right in process if done]
    files: dict[str, list[dict[str, Any]]] = {
        "outcome": [
            {"prompt": q, "completion": text, "label": correct}
            for q, text, correct in rows.select("question", "text", "correct").iter_rows()
        ],
        "process": told,
        "preference": _pairs(rows),
    }
    for name, lines in files.items():
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        replace(out / f"{name}.jsonl", partial(Path.write_text, data=text, encoding="utf-8"))
    return {name: len(lines) for name, lines in files.items()} | {"without_a_step": len(process) - len(told)}


def _samples(root: Place, study: str) -> pl.DataFrame:
    if not {"samples", "verdicts", "problems"} <= views(root):
        raise LabelError(f"{study}: has no samples with verdicts; make them with `cos run {study} --select +verdicts`")
    found = catalog.query(
        root,
        "SELECT DISTINCT ON (s.model, s.problem_id, s.sample_index) s.model, s.problem_id, s.sample_index,"
        " p.question, s.completion AS text, v.correct FROM samples s"
        " JOIN verdicts v USING (study, budget, model, problem_id, sample_index)"
        f" JOIN problems p USING (study, problem_id) WHERE s.study = {quoted(study)}"
        " AND v.verdict IN ('correct', 'wrong')",
    )
    if not found.height:
        raise LabelError(f"{study}: there is no sample with the verdict correct or wrong")
    return found


def _labels(root: Place, study: str, judge: str | None) -> pl.DataFrame:
    """Return [*_KEY, label, step, equations] with the labels right and wrong.

    `equations` is true if `step` counts equations and not steps.
    """
    shape = {"label": pl.String, "step": pl.Int32, "equations": pl.Boolean}
    empty = pl.DataFrame(schema={"model": pl.String, "problem_id": pl.String, "sample_index": pl.Int32, **shape})
    known = views(root)
    mine = f"study = {quoted(study)} AND label IN ('right', 'wrong')"
    people, judged = empty, empty
    if "labels" in known:
        asked = f"SELECT {', '.join(_KEY)}, label, first_wrong_step AS step FROM labels WHERE latest AND {mine}"
        said = catalog.query(root, asked).group_by(_KEY).agg(pl.col("label").unique(), pl.col("step").min())
        agreed = said.filter(pl.col("label").list.len() == 1).with_columns(pl.col("label").list.first())
        people = agreed.with_columns(equations=False)
    if "judgements" in known:
        asked = f"SELECT DISTINCT judge FROM judgements WHERE study = {quoted(study)} ORDER BY 1"
        judges = catalog.query(root, asked)["judge"].to_list()
        if judge not in judges and (judge is not None or len(judges) > 1):
            raise LabelError(f"--judge: {judge!r} is not a judge of {study}; allowed: {', '.join(judges)}")
        if judges:
            judged = catalog.query(
                root,
                "SELECT DISTINCT ON (model, problem_id, sample_index) model, problem_id, sample_index, label,"
                f" first_wrong_step AS step, judge_version = {quoted(step_checker.JUDGE_VERSION)} AS equations"
                f" FROM judgements WHERE {mine} AND control IS NULL AND judge = {quoted(judge or judges[0])}",
            )
    elif judge is not None:
        raise LabelError(f"--judge: {judge!r} is not a judge of {study}; it has no judgements")
    people, judged = (part.select(pl.col(n).cast(t) for n, t in empty.schema.items()) for part in (people, judged))
    return pl.concat([people, judged.join(people, on=_KEY, how="anti")])


def _steps(row: dict[str, Any]) -> tuple[list[str], list[bool]]:
    """Return the judged steps and whether each is right; empty lists if the first wrong step is unknown."""
    told = steps(row["text"])
    if row["label"] == "right":
        return told, [True] * len(told)
    wrong = row["step"]
    if wrong is not None and row["equations"]:
        wrong = step_of_equation(told, wrong)
    if wrong is None or wrong > len(told):
        return [], []
    return told[:wrong], [True] * (wrong - 1) + [False]


def _pairs(rows: pl.DataFrame) -> list[dict[str, str]]:
    """Pair right and wrong samples of each problem at random, as many pairs as the smaller side has samples."""
    out = []
    for part in rows.partition_by("problem_id", maintain_order=True):
        right = part["correct"] & (part["label"].fill_null("right") == "right")
        good, bad = (_shuffled(part.filter(side)["text"]) for side in (right, ~right))
        out += [{"prompt": part["question"][0], "chosen": a, "rejected": b} for a, b in zip(good, bad, strict=False)]
    return out


def _shuffled(texts: Iterable[str]) -> list[str]:
    return sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest())
