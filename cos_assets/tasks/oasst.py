"""OpenAssistant: first prompts of conversations with an assistant (Köpf et al. 2023, arXiv 2304.07327, Apache-2.0).

    What were the most important events in the year 1969?

This task is for sampling only: there are no gold answers, so nothing can be verified, and studies must set
`verification: none`. The solution of a problem is the human reply that people ranked best, if there is one.

`path:` is a folder with an export under its original name (`2023-04-12_oasst_all.trees.jsonl.gz`, `…_all.messages…`,
`…_ready.trees…`, `…_ready.messages…`; the first existing one in this order), or such a file. An export contains trees
with nested `replies`, or one message per row. The problems are the prompts in English that open a conversation, were
written by people, and were neither deleted nor rejected in review; of equal texts one is kept. `validation` of them
are held out, drawn by a hash of seed and message. `train` of the rest are drawn, or all if there are fewer. The
paper's 5,000 prompts are not published.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
from pydantic import Field

from cos_assets.grading.grade import Kind
from cos_assets.tasks import PROBLEMS, same_text, text
from cos_assets.tasks._prompts import Prompts

_EXPORTS = {
    "2023-04-12_oasst_all.trees": 66_497,
    "2023-04-12_oasst_all.messages": 161_443,
    "2023-04-12_oasst_ready.trees": 10_364,
    "2023-04-12_oasst_ready.messages": 88_838,
}
_HUB = {"train": 84_437, "validation": 4_401}  # messages of the ready export


class Oasst(Prompts):
    """OpenAssistant prompts; `train` is the number to sample, `validation` the number held out."""

    name: str = "oasst"
    dataset: str = "OpenAssistant/oasst1"
    train: int = Field(5000, ge=1)
    validation: int = Field(500, ge=0)

    files: ClassVar[Mapping[str, tuple[str, ...]]] = {"export": tuple(_EXPORTS)}
    published: ClassVar[Mapping[str, int]] = {**_EXPORTS, **_HUB}
    answer_kind: ClassVar[Kind | None] = None

    def file(self, part: str) -> Path:
        path = Path(self.path or "").expanduser()
        ways = [path, *(path / f"{name}{suffix}" for name in _EXPORTS for suffix in (".jsonl.gz", ".jsonl"))]
        found = next((way for way in ways if way.is_file()), None)
        if found is None:
            names = ", ".join(_EXPORTS)
            raise ValueError(
                f"task.path: {str(path)!r} contains no export; expected one of {names}, as .jsonl.gz or .jsonl"
            )
        return found

    def problems(self) -> pl.DataFrame:
        """Return both splits; `truth` contains the message id and the rank of the solution."""
        first, replies = self._messages()
        found: dict[str, tuple[str, str, Mapping[str, Any] | None]] = {}
        for message_id, (where, message) in first.items():
            prompt = text(message, "text", where).strip()
            if prompt:  # keep the first of equal texts
                found.setdefault(same_text(prompt), (f"oasst/{message_id}", prompt, _best(replies.get(message_id, []))))
        drawn = self.draw((problem_id for problem_id, *_ in found.values()), self.validation + self.train)
        if self.validation >= len(found):
            raise ValueError(
                f"validation: {self.validation} is not allowed; there are {len(found)} English prompts to split"
            )
        split = {p: "validation" if n < self.validation else "train" for n, p in enumerate(drawn)}
        rows = [
            {
                "problem_id": problem_id,
                "split": split[problem_id],
                "question": prompt,
                "answer": None,
                "solution": best and best["text"].strip(),
                "level": None,
                "subject": None,
                "truth": best and json.dumps({"message_id": best["message_id"], "rank": best.get("rank")}),
            }
            for problem_id, prompt, best in found.values()
            if problem_id in split
        ]
        return pl.DataFrame(rows, schema=PROBLEMS)

    def _messages(self) -> tuple[dict[str, tuple[str, Mapping[str, Any]]], dict[str, list[Mapping[str, Any]]]]:
        """Return (where, prompt) of the messages that open a conversation, and all replies, by message id.

        Replies are grouped by the id of the message that they answer.
        """
        first: dict[str, tuple[str, Mapping[str, Any]]] = {}
        replies: dict[str, list[Mapping[str, Any]]] = {}
        for where, message in self._flat():
            message_id, role = text(message, "message_id", where), text(message, "role", where)
            if not _usable(message):
                continue
            if role == "assistant" and message.get("parent_id"):
                text(message, "text", where)
                replies.setdefault(message["parent_id"], []).append(message)
            elif role == "prompter" and not message.get("parent_id"):
                if message_id in first:
                    raise ValueError(
                        f"{where}: message_id {message_id!r} is a duplicate; the first one is at {first[message_id][0]}"
                    )
                first[message_id] = (where, message)
        return first, replies

    def _flat(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield (where, message) of the messages that open a conversation and their replies, for both exports."""
        parts = _HUB if self.path is None else [self.file("export").name.split(".jsonl")[0]]
        for part in parts:
            for where, row in self.rows(part):
                message = row["prompt"] if isinstance(row.get("prompt"), Mapping) else row
                yield where, message
                replies = message.get("replies") or []
                if not isinstance(replies, list) or not all(isinstance(reply, Mapping) for reply in replies):
                    raise ValueError(f"{where}: 'replies' is {repr(replies)[:60]}; expected a list of messages")
                for reply in replies:
                    yield where, {"parent_id": message.get("message_id"), **reply}


def _usable(message: Mapping[str, Any]) -> bool:
    turned_down = message.get("review_result") is False
    return message.get("lang") == "en" and not (message.get("synthetic") or message.get("deleted") or turned_down)


def _best(replies: list[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the reply with the lowest rank; unranked replies come after ranked ones, in file order."""
    return min(replies, key=lambda reply: (reply.get("rank") is None, reply.get("rank") or 0), default=None)


TASK = Oasst
