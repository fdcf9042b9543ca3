"""Word problems of the demo: the question, the gold chain of steps, and the vocabulary.

    Ann has 12 apples . Ann imports 3 crates of 4 apples . Ann is 9 years old . How many apples does Ann have now ?
    3 * 4 = 12 . 12 + 12 = 24 . The answer is 24 .

A problem has two to five steps (the level) and values from 0 to 99, with one token per number. The meaning of a
sentence depends on its verb (24 verbs for gains, 24 for losses) or its container (12). Both have long-tailed
frequencies, so a rare word is seen only a few times. The numbers of one problem differ from each other: a number in a
solution then identifies one place in the text.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from cos_assets.storage.schemas import TABLES
from cos_assets.tiny.words import CONTAINERS, GAIN, LIMIT, LOSS, NAMES, THINGS

LEVELS = (2, 3, 4, 5)
NOISE = (
    "HERO is NUMBER years old .",
    "OTHER lives at number NUMBER .",
    "There are NUMBER birds in the tree .",
    "It is day NUMBER .",
    "OTHER saw NUMBER birds .",
)

COLUMNS = tuple(TABLES["problems"].schema)

# The share of each split in the question space, in sixteenths; see `split_of`.
SHARES = (("train", 2), ("validation", 1), ("test", 3), ("corpus", 10))


class Event(NamedTuple):
    """One relevant sentence. `numbers` are its literals in order, `word` is its verb, and `container` its container."""

    kind: str  # start | change | compare | times | price | share
    numbers: tuple[int, ...]
    word: str = ""
    container: str = ""
    together: bool = False


class Ref(NamedTuple):
    """An operand: a literal of the problem or the result of an earlier step."""

    kind: str  # literal | step
    number: int


class Step(NamedTuple):
    op: str
    left: Ref
    right: Ref


@dataclass(frozen=True)
class Problem:
    """A problem before it is converted to a row.

    `literals` are the numbers that the steps may use; `constants` are those of them that are spelled as words
    ("twice"). `key` is the question without its names and things.
    """

    question: str
    key: str
    events: tuple[Event, ...]
    literals: tuple[int, ...]
    constants: tuple[int, ...]
    steps: tuple[Step, ...]
    answer: int


# Long-tailed (a Zipf-Mandelbrot law).
_WEIGHTS = {n: [(rank + 3) ** -0.75 for rank in range(n)] for n in (len(GAIN), len(CONTAINERS))}


def _pick(rng: random.Random, words: Sequence[str]) -> str:
    return rng.choices(words, _WEIGHTS[len(words)])[0]


def plan(
    events: Sequence[Event], flipped: frozenset[str] = frozenset(), rng: random.Random | None = None
) -> list[Step]:
    """Return the chain of steps of a problem.

    Words in `flipped` are misread: a gain as a loss (and vice versa), the n x m of a container as n + m. With `rng`,
    the chain has one of its equivalent forms (swapped operands, packs counted first, changes in one direction added
    up first); otherwise it is the gold form.
    """
    steps: list[Step] = []
    literal = iter(range(sum(len(e.numbers) for e in events)))

    def style(p: float) -> bool:
        return rng is not None and rng.random() < p

    def write(op: str, left: Ref, right: Ref) -> Ref:
        if op in "+*" and style(0.4):
            left, right = right, left
        steps.append(Step(op, left, right))
        return Ref("step", len(steps) - 1)

    def amount(event: Event, refs: list[Ref]) -> Ref:
        if not event.container:
            return refs[0]
        return write("+" if event.container in flipped else "*", refs[0], refs[1])

    refs = [[Ref("literal", next(literal)) for _ in e.numbers] for e in events]
    packs_first, add_up = style(0.4), style(0.4)
    early = {}
    if packs_first:
        early = {i: amount(e, refs[i]) for i, e in enumerate(events) if e.container}

    have = early[0] if 0 in early else amount(events[0], refs[0])
    i = 1
    while i < len(events):
        event = events[i]
        if event.kind == "change":
            sign = _sign(event.word, flipped)
            change = early[i] if i in early else amount(event, refs[i])
            following = events[i + 1] if i + 1 < len(events) else None
            if add_up and following and following.kind == "change" and _sign(following.word, flipped) == sign:
                i += 1
                change = write("+", change, early[i] if i in early else amount(following, refs[i]))
            have = write(sign, have, change)
        elif event.kind in ("compare", "times"):
            op = {"more": "+", "fewer": "-"}.get(event.word, "*")
            other = write(op, have, refs[i][0])
            have = write("+", have, other) if event.together else other
        else:
            have = write("*" if event.kind == "price" else "/", have, refs[i][0])
        i += 1
    return steps


def _sign(verb: str, flipped: frozenset[str]) -> str:
    return "+" if (verb in _GAINS) != (verb in flipped) else "-"


_GAINS = frozenset(GAIN)


def apply(op: str, left: int, right: int) -> int | None:
    """Return `left op right`, or None if the result is not an integer."""
    if op == "/":
        return left // right if right and left % right == 0 else None
    return left + right if op == "+" else left - right if op == "-" else left * right


def values(steps: Sequence[Step], literals: Sequence[int]) -> list[int] | None:
    """Return the result of every step, or None if one is not an integer from 0 to 99."""
    results: list[int] = []
    for op, left, right in steps:
        a, b = ((literals if r.kind == "literal" else results)[r.number] for r in (left, right))
        value = apply(op, a, b)
        if value is None or not 0 <= value <= LIMIT:
            return None
        results.append(value)
    return results


def solution_text(steps: Sequence[Step], literals: Sequence[int]) -> str:
    """Return the chain as solution text. Raises ValueError if a result is outside 0..99."""
    results = values(steps, literals)
    if results is None:
        raise ValueError(f"steps: the chain {list(steps)} over {list(literals)} has a result outside 0..{LIMIT}")
    parts = []
    for (op, left, right), result in zip(steps, results, strict=True):
        a, b = ((literals if r.kind == "literal" else results)[r.number] for r in (left, right))
        parts.append(f"{a} {op} {b} = {result} .")
    return f"{' '.join(parts)} The answer is {results[-1]} ."


def draw(rng: random.Random, level: int) -> Problem | None:
    """Draw one problem of `level` steps; return None for an invalid draw, after which the caller must draw again.

    A draw is invalid if a result is not an integer from 1 to 99, a number is repeated, or the chain does not have
    `level` steps.
    """
    ending = rng.choices(("none", "compare", "times", "price", "share"), (40, 15, 15, 15, 15))[0]
    together = ending in ("compare", "times") and level > 2 and rng.random() < 0.5
    left = level - (ending != "none") - together
    events = []
    if left > 1 and rng.random() < 0.3:
        events.append(Event("start", (rng.randint(2, 6), rng.randint(2, 9)), container=_pick(rng, CONTAINERS)))
        left -= 1
    else:
        events.append(Event("start", (rng.randint(5, 45),)))
    while left:
        verb = _pick(rng, GAIN if rng.random() < 0.5 else LOSS)
        if left > 1 and rng.random() < 0.3:
            events.append(
                Event("change", (rng.randint(2, 6), rng.randint(2, 9)), verb, container=_pick(rng, CONTAINERS))
            )
            left -= 2
        else:
            events.append(Event("change", (rng.randint(2, 15),), verb))
            left -= 1
    if ending == "compare":
        events.append(Event("compare", (rng.randint(2, 15),), rng.choice(("more", "fewer")), together=together))
    elif ending == "times":
        word = "twice" if rng.random() < 0.4 else "times"
        events.append(Event("times", (2 if word == "twice" else rng.randint(3, 6),), word, together=together))
    elif ending == "price":
        events.append(Event("price", (rng.randint(2, 9),)))
    elif ending == "share":
        have = values(plan(events), [n for e in events for n in e.numbers])
        divisors = [n for n in range(2, 10) if have and have[-1] % n == 0]
        if not divisors:
            return None
        events.append(Event("share", (rng.choice(divisors),)))

    literals = tuple(n for e in events for n in e.numbers)
    noise = [rng.randint(2, LIMIT) for _ in range(rng.choices((0, 1, 2), (50, 40, 10))[0])]
    numbers = (*literals, *noise)
    if len(set(numbers)) < len(numbers):
        return None
    steps = tuple(plan(events))
    results = values(steps, literals)
    if results is None or 0 in results or len(steps) != level:
        return None
    hero, other = rng.sample(NAMES, 2)
    thing = rng.choice(THINGS)
    words = _question(events, noise, rng)
    named = {"HERO": hero, "OTHER": other, "THINGS": thing}
    spelled = tuple(e.numbers[0] for e in events if e.word == "twice")
    return Problem(
        question=" ".join(named.get(w, w) for w in words),
        key=" ".join(words),
        events=tuple(events),
        literals=literals,
        constants=spelled,
        steps=steps,
        answer=results[-1],
    )


def _question(events: Sequence[Event], noise: Sequence[int], rng: random.Random) -> list[str]:
    sentences = []
    ask = "How many THINGS does HERO have now ?"
    for event in events:
        n = event.numbers[0]
        what = f"{n} {event.container} of {event.numbers[1]} THINGS" if event.container else f"{n} THINGS"
        if event.kind == "start":
            sentences.append(f"HERO has {what} .")
        elif event.kind == "change":
            sentences.append(f"{rng.choice(('', '', 'Then ', 'Now '))}HERO {event.word} {what} .")
        elif event.kind == "price":
            sentences.append(f"The THINGS cost {n} euros each .")
            ask = "How many euros do the THINGS cost ?"
        elif event.kind == "share":
            sentences.append(f"HERO shares the THINGS equally among {n} friends .")
            ask = "How many THINGS does each friend get ?"
        else:
            size = f"{n} {event.word} THINGS than" if event.kind == "compare" else f"{n} times as many THINGS as"
            size = "twice as many THINGS as" if event.word == "twice" else size
            sentences.append(f"OTHER has {size} HERO .")
            ask = f"How many THINGS {'do they have together' if event.together else 'does OTHER have'} ?"
    for n in noise:
        sentences.insert(rng.randint(0, len(sentences)), rng.choice(NOISE).replace("NUMBER", str(n)))
    return " ".join([*sentences, ask]).split()


def split_of(key: str) -> str:
    """Return the only split that may contain a question, from the SHA-256 of its text without names and things.

    Problems that differ only in names are therefore never in two splits, whatever the seeds and sizes, and never in
    both the corpus and a split.
    """
    bucket = hashlib.sha256(key.encode()).digest()[0] % sum(share for _, share in SHARES)
    for split, share in SHARES:
        if bucket < share:
            return split
        bucket -= share
    raise AssertionError("unreachable: the shares add up")


def stream(split: str, seed: int) -> Iterator[Problem]:
    """Yield an endless stream of distinct problems of one split. It is the same for the same seed on every machine."""
    # random.Random seeds from the SHA-512 of a string, not from hash(), which differs between processes.
    rng = random.Random(f"cos_assets arithmetic {split} {seed}")
    seen: set[str] = set()
    while True:
        level = rng.choice(LEVELS)
        # Keep the level while draws fail: long chains fail more often and would otherwise be rare.
        while (problem := draw(rng, level)) is None:
            pass
        if problem.key not in seen and split_of(problem.key) == split:
            seen.add(problem.key)
            yield problem


def prompt_of(question: str) -> str:
    """Return the prompt that the tiny models are trained to continue: the question on its own line."""
    return f"{question}\n"


def truth(problem: Problem) -> str:
    """Return the input of `check_program` as JSON.

    It contains the literals of the problem, the indices of those that are spelled as words ("twice"), and the gold
    steps, where operand i is literal i or the result of step i - len(literals).
    """
    n = len(problem.literals)
    program = [[s.op, *(r.number if r.kind == "literal" else n + r.number for r in s[1:])] for s in problem.steps]
    constants = [problem.literals.index(n) for n in problem.constants]
    return json.dumps({"literals": problem.literals, "constants": constants, "program": program})


def generate(n_train: int = 400, n_validation: int = 200, n_test: int = 1500, seed: int = 0) -> pl.DataFrame:
    """Generate the problems table.

    Splits are disjoint by construction (see `split_of`), and a larger split begins with the problems of a smaller
    one. Raises ValueError for a negative size.
    """
    rows = []
    for split, size in (("train", n_train), ("validation", n_validation), ("test", n_test)):
        if size < 0:
            raise ValueError(f"{split}: {size} problems are not allowed; allowed: 0 or more")
        problems = stream(split, seed)
        for i in range(size):
            problem = next(problems)
            rows.append(
                {
                    "problem_id": f"arithmetic-{seed}-{split}-{i:05d}",
                    "split": split,
                    "question": problem.question,
                    "answer": str(problem.answer),
                    "solution": solution_text(problem.steps, problem.literals),
                    "level": str(len(problem.steps)),
                    "subject": problem.events[-1].kind if problem.events[-1].kind != "start" else "change",
                    "truth": truth(problem),
                }
            )
    return pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String))
