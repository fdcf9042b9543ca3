"""What sets of prompts share: each is asked as it stands, and the whole reply is the answer."""

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
        """The prompt itself. Raises ValueError for few-shot examples: nobody publishes how to join them."""
        if shots:
            raise ValueError(
                f"sampling.shots: {len(shots)} is not allowed; allowed: 0, {self.name} asks each prompt as it stands"
            )
        return problem["question"]

    def answer_in(self, reply: str, gold: str | None = None) -> str | None:
        """The whole reply without the white space around it; None for an empty one."""
        return reply.strip() or None

    def check_in(self, problem: Mapping[str, Any], reply: str) -> StepCheck:
        """Free text has no steps that a machine could follow."""
        from cos_assets.grading.steps import StepCheck

        return StepCheck("unreadable", None, "free text has no steps to check")

    def equations_in(self, reply: str) -> tuple[str, ...]:
        """The whole text, evened out: two replies count as one only where they say the same words."""
        return (" ".join(reply.casefold().split()),)
