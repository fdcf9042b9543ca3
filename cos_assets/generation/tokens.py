"""Text to tokens and back: one place, so that sampling, training and evaluation see the same tokens.

Control tokens (BOS, EOS, the marks of a chat template) come from the tokenizer and its template alone. Where a prompt
or a completion spells one out, such as "</s>", it is encoded as ordinary text.
"""

from __future__ import annotations

import copy
import re
import string
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

_SLOT = "\ue000\ue001\ue000"  # stands for the prompt while a template is rendered: private characters, in no real text


def prompt_ids(tokenizer: Any, prompt: str, chat: bool = False, template: Mapping[str, Any] | None = None) -> list[int]:
    """The prompt's tokens, with the special tokens the tokenizer itself puts in front (BOS), but no EOS behind.

    `chat`: as one message of a user in the tokenizer's chat template, up to where the reply starts; `template` holds
    further arguments of that template. Raises ValueError where the tokenizer has no template, and where the prompt
    spells out a control token that cannot be told from the template's own.
    """
    if chat:
        return _chat_ids(tokenizer, prompt, template or {})
    ids = _text_ids(tokenizer, prompt)
    if ids and tokenizer.eos_token_id is not None and ids[-1] == tokenizer.eos_token_id:
        ids.pop()
    return ids


def completion_ids(tokenizer: Any, text: str, ended: bool = True) -> list[int]:
    """The completion's tokens as a model should write them: no BOS; EOS behind it unless it was cut off."""
    ids = _text_ids(tokenizer, text, add_special_tokens=False)
    if text.startswith(" ") and text != " " and decode(tokenizer, ids) == f" {text}":
        ids = _text_ids(tokenizer, text[1:], add_special_tokens=False)  # the tokenizer puts a space in front itself
    return [*ids, tokenizer.eos_token_id] if ended else ids


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of generated tokens as it continues the prompt, special tokens left out.

    A tokenizer of Llama 2's form drops the space in front of the first token that it decodes. So the tokens are decoded
    behind a letter, which is cut off again.
    """
    letter = _letter(tokenizer)
    if letter is None:
        return tokenizer.decode(ids, skip_special_tokens=True)
    return tokenizer.decode([letter, *map(int, ids)], skip_special_tokens=True)[1:]


def spells_control(tokenizer: Any, text: str) -> bool:
    """Does a text spell out one of the tokenizer's control tokens?"""
    return _names(tokenizer).search(text) is not None


def _per_tokenizer(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Compute `function(tokenizer)` once for each tokenizer. What it returns must not refer to the tokenizer."""
    known: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    @wraps(function)
    def looked_up(tokenizer: Any) -> Any:
        if tokenizer not in known:
            known[tokenizer] = function(tokenizer)
        return known[tokenizer]

    return looked_up


@_per_tokenizer
def _control(tokenizer: Any) -> dict[str, int]:
    """The tokenizer's control tokens by their text. A single character is text, also where a model pads with it."""
    try:
        added = tokenizer.added_tokens_decoder.items()
    except (
        AttributeError,
        NotImplementedError,
    ):  # mistral-common: its tokenizers read none in text
        return {}
    return {token.content: number for number, token in added if token.special and len(token.content) > 1}


@_per_tokenizer
def _names(tokenizer: Any) -> re.Pattern[str]:
    """Finds the name of a control token in a text, the longest one."""
    names = sorted(_control(tokenizer), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names)) or "(?!)")


@_per_tokenizer
def _letter(tokenizer: Any) -> int | None:
    """A token that decodes to one character and leaves what follows it as it is. None where words are joined by spaces,
    so that there is no such token."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    for letter in string.ascii_letters + string.digits + string.punctuation:
        number = tokenizer.convert_tokens_to_ids(letter)
        if number is None or number == unknown:
            continue
        if tokenizer.decode([number]) == letter and tokenizer.decode([number, number]) == 2 * letter:
            return number
    return None


def _text_ids(tokenizer: Any, text: str, add_special_tokens: bool = True) -> list[int]:
    if not spells_control(tokenizer, text):
        return list(tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"])
    encoded = tokenizer(
        text, add_special_tokens=add_special_tokens, split_special_tokens=True, return_special_tokens_mask=True
    )
    return _words(tokenizer, encoded["input_ids"], encoded["special_tokens_mask"])


def _words(tokenizer: Any, ids: Sequence[int], added: Sequence[bool]) -> list[int]:
    """The tokens of a text, and those that were `added` to it. A vocabulary may hold the name of a control token as a
    word of its own; in the text this word is an unknown one."""
    unknown = tokenizer.unk_token_id
    control = set(_control(tokenizer).values()) - {unknown}
    named = {number for number, own in zip(ids, added, strict=True) if number in control and not own}
    if named and unknown in (None, tokenizer.eos_token_id):
        names = ", ".join(tokenizer.convert_ids_to_tokens(sorted(named)))
        raise ValueError(f"text: this tokenizer can encode {names} as a control token only; take it out of the text")
    return [unknown if number in named and not own else number for number, own in zip(ids, added, strict=True)]


def _chat_ids(tokenizer: Any, prompt: str, template: Mapping[str, Any]) -> list[int]:
    if not tokenizer.chat_template:
        raise ValueError(
            f"chat: true, but the tokenizer of {tokenizer.name_or_path!r} has no chat template;"
            " leave chat out for a base model"
        )

    def render(content: str, tokenize: bool) -> Any:
        message = [{"role": "user", "content": content}]
        return tokenizer.apply_chat_template(
            message, add_generation_prompt=True, tokenize=tokenize, return_dict=False, **template
        )

    if not spells_control(tokenizer, prompt):
        return list(render(prompt, tokenize=True))
    before, _, behind = render(_SLOT, tokenize=False).partition(_SLOT)
    text = render(prompt, tokenize=False)
    content = text.removeprefix(before).removesuffix(behind)
    guarded = _guarded(tokenizer)
    shown = before + content + behind == text and content.strip() == prompt.strip() and _SLOT not in behind
    if guarded is None or not shown:
        raise ValueError(
            "chat: the prompt spells out a control token, which this tokenizer and its chat template cannot tell from"
            f" their own; take it out of the prompt, which begins with {prompt[:60]!r}"
        )
    backend, renamed = guarded
    before, behind = (_names(tokenizer).sub(lambda found: renamed[found[0]], part) for part in (before, behind))
    ids = backend.encode(before + content + behind, add_special_tokens=False).ids
    own = {backend.token_to_id(alias): _control(tokenizer)[name] for name, alias in renamed.items()}
    return [own.get(number, number) for number in _words(tokenizer, ids, [number in own for number in ids])]


@_per_tokenizer
def _guarded(tokenizer: Any) -> tuple[Any, dict[str, str]] | None:
    """A copy of the tokenizer to which control tokens are ordinary text, and the names by which it knows them instead.

    None for a tokenizer without a backend of the library tokenizers.
    """
    from tokenizers import AddedToken

    backend = copy.deepcopy(getattr(tokenizer, "backend_tokenizer", None))
    if backend is None:
        return None
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    renamed, added, known = {}, [], tokenizer.added_tokens_decoder
    for name, number in _control(tokenizer).items():
        renamed[name] = alias = f"\ue000{uuid4().hex}\ue000"  # in no prompt, whoever wrote it
        flags = {flag: getattr(known[number], flag) for flag in ("single_word", "lstrip", "rstrip")}
        added.append(AddedToken(alias, normalized=False, special=False, **flags))
    backend.add_tokens(added)
    return backend, renamed
