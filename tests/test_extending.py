"""The examples of docs/extending.md do what the page says, from outside of the package."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
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

STUDY: dict[str, Any] = {
    "name": "s",
    "task": "arithmetic",
    "models": {"wc": {"model": "a", "engine": "echo"}, "se": {"model": "b", "engine": "echo"}},
    "budgets": {"low": {"se": 2}},
    "match": "number",
}


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The modules of the page, imported as a project imports them; forgotten afterwards."""
    known, rules = dict(engines._MODULES), dict(RULES)
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    found = re.findall(r"```python\n# (\w+)\.py\n(.*?)```", text, re.DOTALL)
    assert [name for name, _ in found] == ["echo_engine", "token_rule"]
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, code in found:
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
        importlib.import_module(name)
    yield
    for name, _ in found:
        del sys.modules[name]
    engines._MODULES.clear()
    engines._MODULES.update(known)
    RULES.clear()
    RULES.update(rules)


def test_an_engine_of_ones_own_is_asked_and_booked(examples: None, tmp_path: Path) -> None:
    spec = study.parse(STUDY)
    model = resolve("a", engine=spec.models["wc"].engine)
    prompts = pl.DataFrame({"problem_id": ["p", "q"], "prompt": ["x\nThe answer is 4", "The answer is 5"]})
    bought = generate(model, prompts, 3, Sampling(), Buyer(tmp_path, "s", "sampling"))
    assert bought.rows["completion"].to_list() == ["The answer is 4"] * 3 + ["The answer is 5"] * 3
    assert generate(model, prompts, 3, Sampling(), Buyer(tmp_path, "s", "sampling")).new == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": {"wc": {}}, "finetune": {"steps": 1}}, "targets.wc: .* which is an echo and cannot be finetuned"),
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
        ({"match": "token"}, "match: 'token' is not allowed; allowed: 'flops', .*'number', 'tokens'"),
    ],
)
def test_its_mistakes_are_named_like_those_of_the_others(examples: None, changes: dict, message: str) -> None:
    with pytest.raises(study.StudyError, match=message):
        study.parse(STUDY | changes)


def test_a_matching_rule_of_ones_own_matches(examples: None) -> None:
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
