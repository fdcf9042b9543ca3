"""Published problem sets: rows in files or on the Hugging Face Hub, and the prompts and checks that they share."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import polars as pl
from pydantic import AfterValidator, Field

from cos_assets import readers
from cos_assets.tasks._task import INSTRUCT_VERSION, MAX_CHARACTERS, Split, Task


class PublicTask(Task):
    """A published problem set: files in a folder (`path:`), or a dataset on the hub, pinned by `revision:`.

    A subclass defines `problems`, and the class attributes `files` and `published`, instead of `load`.

    Attributes
    ----------
    path : str, optional
        A folder with the files as published, or the file of a set of one part. Without it, or if it is empty, the
        dataset is loaded.
    dataset, config, revision : str, optional
        The location of the dataset on the hub.
    seed : int
        Selects the problems of drawn splits and limits.
    limit : dict
        The maximum number of problems by split, at least 1. The problems of a smaller limit are a subset of those of a
        larger one.
    check_rows : bool
        Whether a number of rows that differs from the published one is an error. False declares that the copy differs
        on purpose.
    files : mapping
        For each part of the published set: its possible file names in a folder, without suffix.
    published : mapping
        The number of rows of each part.

    Examples
    --------
    >>> task = make({"name": "gsm8k", "path": "data/gsm8k", "limit": {"train": 100}})
    >>> task.limit, task.published
    ({'train': 100}, {'train': 7473, 'test': 1319})
    """

    path: Annotated[str | None, AfterValidator(lambda path: path or None)] = None
    dataset: str = ""
    config: str | None = None
    revision: str | None = None
    seed: int = Field(0, ge=0)
    limit: dict[Split, int] = Field(default_factory=dict)
    check_rows: bool = True

    files: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    published: ClassVar[Mapping[str, int]] = {}

    @abstractmethod
    def problems(self) -> pl.DataFrame:
        """Return all splits, before `limit`, with the schema `PROBLEMS` (see `load`)."""

    def load(self) -> pl.DataFrame:
        r"""Return the problems in file order, at most `limit` per split.

        Raises
        ------
        ValueError
            If the problems cannot be read, a row is invalid (the message names file and row), or a limit is below 1.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "sums.csv")
        ...     _ = file.write_text("question,answer\n2 + 3?,5\n4 + 5?,9\n")
        ...     problems = make({"name": "jsonl", "path": str(file), "limit": {"train": 1}}).load()
        >>> problems.select("problem_id", "answer").rows()
        [('jsonl/train/00000', '5')]
        """
        problems = self.problems()
        for split, count in self.limit.items():
            if count < 1:
                raise ValueError(f"limit.{split}: {count} is not allowed; allowed: at least 1 (leave it out for all)")
            kept = self.draw(problems.filter(pl.col("split") == split)["problem_id"], count)
            problems = problems.filter((pl.col("split") != split) | pl.col("problem_id").is_in(kept))
        return problems

    def provenance(self) -> dict[str, Any]:
        """Return the files of all parts with their SHA-256, or the dataset and its revision."""
        if self.path is None:
            return {"dataset": self.dataset, "config": self.config, "revision": self.revision}
        found = {part: self.file(part) for part in self.files}
        return {f"{part}_file": str(f) for part, f in found.items()} | {
            f"{part}_sha256": readers.sha256(f) for part, f in found.items()
        }

    def file(self, part: str) -> Path:
        """Return the path of the file of a part. `path` may be the file itself if the set has only one part.

        Parameters
        ----------
        part : str
            A key of `files`.

        Raises
        ------
        ValueError
            If the folder has no such file.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "train.jsonl").write_text("{}")
        ...     make({"name": "gsm8k", "path": folder}).file("train").name
        'train.jsonl'
        """
        path = Path(self.path or "").expanduser()
        if len(self.files) == 1 and path.is_file():
            return path
        return readers.in_folder(path, *self.files[part])

    def hub(self, part: str) -> tuple[str, str | None, str, str | None]:
        """Return the location of a part on the hub: dataset, config, split, revision.

        Examples
        --------
        >>> make("gsm8k").hub("test")
        ('openai/gsm8k', 'main', 'test', None)
        """
        return self.dataset, self.config, part, self.revision

    def rows(self, part: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield (where, row) of a part, from its file or from the hub.

        `where` names the file and row for error messages.

        Raises
        ------
        ValueError
            If the part cannot be read or, after its last row, if the number of rows is not the published one.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "test.jsonl").write_text('{"question": "2 + 3?", "answer": "#### 5"}')
        ...     [row for _, row in make({"name": "gsm8k", "path": folder, "check_rows": False}).rows("test")]
        [{'question': '2 + 3?', 'answer': '#### 5'}]
        """
        found = readers.hub_rows(*self.hub(part)) if self.path is None else readers.rows(self.file(part))
        count, expected = 0, self.published.get(part)
        for where, row in found:
            yield where, row
            count += 1
        if self.check_rows and expected is not None and count != expected:
            where = self.hub(part)[0] if self.path is None else str(self.file(part))
            raise ValueError(
                f"{where}: {self.name} {part} has {count} rows; {expected} were published."
                " Get the complete set, or set check_rows: false if the number is intended"
            )

    def draw(self, ids: Iterable[str], count: int) -> list[str]:
        """Draw ids by a hash of seed and id, for validation splits and limits.

        A smaller draw is a subset of a larger one.

        Parameters
        ----------
        ids : iterable of str
            The ids to draw from, in any order.
        count : int
            The number of ids to draw; fewer if there are not so many.

        Examples
        --------
        >>> task = make("gsm8k")
        >>> task.draw(["a", "b", "c"], 1), task.draw(["c", "b", "a"], 2)
        (['c'], ['c', 'b'])
        """
        return sorted(ids, key=lambda i: hashlib.sha256(f"{self.seed}/{i}".encode()).digest())[:count]


class Styled(PublicTask):
    r"""A published problem set with two prompt formats: one for base models and one for instruct models.

    A subclass defines `complete` and `instruct` instead of `prompt`.

    Attributes
    ----------
    style : {"auto", "complete", "instruct"}
        With `auto`, a model with `chat: true` and no few-shot examples gets the format that its authors recommend: the
        message states the form of the answer that is extracted. `complete` and `instruct` choose one format for every
        model.

    Examples
    --------
    >>> make({"name": "gsm8k", "style": "instruct"}).prompt({"question": "What is 2 + 3?"})
    'What is 2 + 3?\nPlease reason step by step, and put your final answer within \\boxed{}.'
    """

    style: Literal["auto", "complete", "instruct"] = "auto"

    def instructs(self, chat: bool, shots: int) -> bool:
        """Return whether the prompt has the format for instruct models. `shots` is the number of few-shot examples.

        Examples
        --------
        >>> make("gsm8k").instructs(chat=True, shots=0), make("gsm8k").instructs(chat=True, shots=8)
        (True, False)
        """
        return self.style == "instruct" or (self.style == "auto" and chat and shots == 0)

    def asked_version(self, chat: bool = False, shots: int = 0) -> str:
        """Return the version of the prompt; that of the format for instruct models includes `INSTRUCT_VERSION`."""
        return f"{self.prompt_version}/{INSTRUCT_VERSION}" if self.instructs(chat, shots) else self.prompt_version

    def stops(self, chat: bool = False) -> tuple[str, ...]:
        """Return the stop strings to sample with; none for chat prompts and with `style: instruct`."""
        return () if chat or self.style == "instruct" else self.stop

    def prompt(self, problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]] = (), chat: bool = False) -> str:
        """Return the input of the model: the result of `instruct` if `instructs` is true, else of `complete`."""
        ask = self.instruct if self.instructs(chat, len(shots)) else self.complete
        return ask(problem, shots)

    @abstractmethod
    def complete(self, problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]] = ()) -> str:
        r"""Return the text that a base model continues. The parameters are those of `prompt`.

        Examples
        --------
        >>> make("math").complete({"question": "What is 2 + 3?"})
        'Problem:\nWhat is 2 + 3?\n\nSolution:\n'
        """

    @abstractmethod
    def instruct(self, problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]] = ()) -> str:
        """Return the message that an instruct model answers: the problem and the form of the answer.

        The parameters are those of `prompt`.

        Examples
        --------
        >>> make("humaneval").instruct({"question": "def add(a, b):"}).splitlines()[0]
        'Complete this Python function. Reply with the whole program, in one block of code.'
        """


def boxed_prompt(
    problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]], what: str = "your final answer"
) -> str:
    r"""Return the usual prompt of instruct models for mathematics: reason step by step, and put the answer in a box.

    Parameters
    ----------
    problem : mapping
        A problem with the column `question`.
    shots : sequence of mappings
        Few-shot examples {question, solution}; each is followed by the same instruction.
    what : str
        The words for the content of the box.

    Examples
    --------
    >>> boxed_prompt({"question": "What is 2 + 3?"}, ())
    'What is 2 + 3?\nPlease reason step by step, and put your final answer within \\boxed{}.'
    """
    ask = f"\nPlease reason step by step, and put {what} within \\boxed{{}}."
    worked = "".join(f"{shot['question']}{ask}\n\n{shot['solution']}\n\n" for shot in shots)
    return f"{worked}{problem['question']}{ask}"


def program_prompt(problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]]) -> str:
    """Return the usual prompt of instruct models for code: the whole program, in one code block.

    `problem` has the column `question`; `shots` are few-shot examples {question, solution}.

    Examples
    --------
    >>> program_prompt({"question": "Add two numbers."}, ()).splitlines()[-1]
    'Add two numbers.'
    """
    ask = "Write a Python program that solves this problem. Reply with the whole program, in one block of code.\n\n"
    worked = "".join(f"{ask}{s['question']}\n\n```python\n{s['solution'].rstrip()}\n```\n\n" for s in shots)
    return f"{worked}{ask}{problem['question']}"


def text(row: Mapping[str, Any], column: str, where: str) -> str:
    """Return a column of a row that must be a text.

    Parameters
    ----------
    row : mapping
        A row of a data file.
    column : str
        The name of the column.
    where : str
        The file and row, for the error message.

    Returns
    -------
    str
        The value, unchanged.

    Raises
    ------
    ValueError
        If the value is not a string, has more than `MAX_CHARACTERS`, or contains a NUL byte or a lone surrogate. The
        message names where, the column and the value found.

    Examples
    --------
    >>> text({"question": "2 + 3?"}, "question", "a.jsonl line 1")
    '2 + 3?'
    >>> text({"question": 5}, "question", "a.jsonl line 1")
    Traceback (most recent call last):
    ValueError: a.jsonl line 1: 'question' is 5; expected a string
    """
    found = row.get(column)
    if not isinstance(found, str):
        raise ValueError(f"{where}: {column!r} is {repr(found)[:60]}; expected a string")
    if len(found) > MAX_CHARACTERS:
        raise ValueError(f"{where}: {column!r} has {len(found)} characters; at most {MAX_CHARACTERS} are allowed")
    if "\0" in found:
        raise ValueError(f"{where}: {column!r} contains a NUL byte at character {found.index(chr(0))}; expected text")
    try:
        found.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where}: {column!r} contains a lone surrogate at character {error.start}; expected text"
        ) from None
    return found


def same_text(question: str) -> str:
    r"""Return the form in which questions are compared: case-folded, with single spaces.

    Examples
    --------
    >>> same_text("What  is\n2 + 3?")
    'what is 2 + 3?'
    """
    return " ".join(question.casefold().split())
