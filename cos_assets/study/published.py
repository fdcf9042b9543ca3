"""Published results of the same experiment, for comparison with a study's own: the block `published:`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated

from pydantic import Field, model_validator

from cos_assets.fields import Name, Spec, Text

Percent = Annotated[float, Field(ge=0, le=100)]
METRICS = ("coverage", "diversity", "false_positive_rate")
"""The metrics of sample sets. `accuracy` is a metric of finetuned models."""


class Published(Spec):
    """Published results of the same experiment.

    Metrics of samples are given by budget and sampler, accuracy by budget, source and target. Shares are in percent.
    Diversity is the number of correct solutions per solved problem, repeats included, as in the paper.
    """

    origin: Text
    coverage: dict[Name, dict[Name, Percent]] = {}
    diversity: dict[Name, dict[Name, Annotated[float, Field(ge=0)]]] = {}
    false_positive_rate: dict[Name, dict[Name, Percent]] = {}
    accuracy: dict[Name, dict[Name, dict[Name, Percent]]] = {}

    @model_validator(mode="after")
    def _some(self) -> Published:
        if not any((self.coverage, self.diversity, self.false_positive_rate, self.accuracy)):
            raise ValueError("give at least one of coverage:, diversity:, false_positive_rate:, accuracy:")
        return self

    def strays(
        self, budgets: Collection[str], models: Collection[str], arms: Collection[str], targets: Collection[str]
    ) -> Iterator[str]:
        """Yield an error for each name that the study does not define."""
        levels = dict.fromkeys(METRICS, (budgets, models)) | {"accuracy": (budgets, arms, targets)}
        for metric, allowed in levels.items():
            found: list[tuple[tuple[str, ...], dict]] = [((metric,), getattr(self, metric))]
            for names in allowed:
                for path, mapping in found:
                    for name in mapping:
                        if name not in names:
                            key = f"published.{'.'.join(path)}.{name}"
                            yield f"{key}: {name!r} is not a name of this study; allowed: {', '.join(names)}"
                found = [((*path, name), inner) for path, mapping in found for name, inner in mapping.items()]
