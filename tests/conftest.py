"""Shared fixtures. The public data is next to the checkout, or in COS_PUBLIC_DATA; CI requires it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from support import ROOT, Silent

# Two workers share two cores: with more threads than cores, tests take ten times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("COS_JOBS", "2")
# Files that take more than a minute, the longest first.
LONGEST = (
    *("test_end_to_end.py", "test_ray.py", "test_openai.py", "test_real_study.py", "test_gsm8k_study.py"),
    *("test_full_recipe.py", "test_s3_study.py", "test_judges_in_a_study.py", "test_launch.py"),
    *("test_ablations_study.py", "test_dagster_ui.py", "test_pilot_and_plan.py", "test_imported.py", "test_mbpp.py"),
    *("test_real_engines.py", "test_prediction.py", "test_faults.py", "test_benchmarks.py", "test_schedule.py"),
)
# What `make quick` runs: these folders and the modules in tests/, except those that take seconds.
QUICK = ("budget", "grading", "metrics", "report", "study", "tests")
NOT_QUICK = (
    *("test_apart.py", "test_code.py", "test_instructions.py", "test_math_equality.py", "test_no_sandbox.py"),
    *("test_public_outputs.py", "test_sandbox.py", "test_answers.py", "test_answer_classes.py"),
    *("test_control_rates.py", "test_interval_rates.py", "test_lighteval_cases.py", "test_prediction.py"),
    *("test_page_in_browser.py", "test_cli.py", "test_end_to_end.py", "test_field_cases.py"),
    *("test_doctests.py", "test_extending.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run long files first, so that no worker starts one at the end."""
    for item in items:
        if item.path.parent.name in QUICK and item.path.name not in NOT_QUICK:
            item.add_marker(pytest.mark.quick)
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(autouse=True)
def no_engine_is_kept() -> Iterator[None]:
    """A kept engine would hold memory, and vLLM cannot open a second one."""
    yield
    if module := sys.modules.get("cos_assets.generation.loaded"):
        module.release()


@pytest.fixture(scope="session")
def public_data() -> Path:
    folder = Path(os.environ.get("COS_PUBLIC_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"public data not found at {folder}: in CI these tests must run")
        pytest.skip(
            f"public data not found at {folder}; set COS_PUBLIC_DATA to the folder that holds gsm8k/ and the others"
        )
    return folder


@pytest.fixture(scope="session")
def smoke_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke study, run once by `cos run` for all workers; its output is in output.txt. Tests that change it copy
    it."""
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "smoke"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("COS_", "DAGSTER_"))}
    command = [sys.executable, "-m", "cos_assets.cli", "run", "demo", "--smoke", "--jobs", "2"]
    with FileLock(home.with_suffix(".lock")):
        if not (home / "output.txt").exists():
            environment = kept | {"COS_HOME": str(home)}
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
            (home / "output.txt").write_text(done.stdout)
    return home


@pytest.fixture(scope="session")
def sandbox() -> None:
    """For tests that run programs: they are skipped without a sandbox, and fail in CI."""
    from cos_assets.grading.sandbox import require

    try:
        require()
    except RuntimeError as error:
        if os.environ.get("CI"):
            pytest.fail(f"{error}: in CI these tests must run")
        pytest.skip(str(error))


@pytest.fixture
def materialize(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Materialize every partition of one or more studies, given by the attributes of their YAML, in a new home; return
    the home."""

    def run(*studies: dict[str, Any]) -> Path:
        import dagster as dg

        from cos_assets import study
        from cos_assets.assets import build_study
        from cos_assets.orchestration import executor, instance
        from cos_assets.orchestration.graph import Graph
        from cos_assets.orchestration.io_manager import ParquetIOManager
        from cos_assets.study import environment

        monkeypatch.setenv("COS_HOME", str(tmp_path / "home"))
        monkeypatch.delenv("DAGSTER_HOME", raising=False)
        root = instance.prepare()
        assets = []
        for attributes in studies:
            expanded, written = environment.expand(attributes)
            assets += build_study(study.parse(expanded, written=written))
        resources = {"io_manager": ParquetIOManager()}
        graph = Graph(dg.Definitions(assets=assets, resources=resources, executor=dg.in_process_executor))
        with instance.open_instance() as opened:
            made = executor.run(graph, opened, graph.batches(graph.units(graph.keys())), Silent(), jobs=1)
        if made.failed:
            raise AssertionError(str(made.failed))
        return root

    return run
