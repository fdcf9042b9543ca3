"""The generator: disjoint splits, reproducible problems, correct gold chains."""

from __future__ import annotations

import itertools
import os
import random
import re
import subprocess
import sys

import polars as pl
import pytest

from cos_assets.grading.steps import check_program
from cos_assets.tasks import PROBLEMS
from cos_assets.tiny import corpus, problems, words

SIZES = (60, 40, 100)


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return problems.generate(*SIZES, seed=3)


def test_frame_has_the_problems_schema(frame: pl.DataFrame) -> None:
    assert frame.schema == PROBLEMS
    assert frame["problem_id"].n_unique() == frame.height == sum(SIZES)
    assert frame["split"].value_counts().sort("split")["count"].to_list() == [100, 60, 40]
    assert set(frame["level"]) == {"2", "3", "4", "5"}


def test_splits_and_corpus_share_no_question_for_any_seed() -> None:
    keys: dict[str, set[str]] = {}
    for (split, _), seed in itertools.product(problems.SHARES, (0, 1, 2)):
        keys.setdefault(split, set()).update(p.key for p in itertools.islice(problems.stream(split, seed), 300))
    for a, b in itertools.combinations(keys.values(), 2):
        assert a.isdisjoint(b)


def test_the_split_does_not_depend_on_names_and_things() -> None:
    problem = next(problems.stream("test", 0))
    assert not set(problem.key.split()) & {*words.NAMES, *words.THINGS}
    assert problems.split_of(problem.key) == "test"


def test_every_split_has_its_share_of_the_problems() -> None:
    counts = dict.fromkeys(dict(problems.SHARES), 0)
    for i in range(16_000):
        counts[problems.split_of(str(i))] += 1
    for split, share in problems.SHARES:
        # 5 standard deviations of a binomial at most 64 wide
        assert abs(counts[split] - 1000 * share) < 5 * 64, split


def test_the_same_seed_gives_the_same_problems_in_another_process(frame: pl.DataFrame) -> None:
    code = (
        "from cos_assets.tiny import problems, corpus\n"
        f"print(problems.generate(*{SIZES}, seed=3).hash_rows(0).sum(), list(corpus.texts(5, seed=4)))"
    )
    outs = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": h}, capture_output=True, check=True
        ).stdout
        for h in ("1", "2")
    ]
    assert outs[0] == outs[1]
    assert outs[0].decode().startswith(str(frame.hash_rows(0).sum()))


def test_another_seed_gives_other_problems(frame: pl.DataFrame) -> None:
    other = problems.generate(*SIZES, seed=4)
    assert len(set(frame["question"]) & set(other["question"])) == 0


def test_a_larger_split_begins_with_the_smaller_one(frame: pl.DataFrame) -> None:
    more = problems.generate(SIZES[0] + 10, 1, 1, seed=3).filter(split="train")
    assert more.head(SIZES[0]).equals(frame.filter(split="train"))


def test_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"validation: -1 problems are not allowed; allowed: 0 or more"):
        problems.generate(1, -1, 1)


def test_gold_chains_are_correct_and_in_range(frame: pl.DataFrame) -> None:
    for row in frame.iter_rows(named=True):
        check = check_program(row["truth"], row["solution"])
        assert check.label == "right", (row, check)
        assert row["solution"].endswith(f"The answer is {row['answer']} .")
        assert row["solution"].count("=") == int(row["level"])
        numbers = [int(n) for n in re.findall(r"\d+", row["question"] + row["solution"])]
        assert all(0 <= n <= words.LIMIT for n in numbers)


def test_numbers_of_a_question_differ(frame: pl.DataFrame) -> None:
    for question in frame["question"]:
        numbers = re.findall(r"\d+", question)
        assert len(set(numbers)) == len(numbers), question


def test_every_word_is_in_the_vocabulary_once(frame: pl.DataFrame) -> None:
    assert len(set(words.VOCABULARY)) == len(words.VOCABULARY) == 248
    used = {w for row in frame.iter_rows(named=True) for w in f"{row['question']} {row['solution']}".split()}
    assert used <= set(words.VOCABULARY)


def test_frequent_words_come_first() -> None:
    drawn = itertools.islice(problems.stream("corpus", 0), 3000)
    counts = dict.fromkeys((*words.GAIN, *words.LOSS), 0)
    for event in (e for p in drawn for e in p.events if e.kind == "change"):
        counts[event.word] += 1
    for verbs in (words.GAIN, words.LOSS):
        assert counts[verbs[0]] > 2 * counts[verbs[-1]] > 0


@pytest.mark.parametrize("flip", [False, True])
def test_the_plan_uses_the_given_reading_of_each_word(flip: bool) -> None:
    events = [problems.Event("start", (20,)), problems.Event("change", (3, 4), "ships", "crates")]
    steps = problems.plan(events, frozenset(["ships", "crates"]) if flip else frozenset())
    assert [s.op for s in steps] == (["+", "+"] if flip else ["*", "-"])


def test_all_forms_of_a_chain_give_the_gold_answer() -> None:
    rng = random.Random(0)
    forms = 0
    for problem in itertools.islice(problems.stream("corpus", 1), 200):
        seen = set()
        for _ in range(10):
            steps = problems.plan(problem.events, rng=rng)
            results = problems.values(steps, problem.literals)
            if results is not None:
                assert results[-1] == problem.answer
                seen.add(tuple(steps))
        forms += len(seen)
    assert forms > 400


def test_misreadings_are_long_tailed() -> None:
    table = corpus.MISREADINGS
    assert set(table) == {*words.GAIN, *words.LOSS, *words.CONTAINERS}
    for ranked, sure in corpus.SURE.items():
        rare = [table[w] for w in ranked[sure:]]
        assert all(table[w] == 0 for w in ranked[:sure])
        assert sum(p > 0.4 for p in rare) == len(rare) // 2
        assert all(p == corpus.RARELY or corpus.OFTEN[0] <= p <= corpus.OFTEN[1] for p in rare)
