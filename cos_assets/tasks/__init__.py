"""Problem sets, one module per task. The module name is the name in a study; `TASK` is its class.

To add a task, add one module to this package: a docstring that opens with one example problem, and a subclass of
`Task`, or of `PublicTask` if the problems are published rows, in files or on the Hugging Face Hub.
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
    """A problem set. Its fields are the parameters that a study may set: `task: {name: gsm8k, path: ...}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    extract: Literal["strict", "flexible"] = "strict"
    """`flexible` takes the last number of a reply that states no answer, like the filter of that name in
    lm-evaluation-harness. Changing it keeps the stored samples; only their verdicts are recomputed."""

    @property
    def prompt_version(self) -> str:
        """Increase it when the prompt for base models, `stop` or `exemplars` change, to outdate stored samples."""
        return "1"

    def asked_version(self, chat: bool = False, shots: int = 0) -> str:
        """Return the version of the prompt that `prompt` creates with these arguments."""
        return self.prompt_version

    @property
    def extract_version(self) -> str:
        """Increase it when `answer_in` changes: stored verdicts are then recomputed from the samples."""
        return "2"

    @property
    def reading(self) -> str:
        """The version of the extraction rules and the `extract` option, on which verdicts depend.

        Verdicts also depend on the completion and the grader.
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
        """Return the stop strings to sample with.

        There are none for chat prompts: a chat model ends its reply itself and may write any of these strings inside
        it.
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
        """Return all splits as one frame with the `PROBLEMS` schema; ids are unique and stable."""

    def provenance(self) -> dict[str, Any]:
        """Return the source of the problems for the metadata: files with their SHA-256, or dataset and revision."""
        return {}

    @abstractmethod
    def prompt(self, problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]] = (), chat: bool = False) -> str:
        """Return the input of the model: the text that a base model continues, or with `chat` the user's message.

        Sampling, training and evaluation use the same prompt.
        """

    def answer(self, completion: str, gold: str | None = None) -> str | None:
        """Return the final answer that the completion states, or None.

        The result is also None if the reasoning block never ends. `gold` is the `answer` of the problem. It is needed
        to find programs: its tests contain the names that they call.
        """
        reply = reply_of(completion)
        if reply is None:
            return None
        stated = self.answer_in(reply, gold)
        return self.lenient_answer_in(reply) if stated is None and self.extract == "flexible" else stated

    @abstractmethod
    def answer_in(self, reply: str, gold: str | None = None) -> str | None:
        """Return the final answer that a reply states, or None. A reply has no reasoning block and no special tokens.

        Only programs may depend on `gold`: other answers must be found without knowing the expected one.
        """

    def lenient_answer_in(self, reply: str) -> str | None:
        """Return the answer of a reply that states none, used with `extract: flexible`: its last number."""
        return last_number_anywhere(reply) if self.answer_kind in FLEXIBLE else None

    def texts(self, question: str) -> tuple[str, ...]:
        """Return the texts that identify a problem in external solutions: its question, and its published text.

        The published text is included only if it is different.
        """
        return (question,)

    def figures(self, graded: pl.DataFrame) -> dict[str, float | int | None]:
        """Return additional published metrics of a model's answers [gold, answer], for an evaluation's metadata."""
        return {}

    def check(self, problem: Mapping[str, Any], completion: str) -> StepCheck:
        """Check the solution in the reply step by step. A reasoning block is ignored."""
        return self.check_in(problem, reply_of(completion) or "")

    def check_in(self, problem: Mapping[str, Any], reply: str) -> StepCheck:
        """Check a reply; by default the arithmetic of each equation."""
        from cos_assets.grading.steps import check_equations

        return check_equations(reply)

    def equations(self, completion: str) -> tuple[str, ...]:
        """Return the solution as canonical equations, in order; empty if no equation can be read."""
        return self.equations_in(reply_of(completion) or "")

    def equations_in(self, reply: str) -> tuple[str, ...]:
        from cos_assets.grading.steps import equations

        return equations(reply)

    def identity(self, completion: str) -> str:
        """Return a key that is equal for solutions that count as one in diversity.

        These are solutions with the same equations, or with the same text if there are no equations (see
        `grading.identity`).
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

    `limit` is the maximum number of problems per split; the problems of a smaller limit are a subset of those of a
    larger one. Published sets have a known number of rows. A different number is an error unless `check_rows: false`
    declares that the copy differs on purpose.
    """

    path: str | None = None
    dataset: str = ""
    config: str | None = None
    revision: str | None = None
    seed: int = Field(0, ge=0)
    limit: dict[Split, int] = Field(default_factory=dict)
    check_rows: bool = True

    files: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """For each part of the published set: its possible file names in a folder, without suffix."""
    published: ClassVar[Mapping[str, int]] = {}
    """The number of rows of each part."""

    @abstractmethod
    def problems(self) -> pl.DataFrame:
        """Return all splits, before `limit`, with the `PROBLEMS` schema."""

    def load(self) -> pl.DataFrame:
        """Return the problems in file order.

        Raises ValueError if they cannot be read or a row is invalid (the message names file and row).
        """
        problems = self.problems()
        for split, count in self.limit.items():
            if count < 1:
                raise ValueError(f"limit.{split}: {count} is not allowed; allowed: at least 1 (leave it out for all)")
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
        """Return the path of the file of a part. `path` may be the file itself if the set has only one part."""
        path = Path(self.path or "").expanduser()
        if len(self.files) == 1 and path.is_file():
            return path
        return readers.in_folder(path, *self.files[part])

    def hub(self, part: str) -> tuple[str, str | None, str, str | None]:
        """Return the location of a part on the hub: dataset, config, split, revision."""
        return self.dataset, self.config, part, self.revision

    def rows(self, part: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield (where, row) of a part, from its file or from the hub.

        Raises ValueError if the number of rows is not the published one.
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
        """Draw `count` of the ids by a hash of seed and id. A smaller draw is a subset of a larger one.

        It is used for validation splits and limits.
        """
        return sorted(ids, key=lambda i: hashlib.sha256(f"{self.seed}/{i}".encode()).digest())[:count]


class Styled(PublicTask):
    """A published problem set with two prompt formats: one for base models and one for instruct models.

    With `style: auto`, a model with `chat: true` and no worked examples gets the format that its authors recommend:
    the message states the form of the answer that is extracted. `complete` and `instruct` choose one format for every
    model.
    """

    style: Literal["auto", "complete", "instruct"] = "auto"

    def instructs(self, chat: bool, shots: int) -> bool:
        """Return whether the prompt has the format for instruct models."""
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
        """Return the text that a base model continues."""

    @abstractmethod
    def instruct(self, problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]] = ()) -> str:
        """Return the message that an instruct model answers: the problem and the form of the answer."""


def boxed_prompt(
    problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]], what: str = "your final answer"
) -> str:
    """Return the usual prompt of instruct models for mathematics: reason step by step, and put the answer in a box."""
    ask = f"\nPlease reason step by step, and put {what} within \\boxed{{}}."
    worked = "".join(f"{shot['question']}{ask}\n\n{shot['solution']}\n\n" for shot in shots)
    return f"{worked}{problem['question']}{ask}"


def program_prompt(problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]]) -> str:
    """Return the usual prompt of instruct models for code: the whole program, in one code block."""
    ask = "Write a Python program that solves this problem. Reply with the whole program, in one block of code.\n\n"
    worked = "".join(f"{ask}{s['question']}\n\n```python\n{s['solution'].rstrip()}\n```\n\n" for s in shots)
    return f"{worked}{ask}{problem['question']}"


def text(row: Mapping[str, Any], column: str, where: str) -> str:
    """Return a column that must be a string of at most `MAX_CHARACTERS`, without NUL bytes and encodable as UTF-8.

    Raises ValueError that names where, the column and the value found.
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
    """Return the form in which questions are compared: case-folded, with single spaces."""
    return " ".join(question.casefold().split())


def in_several_splits(problems: pl.DataFrame) -> pl.DataFrame:
    """Return the questions that are in more than one split, one row per pair.

    `problems` has the `PROBLEMS` schema. The result has the columns [problem_id, split, other_id, other_split,
    question]. Texts are compared in the form of `same_text`; repeats within a split are not reported.
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
    """Return the names of all tasks."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def make(spec: Task | str | Mapping[str, Any]) -> Task:
    """Create a task from its specification in a study: `gsm8k` or `{name: gsm8k, path: ...}`.

    Raises ValueError for an unknown name and pydantic.ValidationError for invalid parameters.
    """
    if isinstance(spec, Task):
        return spec
    params = {"name": spec} if isinstance(spec, str) else dict(spec)
    return find(params.get("name"))(**params)


def find(name: Any) -> type[Task]:
    """Return the class of a task. Raises ValueError for an unknown name."""
    if name not in names():
        raise ValueError(f"name: {name!r} is not a task; allowed: {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}").TASK


def named(value: Any) -> Any:
    """Raise ValueError unless `value` names a task, for fields of the type `Chosen`; return it unchanged."""
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
