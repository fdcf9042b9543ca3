"""A task that trains in a second: sums of two numbers, one token per word, a Llama of 30,000 parameters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from cos_assets.training import sft
from cos_assets.training.job import Base, Job
from cos_assets.training.settings import Finetune
from cos_assets.training.sft import OnProgress, Trained

WORDS = ["<pad>", "<s>", "</s>", "<unk>", "\n", "+", "=", ".", "sum", *map(str, range(40))]


def make_rows(count: int) -> pl.DataFrame:
    """Prompts of two lengths, completions of two lengths."""
    pairs = [(i * 7 % 20, i * 13 % 17) for i in range(count)]
    return pl.DataFrame(
        {
            "prompt": [f"sum {a} + {b}\n" if a % 2 else f"sum sum sum {a} + {b}\n" for a, b in pairs],
            "completion": [f"{a} + {b} = {a + b} ." if b % 3 else f"{a + b} ." for a, b in pairs],
        }
    )


def make_base(folder: Path, dtype: str = "float32", hidden: int = 32) -> Path:
    import torch
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Split(Regex(" +"), "removed")]
    )
    words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        initializer_range=0.3,  # an untrained model learns faster than with the usual 0.02
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def finetune(
    rows: pl.DataFrame,
    base: str | Path,
    out: Path,
    settings: Finetune,
    steps: int,
    seed: int,
    evaluate: Callable[[Path], float] | None = None,
    on_progress: OnProgress | None = None,
    **of_base: Any,
) -> Trained:
    """Call `sft.finetune` with a job from its parts; `of_base` are further arguments of `Base`."""
    job = Job(rows, Base(str(base), **of_base), settings, steps, seed)
    return sft.finetune(job, out, evaluate, on_progress)


def greedy(model: Any, tokenizer: Any, prompts: list[str], max_tokens: int = 10) -> list[str]:
    """Greedy completions, one prompt at a time."""
    import torch

    from cos_assets.generation.prompts import prompt_ids
    from cos_assets.generation.tokens import decode

    texts = []
    for prompt in prompts:
        ids = torch.tensor([prompt_ids(tokenizer, prompt)])
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_tokens, do_sample=False
        )
        texts.append(decode(tokenizer, out[0, ids.shape[1] :]))
    return texts


def accuracy(folder: Path, rows: pl.DataFrame) -> float:
    """The share of rows whose completion equals the model's greedy text."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    texts = greedy(model, tokenizer, rows["prompt"].to_list())
    return sum(text == wanted for text, wanted in zip(texts, rows["completion"], strict=True)) / rows.height
