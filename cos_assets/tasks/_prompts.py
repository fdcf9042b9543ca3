"""Base class of prompt sets: each prompt is used unchanged, and the whole reply is the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from cos_assets.tasks import PublicTask

if TYPE_CHECKING:
    from cos_assets.grading.steps import StepCheck


class Prompts(PublicTask):
    """Prompts to be answered in free text. Instruct models get them in their chat template (`chat: true`)."""

    prompt_version: ClassVar[str] = "prompts-1"

    def prompt(self, problem: Mapping[str, Any], shots: Sequence[Mapping[str, Any]] = (), chat: bool = False) -> str:
        """Return the prompt itself. Raises ValueError for few-shot examples: there is no published format for them."""
        if shots:
            raise ValueError(
                f"sampling.shots: {len(shots)} is not allowed; allowed: 0, as {self.name} sends prompts unchanged"
            )
        return problem["question"]

    def answer_in(self, reply: str, gold: str | None = None) -> str | None:
        """Return the whole reply without surrounding white space; None if it is empty."""
        return reply.strip() or None

    def check_in(self, problem: Mapping[str, Any], reply: str) -> StepCheck:
        """Return "unreadable": free text has no steps that can be checked."""
        from cos_assets.grading.steps import StepCheck

        return StepCheck("unreadable", None, "free text has no steps to check")

    def equations_in(self, reply: str) -> tuple[str, ...]:
        """Return the case-folded text with single spaces: replies count as one only if they have the same words."""
        return (" ".join(reply.casefold().split()),)
