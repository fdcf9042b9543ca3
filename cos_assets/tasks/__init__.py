"""Problem sets, one module per task. The module name is the name in a study; `TASK` is its class.

    Task, PublicTask, Styled        the interface: any set, a published set, a set with two prompt formats
    PROBLEMS                        the columns of problems
    find, make, names, Chosen       from a name or a specification in a study to the task
    boxed_prompt, program_prompt    the usual prompts of instruct models
    text, same_text                 a checked column of a row, the form in which questions are compared
    in_several_splits               questions that occur in more than one split
    arithmetic                      word problems of the demo, generated with their programs
    gsm8k, math, functional_math    mathematics
    humaneval, mbpp                 programs, graded by tests (base class in `_code`)
    ifeval, oasst                   prompts that are answered in free text (base class in `_prompts`)
    jsonl                           a user's own file, folder or dataset

To add a task, add one module to this package: a docstring that opens with one example problem, a subclass of `Task`
(of `PublicTask` or `Styled` if the problems are published rows, in files or on the Hugging Face Hub), and
`TASK = <the class>`. Describe the set in docs/problem_sets.md.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, get_args

import polars as pl
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, WithJsonSchema, model_validator

from cos_assets import readers
from cos_assets.grading.extraction import last_number_anywhere
from cos_assets.grading.grade import Kind
from cos_assets.grading.reasoning import reply_of
from cos_assets.storage.schemas import TABLES

if TYPE_CHECKING:
    from cos_assets.grading.steps import StepCheck

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
# No question or reference solution is this long: such a text is a sign of a corrupt file.
MAX_CHARACTERS = 1_000_000
# Increase it when the prompt format for instruct models changes.
INSTRUCT_VERSION = "instruct-1"
FLEXIBLE: tuple[Kind, ...] = ("number", "math")
"""The kinds of answers that `extract: flexible` supports."""
_STATED = "\\boxed{...}, #### ..., 'The answer is ...', 'Answer: ...'"
_FORMATS: dict[Kind, str] = {
    "number": _STATED,
    "math": _STATED,
    "text": _STATED,
    "choice": "\\boxed{B}, 'The answer is (B)', 'Answer: B', or the letter alone",
    "tests": "a block of Python code that defines what the tests call",
    "instructions": "any reply that is not empty",
}
PROBLEMS = TABLES["problems"].schema


class Task(BaseModel, ABC):
    """A problem set. Its fields are the parameters that a study may set: `task: {name: gsm8k, path: ...}`.

    A subclass defines `load`, `prompt` and `answer_in`. It overrides other properties and methods where its problems
    differ from word problems whose answer is a number.

    Attributes
    ----------
    name : str
        The name of the task, which is the name of its module.
    extract : {"strict", "flexible"}
        `flexible` takes the last number of a reply that states no answer, as the filter of that name in
        lm-evaluation-harness does. Changing it keeps the stored samples; only their verdicts are recomputed.

    Raises
    ------
    pydantic.ValidationError
        If a parameter is invalid, or if `extract` is `flexible` and the answers are not numbers or mathematics.

    Examples
    --------
    >>> class Sums(Task):
    ...     name: str = "sums"
    ...     def load(self):
    ...         row = {"problem_id": "sums/0", "split": "test", "question": "2 + 3?", "answer": "5"}
    ...         return pl.DataFrame([row], schema=PROBLEMS)
    ...     def prompt(self, problem, shots=(), chat=False):
    ...         return f"Q: {problem['question']} A:"
    ...     def answer_in(self, reply, gold=None):
    ...         return reply.strip() or None
    >>> Sums().answer("<think>2 + 3 is 5.</think> 5")
    '5'
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    extract: Literal["strict", "flexible"] = "strict"

    @property
    def prompt_version(self) -> str:
        """Increase it when the prompt for base models, `stop` or `exemplars` change, to outdate stored samples."""
        return "1"

    def asked_version(self, chat: bool = False, shots: int = 0) -> str:
        """Return the version of the prompt that `prompt` creates.

        Parameters
        ----------
        chat : bool
            Whether the model gets the prompt in its chat template.
        shots : int
            The number of few-shot examples.

        Examples
        --------
        >>> make("gsm8k").asked_version(), make("gsm8k").asked_version(chat=True)
        ('gsm8k-1', 'gsm8k-1/instruct-1')
        """
        return self.prompt_version

    @property
    def extract_version(self) -> str:
        """Increase it when `answer_in` changes: stored verdicts are then recomputed from the samples."""
        return "2"

    @property
    def reading(self) -> str:
        """The version of the extraction rules and the `extract` option, on which verdicts depend.

        Verdicts also depend on the completion and the grader.

        Examples
        --------
        >>> make({"name": "gsm8k", "extract": "flexible"}).reading
        '2-flexible'
        """
        return self.extract_version if self.extract == "strict" else f"{self.extract_version}-{self.extract}"

    @property
    def answer_kind(self) -> Kind | None:
        """The kind of grading, which `answer` of the problems must match (see `grading.answers`).

        None if the problems have no gold answers: their samples get no verdict and cannot be verified.
        """
        return "number"

    @property
    def stop(self) -> tuple[str, ...]:
        """The strings at which a base model's continuation is cut, because the solution has ended."""
        return ()

    def stops(self, chat: bool = False) -> tuple[str, ...]:
        r"""Return the stop strings to sample with.

        There are none for chat prompts: a chat model ends its reply itself and may write any of these strings inside
        it.

        Examples
        --------
        >>> make("gsm8k").stops(), make("gsm8k").stops(chat=True)
        (('\nQuestion:',), ())
        """
        return () if chat else self.stop

    @property
    def exemplars(self) -> Sequence[Mapping[str, str]]:
        """Worked examples {question, solution} written for this project, in the form of the reference solutions.

        They are the few-shot examples if the training split does not have more problems with solutions than the
        number of shots. The two sources are never mixed. None of the examples is a problem of the set.
        """
        return ()

    @abstractmethod
    def load(self) -> pl.DataFrame:
        """Return all splits as one frame.

        Returns
        -------
        polars.DataFrame
            One row per problem, with the schema `PROBLEMS`. `problem_id` is unique and the same in every load. `split`
            is one of `SPLITS`. `answer` is the gold answer, `solution` the reference solution in the form of the
            few-shot examples, and `truth` is JSON with further data of the source, such as the program behind the
            problem. All columns but `problem_id`, `split` and `question` may be null.

        Raises
        ------
        ValueError
            If the problems cannot be read or a row is invalid.

        Examples
        --------
        >>> problems = make({"name": "arithmetic", "train": 2, "validation": 1, "test": 1}).load()
        >>> problems["split"].to_list()
        ['train', 'train', 'validation', 'test']
        """

    def provenance(self) -> dict[str, Any]:
        """Return the source of the problems for the metadata: files with their SHA-256, or dataset and revision.

        Examples
        --------
        >>> make("gsm8k").provenance()
        {'dataset': 'openai/gsm8k', 'config': 'main', 'revision': None}
        """
        return {}

    @abstractmethod
    def prompt(self, problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]] = (), chat: bool = False) -> str:
        r"""Return the input of the model. Sampling, training and evaluation use the same prompt.

        Parameters
        ----------
        problem : mapping
            A row of `load`; the column `question` is required.
        shots : sequence of mappings
            Few-shot examples {question, solution}, in the order in which they appear in the prompt.
        chat : bool
            Whether the model gets the prompt as one user message in its chat template.

        Returns
        -------
        str
            The text that a base model continues or, with `chat`, the user's message.

        Examples
        --------
        >>> make("gsm8k").prompt({"question": "What is 2 + 3?"})
        'Question: What is 2 + 3?\nAnswer:\n'
        """

    def answer(self, completion: str, gold: str | None = None) -> str | None:
        r"""Return the final answer that a completion states.

        Parameters
        ----------
        completion : str
            The text of a sample, with its reasoning block if it has one.
        gold : str, optional
            The `answer` of the problem. It is needed to find programs: its tests contain the names that they call.

        Returns
        -------
        str or None
            The answer as the grader reads it. None if none is stated, or if the reasoning block never ends.

        Examples
        --------
        >>> task = make("gsm8k")
        >>> task.answer("<think>Maybe 6.</think>2 + 3 = 5.\n#### 5")
        '5'
        >>> print(task.answer("<think>#### 5"), task.answer("It is 5."))
        None None
        """
        reply = reply_of(completion)
        if reply is None:
            return None
        stated = self.answer_in(reply, gold)
        return self.lenient_answer_in(reply) if stated is None and self.extract == "flexible" else stated

    @abstractmethod
    def answer_in(self, reply: str, gold: str | None = None) -> str | None:
        """Return the final answer that a reply states.

        Parameters
        ----------
        reply : str
            A completion without its reasoning block and special tokens.
        gold : str, optional
            The `answer` of the problem. Only programs may depend on it: other answers must be found without knowing the
            expected one.

        Returns
        -------
        str or None
            The answer, or None if the reply states none.

        Examples
        --------
        >>> make("gsm8k").answer_in("2 + 3 = 5. The answer is 5.")
        '5'
        """

    def lenient_answer_in(self, reply: str) -> str | None:
        """Return the answer of a reply that states none, used with `extract: flexible`: its last number.

        Returns
        -------
        str or None
            None if the reply contains no number, or if the answers of the task are not in `FLEXIBLE`.

        Examples
        --------
        >>> make({"name": "gsm8k", "extract": "flexible"}).lenient_answer_in("2 + 3 is 5")
        '5'
        """
        return last_number_anywhere(reply) if self.answer_kind in FLEXIBLE else None

    def texts(self, question: str) -> tuple[str, ...]:
        """Return the texts that identify a problem in imported solutions.

        These are its question and, if it is different, its published text.

        Examples
        --------
        >>> make("gsm8k").texts("What is 2 + 3?")
        ('What is 2 + 3?',)
        """
        return (question,)

    def figures(self, graded: pl.DataFrame) -> dict[str, float | int | None]:
        """Return additional published metrics of a model's answers, for the metadata of an evaluation.

        Parameters
        ----------
        graded : polars.DataFrame
            One row per answer, with the columns gold and answer (both String).

        Returns
        -------
        dict
            Metrics by name; None if a metric is undefined. Empty for most tasks.
        """
        return {}

    def check(self, problem: Mapping[str, Any], completion: str) -> StepCheck:
        r"""Check the solution in a completion step by step. A reasoning block is ignored.

        Parameters
        ----------
        problem : mapping
            A row of `load`; tasks with a certain check need its `truth`.
        completion : str
            The text of a sample.

        Returns
        -------
        StepCheck
            See `grading.steps`. The label is "unreadable" if there is nothing to check.

        Examples
        --------
        >>> make("gsm8k").check({}, "2 + 3 = 6.\n#### 6")
        StepCheck(label='wrong', first_wrong_step=1, reason='step 1: 2+3=6 is not true')
        """
        return self.check_in(problem, reply_of(completion) or "")

    def check_in(self, problem: Mapping[str, Any], reply: str) -> StepCheck:
        """Check a reply (see `check`); by default the arithmetic of each equation.

        Examples
        --------
        >>> make("gsm8k").check_in({}, "2 + 3 = 5.").label
        'right'
        """
        from cos_assets.grading.steps import check_equations

        return check_equations(reply)

    def equations(self, completion: str) -> tuple[str, ...]:
        """Return the solution as canonical equations, in order; empty if no equation can be read.

        Examples
        --------
        >>> make("gsm8k").equations("3 + 2 = 5 apples. 5 * 2 = 10.")
        ('2+3=5', '2*5=10')
        """
        return self.equations_in(reply_of(completion) or "")

    def equations_in(self, reply: str) -> tuple[str, ...]:
        """Return the canonical equations of a reply (see `equations`)."""
        from cos_assets.grading.steps import equations

        return equations(reply)

    def identity(self, completion: str) -> str:
        """Return a key that is equal for solutions that count as one in diversity.

        These are solutions with the same equations, or with the same text if there are no equations (see
        `grading.identity`).

        Examples
        --------
        >>> task = make("gsm8k")
        >>> task.identity("First 2 + 3 = 5.") == task.identity("She has 3+2=5 apples.")
        True
        """
        from cos_assets.grading.identity import identity

        return identity(reply_of(completion) or completion, self.equations(completion))

    @property
    def formats(self) -> str:
        """The recognized forms of a stated answer, for error messages."""
        return _FORMATS[self.answer_kind or "instructions"]

    @model_validator(mode="after")
    def _readable(self) -> Self:
        if self.extract == "flexible" and self.answer_kind not in FLEXIBLE:
            raise ValueError(
                f"extract: flexible takes the last number of a text, but the answers of task {self.name!r} are not"
                " numbers; leave it out"
            )
        return self


class PublicTask(Task):
    """A published problem set: files in a folder (`path:`), or a dataset on the hub, pinned by `revision:`.

    A subclass defines `problems`, and the class attributes `files` and `published`, instead of `load`.

    Attributes
    ----------
    path : str, optional
        A folder with the files as published, or the file of a set of one part. Without it, the dataset is loaded.
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

    path: str | None = None
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


def in_several_splits(problems: pl.DataFrame) -> pl.DataFrame:
    """Return the questions that are in more than one split.

    Parameters
    ----------
    problems : polars.DataFrame
        Problems with the columns problem_id, split and question; `split` is one of `SPLITS`.

    Returns
    -------
    polars.DataFrame
        One row per pair, with the columns [problem_id, split, other_id, other_split, question]; `split` is the earlier
        of the two in `SPLITS`. Texts are compared in the form of `same_text`. Repeats within a split are not reported.

    Examples
    --------
    >>> rows = [("a", "train", "2 + 3?"), ("b", "test", "2  + 3?"), ("c", "test", "4 + 5?")]
    >>> problems = pl.DataFrame(rows, ["problem_id", "split", "question"], orient="row")
    >>> in_several_splits(problems).rows()
    [('a', 'train', 'b', 'test', '2 + 3?')]
    """
    keyed = problems.select(
        "problem_id",
        "split",
        "question",
        key=pl.col("question").map_elements(same_text, pl.String),
        order=pl.col("split").replace_strict(SPLITS, range(len(SPLITS)), return_dtype=pl.Int8),
    )
    others = keyed.select("key", other_id="problem_id", other_split="split", other_order="order")
    pairs = keyed.join(others, on="key", maintain_order="left").filter(pl.col("order") < pl.col("other_order"))
    return pairs.select("problem_id", "split", "other_id", "other_split", "question")


def names() -> list[str]:
    """Return the names of all tasks, sorted.

    Examples
    --------
    >>> names()
    ['arithmetic', 'functional_math', 'gsm8k', 'humaneval', 'ifeval', 'jsonl', 'math', 'mbpp', 'oasst']
    """
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def make(spec: Task | str | Mapping[str, Any]) -> Task:
    """Create a task from its specification in a study: `gsm8k` or `{name: gsm8k, path: ...}`.

    Parameters
    ----------
    spec : Task, str or mapping
        A task (returned unchanged), a name, or a mapping with `name` and the parameters of the task.

    Raises
    ------
    ValueError
        If the name is unknown.
    pydantic.ValidationError
        If a parameter is invalid.

    Examples
    --------
    >>> make({"name": "gsm8k", "validation": 10}).validation
    10
    """
    if isinstance(spec, Task):
        return spec
    params = {"name": spec} if isinstance(spec, str) else dict(spec)
    return find(params.get("name"))(**params)


def find(name: Any) -> type[Task]:
    """Return the class of a task.

    Raises
    ------
    ValueError
        If the name is unknown. The message lists the allowed names.

    Examples
    --------
    >>> find("gsm8k").__name__
    'Gsm8k'
    """
    if name not in names():
        raise ValueError(f"name: {name!r} is not a task; allowed: {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}").TASK


def named(value: Any) -> Any:
    """Return a value unchanged if it has the form of a task's specification; for fields of the type `Chosen`.

    `make` checks the name itself.

    Raises
    ------
    ValueError
        If the value is not a task, a name, or a mapping whose `name` is a string.

    Examples
    --------
    >>> named("gsm8k")
    'gsm8k'
    >>> named({"path": "a.csv"})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: is not a task; allowed: arithmetic, ..., or {name: <one of these>, ...}
    """
    given = value.get("name") if isinstance(value, Mapping) else value
    if not isinstance(given, (str, Task)):
        raise ValueError(f"is not a task; allowed: {', '.join(names())}, or {{name: <one of these>, ...}}")
    return value


# Each task validates its own parameters, so the JSON schema for editors does not list them.
Chosen = Annotated[
    SerializeAsAny[Task],
    BeforeValidator(make),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object", "properties": {"name": {"type": "string"}}}]}),
]
"""The type of a spec field that names a task."""
