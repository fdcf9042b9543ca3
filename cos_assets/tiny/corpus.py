"""Pretraining corpus of the tiny models: other problems of the demo, solved with errors by a simulated writer.

The writer misreads words and makes slips in calculations. Misreadings are systematic: each rare word has its own
probability of being read as its opposite. A model that imitates the corpus therefore learns a wrong reading of some
words, and training only on solutions with right answers teaches it the right one. (Independent noise would vanish
with greedy decoding, and finetuning would have nothing to teach.) Slips that are not carried on produce right answers
after a wrong step: the false positives that this platform measures.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cos_assets.tiny.problems import Problem, Step, apply, plan, prompt_of, stream
from cos_assets.tiny.words import CONTAINERS, GAIN, LIMIT, LOSS

SLIP = 0.05  # share of the steps
SLIP_STOPS = 0.2  # share of the slips after which the next step continues with the right value
SURE = {GAIN: 6, LOSS: 6, CONTAINERS: 2}  # number of the most frequent words, which are never misread
RARELY, OFTEN = 0.03, (0.45, 0.80)  # each for half of the other words


def misreadings(words: Sequence[str], sure: int) -> dict[str, float]:
    """Return the probability that the writer misreads each word: 0 for the first `sure`, then 3 % or 45-80 %.

    Of every two consecutive rare words, one has the low probability and one the high. The table is fixed and does not
    depend on a study's seed, because the shipped models have learned it.
    """
    rng = random.Random(f"cos_assets misreadings {' '.join(words)}")
    often = [rng.random() < 0.5 for _ in words[sure::2]]
    table = dict.fromkeys(words[:sure], 0.0)
    for i, word in enumerate(words[sure:]):
        table[word] = rng.uniform(*OFTEN) if often[i // 2] == bool(i % 2) else RARELY
    return table


MISREADINGS = {word: p for words, sure in SURE.items() for word, p in misreadings(words, sure).items()}


@dataclass(frozen=True)
class Written:
    """A solution. `right` is true if its reasoning is right: it was written without a misreading or slip."""

    text: str
    answer: int
    right: bool


def write(
    steps: Sequence[Step],
    literals: Sequence[int],
    rng: random.Random,
    slip: float = SLIP,
    slip_stops: float = SLIP_STOPS,
) -> tuple[str, int, bool] | None:
    """Evaluate a chain of steps with random slips: (text, answer, whether every step is true), or None outside 0..99.

    A division with a remainder is rounded down and counts as a false step.
    """
    shown: list[int] = []  # written results
    carried: list[int] = []  # values that later steps use
    parts, clean = [], True
    for op, left, right in steps:
        a, b = ((literals if r.kind == "literal" else carried)[r.number] for r in (left, right))
        if op == "/" and b == 0:
            return None
        exact = apply(op, a, b)
        value = a // b if exact is None else exact
        result = value
        if rng.random() < slip:
            result = value + rng.choice((-10, -2, -1, 1, 2, 10))
        if not (0 <= value <= LIMIT and 0 <= result <= LIMIT):
            return None
        clean = clean and result == exact
        shown.append(result)
        carried.append(value if result != value and rng.random() < slip_stops else result)
        parts.append(f"{a} {op} {b} = {result} .")
    return f"{' '.join(parts)} The answer is {carried[-1]} .", carried[-1], clean


def solve(problem: Problem, rng: random.Random, misread: float = 1.0, slip: float = SLIP) -> Written:
    """Return one solution with errors.

    `misread` scales the probabilities of misreading; `slip` is the probability of a slip per step. Draws that would
    leave 0..99 are repeated; the last attempt has no misreadings and slips.
    """
    words = sorted({w for e in problem.events for w in (e.word, e.container)} & MISREADINGS.keys())
    for attempt in range(8):
        careless = attempt < 7
        flipped = frozenset(w for w in words if careless and rng.random() < misread * MISREADINGS[w])
        steps = plan(problem.events, flipped, rng)
        written = write(steps, problem.literals, rng, slip if careless else 0.0)
        if written is not None:
            text, answer, clean = written
            return Written(text, answer, clean and not flipped)
    # An equivalent form may exceed 99 even if the gold chain does not.
    written = write(problem.steps, problem.literals, rng, 0.0)
    assert written is not None, "the gold chain stays in range"
    return Written(written[0], written[1], True)


def texts(n: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """Yield n pairs (prompt, solution).

    The problems come from a part of the question space that is reserved for the corpus and used by no split of any
    study (see `problems.split_of`).
    """
    rng = random.Random(f"cos_assets corpus {seed}")
    problems = stream("corpus", seed)
    for _ in range(n):
        problem = next(problems)
        yield prompt_of(problem.question), solve(problem, rng).text
