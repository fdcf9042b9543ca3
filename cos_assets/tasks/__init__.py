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

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Annotated, Any

import polars as pl
from pydantic import BeforeValidator, SerializeAsAny, WithJsonSchema

from cos_assets.tasks._public import PublicTask, Styled, boxed_prompt, program_prompt, same_text, text
from cos_assets.tasks._task import PROBLEMS, SPLITS, Split, Task

__all__ = [
    "PROBLEMS",
    "SPLITS",
    "Chosen",
    "PublicTask",
    "Split",
    "Styled",
    "Task",
    "boxed_prompt",
    "find",
    "in_several_splits",
    "make",
    "named",
    "names",
    "program_prompt",
    "same_text",
    "text",
]


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
