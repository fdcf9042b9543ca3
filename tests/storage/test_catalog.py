from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import polars as pl
import pytest

from cos_assets.assets.budget_plan import PLAN
from cos_assets.budget import strategies
from cos_assets.generation import parts
from cos_assets.generation.generate import COMPLETIONS
from cos_assets.judging import labels, table
from cos_assets.judging.verdicts import verdicts
from cos_assets.metrics import evaluated, summary
from cos_assets.orchestration.io_manager import ParquetIOManager
from cos_assets.report import ablations, compare
from cos_assets.storage import catalog, schemas, tables
from cos_assets.storage.table import Table
from cos_assets.tasks import PROBLEMS, make
from cos_assets.training import checkpoints, evaluation, sft_sets

SAMPLES = pl.DataFrame({"problem_id": ["a", "b"], "sample_index": [0, 0], "completion": ["x", "y"]})


def write(root: Path, asset: str, partition: dict[str, str], frame: pl.DataFrame, **lineage: object) -> None:
    tables.write(root, "s", asset, partition, frame, {"inputs": [], "facts": {}, **lineage})


@pytest.fixture(params=["home", "it's a home", "h[0]*"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    root = tmp_path / request.param
    write(root, "samples", {"budget": "low", "model": "wc"}, SAMPLES)
    write(root, "samples", {"budget": "low", "model": "se"}, SAMPLES.with_columns(cost=pl.lit(1.5)))
    return root


GRADED = dict(verdicts(COMPLETIONS.to_frame(), PROBLEMS.to_frame(), make("arithmetic")).schema)
KEPT = {name: GRADED[name] for name in ("verdict", "correct", "text_key", "equations_key")}
TABLES: list[tuple[str, str, dict[str, str], dict[str, Any]]] = [
    # view, asset, partition, columns of the frame
    ("problems", "problems", {}, dict(PROBLEMS)),
    ("benchmark_problems", "benchmark_problems", {}, {**PROBLEMS, "benchmark": pl.String}),
    ("budget_plan", "budget_plan", {}, dict(PLAN)),
    ("prediction", "prediction", {}, dict(strategies.SCHEMA)),
    ("samples", "samples", {"budget": "low", "model": "wc"}, dict(COMPLETIONS)),
    ("sample_metrics", "sample_metrics", {"budget": "low", "model": "wc"}, dict(summary.SCHEMA)),
    ("judgements", "judgements", {"budget": "low", "model": "wc"}, dict(table.SCHEMA)),
    ("verdicts", "verdicts", {"budget": "low", "model": "wc"}, GRADED),
    ("pilot", "pilot", {"model": "wc"}, {**COMPLETIONS, **KEPT, "cached_tokens": pl.Int64, "seconds": pl.Float64}),
    ("sft_set", "sft_set", {"budget": "low", "source": "mix"}, dict(sft_sets.SCHEMA)),
    ("checkpoints", "student_checkpoint", {"budget": "low", "source": "mix"}, dict(checkpoints.SCHEMA)),
    ("evals", "student_eval", {"budget": "low", "source": "mix"}, dict(evaluation.SCHEMA)),
    ("eval_metrics", "eval_metrics", {}, dict(evaluated.SCHEMA)),
    ("ablations", "ablations", {}, dict(ablations.SCHEMA)),
    ("report", "report", {}, dict(compare.SCHEMA)),
]


@pytest.mark.parametrize(("view", "asset", "partition", "columns"), TABLES, ids=[view for view, *_ in TABLES])
def test_a_view_has_the_columns_of_its_table_before_the_table_exists(
    tmp_path: Path, view: str, asset: str, partition: dict[str, str], columns: dict[str, Any]
) -> None:
    empty = catalog.query(tmp_path, f"FROM {view}")
    assert empty.height == 0
    write(tmp_path, asset, partition, pl.DataFrame(schema=columns))
    ours = pl.Schema({"study": pl.String, **dict.fromkeys(partition, pl.String), **columns})
    assert dict(empty.schema) == dict(ours)
    assert catalog.query(tmp_path, f"FROM {view}").schema == empty.schema
    assert catalog.filled(tmp_path, view) == set()
    row = pl.DataFrame([dict.fromkeys(columns)], schema=columns)
    write(tmp_path, asset, partition, row)
    assert catalog.filled(tmp_path, view) == {view}


def test_views_of_labels_and_the_ledger_have_their_columns(tmp_path: Path) -> None:
    found = {name: catalog.query(tmp_path, f"FROM {name}").schema for name in ("labels", "ledger")}
    assert found["labels"] == pl.Schema({**labels.SCHEMA, "latest": pl.Boolean})
    assert isinstance(found["ledger"]["time"], pl.Datetime)  # in the time zone of the session
    booked = {**parts.SCHEMA, "filename": pl.String, "fingerprint": pl.String}
    assert {**found["ledger"], "time": booked["time"]} == booked


def test_every_view_exists_in_an_empty_home_and_has_a_comment(tmp_path: Path) -> None:
    found = catalog.query(tmp_path, "SELECT view_name, comment FROM duckdb_views() WHERE NOT internal ORDER BY 1")
    assert found["view_name"].to_list() == sorted(schemas.TABLES)
    told = catalog.query(tmp_path, "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal")
    assert told.filter(pl.col("comment").is_null()).rows() == []
    assert set(told["table_name"]) == set(found["view_name"])
    for view, comment in found.iter_rows():
        assert "One row per " in comment, view
        assert catalog.query(tmp_path, f"FROM {view}").height == 0


def test_the_file_is_built_once_and_rebuilt_when_the_views_change(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = catalog.ready(root)
    first = file.stat()
    write(root, "verdicts", {"budget": "low", "model": "wc"}, SAMPLES)
    assert catalog.query(root, "SELECT count(*) AS n FROM verdicts")["n"].item() == 2
    assert catalog.ready(root).stat().st_ino == first.st_ino
    another = Table(
        "Something else.", "One row per thing.", {"a": schemas.int64("A number.")}, files="*/another.parquet"
    )
    monkeypatch.setattr(catalog, "TABLES", {**schemas.TABLES, "another": another})
    pl.DataFrame({"a": [1]}).write_parquet(root / "s" / "another.parquet")
    assert catalog.query(root, "SELECT a FROM another")["a"].to_list() == [1]
    file.write_bytes(b"not a database")
    assert catalog.query(root, "SELECT a FROM another")["a"].to_list() == [1]


def test_a_moved_home_is_read_at_its_new_path(root: Path) -> None:
    catalog.build(root)
    moved = root.rename(root.with_name("moved"))
    assert catalog.query(moved, "SELECT count(*) AS n FROM samples")["n"].item() == 4


def test_a_connection_with_write_access_does_not_block_readers(root: Path) -> None:
    """`duckdb cos.duckdb` without -readonly locks the file; other processes then use a file of their own."""
    code = f"import duckdb, sys; c = duckdb.connect({str(catalog.build(root))!r}); print('open', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout and holder.stdout.readline() == "open\n"
        assert catalog.query(root, "SELECT count(*) AS n FROM samples")["n"].item() == 4
        holder.communicate("\n")
    assert holder.returncode == 0


def test_later_partitions_and_columns_are_read(root: Path) -> None:
    catalog.build(root)
    rows = catalog.query(root, "SELECT study, budget, model, problem_id, cost FROM samples ORDER BY model, problem_id")
    assert rows.rows() == [
        ("s", "low", "se", "a", 1.5),
        ("s", "low", "se", "b", 1.5),
        ("s", "low", "wc", "a", None),
        ("s", "low", "wc", "b", None),
    ]


def test_views_work_from_any_folder(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog.build(root)
    monkeypatch.chdir(tmp_path)
    assert catalog.query(root, "SELECT count(*) AS n FROM samples")["n"].item() == 4


def test_a_partially_written_file_is_ignored(root: Path) -> None:
    catalog.build(root)
    place = tables.folder(root, "s", "samples", {"budget": "low", "model": "wc"})
    (place / ".data.parquet.0123.tmp").write_bytes(b"PAR1 half")
    assert catalog.query(root, "SELECT count(*) AS n FROM samples")["n"].item() == 4


def test_later_tables_are_read_without_rebuilding(root: Path) -> None:
    catalog.build(root)
    write(root, "samples", {"budget": "high", "model": "wc"}, SAMPLES)
    assert catalog.query(root, "SELECT count(*) AS n FROM samples")["n"].item() == 6


def test_readers_and_a_new_catalogue_do_not_block_one_another(root: Path) -> None:
    file = catalog.build(root)
    with duckdb.connect(str(file), read_only=True) as reader:
        write(root, "verdicts", {"budget": "low", "model": "wc"}, SAMPLES)
        catalog.build(root)
        assert reader.sql("SELECT count(*) FROM samples").fetchall() == [(4,)]
    assert catalog.query(root, "SELECT count(*) AS n FROM verdicts")["n"].item() == 2
    assert [p.name for p in root.iterdir() if p.is_file()] == [catalog.NAME]


def test_the_catalogue_cannot_be_written_through_a_query(root: Path) -> None:
    catalog.build(root)
    with pytest.raises(duckdb.Error, match="read-only"):
        catalog.query(root, "CREATE TABLE t AS SELECT 1")


def test_lineage_has_a_row_for_each_input(root: Path) -> None:
    inputs = [{"asset": "s/samples", "partition": f"low|{m}", "data_version": m} for m in ("wc", "se")]
    write(root, "sft_set", {"budget": "low", "source": "mix"}, SAMPLES, inputs=inputs, facts={"rows": 2})
    catalog.build(root)
    rows = catalog.query(
        root,
        "SELECT \"partition\", input_asset, input_partition, input_data_version, facts ->> 'rows' AS r FROM lineage"
        " WHERE asset = 'sft_set' ORDER BY input_partition",
    )
    assert rows.rows() == [
        ("low|mix", "s/samples", "low|se", "se", "2"),
        ("low|mix", "s/samples", "low|wc", "wc", "2"),
    ]
    none = catalog.query(root, "SELECT input_asset FROM lineage WHERE asset = 'samples'")
    assert none["input_asset"].to_list() == [None, None]


def test_a_root_with_pattern_characters_reads_its_own_files_only(tmp_path: Path) -> None:
    for name in ("h*", "h1"):
        write(tmp_path / name, "samples", {"budget": "low", "model": "wc"}, SAMPLES)
    catalog.build(tmp_path / "h*")
    assert catalog.query(tmp_path / "h*", "SELECT count(*) AS n FROM samples")["n"].item() == 2


def test_a_failed_build_leaves_no_file(tmp_path: Path) -> None:
    place = tables.folder(tmp_path, "s", "samples")
    place.mkdir(parents=True)
    (place / tables.DATA).write_bytes(b"not parquet")
    with pytest.raises(duckdb.Error):
        catalog.build(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_views_and_queries_have_a_description() -> None:
    for name, declared in schemas.TABLES.items():
        assert declared.row.startswith("One row per "), name
        assert declared.by_hand == (catalog.VIEWS / f"{name}.sql").exists(), name
    for question in catalog.questions():
        assert catalog.head(question)[0].endswith("?"), f"{question}: the first line must be a question"


def test_every_query_is_in_the_docs() -> None:
    page = (catalog.SQL.parent / "docs" / "sql.md").read_text(encoding="utf-8")
    for file in catalog.questions():
        assert f"| [{file.stem}](../sql/analysis/{file.name}) | {catalog.head(file)[0]} |" in page, file.stem


def test_sums_of_integers_are_integers(tmp_path: Path) -> None:
    sums = catalog.query(tmp_path, "SELECT sum(a) AS a, sum(b) AS b FROM (VALUES (1, 1), (NULL, NULL)) AS t (a, b)")
    assert sums.schema == {"a": pl.Int64, "b": pl.Int64}
    assert sums.write_ndjson() == '{"a":1,"b":1}\n'
    large = catalog.query(tmp_path, "SELECT sum(a) AS a FROM (VALUES (9223372036854775807), (1)) AS t (a)")
    assert large["a"].item() == 2**63


WRITER = """
import sys
from pathlib import Path
import polars as pl
from cos_assets.storage import catalog as catalogue
from cos_assets.storage import tables as store
root, model, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for number in range(rounds):
    rows = 1 + number * 37 % 2000
    text = [f"{number} " * (1 + i % 40) for i in range(rows)]
    frame = pl.DataFrame({"sample_index": range(rows), "completion": text, "completion_tokens": number})
    store.write(root, "s", "samples", {"budget": "low", "model": model}, frame, {"inputs": []})
    catalogue.build(root) if number % 10 == 0 else catalogue.ready(root)
"""


def test_queries_during_two_writing_runs_return_complete_tables(tmp_path: Path) -> None:
    """Tables are replaced by tables of another length without pause: every result is from a complete table, and no
    reader is blocked. DuckDB opens a file twice, and raises an error if it was replaced in between; `query` repeats the
    query."""
    rounds = 40
    seen: dict[tuple[str, str], int] = {}
    asked = (
        "SELECT model, count(*), min(completion_tokens), max(completion_tokens), sum(length(completion))"
        " FROM samples GROUP BY model"
    )

    def check(who: str, answer: list[tuple[Any, ...]]) -> None:
        for model, rows, number, same, characters in answer:
            assert (rows, number) == (1 + number * 37 % 2000, same), "a table is read completely"
            assert characters == sum((len(str(number)) + 1) * (1 + i % 40) for i in range(rows))
            assert number >= seen.get((who, model), 0), "a result is not older than the previous one"
            seen[who, model] = number

    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    read = {"a session": 0, "query": 0}
    with duckdb.connect(str(catalog.build(tmp_path)), read_only=True) as analyst:
        writers = [subprocess.Popen([*command, model, str(rounds)], stderr=subprocess.PIPE) for model in ("wc", "se")]
        while any(writer.poll() is None for writer in writers):
            check("query", catalog.query(tmp_path, asked).rows())
            read["query"] += 1
            try:
                check("a session", analyst.sql(asked).fetchall())
                read["a session"] += 1
            except duckdb.Error as error:
                assert "lock" not in str(error).lower()
        assert [(writer.wait(), writer.communicate()[1]) for writer in writers] == [(0, b"")] * 2
        assert {row[2] for row in analyst.sql(asked).fetchall()} == {rounds - 1}
    assert min(read.values()) > 5
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == [catalog.NAME]


def materialized(root: Path) -> bool:
    """Materialize one asset by Dagster alone."""

    @dg.asset(key_prefix="s", name="problems")
    def problems() -> dg.MaterializeResult:
        return dg.MaterializeResult(value=pl.DataFrame({"problem_id": ["a"]}))

    return dg.materialize([problems], resources={"io_manager": ParquetIOManager(root=str(root))}).success


def test_an_asset_made_by_dagster_alone_can_be_queried(tmp_path: Path) -> None:
    assert materialized(tmp_path)
    with duckdb.connect(str(tmp_path / catalog.NAME), read_only=True) as analyst:
        assert analyst.sql("SELECT study, problem_id FROM problems").fetchall() == [("s", "a")]


def test_an_asset_is_made_even_if_the_catalogue_cannot_be_built(tmp_path: Path) -> None:
    place = tables.folder(tmp_path, "other", "problems")
    place.mkdir(parents=True)
    (place / tables.DATA).write_bytes(b"not parquet")
    assert materialized(tmp_path)
    assert tables.scan(tmp_path, "s", "problems").select("problem_id").collect().rows() == [("a",)]
