"""The reasoning and the reply in a completion, without leaked special tokens.

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
_OPENING = rf"(?:<{_NAMES}>|\[{_NAMES}\]|◁think▷|<\|(?:begin_of_thought|START_THINKING)\|>|<\|channel>thought)"
_CLOSING = rf"(?:</{_NAMES}>|\[/{_NAMES}\]|◁/think▷|<\|(?:end_of_thought|END_THINKING)\|>|<channel\|>)"
_OPEN = re.compile(rf"^[ \t]*{_OPENING}", re.IGNORECASE | re.MULTILINE)
_CLOSE = re.compile(rf"(?<![\"'`]){_CLOSING}", re.IGNORECASE)
_OPENED = re.compile(rf"{_OPENING}\s*\Z", re.IGNORECASE)
TAG = re.compile(f"{_OPENING}|{_CLOSING}", re.IGNORECASE)
"""An opening or a closing tag, anywhere."""
_CLOSING_TAG = re.compile(_CLOSING, re.IGNORECASE)
HARMONY = "<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"
"""What surrounds the reasoning in the harmony format."""
# A message of another channel than the final one, up to the next special token.
_MESSAGE = re.compile(
    r"<\|channel\|>\s*(?!final)[^<]*<\|message\|>(.*?)(?=<\|(?:end|return|start|channel|call)\|>|\Z)", re.S
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


def opened(prompt: str) -> bool:
    r"""Return whether a prompt ends with an opening tag, so that the completion starts inside the reasoning.

    Examples
    --------
    >>> opened("<|assistant|>\n<think>\n"), opened("<|assistant|>\n<think></think>")
    (True, False)
    """
    return _OPENED.search(prompt) is not None


def tags_in(template: str) -> tuple[str, str] | None:
    """Return the tags that surround the reasoning in a chat template: the first pair; None if it has none.

    Examples
    --------
    >>> tags_in("{{ '<think>' + m.reasoning_content + '</think>' }}"), tags_in("{{ m.content }}")
    (('<think>', '</think>'), None)
    """
    if HARMONY[0].removesuffix("<|message|>") in template:
        return HARMONY
    closing = _CLOSING_TAG.search(template)
    if closing is None:
        return None
    if closing[0] == "<channel|>":
        return "<|channel>thought", closing[0]
    return re.sub(r"(?<=[<\[◁|])/", "", closing[0]).replace("end_of", "begin_of").replace("END_", "START_"), closing[0]


def split(text: str, inside: bool = False) -> tuple[str | None, str]:
    r"""Split a completion into its reasoning, without its tags, and its reply.

    Parameters
    ----------
    text : str
        The completion.
    inside : bool
        Whether the prompt ended with the opening tag (see `opened`).

    Returns
    -------
    tuple
        (reasoning, reply). The reasoning is None if there is none. The reply is "" if the reasoning never ends. White
        space is kept.

    Examples
    --------
    >>> split("<think>\n2 + 3\n</think>\n\n5"), split("5"), split("2 +", inside=True)
    (('\n2 + 3\n', '\n\n5'), (None, '5'), ('2 +', ''))
    """
    start = reply_start(text)
    if start == 0:
        return (text, "") if inside and text else (None, text)
    thought, reply = text[:start], text[start:]
    if _CHANNEL in text:
        return "".join(_MESSAGE.findall(thought)), reply
    if bare := _BARE_ANALYSIS.match(text):
        return thought[bare.end() :].removesuffix(_BARE_FINAL), reply
    opening, closing = _OPEN.match(thought.lstrip()), _last(_CLOSE.finditer(thought))
    end = len(thought) if closing is None or closing.end() < len(thought) else closing.start()
    begin = 0 if opening is None else len(thought) - len(thought.lstrip()) + opening.end()
    return thought[begin:end], reply


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
