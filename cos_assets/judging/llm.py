"""A model as judge: it reads the problem, reference answer and solution in numbered steps, and replies in JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import polars as pl

from cos_assets.generation.generate import generate
from cos_assets.grading.reasoning import reply_of
from cos_assets.judging.methods import Context, Method, ModelCall
from cos_assets.judging.table import Label, table

# Raise it with every change of the prompts, of `steps` or of `read`: judgements with another version count as those of
# another judge. Replies to unchanged prompts are reused.
PROMPT_VERSION = "2"
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
"""The `response_format` of requests to a chat server."""

_REFUSAL = re.compile(r"\W*(i['’]m sorry|i am sorry|sorry|i can(no|['’])t|i['’]m unable|i am unable|as an ai)\b", re.I)
_OBJECT = re.compile(r"\{\s*(?=[\\\"'“‘]|reason|first_wrong_step)")
# A placeholder or two alternatives in place of the judgement, of which json_repair would take the first word.
_UNDECIDED = re.compile(
    r"(reasoning_correct\W{1,6})(?:<[^<>]{0,99}>|(?:true|false|yes|no)\W{0,3}(?:or\b|/|\|)\W{0,3}(?:true|false|yes|no)\b)",
    re.IGNORECASE,
)
_HEADLESS = re.compile(r"\A\s*(?=[\"']reason[\"']\s*:)")  # JSON without its first brace
_NUMBER = re.compile(r"(?<![-.0-9])[0-9]{1,9}(?!\.?[0-9])")
_WORDS = {"true": True, "yes": True, "correct": True, "false": False, "no": False, "incorrect": False}
_LONGEST = 8000  # maximum length of malformed JSON to repair, in characters; for some texts this takes quadratic time
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_SHOWN = 200


def judge(
    rows: pl.DataFrame, problems: pl.DataFrame, call: ModelCall, reference: bool, name: str
) -> tuple[pl.DataFrame, int]:
    """Judge each of `rows`; return the judgements in the schema `table.SCHEMA`, and the number of newly bought replies.

    `rows` has the columns [problem_id, sample_index, completion, correct, weight]. Equal solutions of a problem share
    one prompt, which is sent and paid for once. `first_wrong_step` is an index into `steps`, from 1. With `reference`,
    the prompt contains the reference answer, if the problem has one.
    """
    by_id = {problem["problem_id"]: problem for problem in problems.to_dicts()}
    texts = [prompt(by_id[p], text, reference) for p, text in rows.select("problem_id", "completion").iter_rows()]
    every = pl.DataFrame({"problem_id": [str(at) for at in range(len(texts))], "prompt": texts}, schema_overrides=_TEXT)
    first = every.unique("prompt", keep="first", maintain_order=True)
    bought = generate(call.model, first, 1, call.sampling, call.buyer, call.prices)
    replies = every.join(
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
    version = f"{PROMPT_VERSION}{'' if reference else '-without-reference'}/{call.model.fingerprint}"
    return table(taken, name, version, labels), bought.new


_TEXT: Any = {"problem_id": pl.String, "prompt": pl.String}


def steps(text: str) -> list[str]:
    """Split a solution, without its reasoning block, into lines. A single line is split into sentences.

    >>> steps("2 + 2 = 4 . The answer is 4 .")
    ['2 + 2 = 4 .', 'The answer is 4 .']
    """
    lines = [line.strip() for line in (reply_of(text) or "").splitlines() if line.strip()]
    return _SENTENCE.split(lines[0]) if len(lines) == 1 else lines


def prompt(problem: Mapping[str, Any], text: str, reference: bool) -> str:
    """Return the judge's prompt for one solution."""
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
    """Parse a judge's reply to a label.

    Reasoning and text around the JSON are ignored, and small mistakes in the JSON are repaired. Of several objects the
    last one with a judgement counts. `count` is the number of steps; a first wrong step outside 1 to `count` becomes
    None. In a truncated reply only complete objects count.
    """
    text = reply_of(reply) or ""
    for found in reversed(_objects(_HEADLESS.sub("{", text), whole=finish_reason != "length")):
        if (right := _verdict(found)) is not None:
            step = None if right else _step(found.get("first_wrong_step"), count)
            return Label("right" if right else "wrong", step, _reason(found.get("reason")))
    shown = " ".join(reply.split())[:_SHOWN]
    if finish_reason not in ("stop", "length"):
        return Label("failed", None, "the judge gave no reply")
    if finish_reason == "length":
        return Label("truncated", None, f"the judge's reply was cut off: {shown}")
    if _REFUSAL.match(text):
        return Label("refused", None, shown)
    return Label("unreadable", None, f"no judgement in: {shown}")


def _verdict(found: Mapping[str, Any]) -> bool | None:
    """Return whether an object calls the reasoning right; None if it contains no judgement."""
    right = found.get("reasoning_correct")
    if isinstance(right, str):
        return _WORDS.get(right.strip().casefold())
    return right if isinstance(right, bool) else None


def _step(step: Any, count: int) -> int | None:
    """Return the number in 2, 2.0, "2" or "Step 2", if it is between 1 and `count`; else None."""
    numbers = _NUMBER.findall(str(int(step) if isinstance(step, float) and step.is_integer() else step))
    return int(numbers[0]) if len(numbers) == 1 and 1 <= int(numbers[0]) <= count else None


def _reason(reason: Any) -> str | None:
    r"""Return a judge's reason. Restore LaTeX such as \beta and \frac, whose start JSON decodes as \b and \f."""
    return reason.strip().replace("\b", r"\b").replace("\f", r"\f") if isinstance(reason, str) else None


def _objects(text: str, whole: bool) -> list[dict[str, Any]]:
    """Return the JSON objects of a text, from left to right.

    If there are malformed objects, json_repair parses the rest of the text from the first malformed one, or else from
    the last. Its objects replace the rest if one of them contains a judgement. Without `whole`, the text that is
    repaired ends at the last closing brace, which drops an incomplete object.
    """
    if "reasoning_correct" not in text:
        return []
    decoder, at = json.JSONDecoder(strict=False), 0
    found: list[tuple[int, Any]] = []
    malformed: list[int] = []
    while start := _OBJECT.search(text, at):
        try:
            value, at = decoder.raw_decode(text, start.start())
            found.append((start.start(), value))
        except (ValueError, RecursionError):
            malformed.append(start.start())
            at = start.end()
    for start_of_rest in dict.fromkeys((*malformed[:1], *malformed[-1:])):
        rest = text[start_of_rest : None if whole else text.rfind("}") + 1]
        repaired = list(map(_unwrapped, _repaired(rest)))
        if any(_verdict(one) is not None for one in repaired):
            return [_unwrapped(value) for start, value in found if start < start_of_rest] + repaired
    return [_unwrapped(value) for _, value in found]


def _repaired(text: str) -> list[dict[str, Any]]:
    import json_repair

    if len(text) > _LONGEST:
        return []
    try:
        value = json_repair.loads(_UNDECIDED.sub(r"\1undecided", text), skip_json_loads=True)
    except (ValueError, RecursionError):
        return []
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]


def _unwrapped(value: dict[str, Any]) -> dict[str, Any]:
    """Unwrap an object whose only value is an object, such as {"judgement": {...}}."""
    while len(value) == 1 and isinstance(inner := next(iter(value.values())), dict):
        value = inner
    return value


class Llm(Method):
    """A model that replies in JSON."""

    version = PROMPT_VERSION
    asks_model = True

    def judge(self, rows: pl.DataFrame, context: Context) -> tuple[pl.DataFrame, int]:
        assert context.call is not None
        return judge(rows, context.problems, context.call, not context.blind, context.name)


METHOD = Llm()
