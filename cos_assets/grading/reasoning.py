"""The start of the reply in a completion: behind the reasoning, and before leaked special tokens.

    <think>Maybe 24. No, that is May alone.</think>In all she sold 72 clips.

Two forms of reasoning blocks are read. The first is tags of the names below in angle or square brackets; the opening
tag may be missing because the prompt ended with it. The second is the channels of the harmony format, with or without
its special tokens. A tag in quotes or backticks is text. An opening tag counts only at the start of a line.

Every function takes time linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_NAMES = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?)"
_OPEN = re.compile(
    rf"^[ \t]*(?:<{_NAMES}>|\[{_NAMES}\]|◁think▷|<\|(?:begin_of_thought|START_THINKING)\|>|<\|channel>thought)",
    re.IGNORECASE | re.MULTILINE,
)
_CLOSE = re.compile(
    rf"(?<![\"'`])(?:</{_NAMES}>|\[/{_NAMES}\]|◁/think▷|<\|(?:end_of_thought|END_THINKING)\|>|<channel\|>)",
    re.IGNORECASE,
)
_FINAL = re.compile(r"<\|channel\|>\s*final[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>")
_CHANNEL = "<|channel|>"
# The same format without its special tokens: the names of role and channel run into the text.
_BARE_ANALYSIS = re.compile(r"\s*analysis(?=[A-Z\"'(\[])")
_BARE_FINAL = "assistantfinal"

_START = re.compile(
    r"\s*(?:<s>|<bos>|<\|begin_of_text\|>|<\|startoftext\|>|<\|im_start\|>(?:assistant)?\s*"
    r"|<\|start_header_id\|>assistant<\|end_header_id\|>|<start_of_turn>model\s*|<\|assistant\|>)\s*\n?"
)
_END = re.compile(
    r"<\|(?:endoftext|end_of_text|im_end|im_start|eot_id|eom_id|end|return|call|start|start_header_id|user|system"
    r"|endofturn|END_RESPONSE|END_OF_TURN_TOKEN|begin_of_text)\|>|<(?:eos|end_of_turn|start_of_turn|turn\||pad)>"
    r"|<[｜|]end▁of▁sentence[｜|]>|\[/?INST\]|</s>"
)


def reply_start(text: str) -> int:
    """Return the offset at which the reply starts; `len(text)` if the reasoning never ends.

    Examples
    --------
    >>> reply_start("<think>2 + 3</think>5"), reply_start("5"), reply_start("<think>2")
    (20, 0, 8)
    """
    if _CHANNEL in text:
        final = _last(_FINAL.finditer(text))
        return len(text) if final is None else final.end()
    if _BARE_ANALYSIS.match(text):
        found = text.find(_BARE_FINAL)
        return len(text) if found < 0 else found + len(_BARE_FINAL)
    close, opening = _last(_CLOSE.finditer(text)), _last(_OPEN.finditer(text))
    start = 0 if close is None else close.end()
    return len(text) if opening is not None and opening.end() > start else start


def reply_of(completion: str) -> str | None:
    r"""Return the reply in a completion, without its reasoning and up to the first leaked special token.

    `</s>` behind an `<s>` is HTML and is kept.

    Returns
    -------
    str or None
        None if the reasoning never ends.

    Examples
    --------
    >>> reply_of("<think>Maybe 6. No.</think>It is 5.<|im_end|>\nuser")
    'It is 5.'
    """
    begin = _START.match(completion)
    text = completion[begin.end() :] if begin else completion
    start = reply_start(text)
    if start == len(text) and start > 0:
        return None
    reply = text[start:]
    html = reply.find("<s>")
    for end in _END.finditer(reply):
        if end[0] != "</s>" or not 0 <= html < end.start():
            return reply[: end.start()]
    return reply


def _last(found: Iterable[re.Match[str]]) -> re.Match[str] | None:
    last = None
    for last in found:  # noqa: B007 (the loop variable is the result)
        pass
    return last
