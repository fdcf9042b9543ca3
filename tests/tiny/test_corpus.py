"""The generator of wrong texts knows whether its reasoning is correct; the checker must independently agree."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from cos_assets.grading.steps import check_program
from cos_assets.tiny import corpus, problems


@pytest.mark.parametrize(
    ("misread", "slip", "least"),
    [
        (1.0, corpus.SLIP, 50),  # the settings of the shipped models
        (0.0, 0.35, 50),  # errors that cancel, errors that do not carry on
        (1.5, 0.0, 3),  # misreadings that cancel
        (1.0, 0.2, 50),
    ],
)
def test_checker_finds_exactly_the_generated_false_positives(misread: float, slip: float, least: int) -> None:
    rng = random.Random(7)
    found: Counter[tuple[bool, bool]] = Counter()
    for problem in itertools.islice(problems.stream("corpus", 11), 1500):
        truth = problems.truth(problem)
        for _ in range(3):
            written = corpus.solve(problem, rng, misread, slip)
            if written.answer == problem.answer:
                said = check_program(truth, written.text).label == "right"
                assert said == written.right, (problem.question, written)
                found[written.right, said] += 1
            else:
                assert not written.right
                assert check_program(truth, written.text).label == "wrong"
    assert found[False, False] >= least  # false positives
    assert found[True, True] > 500


def test_slips_that_do_not_carry_on_give_the_right_answer() -> None:
    rng = random.Random(1)
    steps = next(p for p in problems.stream("corpus", 0) if len(p.steps) == 5)
    always = [corpus.write(steps.steps, steps.literals, rng, slip=0.3, slip_stops=1.0) for _ in range(300)]
    assert {w[1] for w in always if w is not None} == {steps.answer}
    assert any(w is not None and not w[2] for w in always)


def test_texts_depend_only_on_the_seed() -> None:
    first, again, other = (list(corpus.texts(50, seed=s)) for s in (5, 5, 6))
    assert first == again
    assert not {p for p, _ in first} & {p for p, _ in other}


def test_between_35_and_65_percent_of_the_corpus_is_correct() -> None:
    rng = random.Random(2)
    right = [corpus.solve(p, rng).right for p in itertools.islice(problems.stream("corpus", 2), 2000)]
    assert 0.35 < sum(right) / len(right) < 0.65
