"""Functional MATH: three snapshots, read from their archives."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cos_assets import tasks
from cos_assets.grading.answers import grade
from cos_assets.tasks.functional_math import FunctionalMath
from cos_assets.tasks.math import Math

ROW = {"problem": "What is $1+1$?", "level": "Level 1", "type": "Algebra", "solution": "\\boxed{2}", "is_static": False}


def write(file: Path, **members: Any) -> str:
    with tarfile.open(file, "w:gz") as archive:
        for name, row in members.items():
            data = row.encode() if isinstance(row, str) else json.dumps(row).encode()
            entry = tarfile.TarInfo(f"Dec-2023/test/algebra/{name}.json")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return str(file)


def test_three_snapshots_have_the_published_problems(public_data: Path) -> None:
    frames = {}
    for snapshot in ("Oct-2023", "Nov-2023", "Dec-2023"):
        task = FunctionalMath(path=str(public_data / "functional_math"), snapshot=snapshot)  # type: ignore[arg-type]
        frames[snapshot] = problems = task.load()
        assert problems.schema == tasks.PROBLEMS
        assert set(problems["split"]) == {"test"}
        assert problems["problem_id"].n_unique() == len(problems) == 1745
        assert problems["answer"].null_count() == 0
        levels = problems.group_by("level").len().sort("level").rows()
        assert levels == [("1", 261), ("2", 463), ("3", 462), ("4", 346), ("5", 213)]
        assert problems["subject"].n_unique() == 7
        assert task.provenance().keys() == {"test_file", "test_sha256"}
    numbers = {
        s: frame["problem_id"].str.strip_prefix(f"functional_math/{s}/").to_list() for s, frame in frames.items()
    }
    assert numbers["Oct-2023"] == numbers["Nov-2023"] == numbers["Dec-2023"]
    moved = (frames["Oct-2023"]["question"] != frames["Dec-2023"]["question"]).sum()
    assert moved == 1712, "33 have the same numbers by chance"


def test_every_gold_but_one_can_be_graded(public_data: Path) -> None:
    """A gold that the graders cannot read has no verdict for other answers."""
    problems = FunctionalMath(path=str(public_data / "functional_math")).load()
    same, other = (
        grade(problems.select(gold="answer", answer=answer, finish_reason=pl.lit("stop")), "math", workers=2)
        for answer in (pl.format("${}$", "answer"), pl.lit("987654321/7"))
    )
    assert set(same["verdict"]) == {"correct"}
    # TeX reads 1/0 followed by 6; its author may have meant 10/6.
    assert other.filter(pl.col("verdict") != "wrong")["gold"].to_list() == ["\\left(\\frac106,15\\right)"]
    assert set(other["grader"]) == {"number", "math-verify 0.9.0"}


def test_prompts_and_answers_equal_those_of_math() -> None:
    ours, its = FunctionalMath(), Math()
    problem = {"question": "q"}
    assert ours.prompt(problem, ours.exemplars) == its.prompt(problem, its.exemplars)
    assert ours.answer("\\boxed{3}\n\nProblem: \\boxed{4}") == "3"
    assert (ours.stop, ours.answer_kind) == (its.stop, "math")


def test_path_can_be_the_archive(tmp_path: Path) -> None:
    path = write(tmp_path / "any.tar.gz", **{"1": ROW, "2": {**ROW, "problem": "q", "is_static": True}})
    problems = FunctionalMath(path=path, check_rows=False).load()
    assert problems["problem_id"].to_list() == [f"functional_math/Dec-2023/algebra/{n}" for n in (1, 2)]
    assert problems["truth"].to_list() == ['{"is_static": false}', '{"is_static": true}']
    assert problems["solution"].null_count() == 2


@pytest.mark.parametrize(
    ("members", "options", "message"),
    [
        ({"1": ROW}, {}, r"Dec-2023.tar.gz: functional_math test has 1 rows; 1745 were published"),
        ({"1": ROW}, {"snapshot": "Oct-2023"}, "contains no Oct-2023 file; expected one of Oct-2023.jsonl"),
        ({"1": "{broken"}, {}, r"Dec-2023.tar.gz:Dec-2023/test/algebra/1.json: line 1: is not JSON"),
        ({"1": {**ROW, "solution": "2"}}, {}, r"algebra/1.json: line 1: the solution boxes no answer"),
        ({}, {}, "has no rows"),
    ],
)
def test_invalid_archives_are_refused_with_the_reason(
    tmp_path: Path, members: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    write(tmp_path / "Dec-2023.tar.gz", **members)
    with pytest.raises(ValueError, match=message) as error:
        FunctionalMath(path=str(tmp_path), **options).load()
    assert "\n" not in str(error.value)


def test_an_archive_of_another_snapshot_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "Oct-2023.tar.gz", **{"1": ROW})
    with pytest.raises(ValueError, match="is not in the snapshot Oct-2023; expected Oct-2023/test/"):
        FunctionalMath(path=path, snapshot="Oct-2023", check_rows=False).load()


def test_a_file_that_is_not_an_archive_and_a_missing_path_are_refused(tmp_path: Path) -> None:
    (tmp_path / "Dec-2023.tar.gz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"Dec-2023.tar.gz: is not a .tar.gz file"):
        FunctionalMath(path=str(tmp_path)).load()
    with pytest.raises(ValueError, match=r"functional_math is not on the hub, so give the folder with Dec-2023.tar.gz"):
        FunctionalMath().load()
