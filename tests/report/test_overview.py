"""One page over all studies."""

from __future__ import annotations

from pathlib import Path

from test_report import SPEC

from cos_assets.report import overview
from cos_assets.storage.paths import folders

SENTENCE = "low budget: <wc> data was the better buy"


def test_the_overview_lists_every_study_with_a_report(tmp_path: Path) -> None:
    assert folders(tmp_path / "nothing") == []
    assert "0 studies with a report" in overview.build(tmp_path / "new").read_text(encoding="utf-8")
    for name in ("b", "a", "unfinished"):
        (tmp_path / name / "report").mkdir(parents=True)
    (tmp_path / "cos.duckdb").touch()
    verdict = {"budget": "low", "better": "wc", "sentence": SENTENCE}
    for name in ("a", "b"):
        spec = SPEC.model_copy(update={"name": name, "description": "Some & more."})
        place = tmp_path / name / "report"
        (place / overview.ANSWER).write_text(overview.answer(spec, [verdict] if name == "a" else []), encoding="utf-8")
    (tmp_path / "a" / "report" / "answer.svg").write_text("<svg><g/></svg>", encoding="utf-8")
    page = overview.build(tmp_path).read_text(encoding="utf-8")
    assert "2 studies with a report" in page and "unfinished" not in page
    assert page.index('href="a/report/report.html"') < page.index('href="b/report/report.html"')
    assert "&lt;wc&gt; data was the better buy" in page and "Some &amp; more." in page
    assert page.count("<svg>") == 1 and page.count("Nothing to compare.") == 1
