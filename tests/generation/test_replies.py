"""Finish reasons and message contents in the forms of various servers."""

from __future__ import annotations

from typing import Any

import pytest

from cos_assets.generation.replies import ending, text_in

STOP = ["stop", "STOP", "eos", "EOS", "eos_token", "end", "end_turn", "END_TURN", "stop_sequence", "STOP_SEQUENCE",
        "stop_sequence_reached", "COMPLETE", "completed", "finished", "FINISH", "FinishReason.STOP", "endoftext",
        "FINISH_REASON_STOP", "normal", "word", "pause_turn", {"type": "stop", "matched": 2}]  # fmt: skip
LENGTH = ["length", "LENGTH", "max_tokens", "MAX_TOKENS", "maxTokens", "max-tokens", "max_new_tokens", "model_length",
          "max_output_tokens", "max_completion_tokens", "maximum_tokens", "max_length", "token_limit", "limit",
          "context_window_exceeded", "model_context_window_exceeded", "incomplete", "not_finished", "truncated",
          "FINISH_REASON_MAX_TOKENS", "FinishReason.MAX_TOKENS", {"type": "length", "length": 50}]  # fmt: skip
ERROR = ["error", "abort", "content_filter", "CONTENT_FILTERED", "SAFETY", "RECITATION", "PROHIBITED_CONTENT", "SPII",
         "ERROR", "ERROR_TOXIC", "ERROR_LIMIT", "USER_CANCEL", "insufficient_system_resource", "network_error",
         "sensitive", "refusal", "guardrail_intervened", "MALFORMED_FUNCTION_CALL", "timeout"]  # fmt: skip
NONE = [None, "", "null", "None", "FINISH_REASON_UNSPECIFIED"]


@pytest.mark.parametrize(
    ("reason", "finish"),
    [*((r, "stop") for r in STOP), *((r, "length") for r in LENGTH), *((r, "error") for r in ERROR)],
    ids=str,
)
def test_a_known_finish_reason_is_mapped(reason: Any, finish: str) -> None:
    assert (
        ending(reason, text=True) == ending(reason, text=False) == (finish, str(reason) if finish == "error" else None)
    )


@pytest.mark.parametrize("reason", [*NONE, "tool_calls", "function_call", "tool_use", "TOOL_CALL"], ids=str)
def test_a_text_without_a_finish_reason_is_complete(reason: Any) -> None:
    assert ending(reason, text=True) == ("stop", None)
    assert ending(reason, text=False) == ("error", f"no text, finish reason {reason!r}")


@pytest.mark.parametrize("reason", ["OTHER", "load", "whatever", 7])
def test_an_unknown_finish_reason_keeps_the_text_and_is_recorded(reason: Any) -> None:
    note = None if reason == 7 else f"unknown finish reason {reason!r}"
    assert ending(reason, text=True) == ("stop", note)
    assert ending(reason, text=True, full=True) == ("length", note)
    assert ending(reason, text=False)[0] == "error"


@pytest.mark.parametrize("reason", NONE, ids=str)
def test_a_text_at_the_token_limit_without_a_finish_reason_is_truncated(reason: Any) -> None:
    assert ending(reason, text=True, full=True) == ("length", None)


def part(text: str, kind: str = "text") -> dict[str, Any]:
    return {"type": kind, "text": text}


THOUGHTS = [
    {"type": "thinking", "thinking": [part("2+2=4")]},
    {"type": "thinking", "thinking": "2+2=4", "signature": "x"},
    {"type": "redacted_thinking", "data": "x"},
    {"type": "reasoning", "text": "2+2=4"},
    {"type": "reasoning", "summary": [part("2+2=4", "summary_text")]},
    {"text": "2+2=4", "thought": True},
]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("4.", "4."),
        ([part("The answer "), part("is 4.")], "The answer is 4."),
        ([part("4.", "output_text")], "4."),
        (part("4."), "4."),
        (["The answer ", "is 4."], "The answer is 4."),
        ([[part("The answer ")], [[part("is 4.")]]], "The answer is 4."),
        ([{"text": "4."}], "4."),
        ([{"type": "text", "text": {"value": "4.", "annotations": []}}], "4."),
        ([{"type": "refusal", "refusal": "I will not."}], "I will not."),
        ([{"type": "message", "role": "assistant", "content": [part("4.", "output_text")]}], "4."),
        ([part("4."), {"type": "tool_use", "name": "f", "input": {}}], "4."),
        *(([thought, part("4.")], "4.") for thought in THOUGHTS),
        ([THOUGHTS[0]], ""),
        ([], ""),
        ("", ""),
        (None, None),
        (7, None),
        ([7], None),
        ([{"type": "image_url", "image_url": {"url": "x"}}], None),
    ],
)
def test_the_text_of_a_message_excludes_its_reasoning_parts(content: Any, text: str | None) -> None:
    assert text_in(content) == text
