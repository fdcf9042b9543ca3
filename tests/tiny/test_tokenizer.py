"""Encoding and decoding, and the token boundary between prompt and completion."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cos_assets.tiny import corpus, words
from cos_assets.tiny.tokenizer import bpe_tokenizer, word_tokenizer

PAIRS = list(corpus.texts(100, seed=9))


def test_word_tokens_of_prompt_and_solution_are_decoded_to_the_same_text() -> None:
    tokenizer = word_tokenizer()
    assert len(tokenizer) == len(words.VOCABULARY)
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    for prompt, solution in PAIRS:
        p, s = tokenizer(prompt)["input_ids"], tokenizer(solution)["input_ids"]
        assert tokenizer(prompt + solution)["input_ids"] == p + s
        assert tokenizer.unk_token_id not in p + s
        assert (tokenizer.decode(p), tokenizer.decode(s)) == (prompt, solution)
        assert tokenizer.decode(p + s) == prompt + solution
        assert tokenizer.decode([*s, 2, 0, 0], skip_special_tokens=True) == solution


def test_unknown_word_is_one_unknown_token() -> None:
    tokenizer = word_tokenizer()
    assert tokenizer("Ann has zebras .")["input_ids"].count(tokenizer.unk_token_id) == 1


@pytest.fixture(scope="module")
def bpe() -> Any:
    return bpe_tokenizer([p + s for p, s in PAIRS], 320)


def test_bpe_has_the_requested_size(bpe: Any) -> None:
    assert len(bpe) == 320


@given(st.text(max_size=60))
def test_bpe_decodes_to_the_same_text(bpe: Any, text: str) -> None:
    for special in ("<pad>", "<s>", "</s>"):
        text = text.replace(special, "")
    assert bpe.decode(bpe(text)["input_ids"]) == text


@given(st.text(max_size=30), st.text(max_size=30))
def test_bpe_tokens_do_not_cross_the_end_of_a_prompt(bpe: Any, prompt: str, text: str) -> None:
    prompt += "\n"
    assert bpe(prompt + text)["input_ids"] == bpe(prompt)["input_ids"] + bpe(text)["input_ids"]


def test_bpe_smaller_than_the_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="vocab_size: 100; allowed: 259"):
        bpe_tokenizer(["a"], 100)
