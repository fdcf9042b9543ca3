"""benchmarks/sql.py: every query returns rows on its generated studies, which have the real columns."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from cos_assets.storage import catalog
from cos_assets.storage.schemas import TABLES

FILE = Path(__file__).parents[2] / "benchmarks" / "sql.py"


def test_every_question_has_an_answer(tmp_path: Path) -> None:
    found = importlib.util.spec_from_file_location("sql_benchmark", FILE)
    assert found and found.loader
    benchmark = importlib.util.module_from_spec(found)
    found.loader.exec_module(benchmark)
    samples = benchmark.fill(tmp_path / "full", studies=2, problems=60, test=20)
    assert samples == 2 * 60 * 44
    assert catalog.query(tmp_path / "full", "SELECT count(*) AS n FROM samples")["n"].item() == samples
    for name in TABLES:
        columns = f"DESCRIBE {name}"
        assert catalog.query(tmp_path / "full", columns).equals(catalog.query(tmp_path / "empty", columns))
    assert catalog.filled(tmp_path / "full", *TABLES) == set(TABLES)
    for question in catalog.questions():
        rows = catalog.query(tmp_path / "full", question.read_text(encoding="utf-8"))
        assert rows.height, question.stem
