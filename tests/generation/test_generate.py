"""`generate` with the imported engine, whose samples are files: what is bought, what is not, and what is booked."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cos_assets.budget.matching import Prices
from cos_assets.generation.generate import COMPLETIONS, Buyer, generate
from cos_assets.generation.model import resolve
from cos_assets.generation.types import Model, Sampling

PROBLEMS = 6


def solutions(folder: Path, per_problem: int, failing: bool = False) -> Model:
    """`per_problem` solutions for each of the problems p0, p1, …; with `failing`, odd indices are failed requests."""
    file = folder / "solutions.jsonl"
    lines = [
        {
            "id": f"p{problem}",
            "text": f"solution {index} of {problem}",
            "reason": "error" if failing and index % 2 else "stop",
            "tokens": 10 + index,
        }
        for problem in range(PROBLEMS)
        for index in range(per_problem)
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    columns = {"problem_id": "id", "completion": "text", "finish_reason": "reason", "completion_tokens": "tokens"}
    return resolve("them", engine="imported", params=100.0, options={"path": str(file), "columns": columns})


def ask(root: Path, model: Model, problems: int, samples: int, **more: Any) -> Any:
    ids = [f"p{i}" for i in range(problems)]
    prompts = pl.DataFrame({"problem_id": ids, "prompt": [f"question {i}" for i in ids]})
    return generate(model, prompts, samples, Sampling(), Buyer(root, "study", "sampling", "run"), **more)


def bookings(root: Path) -> pl.DataFrame:
    files = sorted((root / "ledger").rglob("part-*.parquet"))
    return pl.concat([pl.read_parquet(f, hive_partitioning=False) for f in files])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, PROBLEMS), st.integers(1, 5)), min_size=1, max_size=5))
def test_only_missing_samples_are_bought(asked: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = solutions(root, 5)
        owned: set[tuple[int, int]] = set()
        for problems, samples in asked:
            wanted = {(p, i) for p in range(problems) for i in range(samples)}
            bought = ask(root, model, problems, samples)
            assert bought.new == len(wanted - owned)
            owned |= wanted
            assert bought.rows.schema == COMPLETIONS
            assert bought.rows["completion"].to_list() == [
                f"solution {i} of {p}" for p in range(problems) for i in range(samples)
            ]
        booked = bookings(root)
        assert booked.height == len(owned) == booked.select("prompt_hash", "sample_index").n_unique()


def test_spend_is_booked_with_every_completion(tmp_path: Path) -> None:
    bought = ask(tmp_path, solutions(tmp_path, 2), 2, 2, prices=Prices(1.0, 2.0))
    assert bought.rows["flops"].to_list() == [2 * 100 * n for n in (10, 11, 10, 11)]  # 2·P a token
    assert bought.rows["cost"].to_list() == pytest.approx([n * 2e-6 for n in (10, 11, 10, 11)])
    booked = bookings(tmp_path)
    assert set(booked["stage"]) == {"sampling"}
    assert set(booked["study"]) == {"study"}
    assert set(booked["engine"]) == {"imported"}
    assert booked["attempt"].to_list() == [1] * 4


def test_a_failed_request_is_booked_and_repeated_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cos_assets.generation import generate as purchase
    from cos_assets.generation.engines import imported

    monkeypatch.setattr(purchase, "open_engine", imported.ENGINE.open)
    # A run requests the samples of a file only once.
    model = replace(solutions(tmp_path, 2, failing=True), engine="transformers")
    first = ask(tmp_path, model, 1, 2)
    assert first.rows["finish_reason"].to_list() == ["stop", "error"]
    second = ask(tmp_path, model, 1, 2)
    assert (first.new, second.new) == (2, 1)
    booked = bookings(tmp_path).filter(pl.col("sample_index") == 1)
    assert sorted(booked["attempt"]) == [1, 2]
    assert second.rows.height == 2  # a failed attempt is a row with a reason, and occurs once


def test_solutions_that_the_file_lacks_are_counted_as_missing(tmp_path: Path) -> None:
    bought = ask(tmp_path, solutions(tmp_path, 2), 3, 4)
    assert (bought.rows.height, bought.new, bought.missing) == (6, 6, 6)
    again = ask(tmp_path, solutions(tmp_path, 2), 3, 4)
    assert (again.rows.height, again.new, again.missing) == (6, 0, 6)
    assert bought.rows["sample_index"].to_list() == [0, 1] * 3


def test_the_contents_of_the_imported_file_change_the_fingerprint(tmp_path: Path) -> None:
    assert solutions(tmp_path, 2).fingerprint != solutions(tmp_path, 3).fingerprint


def test_samples_before_an_engine_failure_are_booked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cos_assets.generation.engines import imported

    monkeypatch.setattr(imported, "_CHUNK", 2)
    model = solutions(tmp_path, 2)
    whole = imported.ImportedEngine.stream

    def breaks(self: Any, requests: Any, sampling: Sampling) -> Any:
        for number, batch in enumerate(whole(self, requests, sampling)):
            if number == 2:
                raise RuntimeError("out of memory")
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(imported.ImportedEngine, "stream", breaks)
        with pytest.raises(RuntimeError, match="out of memory"):
            ask(tmp_path, model, 4, 2)
    assert bookings(tmp_path).height == 4
    assert ask(tmp_path, model, 4, 2).new == 4
    assert bookings(tmp_path).height == 8


def test_two_problems_with_one_prompt_share_its_samples(tmp_path: Path) -> None:
    prompts = pl.DataFrame({"problem_id": ["p0", "p1"], "prompt": ["same", "same"]})
    bought = generate(solutions(tmp_path, 3), prompts, 3, Sampling(), Buyer(tmp_path, "s", "sampling"))
    assert bought.new == 3
    assert bought.rows.height == 6
