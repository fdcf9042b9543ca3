"""Registry of judge methods, by the name that `method:` has in `judge:`.

To add one, write a `Method` and call `register`. See docs/extending.md.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import polars as pl

from cos_assets.budget.matching import Prices
from cos_assets.generation.generate import Buyer
from cos_assets.generation.types import Model, Sampling
from cos_assets.tasks import Task


class ModelCall(NamedTuple):
    """The model of a judge, and how it is called and paid for."""

    model: Model
    sampling: Sampling
    buyer: Buyer
    prices: Prices | None


@dataclass(frozen=True)
class Context:
    """What a method knows besides the solutions that it judges."""

    name: str
    """Name of the judge in the study."""
    task: Task
    problems: pl.DataFrame
    """All problems, in the schema `tasks.PROBLEMS`."""
    blind: bool = False
    """Whether the judge must not see the gold answers, because its judgements replace them (`verification: judge`)."""
    members: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    """The judgements of the judges named in `of:`, if the method votes."""
    call: ModelCall | None = None
    """The model, if the method asks one."""


class Method(ABC):
    """A way to judge the reasoning of a solution."""

    version = "1"
    """Raise it when the same solution may get another label, so that stored judgements are outdated."""
    asks_model = False
    """Whether the judge is a model: `judge:` then takes the keys of a model, and `Context.call` is set."""
    votes = False
    """Whether the judge combines other judges (`of:`)."""

    @abstractmethod
    def judge(self, rows: pl.DataFrame, context: Context) -> tuple[pl.DataFrame, int]:
        """Judge each of `rows`, and return the judgements and the number of newly bought replies.

        Parameters
        ----------
        rows : samples and controls [problem_id, sample_index, completion, correct, weight, control]; `sample_index` is
            null for a reference solution.
        context : see `Context`.

        Returns
        -------
        The judgements, one row per row of `rows`, in the schema `table.SCHEMA` (`table.table` makes them of labels),
        and the number of replies that were bought now.
        """


_METHODS: dict[str, str] = {}


def register(name: str, module: str) -> None:
    """Register a module's `METHOD` as `method: <name>`. The module is imported on first use."""
    _METHODS[name] = module


def names() -> list[str]:
    """Return the allowed values of `method:`."""
    return list(_METHODS)


def get(name: str) -> Method:
    """Return a registered method."""
    method: Method = importlib.import_module(_METHODS[name]).METHOD
    return method


BUILT_IN = ("steps", "llm", "vote")
for _name in BUILT_IN:
    register(_name, f"cos_assets.judging.{_name}")
