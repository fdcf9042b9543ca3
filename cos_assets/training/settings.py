"""Finetuning settings: the `finetune:` block of a study."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

HOW = ("num_processes", "sharding", "cpu_offload", "gradient_checkpointing", "chunked_loss")
"""Settings that change the time and the memory of a training, and at most the last bits of its result.

They are no part of a training's identity, just as an engine's batch size is no part of a sample's.
"""

_HOSTED = {"method", "steps", "batch_size", "seeds", "checkpoints", "hosted"}
# Settings without an effect on the trained model. The number of seeds is one of them: each seed is a training.
_NOT_THE_MODEL: Any = {
    "seeds": True,
    **dict.fromkeys(HOW, True),
    "hosted": {"price", "poll_seconds", "cancel_when_stopped"},
}

PLACEHOLDERS = (
    *("rows", "prompt_completion", "messages", "model", "settings", "learning_rate", "steps", "seed", "output"),
)
"""What a `command` may name in braces (see `external`)."""


class Lora(BaseModel):
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685): W + (alpha / r) · B · A, with A and B trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    r: int = Field(default=16, ge=1, description="Rank of the adapters.")
    alpha: float = Field(default=32, gt=0, description="Scale of the adapters; their output is scaled by alpha / r.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout on the adapters' input.")
    target_modules: Literal["all-linear"] | list[str] = Field(
        default="all-linear",
        description="Names of the layers that get an adapter; all-linear means all except the output layer.",
    )

    @field_validator("target_modules", mode="before")
    @classmethod
    def _named_layers(cls, value: Any) -> Any:
        named = isinstance(value, list) and value and all(isinstance(name, str) and name for name in value)
        if value != "all-linear" and not named:
            raise ValueError("allowed are all-linear or a list of layer names, for example [q_proj, v_proj]")
        return value


class TrainingPrice(BaseModel):
    """Price of a million tokens that an API trains on, with a date because prices change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    training: float = Field(gt=0, description="Price of a million tokens, each counted as often as it is trained on.")
    currency: str = Field("USD", pattern="^[A-Z]{3}$")
    date: datetime.date


class Hosted(BaseModel):
    """Settings of method: hosted (see `hosted`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate_multiplier: float | None = Field(None, gt=0, description="Default: chosen by the API.")
    price: TrainingPrice | None = None
    poll_seconds: float = Field(30, gt=0, description="Seconds between two requests for the job's status.")
    cancel_when_stopped: bool = Field(
        False, description="Cancel the job when the run is stopped. Otherwise it continues, and the next run finds it."
    )
    extra_body: dict[str, Any] = Field({}, description="Further fields of the job; null omits one of ours.")

    @field_validator("extra_body")
    @classmethod
    def _not_ours(cls, given: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted({"model", "training_file"} & given.keys()):
            raise ValueError(f"{taken[0]} is set by the study; leave it out")
        return given


class Preference(BaseModel):
    """Settings of trainings on preferences: sources with `objective: dpo` or `kto`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    beta: float = Field(0.1, gt=0, description="Strength of the penalty for moving away from the untrained model.")
    learning_rate: float | None = Field(
        None, gt=0, description="Peak learning rate, usually a tenth of the one for SFT. Default: that of `finetune:`."
    )


class Finetune(BaseModel):
    """Settings of one finetuning.

    The number of steps is fixed, not the number of epochs, so arms with more data see each row less often.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["full", "lora", "qlora", "external", "hosted"] = Field(
        default="full",
        description="Train all weights, or low-rank adapters only; with qlora the frozen weights are in 4 bits."
        " external: run `command`. hosted: use the fine-tuning API that serves the model.",
    )
    command: list[str] | None = Field(
        default=None,
        min_length=1,
        exclude_if=lambda command: command is None,  # as for packing
        description="The trainer of method: external, and its arguments.",
    )
    hosted: Hosted | None = Field(
        default=None,
        exclude_if=lambda hosted: hosted is None,  # as for packing
        description="Settings of method: hosted.",
    )
    steps: int | dict[str, int] = Field(description="Optimizer steps: one number, or one per budget.")
    batch_size: int = Field(default=32, ge=1, description="Rows per optimizer step.")
    seeds: int = Field(default=1, ge=1, description="Number of trainings on the same rows, each with another seed.")
    gradient_accumulation: int = Field(1, ge=1, description="Number of parts of a batch that run one after another.")
    num_processes: int | None = Field(
        default=None,
        ge=1,
        description="Number of processes that share each batch, one per GPU. None: train in the process of the run.",
    )
    sharding: Literal["fsdp"] | None = Field(
        default=None,
        description="fsdp: the processes share weights, gradients and optimizer states (FSDP2), instead of each holding"
        " all of them.",
    )
    cpu_offload: bool = Field(default=False, description="With sharding, keep the shares in the machine's memory.")
    gradient_checkpointing: Literal["auto"] | bool = Field(
        default="auto",
        description="Compute activations again in the backward pass instead of keeping them. auto: if a step does not"
        " fit into memory otherwise.",
    )
    chunked_loss: Literal["auto"] | bool = Field(
        default="auto",
        description="Compute the loss in parts, without the logits of all tokens. auto: if these exceed 1 GiB.",
    )
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor", "sgd"] = Field(
        default="adamw",
        exclude_if=lambda name: name == "adamw",  # as for packing
        description="The optimizer. Those with 8bit keep their states in 8 bits; they need bitsandbytes.",
    )
    weights: Literal["fp32", "bf16"] = Field(
        default="fp32",
        exclude_if=lambda name: name == "fp32",  # as for packing
        description="Number format of trained weights. bf16 halves their memory, and loses small updates.",
    )
    packing: bool = Field(
        default=False,
        exclude_if=lambda on: not on,  # keeps the identity of models trained before this field existed
        description="Concatenate rows instead of padding them. Refused for a model that does not keep rows apart.",
    )
    learning_rate: float | list[float] = Field(
        default=5e-4, description="Peak learning rate. Of a list, the rate with the best validation accuracy is used."
    )
    checkpoints: int = Field(4, ge=1, description="Number of evenly spaced checkpoints to select and resume from.")
    warmup: float = Field(
        default=0.05, ge=0, lt=1, description="Share of the steps over which the learning rate rises from 0."
    )
    scheduler: Literal["cosine", "linear", "constant"] = Field(
        default="cosine",
        description="Learning rate after the warm-up; cosine and linear fall to 0 at the last step.",
    )
    weight_decay: float = Field(default=0.0, ge=0, description="Decoupled weight decay.")
    max_grad_norm: float = Field(default=1.0, gt=0, description="Maximum norm of the gradients, which are scaled down.")
    max_length: int | None = Field(
        default=None,
        ge=2,
        description="Maximum tokens of a row, at most the model's context. Longer rows are left out and counted.",
    )
    lora: Lora = Field(default=Lora(), description="Settings of method: lora and qlora.")
    preference: Preference = Field(
        default=Preference(),
        exclude_if=lambda settings: settings == Preference(),  # as for packing
        description="Settings of sources with objective: dpo or kto.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="bf16 (mixed) needs a GPU or CPU that supports it. auto is bf16 on such a GPU, and fp32 elsewhere.",
    )

    @field_validator("steps", mode="before")
    @classmethod
    def _whole_steps(cls, value: Any) -> Any:
        counts = list(value.values()) if isinstance(value, dict) else [value]
        if not counts or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in counts):
            allowed = "allowed are a whole number of at least 1, or one per budget: {low: 600, high: 6000}"
            raise ValueError(_shown(value) + allowed)
        return value

    @field_validator("learning_rate", mode="before")
    @classmethod
    def _positive_rates(cls, value: Any) -> Any:
        several = isinstance(value, list)
        try:
            # YAML 1.1 reads 1e-7 (no dot) as a string, so strings that spell a number are accepted.
            rates = [float(rate) for rate in (value if several else [value]) if not isinstance(rate, bool)]
        except (TypeError, ValueError):
            rates = []
        wanted = len(value) if several else 1
        if not rates or len(set(rates)) != wanted or not all(math.isfinite(r) and r > 0 for r in rates):
            raise ValueError(f"{_shown(value)}allowed are a number above 0, or a list of different ones above 0")
        return rates if several else rates[0]

    @model_validator(mode="after")
    def _fields_agree(self) -> Finetune:
        if self.batch_size % self.gradient_accumulation:
            raise ValueError(
                f"gradient_accumulation: {self.gradient_accumulation} does not divide batch_size: {self.batch_size}; "
                "allowed are divisors of batch_size"
            )
        if self.num_processes and self.batch_size % (parts := self.num_processes * self.gradient_accumulation):
            raise ValueError(
                f"num_processes: {self.num_processes} times gradient_accumulation: {self.gradient_accumulation} is "
                f"{parts}, which does not divide batch_size: {self.batch_size}; allowed are divisors of batch_size"
            )
        if "lora" not in self.method and "lora" in self.model_fields_set:
            raise ValueError(
                f"lora: is only allowed with method: lora or qlora; the method of this block is {self.method}"
            )
        if (self.method == "external") != (self.command is not None):
            raise ValueError("command: goes with method: external, and method: external needs it")
        if self.method == "hosted":
            if stray := sorted(self.model_fields_set - _HOSTED):
                allowed = ", ".join(sorted(_HOSTED - {"method"}))
                raise ValueError(
                    f"{stray[0]}: is not sent to a fine-tuning API; allowed with method: hosted: {allowed}"
                )
        elif self.hosted:
            raise ValueError("hosted: is only allowed with method: hosted")
        if self.sharding and (self.num_processes or 1) < 2:
            raise ValueError("sharding: needs num_processes: 2 or more")
        if self.sharding and self.method == "qlora":
            raise ValueError("sharding: is not available with method: qlora; use lora")
        if self.sharding and self.optimizer not in ("adamw", "sgd"):
            raise ValueError(f"sharding: is not available with optimizer: {self.optimizer}; use adamw or sgd")
        if self.cpu_offload and not self.sharding:
            raise ValueError("cpu_offload: is only allowed with sharding: fsdp")
        if self.command is not None:
            _check_placeholders(self.command)
        if "lora" in self.method and self.weights != "fp32":
            raise ValueError(
                f"weights: bf16 is only allowed with method: full; with {self.method} the frozen weights are bf16 where"
                " the precision is, and the adapters fp32"
            )
        return self

    @staticmethod
    def inherited(common: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
        """Merge the study's settings into those of a target, which take precedence.

        A target with method: hosted inherits only what a fine-tuning API takes.
        """
        if own.get("method") == "hosted":
            common = {key: value for key, value in common.items() if key in _HOSTED}
        return {**common, **own}

    @property
    def recipe(self) -> str:
        """The settings that identify one training, as JSON, without `steps`, `seeds` and those in `HOW`."""
        return self.model_dump_json(exclude={"steps": True, **_NOT_THE_MODEL})

    @property
    def described(self) -> dict[str, Any]:
        """`recipe` and `steps` as values of JSON."""
        return self.model_dump(mode="json", exclude=_NOT_THE_MODEL)

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """The learning rates to try, smallest first."""
        return tuple(sorted(self.learning_rate if isinstance(self.learning_rate, list) else [self.learning_rate]))

    def of(self, objective: str) -> Finetune:
        """Return the settings of trainings with an objective; those of the other objectives are left out."""
        if objective == "sft":
            return self.model_copy(update={"preference": Preference()})
        rate = self.preference.learning_rate
        return self if rate is None else self.model_copy(update={"learning_rate": rate})

    def steps_for(self, budget: str) -> int:
        """Return the optimizer steps of one budget. Raises ValueError for a budget that `steps` does not name."""
        if isinstance(self.steps, int):
            return self.steps
        if budget not in self.steps:
            raise ValueError(f"finetune.steps: has no entry for budget {budget!r}; allowed: {', '.join(self.steps)}")
        return self.steps[budget]

    def checkpoint_steps(self, steps: int) -> list[int]:
        """Return evenly spaced steps that end with `steps`; fewer than `checkpoints` if there are fewer steps."""
        return sorted({-(-i * steps // self.checkpoints) for i in range(1, self.checkpoints + 1)})


def _check_placeholders(command: list[str]) -> None:
    found = [name for part in command for name in re.findall(r"\{(\w+)\}", part)]
    allowed = ", ".join("{" + name + "}" for name in PLACEHOLDERS)
    if unknown := [name for name in found if name not in PLACEHOLDERS]:
        raise ValueError(f"command: {{{unknown[0]}}} is not a placeholder; allowed: {allowed}")
    if "output" not in found:
        raise ValueError("command: needs {output}, the folder to write the model to")


def _shown(value: Any) -> str:
    """Format a list or mapping for an error message. Returns "" for a single value, which error reports show anyway."""
    return "" if isinstance(value, (str, int, float)) else f"{value!r}; "
