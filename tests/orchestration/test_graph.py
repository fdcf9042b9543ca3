"""The assets that `--select` selects."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import dagster as dg
import pytest

from cos_assets import study
from cos_assets.assets import build_study
from cos_assets.orchestration import instance
from cos_assets.orchestration.graph import Graph, materialize
from cos_assets.orchestration.io_manager import ParquetIOManager

SPEC = {
    "name": "one",
    "task": "arithmetic",
    "models": {"wc": {"model": "./wc"}, "se": {"model": "./se"}},
    "budgets": {"low": {"se": 1}},
}


@pytest.fixture(scope="module")
def graph() -> Graph:
    other = {**SPEC, "name": "two"}
    assets = [asset for spec in (SPEC, other) for asset in build_study(study.parse(spec))]
    return Graph(dg.Definitions(assets=assets, resources={"io_manager": ParquetIOManager()}))


@pytest.mark.parametrize(
    ("selection", "named"),
    [
        ("samples", {"one/samples"}),
        ("samples, verdicts", {"one/samples", "one/verdicts"}),
        ("samples or verdicts", {"one/samples", "one/verdicts"}),
        ("+budget_plan", {"one/problems", "one/budget_plan"}),
        ("sample_metrics+", {"one/sample_metrics", "one/report"}),
        ("+verdicts and budget_plan+", {"one/budget_plan", "one/samples", "one/verdicts"}),
        ('key:"two/samples"', {"two/samples"}),
        ("two/samples", {"two/samples"}),
    ],
)
def test_names_without_a_prefix_select_assets_of_the_study(graph: Graph, selection: str, named: set[str]) -> None:
    assert {key.to_user_string() for key in graph.select("one", selection)} == named


@pytest.mark.parametrize("selection", ["sample", "+sample", "samples and", ""])
def test_an_unknown_selection_is_refused_with_the_allowed_assets(graph: Graph, selection: str) -> None:
    with pytest.raises(ValueError, match=r"^--select .*; assets: problems, budget_plan, samples, "):
        graph.select("one", selection)


def test_an_interruption_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster treats Ctrl-C as a failure of the asset and would continue with the next."""

    @dg.asset
    def slow() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    monkeypatch.setenv("COS_HOME", str(tmp_path))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    instance.prepare()
    with instance.open_instance() as opened, pytest.raises(KeyboardInterrupt):
        materialize(dg.Definitions([slow]), opened, [slow.key], None)
