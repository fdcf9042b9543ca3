"""GSM8K with the published solutions of a 6B and a 175B model, from verdicts to the report."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from cos_assets.storage import tables

ROOT = Path(__file__).parents[2]
STUDY = "gsm8k_imported"


@pytest.fixture(scope="module")
def home(public_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("COS_", "DAGSTER_"))}
    environment = kept | {"COS_HOME": str(home), "GSM8K_DATA": str(public_data / "gsm8k")}
    command = [sys.executable, "-m", "cos_assets.cli", "run", STUDY, "--jobs", "1"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (home / "output.txt").write_text(done.stdout)
    return home


def table(home: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(home / STUDY / name / "**/*.parquet", hive_partitioning=False)


def test_the_numbers_of_correct_samples_equal_the_recorded_ones(home: Path) -> None:
    counts = table(home, "verdicts").group_by("model").agg(pl.col("correct").sum(), pl.len()).sort("model")
    assert counts.rows() == [
        ("se", 458, 1319),
        ("se_verified", 742, 1319),
        ("wc", 286, 1319),
        ("wc_verified", 515, 1319),
    ]


def test_the_split_of_the_study_is_sampled(home: Path) -> None:
    problems = table(home, "problems")
    assert dict(problems["split"].value_counts().iter_rows()) == {"train": 6973, "validation": 500, "test": 1319}
    sampled = table(home, "samples").join(problems, on="problem_id")
    assert set(sampled["split"]) == {"test"}
    answered = table(home, "student_eval").join(problems, on="problem_id")
    assert set(answered["split"]) == {"validation"}
    assert answered.group_by("source").len()["len"].to_list() == [50] * 4


def test_metrics_judgements_and_sft_sets_have_the_expected_sizes(home: Path) -> None:
    at_1 = table(home, "sample_metrics").filter(
        pl.col("metric") == "coverage", pl.col("level").is_null(), pl.col("k") == 1
    )
    values = dict(at_1.select("model", "value").iter_rows())
    correct = {"wc": 286, "se": 458, "wc_verified": 515, "se_verified": 742}
    assert values == {model: pytest.approx(count / 1319) for model, count in correct.items()}
    told = table(home, "judgements")
    judged = dict(told.filter(pl.col("control").is_null()).group_by("model").len().iter_rows())
    assert judged == correct
    # Every complete wrong answer is a control, up to 1,000, and equally many reference solutions are.
    wrong = dict(table(home, "verdicts").filter(verdict="wrong").group_by("model").len().iter_rows())
    expected = {(model, "reference", 1000) for model in correct}
    expected |= {(model, "wrong_answer", min(count, 1000)) for model, count in wrong.items()}
    assert set(told.drop_nulls("control").group_by("model", "control").len().iter_rows()) == expected
    rows = dict(table(home, "sft_set").group_by("source").len().iter_rows())
    assert rows == correct


def test_the_small_model_is_trained_on_gsm8k_text(home: Path) -> None:
    """All but one row fit into its 512 tokens, and its completions contain numbers."""
    trained = table(home, "student_checkpoint").sort("source")
    assert trained.select("source", "examples", "too_long").rows() == [
        ("se", 457, 1),
        ("se_verified", 741, 1),
        ("wc", 286, 0),
        ("wc_verified", 514, 1),
    ]
    written = table(home, "student_eval")["completion"].to_list()
    assert sum(any(c.isdigit() for c in text) for text in written) > 50


def test_the_report_names_the_model_with_more_coverage(home: Path) -> None:
    report = tables.scan(home, STUDY, "report").collect()
    coverage = report.filter(pl.col("metric") == "coverage").row(0, named=True)
    assert (
        coverage["better"] == "se"
    )  # with one solution each, the large model is better; a matched budget removes this advantage
    assert coverage["difference"] == pytest.approx((286 - 458) / 1319)
    said = (home / "output.txt").read_text()
    assert "matched by number" in said
    # The step checker rejects few reference solutions and few wrong answers, so its rate is far too low.
    errors = re.search(r"steps on its controls: false alarms (\S+) % .*, recall (\S+) % ", said)
    assert errors is not None and float(errors[1]) < 1 < 5 < float(errors[2]) < 40


def test_missing_data_is_reported_with_the_path(tmp_path: Path) -> None:
    environment = os.environ | {"COS_HOME": str(tmp_path), "DAGSTER_HOME": "", "GSM8K_DATA": str(tmp_path / "nowhere")}
    command = [sys.executable, "-m", "cos_assets.cli", "run", STUDY, "--select", "problems"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"task.path: '{tmp_path}/nowhere' contains no train file" in done.stderr
