"""The examples of docs/extending.md work as documented, from outside of the package."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support import ROOT

from cos_assets import study
from cos_assets.budget.matching import RULES, Usage, match_budgets, solution_cost
from cos_assets.generation import engines
from cos_assets.generation.generate import Buyer, generate
from cos_assets.generation.model import resolve
from cos_assets.generation.types import Sampling
from cos_assets.judging import methods
from cos_assets.metrics import summary
from cos_assets.storage import catalog

STUDY: dict[str, Any] = {
    "name": "s",
    "task": "arithmetic",
    "models": {"wc": {"model": "a", "engine": "echo"}, "se": {"model": "b", "engine": "echo"}},
    "budgets": {"low": {"se": 2}},
    "match": "number",
}


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The modules of the page, imported like those of a project; removed afterwards."""
    registries: list[dict[str, Any]] = [engines._MODULES, RULES, methods._METHODS, summary.METRICS]
    known = [dict(registry) for registry in registries]
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    found = re.findall(r"```python\n# (\w+)\.py\n(.*?)```", text, re.DOTALL)
    assert [name for name, _ in found] == ["echo_engine", "token_rule", "shown_judge", "pass_hat"]
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, code in found:
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
        importlib.import_module(name)
    yield
    for name, _ in found:
        del sys.modules[name]
    for registry, before in zip(registries, known, strict=True):
        registry.clear()
        registry.update(before)


def test_samples_of_a_custom_engine_are_bought_and_booked(examples: None, tmp_path: Path) -> None:
    spec = study.parse(STUDY)
    model = resolve("a", engine=spec.models["wc"].engine)
    prompts = pl.DataFrame({"problem_id": ["p", "q"], "prompt": ["x\nThe answer is 4", "The answer is 5"]})
    bought = generate(model, prompts, 3, Sampling(), Buyer(tmp_path, "s", "sampling"))
    assert bought.rows["completion"].to_list() == ["The answer is 4"] * 3 + ["The answer is 5"] * 3
    assert generate(model, prompts, 3, Sampling(), Buyer(tmp_path, "s", "sampling")).new == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"targets": {"wc": {}}, "finetune": {"steps": 1}},
            "full cannot train a model that is an echo; give a model",
        ),
        (
            {
                "models": {"wc": {"model": "a", "engine": "echo", "engine_options": {"x": 1}}},
                "budgets": {"l": {"wc": 1}},
            },
            "models.wc.engine_options.x: unknown key; engine echo takes none",
        ),
        (
            {"models": {"se": {"model": "a", "engine": "echoes"}}},
            "models.se.engine: 'echoes' is not allowed; allowed: 'auto', .*'imported', 'echo'",
        ),
        (
            {"judge": {"method": "show"}},
            "judge.method: 'show' is not allowed; .*'vote', 'shown'",
        ),
        ({"judge": {"method": "shown", "model": "a"}}, "judge: model: allowed only with method: llm"),
        ({"match": "token"}, "match: 'token' is not allowed; allowed: 'flops', .*'number', 'tokens'"),
    ],
)
def test_invalid_options_of_a_custom_engine_are_refused_with_the_key(
    examples: None, changes: dict, message: str
) -> None:
    with pytest.raises(study.StudyError, match=message):
        study.parse(STUDY | changes)


def test_a_custom_matching_rule_is_used(examples: None) -> None:
    stated = {
        name: {"model": name, "engine": "echo", "tokens_per_solution": count}
        for name, count in (("wc", 50), ("se", 200))
    }
    spec = study.parse(STUDY | {"match": "tokens", "match_rule": "measured", "models": stated})
    costs = {
        name: solution_cost(spec.match, Usage(model.tokens_per_solution or 0)) for name, model in spec.models.items()
    }
    assert {one.model: one.samples for one in match_budgets(spec.budgets, costs)} == {"wc": 8, "se": 2}
    samples = pl.DataFrame({"completion_tokens": [3, None]}, schema={"completion_tokens": pl.Int64})
    assert samples.select(spec.matching.spent()).to_series().to_list() == [3.0, None]


def test_a_custom_judge_method_and_metric_are_part_of_a_study(
    examples: None, materialize: Callable[[dict[str, Any]], Path], tmp_path: Path
) -> None:
    rows = [
        {"question": f"Add {i} and 1 .\n{words}The answer is {i + 1}", "answer": str(i + 1 + (i == 3))}
        for i, words in enumerate(["", "", "It is one more . ", ""])
    ]
    problems = tmp_path / "problems.jsonl"
    problems.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    task = {"name": "jsonl", "path": str(problems), "grade": "number", "template": "{question}"}
    root = materialize(STUDY | {"task": task, "judge": {"method": "shown"}})
    judged = catalog.query(root, "SELECT problem_id, label FROM judgements WHERE control IS NULL ORDER BY problem_id")
    assert judged["label"].unique(maintain_order=True).to_list() == ["wrong", "right"]  # p0, p1; p2
    rates = catalog.query(root, "SELECT DISTINCT judge, false_positive_rate FROM judges")
    assert rates.rows() == [("shown", pytest.approx(2 / 3))]
    values = catalog.query(
        root, "SELECT DISTINCT metric, k, value FROM sample_metrics WHERE metric <> 'diversity' ORDER BY metric, k"
    )
    assert values.rows() == [("coverage", 1, 0.75), ("coverage", 2, 0.75), ("pass_hat", 1, 0.75), ("pass_hat", 2, 0.75)]
