r"""User-defined problem sets: a file, a folder, or a dataset on the hub, with the columns named in the study.

    task:
      name: jsonl
      path: problems.csv                  # a file, or a folder with train, validation and test files; or `dataset:`
      columns: {question: q, answer: a}   # dots lead into nested objects; the rest is optional
      grade: number                       # number, math, text, choice or tests: how answers are compared
      validation: 100                     # drawn by the seed where the data have no such split; `test` likewise

    Question: A box holds 12 eggs. How many eggs are in 3 boxes?
    Answer:
    3*12 = 36 eggs. The answer is 36.

A solution states its answer as `\boxed{X}`, `#### X`, "The answer is X" or "Answer: X"; the last of them counts (see
`grading.extraction`). With `choice`, X is a letter like "(B)". With `tests`, the answer is the last block of Python
that defines what the tests call. Set `answer_pattern` for any other format. With `tests`, the `answer` column
contains Python code that fails if the solution is wrong (or a list of its lines): assertions, unittest test cases, or
functions that pytest would collect. An empty program must fail the tests, and the row's own solution must pass them.

No row is repaired or skipped. A row with a missing column, an empty value, a repeated id, or an invalid text is an
error that names file, line and column.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cos_assets import readers
from cos_assets.grading.cores import usable_cores
from cos_assets.grading.extraction import stated
from cos_assets.grading.numbers import parse_number
from cos_assets.tasks import PROBLEMS, SPLITS, Split, Styled, boxed_prompt, program_prompt, text

_QUESTION = "{question}"
_TEMPLATE = f"Question: {_QUESTION}\nAnswer:\n"
# A label that can start the next question: some letters, and punctuation that does not occur there in a sentence.
_LABEL = re.compile(r"(?=.*[^\W\d_])(?!\w[.)]?\Z)(?:.*[:>\])]|[#*=_-]{2,}.*|.*[*=_-]{2,})")
_ASKED = {"choice": "the letter of your final answer"}


class Columns(BaseModel):
    """The column names of the data."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str = "question"
    answer: str = "answer"
    problem_id: str | None = None
    solution: str | None = None
    level: str | None = None
    subject: str | None = None
    split: str | None = None


class Example(BaseModel):
    """One few-shot example."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str
    solution: str


class Jsonl(Styled):
    """A user-defined problem set.

    `splits` maps train, validation and test to the file in the folder or the split on the hub. By default, it is the
    existing files with these names, or train and test of the hub. A single file is the training split, unless
    `columns.split` names a column that contains train, validation or test.
    """

    name: str = "jsonl"
    columns: Columns = Columns()
    grade: Literal["number", "math", "text", "choice", "tests"] = "number"
    answer_pattern: str | None = None
    template: str = _TEMPLATE
    between: str = "\n\n"
    """The separator between few-shot examples."""
    examples: tuple[Example, ...] = ()
    splits: dict[Split, str] | None = Field(None, min_length=1)
    validation: int = Field(0, ge=0)
    test: int = Field(0, ge=0)

    @field_validator("answer_pattern")
    @classmethod
    def _one_group(cls, pattern: str | None) -> str | None:
        try:
            groups = 1 if pattern is None else re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression ({error})") from None
        if groups != 1:
            raise ValueError(f"{pattern!r} has {groups} groups; expected one, around the answer")
        return pattern

    @field_validator("template")
    @classmethod
    def _one_question(cls, template: str) -> str:
        if template.count(_QUESTION) != 1:
            raise ValueError(f"{template!r} has {_QUESTION} {template.count(_QUESTION)} times; expected exactly once")
        return template

    @model_validator(mode="after")
    def _one_source(self) -> Jsonl:
        if (self.path is None) == (not self.dataset):
            raise ValueError("give exactly one of path: (a file or folder) and dataset: (a hub id)")
        return self

    @property
    def prompt_version(self) -> str:
        """The version depends on the prompt settings, because the study defines the prompt."""
        return f"jsonl-1-{_short_hash([self.template, self.between, self.exemplars])}"

    @property
    def extract_version(self) -> str:
        return f"jsonl-3-{_short_hash([self.answer_pattern, self.stop])}"

    @property
    def answer_kind(self) -> Literal["number", "math", "text", "choice", "tests"]:
        return self.grade

    @property
    def stop(self) -> tuple[str, ...]:
        """The first line of the template up to the question, at the start of a line: a next question begins.

        Empty if that line is not a label such as "Question:", because solutions also have lines that begin with "1."
        or "#".
        """
        start = self.template.partition(_QUESTION)[0].strip().split("\n", 1)[0]
        return (f"\n{start}",) if _LABEL.fullmatch(start) else ()

    @property
    def formats(self) -> str:
        return super().formats if self.answer_pattern is None else f"what answer_pattern finds: {self.answer_pattern}"

    @property
    def exemplars(self) -> Sequence[Mapping[str, str]]:
        return [example.model_dump() for example in self.examples]

    def problems(self) -> pl.DataFrame:
        seen: dict[str, str] = {}
        found: list[dict[str, Any]] = []
        for split, rows in self._sources():
            for number, (where, row) in enumerate(rows):
                problem = self._problem(split, number, where, row)
                if first := seen.get(problem["problem_id"]):
                    raise ValueError(
                        f"{where}: problem_id {problem['problem_id']!r} is a duplicate; the first one is at {first}"
                    )
                seen[problem["problem_id"]] = where
                found.append(problem)
        if self.grade == "tests" and found:
            self._try_tests(found, seen)
        for split, count in (("test", self.test), ("validation", self.validation)):
            self._draw(found, split, count)
        return pl.DataFrame(found, schema=PROBLEMS)

    def provenance(self) -> dict[str, Any]:
        if self.path is None:
            return super().provenance() | {"splits": self._hub_splits}
        found = self._files()
        return {f"{split}_file": str(f) for split, f in found.items()} | {
            f"{split}_sha256": readers.sha256(f) for split, f in found.items()
        }

    def instructs(self, chat: bool, shots: int) -> bool:
        """Return whether to use the instruct format.

        In `auto` style, a custom template or answer pattern applies to every model.
        """
        own = self.template != _TEMPLATE or self.answer_pattern is not None
        return self.style == "instruct" or (not own and super().instructs(chat, shots))

    def complete(self, problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]] = ()) -> str:
        worked = "".join(self._ask(s["question"]) + s["solution"] + self.between for s in shots)
        return worked + self._ask(problem["question"])

    def instruct(self, problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]] = ()) -> str:
        if self.grade == "tests":
            return program_prompt(problem, shots)
        return boxed_prompt(problem, shots, _ASKED.get(self.grade, "your final answer"))

    def answer_in(self, reply: str, gold: str | None = None) -> str | None:
        """Return the last stated answer (see `grading.extraction`) before a next question begins."""
        completion = reply
        for stop in self.stop:
            completion = completion.split(stop, 1)[0]
        if self.answer_pattern is not None:
            found = re.findall(self.answer_pattern, completion)
            return found[-1].strip() or None if found else None
        if self.grade == "tests":
            from cos_assets.grading.code import code_of

            return code_of(completion, gold)
        return stated(completion, self.grade)

    def equations_in(self, reply: str) -> tuple[str, ...]:
        """Return the equations, or with `tests` the canonical program.

        Programs that differ only in comments or layout count as one.
        """
        if self.grade != "tests":
            return super().equations_in(reply)
        from cos_assets.grading.code import canonical

        return (canonical(self.answer_in(reply) or ""),)

    def _ask(self, question: str) -> str:
        return self.template.replace(_QUESTION, question)

    @property
    def _hub_splits(self) -> Mapping[Split, str]:
        return self.splits or {"train": "train", "test": "test"}

    def _sources(self) -> Iterator[tuple[Split, Iterator[tuple[str, Mapping[str, Any]]]]]:
        if self.path is None:
            for split, name in self._hub_splits.items():
                yield split, readers.hub_rows(self.dataset, self.config, name, self.revision)
        else:
            for split, file in self._files().items():
                yield split, readers.rows(file)

    def _files(self) -> dict[Split, Path]:
        path = Path(self.path or "").expanduser()
        if path.is_file():
            return {"train": path}
        if self.splits is not None:
            return {split: readers.in_folder(path, name) for split, name in self.splits.items()}
        found = {split: file for split in SPLITS if (file := readers.find(path, split))}
        if not found:
            raise ValueError(
                f"task.path: {str(path)!r} is neither a file nor a folder with a train, validation or test file"
            )
        return found

    def _problem(self, split: Split, number: int, where: str, row: Mapping[str, Any]) -> dict[str, Any]:
        def get(role: str, required: bool = False) -> str | None:
            column = getattr(self.columns, role)
            value = None if column is None else readers.dig(row, column, role, where)
            if isinstance(value, float) and isnan(value):  # pandas writes a missing value as NaN
                value = None
            if role in ("level", "subject") and isinstance(value, float) and value.is_integer():
                value = int(value)
            if role in ("answer", "problem_id", "level", "subject") and isinstance(value, int | float):
                value = str(value)
            if value is None and not required:
                return None
            if role == "answer" and self.grade == "tests" and isinstance(value, list):
                value = "\n".join(map(str, value))
            plain = text({column: value}, column, where)
            if not plain.strip():
                raise ValueError(f"{where}: {column!r} is empty; expected text")
            return plain

        split = self._split(get("split"), where) or split
        question, answer = str(get("question", required=True)).strip(), str(get("answer", required=True)).strip()
        part = split if self.columns.split is None else "row"  # a row keeps its id if its split changes
        return {
            "problem_id": get("problem_id") or f"{self.name}/{part}/{number:05d}",
            "split": split,
            "question": question,
            "answer": self._gold(answer, where),
            "solution": self._solution(get("solution"), answer, where),
            "level": get("level"),
            "subject": get("subject"),
            "truth": None,
        }

    def _try_tests(self, problems: list[dict[str, Any]], places: dict[str, str]) -> None:
        """Raise ValueError for tests that accept any program or reject the reference solution.

        All verdicts would be wrong.
        """
        from cos_assets.grading.code import untested

        golds = [
            (p["answer"], None if p["solution"] is None else self.answer(p["solution"], p["answer"])) for p in problems
        ]
        for problem, why in zip(problems, untested(golds, usable_cores()), strict=True):
            if why is not None:
                place = places[problem["problem_id"]]
                raise ValueError(f"{place}: {self.columns.answer!r}: {why}; expected tests that only a solution passes")

    def _split(self, value: str | None, where: str) -> Split | None:
        if self.columns.split is None:
            return None
        if value not in SPLITS:
            raise ValueError(f"{where}: {self.columns.split!r} is {value!r}; allowed: {', '.join(SPLITS)}")
        return value

    def _gold(self, answer: str, where: str) -> str:
        """Return the answer in the form that the graders use; raise ValueError for an answer that they cannot use."""
        at = f"{where}: {self.columns.answer!r} is {answer[:60]!r}"
        if self.grade == "number" and parse_number(answer) is None:
            raise ValueError(f"{at}; expected one number, or grade: math, text or choice")
        if self.grade == "choice":
            letter = stated(answer, "choice")
            if letter is None:
                raise ValueError(f'{at}; expected a letter, for example "B" or "(B)"')
            return letter
        if self.grade == "tests":
            try:
                compile(answer, "tests", "exec")
            except (SyntaxError, ValueError) as error:
                raise ValueError(f"{at}; expected Python code ({error})") from None
            return json.dumps({"prompt": "", "test": answer, "entry_point": None})
        return answer

    def _solution(self, solution: str | None, answer: str, where: str) -> str | None:
        """Return the reference solution, with a sentence that states the answer if it states none.

        Models trained on it then learn to state the answer.
        """
        if solution is None or self.answer(solution) is not None:
            return solution
        if self.answer_pattern is not None:
            raise ValueError(
                f"{where}: {self.columns.solution!r} states no answer that answer_pattern finds;"
                " models trained on it would not state one either"
            )
        ends = f"{solution.rstrip()}\nThe answer is {f'${answer}$' if self.grade == 'math' else answer}."
        if self.grade == "text" and self.answer(ends) != answer:  # the sentence would be read differently
            return f"{solution.rstrip()}\nThe answer is \\boxed{{{answer}}}."
        return ends

    def _draw(self, problems: list[dict[str, Any]], split: str, count: int) -> None:
        """Move `count` training problems to a split that the data do not have."""
        if not count:
            return
        if held := sum(p["split"] == split for p in problems):
            raise ValueError(f"{split}: {count} is not allowed; the data have {held} {split} problems; leave it out")
        train = [p["problem_id"] for p in problems if p["split"] == "train"]
        if count > len(train):
            raise ValueError(f"{split}: {count} is not allowed; there are {len(train)} train problems to draw from")
        drawn = set(self.draw(train, count))
        for problem in problems:
            if problem["problem_id"] in drawn:
                problem["split"] = split


def _short_hash(settings: Any) -> str:
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:8]


TASK = Jsonl
