"""Encoding and decoding of text, shared so that sampling, training and evaluation see the same tokens.

Control tokens (BOS, EOS, the markers of a chat template) come only from the tokenizer and its template. If a prompt or
a completion spells one out, such as "</s>", it is encoded as ordinary text.
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

_SLOT = "\ue000\ue001\ue000"  # placeholder for the prompt in a rendered template: private-use characters


def prompt_ids(tokenizer: Any, prompt: str, chat: bool = False, template: Mapping[str, Any] | None = None) -> list[int]:
    """Return the prompt's tokens, with the special tokens that the tokenizer prepends (BOS) and without a final EOS.

    Parameters
    ----------
    tokenizer : transformers tokenizer
        The tokenizer of the model.
    prompt : str
        The text.
    chat : bool
        Whether the prompt is one user message in the tokenizer's chat template, up to the start of the reply.
    template : mapping, optional
        Further arguments of the chat template.

    Raises
    ------
    ValueError
        If `chat` and the tokenizer has no template, or if the prompt spells out a control token that cannot be
        distinguished from the template's own.

    Examples
    --------
    >>> from cos_assets.tiny.tokenizer import word_tokenizer
    >>> tokenizer = word_tokenizer()
    >>> tokenizer.convert_ids_to_tokens(prompt_ids(tokenizer, "2 + 3 = ?"))
    ['2', '+', '3', '=', '?']
    """
    if chat:
        return _chat_ids(tokenizer, prompt, template or {})
    ids = _text_ids(tokenizer, prompt)
    if ids and tokenizer.eos_token_id is not None and ids[-1] == tokenizer.eos_token_id:
        ids.pop()
    return ids


def completion_ids(tokenizer: Any, text: str, ended: bool = True) -> list[int]:
    """Return the tokens of a completion as a model should generate them.

    Parameters
    ----------
    tokenizer : transformers tokenizer
        The tokenizer of the model.
    text : str
        The completion.
    ended : bool
        Whether the completion ended by itself, so that an EOS token follows.

    Returns
    -------
    list of int
        The tokens, without BOS.

    Raises
    ------
    ValueError
        If the text spells out a control token that the tokenizer cannot encode as text.

    Examples
    --------
    >>> from cos_assets.tiny.tokenizer import word_tokenizer
    >>> tokenizer = word_tokenizer()
    >>> tokenizer.convert_ids_to_tokens(completion_ids(tokenizer, "2 + 3 = 5"))
    ['2', '+', '3', '=', '5', '</s>']
    """
    ids = _text_ids(tokenizer, text, add_special_tokens=False)
    if text.startswith(" ") and text != " " and decode(tokenizer, ids) == f" {text}":
        ids = _text_ids(tokenizer, text[1:], add_special_tokens=False)  # the tokenizer prepends a space
    return [*ids, tokenizer.eos_token_id] if ended else ids


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """Decode generated tokens to text that continues the prompt, without special tokens.

    Llama 2 tokenizers and similar ones drop the space in front of the first token that they decode. The tokens are
    therefore decoded after a letter, which is then removed.

    Examples
    --------
    >>> from cos_assets.tiny.tokenizer import bpe_tokenizer
    >>> tokenizer = bpe_tokenizer([], 259)
    >>> decode(tokenizer, completion_ids(tokenizer, " It is 5."))
    ' It is 5.'
    """
    letter = _letter(tokenizer)
    if letter is None:
        return tokenizer.decode(ids, skip_special_tokens=True)
    return tokenizer.decode([letter, *map(int, ids)], skip_special_tokens=True)[1:]


def spells_control(tokenizer: Any, text: str) -> bool:
    """Return whether a text spells out one of the tokenizer's control tokens.

    Examples
    --------
    >>> from cos_assets.tiny.tokenizer import word_tokenizer
    >>> spells_control(word_tokenizer(), "</s>"), spells_control(word_tokenizer(), "2 + 3")
    (True, False)
    """
    return _names(tokenizer).search(text) is not None


def _per_tokenizer(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Cache the result of `function` per tokenizer. The result must not hold a reference to the tokenizer."""
    known: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    @wraps(function)
    def looked_up(tokenizer: Any) -> Any:
        if tokenizer not in known:
            known[tokenizer] = function(tokenizer)
        return known[tokenizer]

    return looked_up


@_per_tokenizer
def _control(tokenizer: Any) -> dict[str, int]:
    """Return the ids of the tokenizer's control tokens by text.

    A single character counts as text, even if the model uses it for padding.
    """
    try:
        added = tokenizer.added_tokens_decoder.items()
    except (
        AttributeError,
        NotImplementedError,
    ):  # mistral-common: its tokenizers never parse control tokens in text
        return {}
    return {token.content: number for number, token in added if token.special and len(token.content) > 1}


@_per_tokenizer
def _names(tokenizer: Any) -> re.Pattern[str]:
    """Return a pattern that finds the text of a control token; of several at one position, the longest."""
    names = sorted(_control(tokenizer), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names)) or "(?!)")


@_per_tokenizer
def _letter(tokenizer: Any) -> int | None:
    """Return a token that decodes to one character and does not change the text of the tokens after it.

    Returns None if there is no such token, because the tokenizer joins words with spaces.
    """
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
    """Replace control tokens in `ids` by the unknown token, except those that are marked as `added`.

    A vocabulary may contain the name of a control token as an ordinary word; in the text that word is then unknown.
    Raises ValueError if the tokenizer has no unknown token, or uses EOS for it.
    """
    unknown = tokenizer.unk_token_id
    control = set(_control(tokenizer).values()) - {unknown}
    named = {number for number, own in zip(ids, added, strict=True) if number in control and not own}
    if named and unknown in (None, tokenizer.eos_token_id):
        names = ", ".join(tokenizer.convert_ids_to_tokens(sorted(named)))
        raise ValueError(f"text: this tokenizer can encode {names} as a control token only; remove it from the text")
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
            "chat: the prompt contains the text of a control token, which this tokenizer and its chat template cannot"
            f" distinguish from a real one; remove it from the prompt, which begins with {prompt[:60]!r}"
        )
    backend, renamed = guarded
    before, behind = (_names(tokenizer).sub(lambda found: renamed[found[0]], part) for part in (before, behind))
    ids = backend.encode(before + content + behind, add_special_tokens=False).ids
    own = {backend.token_to_id(alias): _control(tokenizer)[name] for name, alias in renamed.items()}
    return [own.get(number, number) for number in _words(tokenizer, ids, [number in own for number in ids])]


@_per_tokenizer
def _guarded(tokenizer: Any) -> tuple[Any, dict[str, str]] | None:
    """Return a copy of the tokenizer that encodes control tokens as ordinary text, and an alias for each of them.

    In the copy only the aliases encode to control tokens. Returns None for a tokenizer without a backend of the
    `tokenizers` library.
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
        renamed[name] = alias = f"\ue000{uuid4().hex}\ue000"  # random, so that no prompt can contain it
        flags = {flag: getattr(known[number], flag) for flag in ("single_word", "lstrip", "rstrip")}
        added.append(AddedToken(alias, normalized=False, special=False, **flags))
    backend.add_tokens(added)
    return backend, renamed
