"""The check of the label mask: it passes the correct mask and detects every kind of error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cos_assets.training import loss_mask
from cos_assets.training.data import IGNORE, Collator
from cos_assets.training.job import Base
from cos_assets.training.loss_mask import wrongly_learned
from cos_assets.training.settings import Finetune


@pytest.mark.parametrize("packing", [False, True])
def test_a_correct_mask_passes(base: Path, rows: pl.DataFrame, packing: bool) -> None:
    assert wrongly_learned(rows, Base(str(base)), Finetune(steps=1, packing=packing)) == 0


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("text", ["1 + 2 =", "1 + 2 = 3 </s> 4"])
def test_a_learned_end_of_a_truncated_completion_is_detected(
    base: Path, rows: pl.DataFrame, packing: bool, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = rows.head(4).with_columns(finish_reason=pl.Series(["length", "stop", "length", None]))
    cut = cut.with_columns(
        completion=pl.when(pl.col("finish_reason") == "length").then(pl.lit(text)).otherwise("completion")
    )
    settings = Finetune(steps=1, packing=packing)
    assert wrongly_learned(cut, Base(str(base)), settings) == 0
    # An end token after a truncated completion is detected.
    complete = loss_mask.encode
    monkeypatch.setattr(loss_mask, "encode", lambda rows, *rest: complete(rows.drop("finish_reason"), *rest))
    assert wrongly_learned(cut, Base(str(base)), settings) == 2


class Broken(Collator):
    """A class attribute selects the error."""

    how = ""

    def __call__(self, rows: Any) -> dict[str, Any]:
        batch = super().__call__(rows)
        ids, labels = batch["input_ids"], batch["labels"]
        if self.how == "the prompt is learned":
            labels[batch["attention_mask"] == 1] = ids[batch["attention_mask"] == 1]
        elif self.how == "the end is not learned":
            for number, row in enumerate(rows):
                labels[number, len(row) - 1] = IGNORE
        elif self.how == "labels are shifted":
            batch["labels"] = labels.roll(1, dims=1)
        elif self.how == "padding is learned":
            labels[batch["attention_mask"] == 0] = self.pad
        return batch


@pytest.mark.parametrize(
    "how", ["the prompt is learned", "the end is not learned", "labels are shifted", "padding is learned"]
)
def test_a_wrong_mask_is_detected(base: Path, rows: pl.DataFrame, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Broken, "how", how)
    monkeypatch.setattr(loss_mask, "Collator", Broken)
    assert wrongly_learned(rows, Base(str(base)), Finetune(steps=1)) > 0
