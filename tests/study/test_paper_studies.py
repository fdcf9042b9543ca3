"""The studies of the paper's experiments have its settings (arXiv 2408.16737, sections 3 to 6 and appendix)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cos_assets import study
from cos_assets.budget.matching import match_budgets, solution_cost
from cos_assets.study import StudySpec

FOLDER = Path(__file__).parents[2] / "dagster_project" / "defs" / "paper"
_ENV = re.compile(r"\{\{ env\('\w+', '([^']*)'\) \}\}")


def read(name: str) -> StudySpec:
    text = _ENV.sub(r"\1", (FOLDER / name / "defs.yaml").read_text(encoding="utf-8"))
    return study.parse(yaml.safe_load(text)["attributes"], name)


STUDIES = {path.name: read(path.name) for path in sorted(FOLDER.iterdir())}
LORA = {"math_lora", "gsm8k_lora"}  # for one GPU; not in the paper
FLOPS = sorted(STUDIES.keys() - {"price_matched", "instructions"})


def samples(spec: StudySpec) -> dict[str, dict[str, int]]:
    """Samples per problem by budget and model."""
    costs = {
        name: solution_cost(
            spec.match, params=model.params, prices=model.price.of(batch=False) if model.price else None
        )
        for name, model in spec.models.items()
    }
    found: dict[str, dict[str, int]] = {}
    for buy in match_budgets(spec.budgets, costs):
        found.setdefault(buy.budget, {})[buy.model] = buy.samples
    return found


def test_every_experiment_of_the_paper_has_a_study() -> None:
    names = "coverage_diversity functional_math gsm8k math mix no_ground_truth number_matched number_matched_gsm8k"
    assert set(STUDIES) - LORA == {*names.split(), "problems_500", "code", "price_matched", "instructions"}
    assert all(spec.name == f"paper_{name}" for name, spec in STUDIES.items())


@pytest.mark.parametrize("name", FLOPS)
def test_gemma_studies_match_by_flops(name: str) -> None:
    """Low is 1 sample of 27B and 3 of 9B per problem, high 10 and 30."""
    spec = STUDIES[name]
    assert (spec.models["wc"].model, spec.models["se"].model) == ("google/gemma-2-9b", "google/gemma-2-27b")
    wanted = {"low": {"se": 1, "wc": 3}, "high": {"se": 10, "wc": 30}}
    assert samples(spec) == {budget: wanted[budget] for budget in spec.budgets}
    assert spec.targets["student"].model == "google/gemma-7b"
    assert list(spec.targets) == ["student", "wc", "se"]


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_finetuning_settings_equal_those_of_the_paper(name: str) -> None:
    """Batches of 32 and 600 or 6,000 steps for Gemma 2, of 8 and 2,400 or 24,000 for Gemma 7B: equal numbers of
    rows."""
    spec = STUDIES[name]
    for target in spec.targets:
        settings = spec.finetuning_of(target)
        small = (spec.targets[target].model or "").endswith("gemma-7b")
        assert settings.batch_size == (8 if small else 32)
        for budget in spec.budgets:
            seen = 19_200 if budget == "low" else 192_000
            assert settings.steps_for(budget) * settings.batch_size == seen
        if name not in LORA | {"instructions"}:  # without validation problems, a grid has no winner
            assert settings.learning_rates == (1e-7, 5e-7, 1e-6)
            assert settings.checkpoints == 10


@pytest.mark.parametrize(
    ("name", "task", "shots", "benchmarks", "budgets"),
    [
        ("math", "math", 4, ["math"], "low high"),
        ("gsm8k", "gsm8k", 8, ["gsm8k"], "low high"),
        ("functional_math", "math", 4, ["functional_math"], "low high"),
        ("problems_500", "math", 4, ["math"], "high"),
        ("number_matched", "math", 4, ["math"], "low"),
        ("number_matched_gsm8k", "gsm8k", 8, ["gsm8k"], "low"),
        ("coverage_diversity", "math", 4, ["math"], "high"),
        ("mix", "math", 4, ["math"], "high"),
        ("no_ground_truth", "math", 4, ["math"], "low high"),
        ("code", "mbpp", 3, ["humaneval"], "low high"),
        ("price_matched", "math", 0, ["math"], "one"),
        ("instructions", "oasst", 0, ["ifeval"], "one"),
    ],
)
def test_problems_and_budgets_equal_those_of_the_paper(
    name: str, task: str, shots: int, benchmarks: list[str], budgets: str
) -> None:
    spec = STUDIES[name]
    assert (spec.task.name, spec.sampling.shots, list(spec.benchmarks)) == (task, shots, benchmarks)
    assert list(spec.budgets) == budgets.split()
    assert (spec.sampling.split, spec.evaluation.split) == ("train", "test")


@pytest.mark.parametrize("name", sorted(LORA))
def test_lora_variants_differ_from_their_studies_in_the_finetuning_alone(name: str) -> None:
    one, other = (STUDIES[each].model_dump(mode="json") for each in (name, name.removesuffix("_lora")))
    different = {key for key in one if one[key] != other[key]}
    assert different <= {"name", "description", "finetune", "targets", "published"}


def test_splits_have_the_sizes_of_the_paper() -> None:
    """500 problems for the selection of checkpoints; the ablation trains on 500."""
    validation: dict[str, Any] = {n: getattr(STUDIES[n].task, "validation", None) for n in ("math", "gsm8k")}
    assert validation == {"math": 500, "gsm8k": 500}
    assert getattr(STUDIES["problems_500"].task, "limit", None) == {"train": 500}


@pytest.mark.parametrize("name", ["price_matched", "instructions"])
def test_gemini_studies_match_by_price(name: str) -> None:
    """$10.5 and $0.3 per million output tokens: 35 samples of Flash for one of Pro."""
    assert samples(STUDIES[name]) == {"one": {"se": 1, "wc": 35}}


def test_ablation_arms_equal_those_of_the_paper() -> None:
    arms = {name: spec.sources for name, spec in STUDIES.items()}
    assert arms["number_matched"]["wc_one"].samples == {"wc": 1}
    assert arms["number_matched_gsm8k"]["wc_one"].samples == {"wc": 1}
    assert arms["mix"]["mix"].samples == {"se": 5, "wc": 15}
    assert arms["price_matched"]["wc_five"].samples == {"wc": 5}
    assert arms["coverage_diversity"]["low_low"].samples == {"wc": 1}
    assert arms["coverage_diversity"]["high_low"].keep == "one_per_problem"
    assert STUDIES["no_ground_truth"].verification == STUDIES["instructions"].verification == "none"
    assert all(arms[name]["gt"].reference_solutions for name in ("math", "gsm8k", "code"))
