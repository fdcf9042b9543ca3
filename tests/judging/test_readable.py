"""A purchase stops if the first solutions are unreadable; bought samples are kept and unreadable ones are counted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cos_assets.generation.generate import FIRST, Buyer, generate
from cos_assets.generation.model import resolve
from cos_assets.generation.types import Model, Sampling
from cos_assets.judging.readable import Unreadable, first_look, unread
from cos_assets.tasks import make

GSM8K = make("gsm8k")
PROBLEMS = 40
READ, UNREAD = "So 40 + 2 = 42.\n#### 42", "So there are forty-two in all, that is 42 of them."


def sampler(folder: Path, texts: Sequence[str], reasons: Sequence[str] = ("stop",)) -> Model:
    """Two solutions of each problem, which cycle through the texts and finish reasons."""
    file = folder / "solutions.jsonl"
    rows = [
        {"id": f"p{n // 2}", "text": texts[n % len(texts)], "reason": reasons[n % len(reasons)]}
        for n in range(2 * PROBLEMS)
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    columns = {"problem_id": "id", "completion": "text", "finish_reason": "reason"}
    return resolve("them", engine="imported", params=1.0, options={"path": str(file), "columns": columns})


def ask(root: Path, model: Model, look: Any = None, samples: int = 2) -> Any:
    ids = [f"p{n}" for n in range(PROBLEMS)]
    prompts = pl.DataFrame({"problem_id": ids, "prompt": [f"question {i}" for i in ids]})
    return generate(model, prompts, samples, Sampling(), Buyer(root, "study", "sampling"), look=look)


def booked(root: Path) -> int:
    return sum(pl.read_parquet(f, hive_partitioning=False).height for f in (root / "ledger").rglob("part-*.parquet"))


LOOK = first_look(GSM8K, "sampling with wc", "sampling", 256)


def test_solutions_without_a_readable_answer_stop_the_purchase(tmp_path: Path) -> None:
    model = sampler(tmp_path, [UNREAD])
    with pytest.raises(Unreadable) as stopped:
        ask(tmp_path, model, LOOK)
    said = str(stopped.value)
    assert "\n" not in said
    assert f"0 of the first {FIRST} solutions" in said
    assert "that is 42 of them." in said  # the end of one
    assert "\\boxed{...}" in said and "####" in said  # the forms that are read
    assert "task.extract: flexible, which reads 16 of them" in said
    assert "continue with sampling.unreadable: continue" in said
    assert booked(tmp_path) == FIRST


def test_a_second_run_buys_nothing_until_the_study_allows_it(tmp_path: Path) -> None:
    model = sampler(tmp_path, [UNREAD])
    for _ in range(2):
        with pytest.raises(Unreadable):
            ask(tmp_path, model, LOOK)
        assert booked(tmp_path) == FIRST
    assert ask(tmp_path, model).new == 2 * PROBLEMS - FIRST
    assert booked(tmp_path) == 2 * PROBLEMS


def test_truncated_solutions_stop_the_purchase(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"16 of the first 16 solutions were cut off at sampling\.max_tokens: 256"):
        ask(tmp_path, sampler(tmp_path, [READ], ["length"]), LOOK)
    assert booked(tmp_path) == FIRST


@pytest.mark.parametrize(
    ("texts", "reasons"),
    [([READ], ["stop"]), ([READ, UNREAD, UNREAD, UNREAD], ["stop"]), ([READ], ["length", "stop", "stop"])],
)
def test_a_few_readable_solutions_allow_the_purchase(tmp_path: Path, texts: list[str], reasons: list[str]) -> None:
    bought = ask(tmp_path, sampler(tmp_path, texts, reasons), LOOK)
    assert bought.new == bought.rows.height == 2 * PROBLEMS
    assert booked(tmp_path) == 2 * PROBLEMS


def test_the_first_check_takes_one_sample_of_each_of_many_problems(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []
    ask(tmp_path, sampler(tmp_path, ["#### 1", "#### 2"]), seen.extend)
    assert [text for text, _ in seen] == ["#### 1"] * FIRST  # index 0 of sixteen problems


def test_failed_requests_are_not_counted_as_solutions(tmp_path: Path) -> None:
    model = sampler(tmp_path, [UNREAD], ["error", "stop"])
    with pytest.raises(Unreadable):
        ask(tmp_path, model, LOOK)


def test_instructions_are_read_in_truncated_replies() -> None:
    look = first_look(make("ifeval"), "evaluation of student on ifeval", "evaluation", 600)
    look([("A long reply", "length")] * FIRST)
    with pytest.raises(Unreadable, match="evaluation of student on ifeval"):
        look([(" ", "stop")] * FIRST)


def test_reasoning_without_an_end_is_unreadable() -> None:
    with pytest.raises(Unreadable):
        LOOK([("<think>\nIs it 42? #### 42", "stop")] * FIRST)


def test_unreadable_solutions_are_counted_and_read_leniently() -> None:
    texts = [READ, UNREAD, "It is forty-two.", "I think 41", "cut off 42", READ]
    rows = pl.DataFrame(
        {
            "problem_id": ["p"] * 6,
            "completion": texts,
            "finish_reason": ["stop", "stop", "stop", "stop", "length", "stop"],
            "answer": [GSM8K.answer(text) for text in texts],
        }
    )
    found = unread(rows, pl.DataFrame({"problem_id": ["p"], "answer": ["42"]}), GSM8K)
    assert (found.complete, found.unread, found.lenient_read, found.lenient_correct) == (5, 3, 2, 1)
    assert found.share == 0.6
    assert found.endings == (UNREAD, "It is forty-two.", "I think 41")


def test_flexible_extraction_reads_the_last_number_where_no_answer_is_stated() -> None:
    flexible = make({"name": "gsm8k", "extract": "flexible"})
    assert flexible.answer(UNREAD) == "42"
    assert flexible.answer(f"{READ}\nThat took 3 steps.") == GSM8K.answer(READ) == "42"
    assert GSM8K.answer(UNREAD) is None
    assert flexible.answer("<think>41") is None
    assert flexible.reading != GSM8K.reading
    assert flexible.prompt_version == GSM8K.prompt_version


@pytest.mark.parametrize("name", ["mbpp", "humaneval", "ifeval", "oasst"])
def test_flexible_extraction_is_refused_for_other_kinds_than_numbers(name: str) -> None:
    with pytest.raises(ValueError, match="extract: flexible takes the last number of a text"):
        make({"name": name, "extract": "flexible"})
