"""The interface of a problem set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import polars as pl
from pydantic import BaseModel, ConfigDict, model_validator

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
