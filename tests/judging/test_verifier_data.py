from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from cos_assets import cli
from cos_assets.judging import labels
from cos_assets.judging.steps import JUDGE_VERSION
from cos_assets.storage import tables

# Index, text, correct, the judge's label and its wrong equation, the person's label and step.
SAMPLES: list[tuple[str, bool, tuple[str, int | None] | None, tuple[str, int | None] | None]] = [
    ("1 + 1 = 2 and 2 + 1 = 3. 3 + 4 = 7.", True, ("right", None), None),
    ("1 + 1 = 2 and 2 + 1 = 3. 3 + 5 = 7. Done.", True, ("wrong", 3), None),
    ("Three. 3 + 4 = 7. So it is.", True, ("right", None), ("wrong", 1)),
    ("It is 8.", False, None, None),
    ("It is 9.", False, None, None),
    ("It is 9.", False, None, None),
    ("It is clear.\nSo 7.", True, ("wrong", None), None),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root, facts = tmp_path / "home", {}
    keys = {"problem_id": "p", "judge": "steps", "judge_version": JUDGE_VERSION}
    rows: list[dict[str, Any]] = [
        keys | {"sample_index": i, "completion": text, "correct": right, "verdict": "correct" if right else "wrong"}
        for i, (text, right, *_) in enumerate(SAMPLES)
    ]
    rows.append(rows[0] | {"sample_index": 9, "completion": "cut", "correct": False, "verdict": "truncated"})
    frame = pl.DataFrame(rows, schema_overrides={"sample_index": pl.Int32})
    said = [(i, *j) for i, (_, _, j, _) in enumerate(SAMPLES) if j]
    told = pl.DataFrame(
        said, {"sample_index": pl.Int32, "label": pl.String, "first_wrong_step": pl.Int32}, orient="row"
    )
    tables.write(root, "s", "problems", None, pl.DataFrame([{"problem_id": "p", "question": "How many?"}]), facts)
    for budget in ("low", "high"):
        where = {"budget": budget, "model": "wc"}
        tables.write(root, "s", "samples", where, frame.select("problem_id", "sample_index", "completion"), facts)
        tables.write(
            root, "s", "verdicts", where, frame.select("problem_id", "sample_index", "verdict", "correct"), facts
        )
        judged = frame.select("problem_id", "sample_index", "judge", "judge_version").join(told, on="sample_index")
        tables.write(root, "s", "judgements", where, judged, facts)
    people = [
        {"study": "s", "model": "wc", "problem_id": "p", "sample_index": i, "annotator": "ann", "label": said[0]}
        | {"first_wrong_step": said[1], "comment": None, "text_hash": "h", "imported_at": "2026"}
        for i, (*_, said) in enumerate(SAMPLES)
        if said
    ]
    (root / "s" / "labels").mkdir()
    pl.DataFrame(people, schema=labels.SCHEMA).write_parquet(root / "s" / "labels" / "1.parquet")
    return root


def test_exported_files_load_as_data_sets_with_the_judgements(root: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.main, ["--home", str(root), "verifier-data", "s", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "leaves out 1 samples that were judged wrong" in done.output
    import datasets

    def loaded(name: str) -> datasets.Dataset:
        return datasets.Dataset.from_json(str(tmp_path / "out" / f"{name}.jsonl"), cache_dir=str(tmp_path / "cache"))

    outcome, process, preference = (loaded(name) for name in ("outcome", "process", "preference"))
    assert outcome.column_names == ["prompt", "completion", "label"]
    assert process.column_names == ["prompt", "completions", "labels"]
    assert preference.column_names == ["prompt", "chosen", "rejected"]
    assert set(outcome["prompt"]) == {"How many?"}
    assert list(outcome["label"]) == [True, True, True, False, False, True]  # each text once, nothing truncated
    assert [tuple(map(tuple, row)) for row in zip(process["completions"], process["labels"], strict=True)] == [
        (("1 + 1 = 2 and 2 + 1 = 3.", "3 + 4 = 7."), (True, True)),
        (("1 + 1 = 2 and 2 + 1 = 3.", "3 + 5 = 7."), (True, False)),
        (("Three.",), (False,)),  # human labels take precedence over judges
    ]
    # One sample has a correct answer and no objection.
    assert list(preference["chosen"]) == [SAMPLES[0][0]] and preference["rejected"][0] != SAMPLES[0][0]


def test_an_unknown_judge_is_refused_with_the_allowed_ones(root: Path, tmp_path: Path) -> None:
    with pytest.raises(labels.LabelError, match="--judge: 'x' is not a judge of s; allowed: steps"):
        from cos_assets.judging.verifier_data import export

        export(root, "s", tmp_path / "out", "x")
    assert not (tmp_path / "out").exists()
