"""Small tokenizers of the forms that language models use, made by hand or trained on a few lines."""

from __future__ import annotations

import string
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = ["def add(a, b):\n    return a + b\n", "The answer is 42.", "3 * 12 = 36", "grüße, 日本, 🙂"] * 20
SPECIAL = ["<unk>", "<s>", "</s>"]
CHAT = "{{ bos_token }}{% for m in messages %}[INST] {{ m['content'] | trim }} [/INST]{% endfor %}"


def llama2() -> Any:
    """Llama 2's form: a leading space is added to every text and removed in decoding."""
    made = _sentencepiece_bpe()
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _fast(made)


def metaspace(scheme: str) -> Any:
    """The form that transformers uses for Llama's and Mistral's tokenizers; `scheme` is first, always or never."""
    made = _sentencepiece_bpe()
    made.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme=scheme, split=False)
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        if scheme != "never"
        else [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]  # Gemma's
    )
    return _fast(made)


def byte_level(add_prefix_space: bool = False) -> Any:
    """GPT-2's, Llama 3's and Qwen's form."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    made.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(CORPUS, trainer)
    return _fast(made, unk_token="<|endoftext|>", bos_token="<|im_start|>", eos_token="<|im_end|>")


def unigram() -> Any:
    """T5's form, whose vocabulary contains the names of control tokens as pieces."""
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace("▁")
    made.decoder = decoders.Metaspace("▁")
    trainer = trainers.UnigramTrainer(
        vocab_size=250,
        special_tokens=SPECIAL,
        unk_token="<unk>",
        initial_alphabet=list(string.ascii_letters + string.punctuation),
        show_progress=False,
    )
    made.train_from_iterator(CORPUS, trainer)
    return _fast(made)


def words() -> Any:
    """One token per word, joined by spaces."""
    vocabulary = dict.fromkeys([*SPECIAL, "a", "3", "*", "12", "=", "36", "."])
    made = Tokenizer(models.WordLevel({word: n for n, word in enumerate(vocabulary)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _fast(made)


def _sentencepiece_bpe() -> Tokenizer:
    """Pieces like those of Llama 2: letters, runs of spaces, words with a leading space, and bytes for other text."""
    merges = ["▁ ▁", "▁▁ ▁▁", "r e", "t u", "re tu", "r n", "retu rn", "▁ return", "T h", "Th e", "▁ The", "▁ 4"]
    pieces = [*SPECIAL, *(f"<0x{n:02X}>" for n in range(256)), "▁", *string.ascii_letters, *string.digits]
    pieces += [*string.punctuation, *(merge.replace(" ", "") for merge in merges)]
    vocabulary = {piece: n for n, piece in enumerate(pieces)}
    pairs = [tuple(merge.split()) for merge in merges]
    made = Tokenizer(models.BPE(vocabulary, pairs, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    made.add_special_tokens(SPECIAL)
    return made


def _fast(made: Tokenizer, **names: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"} | names
    bos = names["bos_token"]
    made.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, made.token_to_id(bos))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, chat_template=CHAT, **names)
