"""benchmarks/real_text.py fails if a target is missed, and its figures have the stated meaning."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "real_text.py"


@pytest.fixture
def benchmark(public_data: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("real_text", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "DATA", public_data)
    return module


@pytest.mark.parametrize(
    ("value", "most", "least", "met"),
    [
        (0.01, 0.01, None, True),
        (0.02, 0.01, None, False),
        (0.2, None, 0.24, False),
        (0.3, None, 0.24, True),
        (3, 6, 2, True),
    ],
)
def test_a_missed_target_is_an_error(
    benchmark: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    value: float,
    most: float | None,
    least: float | None,
    met: bool,
) -> None:
    def part() -> Iterator[object]:
        yield benchmark.Figure("a figure", value, most, least, of=100)

    for name in ("step_checker", "distinct", "answers"):
        monkeypatch.setattr(benchmark, name, part if name == "distinct" else lambda: iter(()))
    with pytest.raises(SystemExit) as left:
        benchmark.main()
    assert left.value.code == (not met)
    assert ("MISSED" in capsys.readouterr().out) != met


def test_distinct_solutions_number_between_those_by_equations_and_by_text(benchmark: ModuleType) -> None:
    figures = {figure.name.rpartition("by ")[2]: figure for figure in benchmark.distinct()}
    assert len(figures) == 4
    both = figures["equations, else normalized text"]
    assert figures["equations alone"].value == both.least < both.value < both.most == figures["exact text"].value
