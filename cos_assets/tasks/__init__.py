"""Problem sets. One module per task; its name is the name a study writes, `TASK` its class.

A new task is one new module here: a docstring that opens with one example problem, and a subclass of `Task`, or of
`PublicTask` where the problems are published rows, in files or on the hub.
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

if TYPE_CHECKING:
    from cos_assets.grading.steps import StepCheck

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
# No question or reference solution is as long: such a text is a file that went wrong.
MAX_CHARACTERS = 1_000_000
# Raise it when the form in which instruct models are asked changes.
INSTRUCT_VERSION = "instruct-1"
FLEXIBLE: tuple[Kind, ...] = ("number", "math")
"""The kinds of answers that `extract: flexible` reads."""
_STATED = "\\boxed{...}, #### ..., 'The answer is ...', 'Answer: ...'"
_FORMATS: dict[Kind, str] = {
    "number": _STATED,
    "math": _STATED,
    "text": _STATED,
    "choice": "\\boxed{B}, 'The answer is (B)', 'Answer: B', or the letter alone",
    "tests": "a block of Python code that defines what the tests call",
    "instructions": "any reply that is not empty",
}
PROBLEMS = pl.Schema(
    {
        "problem_id": pl.String,
        "split": pl.String,
        "question": pl.String,
        "answer": pl.String,
        "solution": pl.String,
        "level": pl.String,
        "subject": pl.String,
        "truth": pl.String,
    }
)


class Task(BaseModel, ABC):
    """One problem set. Its fields are the parameters a study may give: `task: {name: gsm8k, path: ...}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    extract: Literal["strict", "flexible"] = "strict"
    """`flexible` takes the last number of a reply that states no answer, as lm-evaluation-harness' filter of that name
    does. Stored samples stay as they are; only their verdicts are made again."""

    @property
    def prompt_version(self) -> str:
        """Raise it when the prompt for base models, `stop` or `exemplars` change: stored samples then count as old."""
        return "1"

    def asked_version(self, chat: bool = False, shots: int = 0) -> str:
        """The version of the prompt that `prompt` makes for a model that is asked in this way."""
        return self.prompt_version

    @property
    def extract_version(self) -> str:
        """Raise it when `answer_in` changes: stored verdicts then count as old, and are made again from the samples."""
        return "2"

    @property
    def reading(self) -> str:
        """What verdicts depend on besides the completion and the grader: the rules of extraction, and the choice."""
        return self.extract_version if self.extract == "strict" else f"{self.extract_version}-{self.extract}"

    @property
    def answer_kind(self) -> Kind | None:
        """How answers are graded; `answer` of the problems is what that kind compares with (see `grading.answers`).

        None where the problems have no gold answers: their samples get no verdict, and cannot be verified.
        """
        return "number"

    @property
    def stop(self) -> tuple[str, ...]:
        """The texts at which a base model's continuation ends, because what follows is not part of the solution."""
        return ()

    def stops(self, chat: bool = False) -> tuple[str, ...]:
        """The stop strings to sample with. A model that is asked as a chat ends its reply by itself, and may write any
        of these texts inside it."""
        return () if chat else self.stop

    @property
    def exemplars(self) -> Sequence[Mapping[str, str]]:
        """Worked examples {question, solution} of our own, in the form of the task's reference solutions.

        They are the few-shot examples where the training split does not have more problems with solutions than shots
        are asked for; there is no mixture of the two. None of them is a problem of the set.
        """
        return ()

    @abstractmethod
    def load(self) -> pl.DataFrame:
        """All splits as one frame in the `PROBLEMS` schema; ids are unique and stable."""

    def provenance(self) -> dict[str, Any]:
        """Where the problems come from, for the asset's metadata: files with their SHA-256, or dataset and revision."""
        return {}

    @abstractmethod
    def prompt(self, problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]] = (), chat: bool = False) -> str:
        """What a model is given: the text that a base model continues, or with `chat` the message of the user.

        Sampling, training and evaluation use the same one.
        """

    def answer(self, completion: str, gold: str | None = None) -> str | None:
        """The final answer as the reply states it; None when it states none, or when the reasoning never ends.

        `gold` is the `answer` of the problem. Programs are found by it: its tests say what they call.
        """
        reply = reply_of(completion)
        if reply is None:
            return None
        stated = self.answer_in(reply, gold)
        return self.lenient_answer_in(reply) if stated is None and self.extract == "flexible" else stated

    @abstractmethod
    def answer_in(self, reply: str, gold: str | None = None) -> str | None:
        """The final answer as a reply states it, or None. A reply has no reasoning block and no special tokens.

        Only programs may depend on `gold`: an answer of another kind must not be found by what it should be.
        """

    def lenient_answer_in(self, reply: str) -> str | None:
        """What a reply that states no answer is taken to answer with `extract: flexible`: its last number."""
        return last_number_anywhere(reply) if self.answer_kind in FLEXIBLE else None

    def texts(self, question: str) -> tuple[str, ...]:
        """The texts by which solutions made elsewhere name a problem: its question, and its text as published where
        that is another."""
        return (question,)

    def figures(self, graded: pl.DataFrame) -> dict[str, float | int | None]:
        """What else is published of a model's answers [gold, answer], for the metadata of an evaluation."""
        return {}

    def check(self, problem: Mapping[str, Any], completion: str) -> StepCheck:
        """Is the solution in the reply right, step by step? A reasoning block is not looked at."""
        return self.check_in(problem, reply_of(completion) or "")

    def check_in(self, problem: Mapping[str, Any], reply: str) -> StepCheck:
        """By default: the arithmetic of each equation."""
        from cos_assets.grading.steps import check_equations

        return check_equations(reply)

    def equations(self, completion: str) -> tuple[str, ...]:
        """The solution as canonical equations, in order; none where none can be read."""
        return self.equations_in(reply_of(completion) or "")

    def equations_in(self, reply: str) -> tuple[str, ...]:
        from cos_assets.grading.steps import equations

        return equations(reply)

    def identity(self, completion: str) -> str:
        """Equal for solutions that count as one in diversity: those with the same equations, or the same text where
        there are none (see `grading.identity`)."""
        from cos_assets.grading.identity import identity

        return identity(reply_of(completion) or completion, self.equations(completion))

    @property
    def formats(self) -> str:
        """The forms of a stated answer that are read, for who has to ask for one of them."""
        return _FORMATS[self.answer_kind or "instructions"]

    @model_validator(mode="after")
    def _readable(self) -> Self:
        if self.extract == "flexible" and self.answer_kind not in FLEXIBLE:
            raise ValueError(
                f"extract: flexible takes the last number of a text; task {self.name!r} has answers of another kind,"
                " leave it out"
            )
        return self


class PublicTask(Task):
    """A published problem set: files in a folder (`path:`), or a dataset on the hub, pinned by `revision:`.

    `limit` keeps that many problems of a split, a smaller limit a subset of a larger one. Published sets have a known
    number of rows; another number is an error unless `check_rows: false` says that the copy is meant to differ.
    """

    path: str | None = None
    dataset: str = ""
    config: str | None = None
    revision: str | None = None
    seed: int = Field(0, ge=0)
    limit: dict[Split, int] = Field(default_factory=dict)
    check_rows: bool = True

    files: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """For each part of the published set: the file names, without suffix, that it goes by in a folder."""
    published: ClassVar[Mapping[str, int]] = {}
    """The number of rows of each part."""

    @abstractmethod
    def problems(self) -> pl.DataFrame:
        """All splits, before `limit`, in the `PROBLEMS` schema."""

    def load(self) -> pl.DataFrame:
        """The problems, in file order.

        Raises ValueError when they are not to be had, or a row is not as expected (file and row are named).
        """
        problems = self.problems()
        for split, count in self.limit.items():
            if count < 1:
                raise ValueError(f"limit.{split}: {count} is not allowed; at least 1, or leave it out")
            kept = self.draw(problems.filter(pl.col("split") == split)["problem_id"], count)
            problems = problems.filter((pl.col("split") != split) | pl.col("problem_id").is_in(kept))
        return problems

    def provenance(self) -> dict[str, Any]:
        if self.path is None:
            return {"dataset": self.dataset, "config": self.config, "revision": self.revision}
        found = {part: self.file(part) for part in self.files}
        return {f"{part}_file": str(f) for part, f in found.items()} | {
            f"{part}_sha256": readers.sha256(f) for part, f in found.items()
        }

    def file(self, part: str) -> Path:
        """Where a part lies. `path` may be the file itself where the set has one part only."""
        path = Path(self.path or "").expanduser()
        if len(self.files) == 1 and path.is_file():
            return path
        return readers.in_folder(path, *self.files[part])

    def hub(self, part: str) -> tuple[str, str | None, str, str | None]:
        """Where a part lies on the hub: dataset, config, split, revision."""
        return self.dataset, self.config, part, self.revision

    def rows(self, part: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """(where, row) of a part, from its file or from the hub.

        Raises ValueError where the number of rows is not the published one.
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
                " Get the whole set, or say `check_rows: false` where another number is meant"
            )

    def draw(self, ids: Iterable[str], count: int) -> list[str]:
        """`count` of the ids, by a hash of seed and id: for validation splits and limits. Fewer are in more."""
        return sorted(ids, key=lambda i: hashlib.sha256(f"{self.seed}/{i}".encode()).digest())[:count]


class Styled(PublicTask):
    """Problems that base models continue and instruct models are asked.

    `style: auto` asks a model with `chat: true` and without worked examples as its makers do: the message states the
    form of the answer that is read here. `complete` and `instruct` choose one form for every model.
    """

    style: Literal["auto", "complete", "instruct"] = "auto"

    def instructs(self, chat: bool, shots: int) -> bool:
        """Is a model asked in the form for instruct models?"""
        return self.style == "instruct" or (self.style == "auto" and chat and shots == 0)

    def asked_version(self, chat: bool = False, shots: int = 0) -> str:
        return f"{self.prompt_version}/{INSTRUCT_VERSION}" if self.instructs(chat, shots) else self.prompt_version

    def stops(self, chat: bool = False) -> tuple[str, ...]:
        return () if chat or self.style == "instruct" else self.stop

    def prompt(self, problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]] = (), chat: bool = False) -> str:
        ask = self.instruct if self.instructs(chat, len(shots)) else self.complete
        return ask(problem, shots)

    @abstractmethod
    def complete(self, problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]] = ()) -> str:
        """The text that a base model continues."""

    @abstractmethod
    def instruct(self, problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]] = ()) -> str:
        """The message that an instruct model answers: the problem, and the form of the answer."""


def boxed_prompt(
    problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]], what: str = "your final answer"
) -> str:
    """A problem as instruct models for mathematics are asked: step by step, with the answer in a box."""
    ask = f"\nPlease reason step by step, and put {what} within \\boxed{{}}."
    worked = "".join(f"{shot['question']}{ask}\n\n{shot['solution']}\n\n" for shot in shots)
    return f"{worked}{problem['question']}{ask}"


def program_prompt(problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]]) -> str:
    """A problem as instruct models for code are asked: for the whole program, in one block."""
    ask = "Write a Python program that solves this problem. Reply with the whole program, in one block of code.\n\n"
    worked = "".join(f"{ask}{s['question']}\n\n```python\n{s['solution'].rstrip()}\n```\n\n" for s in shots)
    return f"{worked}{ask}{problem['question']}"


def text(row: Mapping[str, Any], column: str, where: str) -> str:
    """A column that has to hold text, of at most `MAX_CHARACTERS`, without NUL bytes, and such that UTF-8 can hold it.

    Raises ValueError that names where, column and what was found.
    """
    found = row.get(column)
    if not isinstance(found, str):
        raise ValueError(f"{where}: {column!r} is {repr(found)[:60]}; expected a string")
    if len(found) > MAX_CHARACTERS:
        raise ValueError(f"{where}: {column!r} has {len(found)} characters; at most {MAX_CHARACTERS} are allowed")
    if "\0" in found:
        raise ValueError(f"{where}: {column!r} holds a NUL byte at character {found.index(chr(0))}; expected text")
    try:
        found.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where}: {column!r} holds half a character (a lone surrogate) at character {error.start}; expected text"
        ) from None
    return found


def same_text(question: str) -> str:
    """The form in which two questions are the same: case folded, single spaces."""
    return " ".join(question.casefold().split())


def in_several_splits(problems: pl.DataFrame) -> pl.DataFrame:
    """Questions that stand in more than one split: [problem_id, split, other_id, other_split, question], a row a pair.

    `problems` is in the `PROBLEMS` schema. A text is compared as `same_text` has it; repeats within a split are none.
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
    """Every task a study can name."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def make(spec: Task | str | Mapping[str, Any]) -> Task:
    """The task a study names: `gsm8k` or `{name: gsm8k, path: ...}`.

    Raises ValueError for an unknown name and pydantic.ValidationError for wrong parameters.
    """
    if isinstance(spec, Task):
        return spec
    params = {"name": spec} if isinstance(spec, str) else dict(spec)
    return find(params.get("name"))(**params)


def find(name: Any) -> type[Task]:
    """The class of a task. Raises ValueError for an unknown name."""
    if name not in names():
        raise ValueError(f"name: {name!r} is not a task; allowed: {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}").TASK


def named(value: Any) -> Any:
    """For fields of the type `Chosen`: what is no name of a task is said to be none."""
    given = value.get("name") if isinstance(value, Mapping) else value
    if not isinstance(given, (str, Task)):
        raise ValueError(f"names no task; allowed: {', '.join(names())}, or {{name: <one of them>, ...}}")
    return value


# Each task has parameters of its own, which it checks itself, so the schema that editors see leaves them open.
Chosen = Annotated[
    SerializeAsAny[Task],
    BeforeValidator(make),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object", "properties": {"name": {"type": "string"}}}]}),
]
"""The field of a spec that names a task."""
