"""The source of few-shot examples; no prompt contains the solution of its own question."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from cos_assets import study, tasks
from cos_assets.assets.samples import prompts
from cos_assets.tasks.gsm8k import Gsm8k


def spec(shots: int, task: str = "gsm8k", seed: int = 0) -> study.StudySpec:
    return study.parse(
        {
            "name": "s",
            "task": task,
            "seed": seed,
            "models": {"wc": {"model": "./a", "params": 1e6}, "se": {"model": "./b", "params": 4e6}},
            "budgets": {"low": {"se": 1}},
            "sampling": {"shots": shots, "max_tokens": 10},
        }
    )


def frame(*rows: tuple[str, str | None], split: str = "train") -> pl.DataFrame:
    made: list[dict[str, Any]] = [
        {"problem_id": f"{split}/{n}", "split": split, "question": q, "solution": s, "answer": "1"}
        for n, (q, s) in enumerate(rows)
    ]
    return pl.DataFrame(made, schema=tasks.PROBLEMS)


def shown(shots: int, problems: pl.DataFrame, **options: Any) -> list[list[str]]:
    """The questions of each prompt; the last one is the question to answer."""
    texts = prompts(spec(shots, **options), problems, "wc")["prompt"]
    return [[part.split("\n")[0] for part in text.split("Question: ")[1:]] for text in texts]


def test_examples_come_from_the_training_split() -> None:
    problems = frame(*((f"q{n}", f"s{n}") for n in range(6)))
    asked = shown(2, problems)
    assert [own[-1] for own in asked] == [f"q{n}" for n in range(6)]
    assert all(len(set(own)) == 3 for own in asked)
    assert len({tuple(own[:-1]) for own in asked}) <= 3, (
        "all prompts share one draw, except those whose own question was drawn"
    )
    assert shown(2, problems) == asked != shown(2, problems, seed=1)


def test_another_problem_with_the_same_question_is_not_an_example() -> None:
    problems = frame(("Same?", "a"), ("same?", "b"), ("other", "c"))
    for seed in range(8):
        for own in shown(1, problems, seed=seed):
            assert len(own) == 2
            assert own[0].casefold() != own[1].casefold()


def test_built_in_exemplars_are_used_when_there_are_too_few_solutions() -> None:
    ours = [shot["question"] for shot in Gsm8k().exemplars]
    for problems in (frame(("q0", None), ("q1", None)), frame(("q0", "s0"), ("q1", "s1"), ("q2", "s2"))):
        asked = shown(3, problems)
        assert [own[:-1] for own in asked] == [ours[:3]] * problems.height, "exemplars and solutions are not mixed"
    assert shown(8, frame(("q0", None)))[0] == [*ours, "q0"]
    assert shown(2, frame(("q0", "s0"), ("q1", "s1"), ("q2", "s2")))[0] != [*ours[:2], "q0"]


def test_an_exemplar_with_the_question_of_the_problem_is_left_out() -> None:
    ours = [shot["question"] for shot in Gsm8k().exemplars]
    assert shown(3, frame((ours[1].upper(), None)))[0] == [ours[0], ours[2], ours[1].upper()]


def test_too_many_shots_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"sampling.shots: 9 is .* 2 problems .* 8 exemplars of its own; allowed: 0 to 8"
    ):
        prompts(spec(9), frame(("q0", "s0"), ("q1", "s1")), "wc")
    with pytest.raises(
        ValueError, match=r"sampling.shots: 1 is .* 0 problems .* 0 exemplars of its own; allowed: 0 to 0"
    ):
        prompts(spec(1, task="arithmetic"), frame(("q0", None)), "wc")
    assert shown(0, frame(("q0", None))) == [["q0"]]
