from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cos_assets.generation import spend
from cos_assets.generation.ledger import Ledger, parameters_hash, prompt_hash
from cos_assets.generation.parts import SCHEMA
from cos_assets.generation.types import Model, Sampling

MODEL = Model("some/model", "model-0123", "transformers")


def row(prompt: str, index: int, attempt: int = 1, reason: str = "stop", text: str = "x") -> dict[str, Any]:
    return {
        **dict.fromkeys(SCHEMA),
        "prompt_hash": prompt,
        "sample_index": index,
        "attempt": attempt,
        "completion": text,
        "finish_reason": reason,
        "stop": [],
        "time": datetime.now(UTC),
    }


# Attempts in their order: (prompt, index, failed).
tries = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.booleans()), max_size=25)


@settings(max_examples=60, deadline=None)
@given(tries, st.integers(1, 5))
def test_the_first_successful_attempt_is_read_and_all_attempts_are_kept(history: list, part_size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder), MODEL, Sampling())
        attempts: dict[tuple[str, int], list[tuple[str, str]]] = {}
        rows = []
        for number, (prompt, index, failed) in enumerate(history):
            tried = attempts.setdefault((prompt, index), [])
            tried.append(("error" if failed else "stop", str(number)))
            rows.append(row(prompt, index, len(tried), tried[-1][0], str(number)))
        for start in range(0, len(rows), part_size):
            ledger.append(rows[start : start + part_size])
        read = {(p, i): (r, t) for p, i, r, t in _facts(Ledger(Path(folder), MODEL, Sampling()).read())}
        expected = {key: next((t for t in tried if t[0] == "stop"), tried[-1]) for key, tried in attempts.items()}
        assert read == expected
        only_a = {(p, i) for p, i, _, _ in _facts(ledger.read(["a"]))}
        assert only_a == {key for key in expected if key[0] == "a"}
        on_disk = sum(pl.read_parquet(f).height for f in Path(folder).rglob("part-*.parquet"))
        assert on_disk == len(history)  # every attempt costs money and is kept


def _facts(frame: pl.DataFrame) -> list[tuple]:
    return frame.select("prompt_hash", "sample_index", "finish_reason", "completion").rows()


def test_a_partially_written_part_is_ignored_and_removed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, MODEL, Sampling())
    ledger.append([row("a", 0)])
    half = ledger.folder / ".part-1-1-0.parquet.tmp"
    half.write_bytes(next(ledger.folder.glob("part-*")).read_bytes()[:100])
    assert ledger.read().height == 1
    with ledger.lock:
        ledger.clear_leftovers()
    assert not half.exists()
    assert ledger.read().height == 1


def test_the_next_buyer_turns_the_journal_of_a_killed_one_into_a_part(tmp_path: Path) -> None:
    """One buyer is killed within a line, another one directly after its part was written."""
    killed = Ledger(tmp_path, MODEL, Sampling())
    with killed.lock:
        rows = [row("a", index, text="half a character \u2028 and a line\n") for index in range(5)]
        killed.note(rows[:2])
        killed.note(rows[2:])
    (journal,) = killed.folder.glob(".journal-*")
    journal.write_text(journal.read_text()[:-20])
    assert killed.read().is_empty()
    ledger = Ledger(tmp_path, MODEL, Sampling())
    with ledger.lock:
        ledger.clear_leftovers()
    assert ledger.read().equals(pl.DataFrame(rows[:4], schema=SCHEMA)) and not journal.exists()

    with ledger.lock:
        ledger.note(rows[4:])
        (journal,) = ledger.folder.glob(".journal-*")
        kept = journal.read_text()
        ledger.append([*rows[4:]])
        assert not journal.exists()
        journal.write_text(kept)
        ledger.clear_leftovers()
    assert ledger.read().equals(pl.DataFrame(rows, schema=SCHEMA)) and not journal.exists()
    parts = [pl.read_parquet(part) for part in ledger.folder.glob("part-*.parquet")]
    assert sum(part.height for part in parts) == 5


def test_an_empty_ledger_has_the_schema(tmp_path: Path) -> None:
    read = Ledger(tmp_path, MODEL, Sampling()).read(["a"])
    assert read.is_empty()
    assert read.schema == SCHEMA


def test_a_part_of_an_older_version_without_a_column_is_read(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, MODEL, Sampling())
    ledger.append([row("a", 0)])
    part = next(ledger.folder.glob("part-*"))
    pl.read_parquet(part).drop("cached_tokens").write_parquet(part)
    ledger.append([row("b", 0)])
    assert sorted(ledger.read()["prompt_hash"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({"seed": 1}, False),
        ({"temperature": 0.8}, False),
        ({"top_k": 4}, False),
        ({"max_tokens": 57}, False),
        ({"stop": ("x",)}, False),
        ({}, True),
    ],
)
def test_parameters_that_change_samples_change_the_key(other: dict[str, Any], same: bool) -> None:
    given = {"temperature": 0.7, "top_k": 3, "max_tokens": 56}
    assert (parameters_hash(Sampling(**given)) == parameters_hash(Sampling(**given | other))) is same


def test_greedy_decoding_has_no_seed() -> None:
    assert parameters_hash(Sampling(temperature=0, seed=1)) == parameters_hash(Sampling(temperature=0, seed=2, top_k=5))


def test_the_prompt_hash_does_not_change_between_versions() -> None:
    # A change of this hash would invalidate all samples bought so far.
    assert prompt_hash("Question: 1 + 1?\n") == "2559f8f2b6d0a4abefd0cc0a6e511cfb"


def test_parts_contain_the_version_of_their_schema(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, Model("m", "m", "none"), Sampling())
    ledger.append([dict.fromkeys(SCHEMA) | {"prompt_hash": "a", "sample_index": 0, "finish_reason": "stop"}])
    (part,) = ledger.folder.glob("part-*.parquet")
    assert pl.read_parquet_metadata(part)["schema_version"] == "1"


def test_unusable_lines_of_a_journal_are_set_aside_and_the_others_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(tmp_path, MODEL, Sampling())
    ledger.note([row("a", index) for index in range(6)])
    (journal,) = ledger.folder.glob(".journal-*")
    lines = journal.read_bytes().splitlines(keepends=True)
    too_many = lines[4].replace(b'"completion_tokens": null', b'"completion_tokens": ' + b"9" * 30)
    spoiled = [b"\0\0\0\n", b"\xff\n", b"7\n", b"[" * 100_000 + b"\n", b'{"prompt_hash": "a"}\n', too_many]
    half = lines[5][:40]  # the state after a kill
    journal.write_bytes(b"".join([spoiled[0], *lines[:2], *spoiled[1:], *lines[2:4], half]))
    after = Ledger(tmp_path, MODEL, Sampling())
    for _ in range(2):
        after.clear_leftovers()
        assert after.read()["sample_index"].to_list() == [0, 1, 2, 3]
    (aside,) = ledger.folder.glob(".unusable-*")
    assert aside.read_bytes() == b"".join(spoiled)
    assert not list(ledger.folder.glob(".journal-*"))
    (message,) = caplog.messages
    assert str(journal) in message and str(aside) in message


def test_a_number_out_of_range_is_booked_as_unknown(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, MODEL, Sampling())
    rows = [row("a", 0) | {"completion_tokens": 10**30, "prompt_tokens": 2**63, "retries": 2**31, "cached_tokens": 5}]
    ledger.note(rows)
    ledger.append(rows)
    counts = ledger.read().select("completion_tokens", "prompt_tokens", "retries", "cached_tokens")
    assert counts.row(0) == (None, None, None, 5)


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:200], lambda data: b"PAR1", lambda data: data[9:]]
)
def test_a_damaged_part_is_set_aside_and_stops_no_study(
    tmp_path: Path, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    mine, other = (Ledger(tmp_path, Model(name, name, "transformers"), Sampling()) for name in ("mine", "other"))
    for ledger, study in ((mine, "s"), (other, "t")):
        for index in range(2):
            ledger.append([row("a", index) | {"study": study, "stage": "sampling", "flops": 1.0}])
    broken = min(other.folder.glob("part-*"))
    broken.write_bytes(damage(broken.read_bytes()))
    kept = broken.read_bytes()
    assert spend.spent(tmp_path, "s").flops == 2
    assert spend.by_stage(tmp_path, "t")["calls"].to_list() == [1]
    assert other.held(["a"])["indices"].to_list() == [[1]]
    aside = broken.with_name(f".unusable-{broken.name}")
    assert aside.read_bytes() == kept and not broken.exists()
    assert [str(broken) in message and str(aside) in message for message in caplog.messages] == [True]


def test_a_part_of_a_newer_version_is_read(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, MODEL, Sampling())
    ledger.append([row("a", 0) | {"study": "s", "stage": "sampling"}])
    newer = pl.DataFrame([row("a", 1) | {"study": "s", "stage": "sampling"}], schema=SCHEMA)
    wider = newer.with_columns(pl.col(pl.Int32).cast(pl.Int64), colour=pl.lit("red"))
    wider.write_parquet(ledger.folder / "part-1.parquet")
    assert ledger.read()["sample_index"].to_list() == [0, 1]
    assert ledger.read().schema == SCHEMA
    assert spend.by_stage(tmp_path, "s")["calls"].to_list() == [2]
