"""How finetuned models are scored: the `evaluation:` block of a study."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from cos_assets import tasks
from cos_assets.fields import Count, Spec
from cos_assets.generation.types import Sampling


class EvaluationSpec(Spec):
    """How finetuned models are scored: greedy pass@1, without few-shot examples.

    On `split` of the study's own task, or on each of `benchmarks`: tasks, of which the test split counts. The study's
    own task may be among them, by its name alone. The verdict is on the first one.

    `unreadable: continue` goes on asking where almost none of a model's first answers can be read. Untouched base
    models (without `chat: true`) are always asked on: nobody taught them how to state an answer.

    `samples` answers of every problem are drawn beside the greedy one, at `temperature`. Of them: pass@k for each k in
    `pass_at` (at 1 their mean), and maj@k for each in `maj_at`; without these, for 1, 2, 4, … and all.
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
                raise ValueError(f"{', '.join(extra)}: only with samples:, the number of answers that are drawn")
        for name, ks in (("pass_at", self.pass_at), ("maj_at", self.maj_at)):
            if (most := max(ks or [0])) > (self.samples or 0):
                raise ValueError(f"{name}: {most} is more than samples: {self.samples}")
        return self

    @property
    def ks(self) -> tuple[list[int], list[int]]:
        """At which numbers of drawn answers models are scored: those of pass@k, those of maj@k."""
        most = self.samples or 0
        usual = sorted({min(2**i, most) for i in range(most.bit_length() + 1)} - {0})
        return usual if self.pass_at is None else self.pass_at, usual if self.maj_at is None else self.maj_at

    def sampling(self, seed: int) -> Sampling:
        """How answers are drawn."""
        return Sampling(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, seed=seed)
