from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cos_assets.training.data import IGNORE, Collator, encode, schedule, trained_on, truncated


def frame(*pairs: tuple[str | None, str | None]) -> pl.DataFrame:
    return pl.DataFrame(pairs, schema={"prompt": pl.Utf8, "completion": pl.Utf8}, orient="row")


def test_labels_cover_exactly_the_completion_and_eos(tokenizer: Any) -> None:
    rows, too_long = encode(frame(("sum 1 + 2\n", "1 + 2 = 3 ."), ("sum sum sum 4 + 5\n", "9 .")), tokenizer, None)
    batch = Collator(tokenizer.pad_token_id)(rows)
    assert too_long == 0
    shown = [
        tokenizer.convert_ids_to_tokens(ids[labels != IGNORE])
        for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True)
    ]
    assert shown == [["1", "+", "2", "=", "3", ".", "</s>"], ["9", ".", "</s>"]]
    # A label equals the token at its position.
    asked = batch["labels"] != IGNORE
    assert (batch["labels"][asked] == batch["input_ids"][asked]).all()
    assert batch["attention_mask"].sum(dim=1).tolist() == [len(row) for row in rows]
    assert (batch["input_ids"][batch["attention_mask"] == 0] == tokenizer.pad_token_id).all()
    assert tokenizer.convert_ids_to_tokens(batch["input_ids"][1])[:8] == [
        "<s>",
        "sum",
        "sum",
        "sum",
        "4",
        "+",
        "5",
        "\n",
    ]


def cut(*triples: tuple[str, str, str | None]) -> pl.DataFrame:
    schema = {"prompt": pl.Utf8, "completion": pl.Utf8, "finish_reason": pl.Utf8}
    return pl.DataFrame(triples, schema=schema, orient="row")


CUT = [("sum 1 + 2\n", "1 + 2 =", "length"), ("sum 4 + 5\n", "9 .", "stop"), ("sum 3 + 3\n", "6 .", None)]


def test_a_truncated_completion_has_no_eos(tokenizer: Any) -> None:
    rows, _ = encode(cut(*CUT), tokenizer, None)
    batch = Collator(tokenizer.pad_token_id)(rows)
    shown = [
        tokenizer.convert_ids_to_tokens(ids[labels != IGNORE])
        for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True)
    ]
    assert shown == [["1", "+", "2", "="], ["9", ".", "</s>"], ["6", ".", "</s>"]]
    assert batch["attention_mask"].sum(dim=1).tolist() == [len(row) for row in rows]
    # A truncated row equals the complete row without its end token.
    (whole,), _ = encode(frame(CUT[0][:2]), tokenizer, None)
    assert whole.ids[:-1].tolist() == rows[0].ids.tolist()
    assert whole.ids[-1] == tokenizer.eos_token_id


def test_a_training_depends_on_prompts_completions_and_truncation() -> None:
    rows = cut(*CUT).with_columns(problem_id=pl.lit("p"))
    assert truncated(rows).to_list() == [True, False, False]
    assert trained_on(rows).columns == ["prompt", "completion", "finish_reason"]
    # Without truncated rows, the columns are those of earlier versions.
    complete = rows.filter(~truncated(rows))
    assert trained_on(complete).columns == ["prompt", "completion"]
    assert truncated(complete.drop("finish_reason")).to_list() == [False, False]
    assert trained_on(complete).equals(complete.select("prompt", "completion"))


@pytest.mark.parametrize("completion", ["1 + 2 = 3 </s> junk", "</s>", "</s> </s> <s> 3", "3 . </s>", "<pad> 3 <s> ."])
@pytest.mark.parametrize("reason", ["stop", "length"])
def test_control_tokens_in_a_completion_are_encoded_as_text(tokenizer: Any, completion: str, reason: str) -> None:
    (row,), _ = encode(cut(("sum </s> 1 + 2\n", completion, reason)), tokenizer, None)
    start, end, pad = tokenizer.convert_tokens_to_ids(["<s>", "</s>", "<pad>"])
    ids = row.ids.tolist()
    assert [i for i in ids if i in (start, end, pad)] == [start] + [end] * (reason == "stop")
    assert ids[0] == start
    assert (ids[-1] == end) == (reason == "stop")


def test_the_loss_is_the_mean_over_exactly_the_labelled_positions(base: Path, tokenizer: Any) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    rows, _ = encode(frame(("sum 1 + 2\n", "1 + 2 = 3 ."), ("sum sum sum 4 + 5\n", "9 .")), tokenizer, None)
    with torch.no_grad():
        loss = model(**Collator(tokenizer.pad_token_id)(rows)).loss.item()
        # By hand, each row alone and unpadded: the token at t is predicted from the logits at t - 1.
        surprise = []
        for row in rows:
            logits = model(input_ids=torch.from_numpy(row.ids)[None]).logits[0].log_softmax(dim=-1)
            surprise += [-logits[t - 1, row.ids[t]].item() for t in range(row.prompt, len(row))]
    assert len(surprise) == 7 + 3
    assert loss == pytest.approx(np.mean(surprise), rel=1e-5)


def test_rows_above_the_maximum_length_are_counted(tokenizer: Any) -> None:
    rows = frame(("sum 1 + 2\n", "3 ."), ("sum 1 + 2\n", "1 + 2 = 3 ."))
    kept, too_long = encode(rows, tokenizer, 9)
    assert ([len(row) for row in kept], too_long) == ([9], 1)
    with pytest.raises(ValueError, match="max_length: 8: all 2 rows are longer; allowed: at least 9"):
        encode(rows, tokenizer, 8)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (frame(), "rows: there are no rows to train on"),
        (pl.DataFrame({"prompt": ["a"]}), "column 'completion' is missing; found prompt"),
        (pl.DataFrame({"prompt": ["sum\n"], "completion": [3]}), "column 'completion' has the type Int64"),
        (frame(("sum\n", None)), "column 'completion' is null in 1 of 1 rows"),
        (frame(("sum\n", "3 ."), (None, "3 .")), "column 'prompt' is null in 1 of 2 rows"),
        (cut(CUT[0], ("sum\n", "", "length")), "row 1: the completion was cut off before its first token"),
    ],
)
def test_rows_that_cannot_be_trained_on_are_refused(tokenizer: Any, rows: pl.DataFrame, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode(rows, tokenizer, None)


def test_tokenizers_without_bos_or_eos_are_refused(tokenizer: Any) -> None:
    from tokenizers import processors

    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A")  # without BOS
    with pytest.raises(ValueError, match="row 1: prompt '' has no tokens"):
        encode(frame(("sum\n", "3 ."), ("", "3 .")), tokenizer, None)
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="no EOS token"):
        encode(frame(("sum\n", "3 .")), tokenizer, None)


@pytest.mark.parametrize(("count", "steps", "batch"), [(40, 25, 8), (5, 9, 8), (1, 3, 4), (1000, 120, 16), (33, 4, 8)])
def test_a_schedule_cycles_through_all_rows(count: int, steps: int, batch: int) -> None:
    lengths = [10 + i % 7 for i in range(count)]
    plan = schedule(lengths, steps, batch, seed=3)
    assert plan.shape == (steps, batch)
    seen = np.bincount(plan.ravel(), minlength=count)
    # The carried-over rows and the incomplete last pass each change a count by at most one.
    assert seen.max() - seen.min() <= 2
    assert seen.sum() == steps * batch
    assert (plan == schedule(lengths, steps, batch, seed=3)).all()
    if count > 1:
        assert (plan != schedule(lengths, steps, batch, seed=4)).any()


def test_whole_passes_contain_every_row_equally_often() -> None:
    plan = schedule([5] * 24, steps=9, batch_size=8, seed=0)
    assert np.bincount(plan.ravel()).tolist() == [3] * 24
    assert all(len(set(batch)) == 8 for batch in plan.tolist())


def test_batches_contain_rows_of_similar_length() -> None:
    lengths = np.random.default_rng(0).integers(20, 100, size=2000)
    plan = schedule(lengths.tolist(), steps=62, batch_size=32, seed=0)
    padded = 1 - lengths[plan].sum() / (lengths[plan].max(axis=1) * 32).sum()
    assert padded < 0.1
    # ... but the order of the batches is not the order of the lengths.
    longest = lengths[plan].max(axis=1)
    assert abs(np.corrcoef(np.arange(62), longest)[0, 1]) < 0.5
