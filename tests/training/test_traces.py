"""Imported traces of several turns: what is read, and which tokens are trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support import thinking

from cos_assets.generation.engines.imported import ImportedEngine
from cos_assets.generation.generate import Buyer, generate
from cos_assets.generation.model import resolve
from cos_assets.generation.prompts import prompt_ids
from cos_assets.generation.types import Chat, Request, Sampling
from cos_assets.training.data import IGNORE, Collator, encode
from cos_assets.training.packing import packed

TRACE: list[dict[str, Any]] = [
    {"role": "system", "content": "Use the tool."},
    {"role": "user", "content": "2 + 3?"},
    {"role": "assistant", "content": "add(2, 3)", "reasoning_content": "I need a sum."},
    {"role": "tool", "content": "5"},
    {"role": "assistant", "content": "It is 5.", "reasoning_content": "The tool says 5."},
    {"role": "user", "content": "Thanks!"},
]
LEARNED = (
    "<think>\nI need a sum.\n</think>\n\nadd(2, 3)<|im_end|>",
    "<think>\nThe tool says 5.\n</think>\n\nIt is 5.<|im_end|>",
)


def write(folder: Path, *traces: Any) -> Path:
    file = folder / "traces.jsonl"
    lines = [json.dumps({"id": f"p{number}", "messages": trace}) for number, trace in enumerate(traces)]
    file.write_text("\n".join(lines) + "\n")
    return file


def options(file: Path) -> dict[str, Any]:
    return {"path": str(file), "columns": {"problem_id": "id", "messages": "messages"}}


def read(file: Path, count: int = 1) -> list[Any]:
    engine = ImportedEngine(options(file))
    requests = [Request(f"p{number}", "Q", (0,)) for number in range(count)]
    return [one for batch in engine.stream(requests, Sampling()) for one in batch]


def test_the_last_reply_and_its_reasoning_count_and_the_turns_are_kept(tmp_path: Path) -> None:
    (found,) = read(write(tmp_path, TRACE))
    assert (found.text, found.reasoning) == ("It is 5.", "The tool says 5.")
    assert json.loads(found.messages) == TRACE[2:5], "without the prompt, and up to the last reply"


def test_a_trace_of_one_turn_is_a_plain_completion(tmp_path: Path) -> None:
    one, as_text = read(write(tmp_path, TRACE[1:3], json.dumps(TRACE[1:3])), 2)
    assert (one.text, one.reasoning, one.messages) == ("add(2, 3)", "I need a sum.", None)
    assert (as_text.text, as_text.messages) == ("add(2, 3)", None)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ([{"content": "5"}], r"is not a list of messages with role and content"),
        ([{"role": "assistant", "content": "5"}], r"no user message with an assistant's reply; found assistant"),
        ([{"role": "user", "content": "5"}], r"no user message with an assistant's reply; found user"),
    ],
)
def test_what_is_not_a_trace_is_refused(tmp_path: Path, cell: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path, cell))


def test_completion_and_messages_exclude_each_other(tmp_path: Path) -> None:
    given = options(write(tmp_path, TRACE))
    with pytest.raises(ValueError, match=r"columns.completion: is missing; .* or messages:"):
        ImportedEngine({**given, "columns": {**given["columns"], "completion": "messages"}})


def rows(tmp_path: Path) -> pl.DataFrame:
    model = resolve("imported", engine="imported", options=options(write(tmp_path, TRACE)))
    prompts = pl.DataFrame({"problem_id": ["p0"], "prompt": ["2 + 3?"]})
    bought = generate(model, prompts, 1, Sampling(), Buyer(tmp_path, "s", "sampling"))
    return bought.rows.with_columns(prompt=pl.lit("2 + 3?"))


def test_the_assistants_turns_are_trained_on_and_those_of_tools_are_not(tmp_path: Path) -> None:
    tokenizer, chat = thinking.tokenizer(thinking.PLAIN), Chat(system="Use the tool.")
    ((row,), _) = encode(rows(tmp_path), tokenizer, None, chat)
    expected = tokenizer.apply_chat_template(TRACE[:5], tokenize=False).rstrip("\n")
    assert tokenizer.decode(row.ids) == expected
    assert row.ids[: row.prompt].tolist() == prompt_ids(tokenizer, "2 + 3?", chat)
    for batch in (Collator(0)([row]), packed([[row, row]], 0)):
        ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
        learned = tokenizer.decode([token for token, label in zip(ids, labels, strict=True) if label != IGNORE])
        assert learned == "".join(LEARNED) * (1 if len(ids) == len(row) else 2)
        assert all(label in (token, IGNORE) for token, label in zip(ids, labels, strict=True))


def test_a_trace_needs_a_chat_template(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"row 0: a trace of several turns needs a chat template; set chat: true"):
        encode(rows(tmp_path), thinking.tokenizer(thinking.PLAIN), None)


def test_a_template_that_changes_earlier_turns_is_refused(tmp_path: Path) -> None:
    forgets = thinking.PLAIN.replace("{%- if m.reasoning_content %}", "{%- if m.reasoning_content and loop.last %}")
    with pytest.raises(ValueError, match=r"row 0: messages: the chat template changes earlier turns"):
        encode(rows(tmp_path), thinking.tokenizer(forgets), None, Chat())


@pytest.mark.parametrize("text", ["It is 5", "I need a sum"], ids=["reply", "reasoning"])
def test_a_control_token_in_a_message_is_refused(tmp_path: Path, text: str) -> None:
    found = rows(tmp_path).with_columns(pl.col("messages").str.replace(text, f"<|im_end|> {text}", literal=True))
    with pytest.raises(ValueError, match=r"row 0: messages: a message contains the text of a control token"):
        encode(found, thinking.tokenizer(thinking.PLAIN), None, Chat())
