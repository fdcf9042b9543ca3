"""What `cos run` and `cos sql` do when a table or a model is not on the disk as it was written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from cos_assets import store

ROOT = Path(__file__).parents[1]
STUDY = "demo_smoke"


def cos(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    surroundings = os.environ | {"COS_HOME": str(home)}
    surroundings.pop("DAGSTER_HOME", None)
    command = [sys.executable, "-m", "cos_assets.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True)


def run(home: Path, *arguments: str) -> str:
    done = cos(home, "run", "demo", "--smoke", "--jobs", "2", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def hashes(home: Path) -> dict[str, str]:
    found = {}
    for file in sorted((home / STUDY).rglob("data.parquet")):
        known = store.json.loads((file.parent / "lineage.json").read_text())
        found[str(file.relative_to(home))] = known["data_version"]
    return found


def bought(home: Path) -> int:
    return pl.scan_parquet(home / "ledger" / "**" / "part-*.parquet").select(pl.len()).collect().item()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    run(home)
    return home


def table(home: Path, asset: str, partition: str = "budget=low/model=wc") -> Path:
    return home / STUDY / asset / partition / "data.parquet"


def remove(file: Path) -> None:
    file.unlink()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:500])


def turn(file: Path) -> None:
    """Another table of the same columns, in which every verdict is right."""
    pl.read_parquet(file).with_columns(verdict=pl.lit("correct"), correct=pl.lit(True)).write_parquet(file)


def remove_folder(file: Path) -> None:
    shutil.rmtree(file.parent)


@pytest.mark.parametrize(
    ("asset", "damage"),
    [("samples", remove), ("samples", cut), ("verdicts", cut), ("verdicts", turn), ("samples", remove_folder)],
)
def test_a_table_that_is_not_as_it_was_written_is_made_again(
    made: Path, asset: str, damage: Callable[[Path], None]
) -> None:
    before, ledger = hashes(made), bought(made)
    damage(table(made, asset))
    assert "partitions made" in run(made)
    assert (hashes(made), bought(made)) == (before, ledger)
    assert "nothing to do" in run(made)


def test_a_table_that_was_only_touched_is_not_made_again(made: Path) -> None:
    os.utime(table(made, "samples"), (time.time(), time.time()))
    assert "nothing to do" in run(made)


def test_sql_names_tables_that_are_gone(made: Path) -> None:
    everything = cos(made, "sql", "SELECT count(*) FROM samples")
    assert "warning" not in everything.stderr
    (home := table(made, "samples").parent).rename(aside := made / "aside")
    try:
        part = cos(made, "sql", "SELECT count(*) FROM samples")
        assert part.returncode == 0
        assert f"warning: {STUDY}/samples low|wc: was made and is gone; `cos run` makes it again" in part.stderr
        assert "warning" not in cos(made, "sql", "SELECT count(*) FROM problems").stderr
    finally:
        aside.rename(home)


def model(home: Path) -> Path:
    row = pl.read_parquet(home / STUDY / "student_checkpoint" / "budget=low" / "source=wc" / "data.parquet")
    return home / row["path"].item()


def zero(folder: Path) -> None:
    """Half of the weights' bytes become 0."""
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    file.write_bytes(data)


@pytest.mark.parametrize("damage", [zero, shutil.rmtree])
def test_a_damaged_model_is_trained_again_and_the_conclusion_stays(made: Path, damage: Callable[[Path], None]) -> None:
    before, ledger = hashes(made), bought(made)
    answer = (made / STUDY / "report" / "answer.txt").read_text()
    damage(model(made))
    assert "partitions made" in run(made)
    assert (hashes(made), bought(made)) == (before, ledger)
    assert (made / STUDY / "report" / "answer.txt").read_text() == answer
    assert "nothing to do" in run(made)


def test_a_damaged_model_is_not_evaluated(made: Path) -> None:
    """A single asset is materialized, as the UI does it: nobody has looked at the model before."""
    zero(model(made))
    code = (
        "import dagster as dg, sys\n"
        "from cos_assets import instance, runs\n"
        "instance.prepare()\n"
        "with instance.open_instance() as opened:\n"
        f"    key = dg.AssetKey(['{STUDY}', 'student_eval'])\n"
        "    outcome = runs.materialize(instance.definitions(), opened, [key], 'low|wc')\n"
        "print(outcome.failed[key])\n"
    )
    surroundings = os.environ | {"COS_HOME": str(made)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=surroundings, capture_output=True, text=True)
    assert "this model has other files than its table names; `cos run` makes it again" in done.stdout, done.stderr
    run(made)


def test_a_partition_is_made_again_when_asked(made: Path) -> None:
    before, ledger = hashes(made), bought(made)
    assert "2 partitions made" in run(made, "--again", "low|wc", "--select", "samples,verdicts")
    assert "1 partitions made" in run(made, "--again", "problems", "--select", "problems")
    assert (hashes(made), bought(made)) == (before, ledger)
    wrong = cos(made, "run", "demo", "--smoke", "--again", "nothing")
    assert wrong.returncode == 2
    assert (
        "--again 'nothing': allowed are " in wrong.stderr and "low|wc" in wrong.stderr and wrong.stderr.count("\n") == 1
    )
