"""Encoding and decoding of text, shared so that sampling, training and evaluation see the same tokens.

Control tokens (BOS, EOS, the markers of a chat template) come only from the tokenizer and its template. If a prompt or
a completion spells one out, such as "</s>", it is encoded as ordinary text.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

from cos_assets.grading.reasoning import TAG


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
    ids = text_ids(tokenizer, text, add_special_tokens=False)
    if text.startswith(" ") and text != " " and decode(tokenizer, ids) == f" {text}":
        ids = text_ids(tokenizer, text[1:], add_special_tokens=False)  # the tokenizer prepends a space
    return [*ids, tokenizer.eos_token_id] if ended else ids


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """Decode generated tokens to text that continues the prompt, without special tokens.

    Llama 2 tokenizers and similar ones drop the space in front of the first token that they decode. The tokens are
    therefore decoded after a letter, which is then removed. The tags of the reasoning are kept, also where they are
    special tokens.

    Examples
    --------
    >>> from cos_assets.tiny.tokenizer import bpe_tokenizer
    >>> tokenizer = bpe_tokenizer([], 259)
    >>> decode(tokenizer, completion_ids(tokenizer, " It is 5."))
    ' It is 5.'
    """
    for at, number in enumerate(ids) if (tags := _tags(tokenizer)) else ():
        if number in tags:
            return decode(tokenizer, ids[:at]) + tags[number] + decode(tokenizer, ids[at + 1 :])
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
    return names(tokenizer).search(text) is not None


def per_tokenizer(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Cache the result of `function` per tokenizer. The result must not hold a reference to the tokenizer.

    Examples
    --------
    >>> from cos_assets.tiny.tokenizer import word_tokenizer
    >>> per_tokenizer(lambda tokenizer: tokenizer.eos_token)(word_tokenizer())
    '</s>'
    """
    known: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    @wraps(function)
    def looked_up(tokenizer: Any) -> Any:
        if tokenizer not in known:
            known[tokenizer] = function(tokenizer)
        return known[tokenizer]

    return looked_up


@per_tokenizer
def control(tokenizer: Any) -> dict[str, int]:
    """Return the ids of the tokenizer's control tokens by text.

    A single character counts as text, even if the model uses it for padding.

    Examples
    --------
    >>> from cos_assets.tiny.tokenizer import word_tokenizer
    >>> control(word_tokenizer())["</s>"] == word_tokenizer().eos_token_id
    True
    """
    try:
        added = tokenizer.added_tokens_decoder.items()
    except (
        AttributeError,
        NotImplementedError,
    ):  # mistral-common: its tokenizers never parse control tokens in text
        return {}
    return {token.content: number for number, token in added if token.special and len(token.content) > 1}


@per_tokenizer
def _tags(tokenizer: Any) -> dict[int, str]:
    """Return the special tokens that are tags of the reasoning, or the first part of one."""
    return {n: name for name, n in control(tokenizer).items() if TAG.fullmatch(name) or name == "<|channel>"}


@per_tokenizer
def names(tokenizer: Any) -> re.Pattern[str]:
    """Return a pattern that finds the text of a control token; of several at one position, the longest.

    Examples
    --------
    >>> from cos_assets.tiny.tokenizer import word_tokenizer
    >>> names(word_tokenizer()).findall("a </s> b")
    ['</s>']
    """
    names = sorted(control(tokenizer), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names)) or "(?!)")


@per_tokenizer
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


def text_ids(tokenizer: Any, text: str, add_special_tokens: bool = True) -> list[int]:
    """Return the tokens of a text. Control tokens that it spells out are encoded as text.

    Examples
    --------
    >>> from cos_assets.tiny.tokenizer import word_tokenizer
    >>> tokenizer = word_tokenizer()
    >>> tokenizer.convert_ids_to_tokens(text_ids(tokenizer, "2 + 3"))
    ['2', '+', '3']
    """
    if not spells_control(tokenizer, text):
        return list(tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"])
    encoded = tokenizer(
        text, add_special_tokens=add_special_tokens, split_special_tokens=True, return_special_tokens_mask=True
    )
    return words(tokenizer, encoded["input_ids"], encoded["special_tokens_mask"])


def words(tokenizer: Any, ids: Sequence[int], added: Sequence[bool]) -> list[int]:
    """Replace control tokens in `ids` by the unknown token, except those that are marked as `added`.

    A vocabulary may contain the name of a control token as an ordinary word; in the text that word is then unknown.
    Raises ValueError if the tokenizer has no unknown token, or uses EOS for it.

    Examples
    --------
    >>> from cos_assets.tiny.tokenizer import word_tokenizer
    >>> tokenizer = word_tokenizer()
    >>> tokenizer.convert_ids_to_tokens(words(tokenizer, [tokenizer.eos_token_id] * 2, [False, True]))
    ['<unk>', '</s>']
    """
    unknown = tokenizer.unk_token_id
    reserved = set(control(tokenizer).values()) - {unknown}
    named = {number for number, own in zip(ids, added, strict=True) if number in reserved and not own}
    if named and unknown in (None, tokenizer.eos_token_id):
        names = ", ".join(tokenizer.convert_ids_to_tokens(sorted(named)))
        raise ValueError(f"text: this tokenizer can encode {names} as a control token only; remove it from the text")
    return [unknown if number in named and not own else number for number, own in zip(ids, added, strict=True)]
