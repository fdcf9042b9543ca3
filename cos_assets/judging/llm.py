"""A model as judge: it reads problem, reference answer and the solution in numbered steps, and answers in JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from cos_assets.budget import Prices
from cos_assets.generation.door import Buyer, generate
from cos_assets.generation.types import Model, Sampling
from cos_assets.judging.table import Label, table

# Raise it with every change of the prompts or of `steps`: judgements under another version are another judge's.
PROMPT_VERSION = "1"
PROMPT = """\
Below are a problem{given} and a solution in numbered steps. Check the solution step by step. A step is wrong if it \
does not follow, if a calculation in it is false, or if it does not serve the problem. {rule}

Problem:
{question}
{reference}
Solution:
{steps}

Answer with one JSON object and nothing else:
{{"reason": "<one or two sentences>", "first_wrong_step": <the number of the first wrong step, or null>, \
"reasoning_correct": <true or false>}}
"""
WITH = (
    ", its reference answer",
    "The final answer may be right although the reasoning is wrong: judge the reasoning, not the answer.",
)
WITHOUT = ("", "No reference answer is known: the reasoning is correct only if it leads to the right answer.")
RESPONSE_FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "judgement",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "reason": {"type": "string"},
                "first_wrong_step": {"type": ["integer", "null"]},
                "reasoning_correct": {"type": "boolean"},
            },
            "required": ["reason", "first_wrong_step", "reasoning_correct"],
            "additionalProperties": False,
        },
    },
}
"""What a chat server is asked for (`response_format`)."""

_REFUSAL = re.compile(r"\W*(i['’]m sorry|i am sorry|sorry|i can(no|['’])t|i['’]m unable|i am unable|as an ai)\b", re.I)
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_SHOWN = 200


def judge(
    rows: pl.DataFrame,
    problems: pl.DataFrame,
    model: Model,
    sampling: Sampling,
    buyer: Buyer,
    prices: Prices | None,
    reference: bool,
    name: str,
) -> tuple[pl.DataFrame, int]:
    """A label for each of `rows` [problem_id, sample_index, completion, correct, weight], in the schema `table.SCHEMA`,
    and how many of the judge's replies were bought now.

    Equal solutions of a problem are one prompt, which is asked and paid for once. `first_wrong_step` counts `steps`.
    `reference` shows the judge the reference answer, where the problem has one.
    """
    by_id = {problem["problem_id"]: problem for problem in problems.to_dicts()}
    texts = [prompt(by_id[p], text, reference) for p, text in rows.select("problem_id", "completion").iter_rows()]
    asked = pl.DataFrame({"problem_id": [str(at) for at in range(len(texts))], "prompt": texts}, schema_overrides=_TEXT)
    first = asked.unique("prompt", keep="first", maintain_order=True)
    bought = generate(model, first, 1, sampling, buyer, prices)
    replies = asked.join(
        bought.rows.join(first, on="problem_id").select("prompt", "completion", "finish_reason", "flops", "cost"),
        on="prompt",
        how="left",
        maintain_order="left",
    ).with_columns(pl.when(pl.col("prompt").is_first_distinct()).then(pl.col("flops", "cost")).otherwise(0.0))
    labels = [
        read(reply or "", finish, len(steps(text)))
        for reply, finish, text in zip(replies["completion"], replies["finish_reason"], rows["completion"], strict=True)
    ]
    taken = rows.with_columns(replies["flops"], replies["cost"])
    version = f"{PROMPT_VERSION}{'' if reference else '-without-reference'}/{model.fingerprint}"
    return table(taken, name, version, labels), bought.new


_TEXT: Any = {"problem_id": pl.String, "prompt": pl.String}


def structured(options: Mapping[str, Any]) -> dict[str, Any]:
    """`engine_options` of a chat server that is asked for JSON; `extra_body: {response_format: null}` asks for none."""
    extra = {"response_format": RESPONSE_FORMAT, **(options.get("extra_body") or {})}
    return {**options, "extra_body": extra}


def steps(text: str) -> list[str]:
    """The steps of a solution: its lines; the sentences of one that has a single line.

    >>> steps("2 + 2 = 4 . The answer is 4 .")
    ['2 + 2 = 4 .', 'The answer is 4 .']
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return _SENTENCE.split(lines[0]) if len(lines) == 1 else lines


def prompt(problem: Mapping[str, Any], text: str, reference: bool) -> str:
    """What the judge is asked about one solution."""
    answer = problem["answer"] if reference else None
    given, rule = WITHOUT if answer is None else WITH
    return PROMPT.format(
        given=given,
        rule=rule,
        question=problem["question"].strip(),
        reference="" if answer is None else f"\nReference answer:\n{answer}\n",
        steps="\n".join(f"[{number}] {step}" for number, step in enumerate(steps(text), 1)),
    )


def read(reply: str, finish_reason: str | None, count: int) -> Label:
    """A judge's reply as a label; text around the JSON is passed over, and of several objects the last one counts.

    `count` is the number of steps: another step is none.
    """
    for found in reversed(list(_objects(reply))):
        right = found.get("reasoning_correct")
        if not isinstance(right, bool):
            continue
        step, reason = found.get("first_wrong_step"), found.get("reason")
        if isinstance(step, str) and step.strip().isdecimal():
            step = int(step)
        fits = isinstance(step, int) and not isinstance(step, bool) and 1 <= step <= count
        told = reason.strip() if isinstance(reason, str) else None
        return Label("right", None, told) if right else Label("wrong", step if fits else None, told)
    shown = " ".join(reply.split())[:_SHOWN]
    if finish_reason not in ("stop", "length"):
        return Label("failed", None, "the judge gave no reply")
    if finish_reason == "length":
        return Label("truncated", None, f"the judge's reply was cut off: {shown}")
    if _REFUSAL.match(reply):
        return Label("refused", None, shown)
    return Label("unreadable", None, f"no judgement in: {shown}")


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of a text, from left to right."""
    decoder, at = json.JSONDecoder(), text.find("{")
    while at >= 0:
        try:
            found, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            if isinstance(found, dict):
                yield found
        at = text.find("{", end)
