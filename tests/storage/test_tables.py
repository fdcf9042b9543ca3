from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import polars as pl
import pytest

from cos_assets.storage import tables

FRAME = pl.DataFrame({"x": [1, 2], "text": ["a", None]})


def test_a_partition_has_a_hive_path(tmp_path: Path) -> None:
    file = tables.write(tmp_path, "s", "samples", {"model": "wc", "budget": "low"}, FRAME, {})
    assert file == tmp_path / "s/samples/budget=low/model=wc/data.parquet"
    assert pl.read_parquet(file, hive_partitioning=False).columns == ["study", "budget", "model", "x", "text"]
    assert sorted(p.name for p in file.parent.iterdir()) == ["data.parquet", "lineage.json"]


def test_several_partitions_are_read_as_one_frame_in_the_given_order(tmp_path: Path) -> None:
    for key in ("b", "a"):
        tables.write(tmp_path, "s", "t", {"budget": key}, FRAME, {})
    read = tables.scan(tmp_path, "s", "t", [{"budget": "a"}, {"budget": "b"}]).collect()
    assert read["budget"].to_list() == ["a", "a", "b", "b"]
    assert "study" not in read.columns


def test_a_missing_partition_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"s/t: low\|wc has not been materialized"):
        tables.scan(tmp_path, "s", "t", [{"budget": "low", "model": "wc"}])


def test_an_empty_table_can_be_written_and_read(tmp_path: Path) -> None:
    tables.write(tmp_path, "s", "t", {"budget": "a"}, FRAME.clear(), {})
    assert tables.scan(tmp_path, "s", "t", [{"budget": "a"}]).collect().is_empty()
    assert tables.scan(tmp_path, "s", "t", []).collect().is_empty()


def test_equal_tables_have_equal_hashes() -> None:
    longer = pl.concat([FRAME, FRAME], rechunk=False)
    assert tables.content_hash(longer) == tables.content_hash(pl.concat([FRAME, FRAME], rechunk=True))
    assert tables.content_hash(longer.head(2)) == tables.content_hash(FRAME)
    different = [
        FRAME.reverse(),
        FRAME.rename({"x": "y"}),
        FRAME.cast({"x": pl.Int32}),
        FRAME.select("text", "x"),
        FRAME.with_columns(text=pl.lit("a")),
    ]
    assert len({tables.content_hash(frame) for frame in [FRAME, *different]}) == 6


def test_a_file_with_equal_content_is_not_rewritten(tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": [1, 2]})

    def written(rows: pl.DataFrame, **lineage: str) -> int:
        return tables.write(tmp_path, "s", "a", {"model": "wc"}, rows, lineage).stat().st_ino

    first = written(frame, run_id="one")
    assert written(frame, run_id="two") == first
    known = tables.lineage(tmp_path, "s", "a", {"model": "wc"})
    assert known is not None and known["run_id"] == "two" and known["rows"] == 2
    file, where = tmp_path / "s/a/model=wc" / tables.DATA, {"model": "wc"}
    assert tables.as_recorded(file, known, where)

    # Other content, a changed file and a broken lineage.json: the table is written.
    other = pl.DataFrame({"x": [1, 3]})
    assert written(other) != first
    file.write_bytes(b"changed")
    written(other)
    assert pl.read_parquet(file)["x"].to_list() == [1, 3]
    file.with_name(tables.LINEAGE).write_text("{", encoding="utf-8")
    written(frame)
    assert pl.read_parquet(file)["x"].to_list() == [1, 2]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    path.write_text("old")

    def fails(file: Path) -> None:
        file.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        tables.replace(path, fails)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["data.parquet"]


def test_a_killed_writer_leaves_the_old_table(tmp_path: Path) -> None:
    tables.write(tmp_path, "s", "t", {}, FRAME, {})
    script = f"""
        import os, signal
        from pathlib import Path
        import polars as pl
        from cos_assets.storage import tables as store

        def half(self, file, **kwargs):
            Path(file).write_bytes(b"PAR1 half a file")
            os.kill(os.getpid(), signal.SIGKILL)

        pl.DataFrame.write_parquet = half
        store.write(Path({str(tmp_path)!r}), "s", "t", {{}}, pl.DataFrame({{"x": [9]}}), {{}})
    """
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], env=os.environ | {"POLARS_MAX_THREADS": "1"}
    )
    assert killed.returncode == -9
    left = [p.name for p in (tmp_path / "s/t").iterdir()]
    assert len(left) == 3  # the temporary file still exists, and matches no pattern of a reader
    assert pl.read_parquet(tmp_path / "s/t/**/*.parquet").drop("study").equals(FRAME)
    assert tables.scan(tmp_path, "s", "t").collect().equals(FRAME)
