"""The ablations of the demo as one study: it buys no sample again, and its report shows every arm."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml

from cos_assets import study
from cos_assets.storage import tables

ROOT = Path(__file__).parents[2]
STUDY, DEMO = "demo_ablations_smoke", "demo_smoke"
AT = {"budget": "high"}


def spec(name: str) -> study.StudySpec:
    text = (ROOT / "dagster_project" / "defs" / name / "defs.yaml").read_text(encoding="utf-8")
    return study.parse(yaml.safe_load(text)["attributes"], name)


@pytest.mark.parametrize("end", ["", "_smoke"])
def test_the_ablation_study_uses_the_samples_of_the_demo(end: str) -> None:
    ours, demo = spec(f"demo_ablations{end}"), spec(f"demo{end}")
    other = {"name", "description", "budgets", "sources", "targets", "finetune"}
    assert ours.model_dump(exclude=other) == demo.model_dump(exclude=other)
    assert all(demo.targets[name] == target for name, target in ours.targets.items())
    assert ours.budgets == {"high": demo.budgets["high"]}
    assert ours.finetune and demo.finetune
    assert ours.finetune.steps_for("high") == demo.finetune.steps_for("high")
    assert ours.finetune.model_dump(exclude={"steps"}) == demo.finetune.model_dump(exclude={"steps"})
    assert set(ours.verifications.values()) == {"answer", "none", "answer+steps"}


def test_the_smoke_study_has_the_same_arms() -> None:
    large, small = spec("demo_ablations").sources, spec(STUDY).sources
    assert large.pop("number_matched").samples == {"wc": 10}
    assert small.pop("number_matched").samples == {"wc": 4}
    assert small == large


@pytest.fixture(scope="module")
def home(smoke_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = shutil.copytree(smoke_home, tmp_path_factory.mktemp("ablations") / "home")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("COS_", "DAGSTER_"))}
    command = [sys.executable, "-m", "cos_assets.cli", "run", STUDY, "--jobs", "2"]
    environment = kept | {"COS_HOME": str(home)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return home


def arm(home: Path, name: str) -> pl.DataFrame:
    return tables.scan(home, STUDY, "sft_set", [{**AT, "source": name}]).collect()


def test_the_ablation_study_buys_nothing_twice(home: Path) -> None:
    ledger = pl.concat([pl.read_parquet(f) for f in home.glob("ledger/**/part-*.parquet")])
    sampled = ledger.filter(stage="sampling")
    assert set(sampled["study"]) == {DEMO} and sampled.height == 60 * (4 + 12)
    trained = ledger.filter(stage="training").group_by("study").len()
    assert dict(trained.iter_rows()) == {DEMO: 18, STUDY: 13 - 3}


def test_every_arm_contains_the_rows_of_its_definition(home: Path) -> None:
    keys = ["model", "problem_id", "sample_index"]
    graded = pl.concat(
        tables.scan(home, STUDY, "verdicts", [{**AT, "model": model}]).collect() for model in ("wc", "se")
    ).select(*keys, "correct")
    wrong = {}
    for name in spec(STUDY).arms:
        rows = arm(home, name).join(graded, on=keys)
        wrong[name] = rows.filter(~pl.col("correct")).height
    assert {name for name, count in wrong.items() if count} == {"wc_unverified", "se_unverified"}
    for model in ("wc", "se"):
        whole, steps = arm(home, model), arm(home, f"{model}_steps")
        assert 0 < steps.height < whole.height and steps.join(whole, on=keys, how="anti").is_empty()
        assert arm(home, f"{model}_quarter")["problem_id"].n_unique() <= 15
    one = arm(home, "wc_keep_one")
    assert one["problem_id"].is_unique().all() and one.height == arm(home, "wc")["problem_id"].n_unique()
    assert set(arm(home, "wc_first")["sample_index"]) == {0}
    assert arm(home, "number_matched")["sample_index"].max() == 3
    assert set(arm(home, "mix")["model"]) == {"wc", "se"} and arm(home, "gt")["model"].null_count() == 60
    ways = {
        name: (tables.lineage(home, STUDY, "sft_set", {**AT, "source": name}) or {})["facts"].get("verification")
        for name in ("wc", "wc_unverified", "se_steps", "gt")
    }
    assert ways == {"wc": "answer", "wc_unverified": "none", "se_steps": "answer+steps", "gt": None}


def test_the_report_shows_every_arm(home: Path) -> None:
    found = tables.scan(home, STUDY, "ablations").collect().filter(target="all")
    assert set(found["arm"]) == set(spec(STUDY).arms) and set(found["n_problems"]) == {200}
    twins = found.filter(~pl.col("reference").is_in(["wc", "se"])).select("arm", "reference").rows()
    assert sorted(twins) == [(f"wc_{what}", f"se_{what}") for what in ("quarter", "steps", "unverified")]
    page = tables.folder(home, STUDY, "report")
    assert "Ablations" in (page / "report.html").read_text(encoding="utf-8") and (page / "ablations.svg").is_file()
