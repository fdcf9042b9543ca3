from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cos_assets.generation.ledger import SCHEMA, Ledger, parameters_hash, prompt_hash
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


# What was tried, in the order in which it was tried: (prompt, index, did it fail).
tries = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.booleans()), max_size=25)


@settings(max_examples=60, deadline=None)
@given(tries, st.integers(1, 5))
def test_the_row_that_counts_is_the_first_that_did_not_fail(history: list, part_size: int) -> None:
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
        assert on_disk == len(history)  # every attempt is spend, and stays


def _facts(frame: pl.DataFrame) -> list[tuple]:
    return frame.select("prompt_hash", "sample_index", "finish_reason", "completion").rows()


def test_a_half_written_part_is_not_read_and_is_cleared(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, MODEL, Sampling())
    ledger.append([row("a", 0)])
    half = ledger.folder / ".part-1-1-0.parquet.tmp"
    half.write_bytes(next(ledger.folder.glob("part-*")).read_bytes()[:100])
    assert ledger.read().height == 1
    with ledger.lock:
        ledger.clear_leftovers()
    assert not half.exists()
    assert ledger.read().height == 1


def test_what_was_noted_is_a_part_when_the_next_buyer_comes(tmp_path: Path) -> None:
    """A buyer is killed in the middle of a line, and another one after its part was written, before all else."""
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


def test_a_part_of_an_older_version_that_lacks_a_column_is_read(tmp_path: Path) -> None:
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


def test_the_prompt_hash_is_what_it_was() -> None:
    # A change would make everything bought so far unknown.
    assert prompt_hash("Question: 1 + 1?\n") == "2559f8f2b6d0a4abefd0cc0a6e511cfb"
