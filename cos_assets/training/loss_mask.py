"""Check of the loss mask: a row's labels cover exactly its completion, as seen in the tensors that the model gets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from cos_assets.generation.prompts import conversation
from cos_assets.training import preference
from cos_assets.training.data import (
    IGNORE,
    Collator,
    encode,
    encode_examples,
    learned_ids,
    objective_of,
    rejected_of,
)
from cos_assets.training.job import Base
from cos_assets.training.packing import Packer
from cos_assets.training.settings import Finetune

ROWS = 8
"""The number of rows that are checked. A few suffice, because all rows are processed in the same way."""


def wrongly_learned(rows: pl.DataFrame, base: Base, settings: Finetune) -> int:
    """Return how many of the first `ROWS` rows have labels other than their completion.

    The labels must be the whole completion with EOS (without, if it was cut off) and nothing else; of a pair, both
    completions. Raises ValueError
    for rows that cannot be trained on (see `data.encode`).
    """
    tokenizer = base.tokenizer()
    few = rows.head(ROWS)
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    objective = objective_of(few)
    if objective != "sft":
        examples, _ = encode_examples(few, tokenizer, None, base.chat)
        texts = [few] if objective == "kto" else [few, rejected_of(few)]
        whole = (tuple(each) for part in texts for each in learned_ids(part, tokenizer, base.chat))
        return not_in_both(Counter(whole), Counter(learned(preference.labelled_batch(examples, pad))))
    encoded, _ = encode(few, tokenizer, None, base.chat)
    collator = Collator(pad)
    if settings.packing:
        config = base.config().get_text_config()
        collator = Packer(pad, getattr(config, "max_position_embeddings", None), config.hidden_size)
    batch = collator(encoded)
    traces = few["messages"] if "messages" in few.columns else [None] * few.height
    wanted: Counter[tuple[int, ...]] = Counter()
    for ids, trace, prompt in zip(learned_ids(few, tokenizer, base.chat), traces, few["prompt"], strict=True):
        if trace is None or base.chat is None:
            wanted[tuple(ids)] += 1
        else:
            parts = conversation(tokenizer, base.chat, prompt, json.loads(trace))
            wanted.update(tuple(turn) for turn, own in parts if own)
    return not_in_both(wanted, Counter(learned(batch)))


def learned(batch: Mapping[str, Any]) -> Iterator[tuple[int, ...]]:
    """Yield each run of labeled tokens in every line of a batch, with -1 where the label differs from the token."""
    for tokens, labels in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
        run: list[int] = []
        for token, label in zip([*tokens, IGNORE], [*labels, IGNORE], strict=True):
            if label != IGNORE:
                run.append(label if label == token else -1)
            elif run:
                yield tuple(run)
                run = []


def not_in_both(wanted: Counter[tuple[int, ...]], found: Counter[tuple[int, ...]]) -> int:
    """Return the number of elements of one multiset that the other lacks, the larger of both directions."""
    return max((wanted - found).total(), (found - wanted).total())
