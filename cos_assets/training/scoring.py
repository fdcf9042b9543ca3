"""Evaluation settings for finetuned models: the `evaluation:` block of a study."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from cos_assets import tasks
from cos_assets.fields import Count, Spec
from cos_assets.generation.types import Sampling


class EvaluationSpec(Spec):
    """Evaluation settings. Finetuned models are scored by greedy pass@1, without few-shot examples.

    Models are scored on `split` of the study's own task, or on the test split of each task in `benchmarks`. The study's
    own task may be one of the benchmarks, given by its name alone. The study's conclusion is based on the first
    benchmark.

    `unreadable: continue` continues the evaluation of a model even if almost none of its first answers can be read.
    Untouched base models (without `chat: true`) are always evaluated in full, because they were not trained to state an
    answer in a given form.

    With `samples`, that many answers per problem are sampled at `temperature`, in addition to the greedy one. They give
    pass@k for each k in `pass_at` (at 1 their mean) and maj@k for each k in `maj_at`. Without these fields, k is 1, 2,
    4, … and `samples`.
    """

    split: Literal["train", "validation", "test"] = "test"
    benchmarks: list[Annotated[tasks.Chosen, BeforeValidator(tasks.named)]] = []
    max_tokens: Count | None = None
    unreadable: Literal["stop", "continue"] = Field("stop", exclude=True)  # no answer depends on it
    limit: Count | None = None
    samples: Count | None = None
    temperature: float = Field(0.7, gt=0)
    top_k: Count | None = None
    top_p: float = Field(1.0, gt=0, le=1)
    pass_at: list[Count] | None = None
    maj_at: list[Count] | None = None

    @model_validator(mode="after")
    def _of_samples(self) -> EvaluationSpec:
        if self.samples is None:
            names = ("temperature", "top_k", "top_p", "pass_at", "maj_at")
            if extra := [name for name in names if name in self.model_fields_set]:
                raise ValueError(f"{', '.join(extra)}: allowed only with samples:, the number of drawn answers")
        for name, ks in (("pass_at", self.pass_at), ("maj_at", self.maj_at)):
            if (most := max(ks or [0])) > (self.samples or 0):
                raise ValueError(f"{name}: {most} is more than samples: {self.samples}")
        return self

    @property
    def ks(self) -> tuple[list[int], list[int]]:
        """The values of k for pass@k, and those for maj@k."""
        most = self.samples or 0
        usual = sorted({min(2**i, most) for i in range(most.bit_length() + 1)} - {0})
        return usual if self.pass_at is None else self.pass_at, usual if self.maj_at is None else self.maj_at

    def sampling(self, seed: int) -> Sampling:
        """Return the sampling parameters of the sampled answers."""
        return Sampling(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, seed=seed)
