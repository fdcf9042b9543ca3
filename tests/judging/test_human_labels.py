"""The step checker against people: labels of MR-GSM8K's wrong solutions, and GSM8K's reference solutions.

The figures are in docs/labels.md.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import polars as pl

from cos_assets.grading.steps import check_equations
from cos_assets.judging import labels
from cos_assets.judging import steps as checker
from cos_assets.judging.llm import steps
from cos_assets.storage import catalog, tables
from cos_assets.tasks import make


def test_the_step_checker_finds_the_documented_share_of_wrong_solutions(public_data: Path, tmp_path: Path) -> None:
    rows = {
        row["uuid"]: row
        for file in sorted((public_data / "mr_gsm8k_subset").glob("*.jsonl"))
        for row in json.loads(file.read_text(encoding="utf-8"))
    }
    texts = {name: "\n".join(row["model_output_steps"]) for name, row in rows.items()}
    assert all(len(steps(text)) == len(rows[name]["model_output_steps"]) for name, text in texts.items())
    right = [row["model_output_answer_correctness"] == "correct" for row in rows.values()]
    problems = pl.DataFrame({"problem_id": list(rows), "question": [row["question"] for row in rows.values()]})
    samples = pl.DataFrame(
        {"problem_id": list(rows), "completion": list(texts.values()), "correct": right}
    ).with_columns(sample_index=pl.lit(0, pl.Int32), weight=pl.lit(1.0))
    judged = checker.judge(samples, problems, make("gsm8k"))
    where: dict[str, str] = {"budget": "all", "model": "various"}
    tables.write(tmp_path, "mr", "problems", None, problems, {})
    for asset, frame in (("samples", samples), ("verdicts", samples.drop("completion")), ("judgements", judged)):
        tables.write(tmp_path, "mr", asset, where, frame, {})

    catalog.build(tmp_path)
    query = f"SELECT s.problem_id, {labels._ID} AS id, {labels._HASH} AS text_hash FROM samples s"
    with (file := tmp_path / "people.csv").open("w", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(labels.FIELDS)
        for number, (problem, *names) in enumerate(catalog.query(tmp_path, query).iter_rows()):
            step = rows[problem]["model_output_solution_first_error_step"]
            reason = rows[problem]["model_output_solution_first_error_reason"]
            writer.writerow([number, "mr", *names, "wrong", step, reason])
    _, people, empty = labels.import_labels(tmp_path, file, "MR-GSM8K")
    assert (people.height, empty) == (590, 0)

    pairs, rates = labels.summary(labels.opinions(tmp_path, "mr"), 0.95)
    assert pairs.select("a", "b", "undecided", "wrong_right", "wrong_wrong").rows() == [
        ("MR-GSM8K", "steps", 134, 314, 142)
    ]
    # Of correct answers with wrong reasoning, it finds 3 of the 14 that it can read.
    assert rates.select("rater", "n_samples", "n_unread").rows() == [("MR-GSM8K", 19, 0), ("steps", 14, 5)]
    assert [round(rate, 4) for rate in rates["value"]] == [1.0, 0.2143]

    found = judged.filter(pl.col("label") == "wrong").join(people, on="problem_id", suffix="_human")
    places: Counter[str] = Counter()
    for problem, equation, step in found.select("problem_id", "first_wrong_step", "first_wrong_step_human").iter_rows():
        here = labels.step_of_equation(steps(texts[problem]), equation)
        assert here is not None
        places["same" if here == step else "earlier" if here < step else "later"] += 1
    assert places == {"same": 109, "later": 30, "earlier": 3}


def test_the_step_checker_rejects_the_documented_share_of_references(public_data: Path) -> None:
    found = {
        part: Counter(
            check_equations(json.loads(line)["answer"]).label
            for line in (public_data / "gsm8k" / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()
        )
        for part in ("train", "test")
    }
    assert found["train"] == {"right": 7324, "wrong": 26, "unreadable": 123}
    assert found["test"] == {"right": 1301, "wrong": 5, "unreadable": 13}
