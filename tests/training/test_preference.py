"""objective: dpo and kto: pairs of right and wrong samples, and their training with TRL."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support.toy_training import accuracy, finetune, make_rows

from cos_assets import study, tiny
from cos_assets.storage import tables
from cos_assets.training import pairs
from cos_assets.training.data import Labelled, Pair, encode_examples, objective_of, trained_on
from cos_assets.training.job import Base, Job, prepare
from cos_assets.training.loss_mask import wrongly_learned
from cos_assets.training.settings import Finetune
from cos_assets.training.sft import training_flops


def preferences(count: int) -> pl.DataFrame:
    """Rows whose rejected reply states a sum that is too large by one."""
    rows = make_rows(count)
    wrong = [f"{int(text.split()[-2]) + 1} ." for text in rows["completion"]]
    return rows.with_columns(rejected=pl.Series(wrong))


def settings(**more: Any) -> Finetune:
    given = {"steps": 4, "batch_size": 8, "learning_rate": 5e-3, "checkpoints": 4, "scheduler": "constant"}
    return Finetune.model_validate(given | more)


def losses(run: Any) -> list[float]:
    return [point["loss"] for point in run.curve]


def trl_losses(kind: str, base: Path, out: Path, rows: pl.DataFrame, order: list[int], **more: Any) -> list[float]:
    """The losses of TRL's own trainer, given texts, on the same rows in the same order."""
    import torch
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    chosen = rows.rename({"completion": "chosen"}) if kind == "DPO" else rows.rename({"desirable": "label"})
    dataset = Dataset.from_list([chosen.row(i, named=True) for i in order])
    arguments = getattr(trl, f"{kind}Config")(
        output_dir=str(out),
        per_device_train_batch_size=8,
        max_steps=4,
        learning_rate=5e-3,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=1,
        train_sampling_strategy="sequential",
        gradient_checkpointing=False,
        bf16=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        max_length=None,
        weight_decay=0.0,
        **more,
    )
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    trainer = getattr(trl, f"{kind}Trainer")(
        model, args=arguments, train_dataset=dataset, processing_class=AutoTokenizer.from_pretrained(base)
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("kind", ["DPO", "KTO"])
def test_losses_equal_those_of_trl(base: Path, tmp_path: Path, kind: str) -> None:
    rows = preferences(40)
    if kind == "KTO":
        rows = pairs_as_labels(rows)
    job = Job(rows, Base(str(base)), settings(), 4, 0)
    order = [int(i) for i in prepare(job).plan.ravel()]
    run = finetune(rows, base, tmp_path / "ours", settings(), 4, 0)
    theirs = trl_losses(kind, base, tmp_path / "theirs", rows, order)
    assert losses(run) == pytest.approx(theirs, rel=1e-3)
    assert losses(run)[0] == pytest.approx(math.log(2) if kind == "DPO" else 0.5, abs=1e-3)


def pairs_as_labels(rows: pl.DataFrame) -> pl.DataFrame:
    right = rows.select("prompt", "completion", desirable=pl.lit(True))
    wrong = rows.select("prompt", completion="rejected", desirable=pl.lit(False))
    return pl.concat([right, wrong])


@pytest.mark.parametrize("method", ["full", "lora"])
def test_dpo_makes_right_replies_more_likely_than_wrong_ones(base: Path, tmp_path: Path, method: str) -> None:
    rows = preferences(16)
    lora = {"lora": {"r": 8}} if method == "lora" else {}
    run = finetune(rows, base, tmp_path, settings(steps=20, method=method, **lora), 20, 0)
    assert losses(run)[-1] < 0.5 * losses(run)[0]
    assert margin(base, run.path, rows) > 1


def margin(base: Path, trained: Path, rows: pl.DataFrame) -> float:
    """How much more the log-probability of right replies rose than that of wrong ones, in nats per pair."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    found, _ = encode_examples(rows, tokenizer, None)

    def logps(folder: Path) -> torch.Tensor:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        differences = []
        for pair in found:
            assert isinstance(pair, Pair)
            sums = []
            for row in (pair.chosen, pair.rejected):
                ids = torch.tensor(row.ids)[None]
                with torch.no_grad():
                    logits = model(ids).logits.log_softmax(-1)[0, :-1]
                each = logits.gather(1, ids[0, 1:, None])[:, 0]
                sums.append(each[row.prompt - 1 :].sum())
            differences.append(sums[0] - sums[1])
        return torch.stack(differences)

    return float((logps(trained) - logps(base)).mean())


def test_tokens_and_flops_count_both_replies(base: Path, tmp_path: Path) -> None:
    rows = preferences(16)
    run = finetune(rows, base, tmp_path, settings(), 4, 0)
    assert (run.examples, run.too_long, run.epochs) == (16, 0, 2)
    from cos_assets.generation.model import count_parameters

    prepared = prepare(Job(rows, Base(str(base)), settings(), 4, 0))
    assert run.tokens == prepared.tokens_at[-1] == 2 * sum(len(pair) for pair in prepared.rows)
    assert run.completion_tokens < run.tokens  # type: ignore[operator]
    assert run.flops == 8 * count_parameters(base) * run.tokens
    assert training_flops(10, 3, None, "kto") == 12 * 10 * 3


def test_checkpoints_are_selected_and_a_finished_training_is_kept(base: Path, tmp_path: Path) -> None:
    rows = preferences(16)
    run = finetune(rows, base, tmp_path, settings(), 4, 0, lambda folder: accuracy(folder, rows.head(4)))
    assert all(point["validation_accuracy"] is not None for point in run.curve)
    again = finetune(rows, base, tmp_path, settings(), 4, 0)
    assert again == run
    assert run.inputs != finetune(rows.drop("rejected"), base, tmp_path / "sft", settings(), 4, 0).inputs


def test_less_memory_gives_the_same_losses(base: Path, tmp_path: Path) -> None:
    rows = preferences(16)
    plain = finetune(rows, base, tmp_path / "plain", settings(), 4, 0)
    lean = finetune(rows, base, tmp_path / "lean", settings(gradient_checkpointing=True, gradient_accumulation=2), 4, 0)
    assert losses(lean) == pytest.approx(losses(plain), rel=1e-4)


def test_packing_and_long_traces_are_refused(base: Path, tmp_path: Path) -> None:
    rows = preferences(16)
    with pytest.raises(ValueError, match="packing: is not available with objective: dpo"):
        finetune(rows, base, tmp_path, settings(packing=True), 4, 0)
    traced = rows.with_columns(messages=pl.lit(json.dumps([{"role": "assistant", "content": "x"}])))
    with pytest.raises(ValueError, match="objective: dpo takes no traces"):
        finetune(traced, base, tmp_path / "b", settings(), 4, 0)


def test_a_pair_is_dropped_if_one_reply_is_too_long(tokenizer: Any) -> None:
    rows = pl.DataFrame(
        {
            "prompt": ["sum 1 + 2\n"] * 3,
            "completion": ["3 .", "1 + 2 = 3 .", "3 ."],
            "rejected": ["4 .", "4 .", "1 + 2 = 4 ."],
        }
    )
    found, dropped = encode_examples(rows, tokenizer, 10)
    assert (len(found), dropped) == (1, 2)
    assert isinstance(found[0], Pair)
    with pytest.raises(ValueError, match="max_length: 5: all 3 rows are longer"):
        encode_examples(rows, tokenizer, 5)


def test_the_objective_follows_from_the_columns(tokenizer: Any) -> None:
    rows = preferences(8)
    assert objective_of(rows) == "dpo"
    assert objective_of(rows.with_columns(rejected=pl.lit(None, pl.String))) == "sft"
    labels = pairs_as_labels(rows)
    assert objective_of(labels) == "kto"
    assert trained_on(labels).columns == ["prompt", "completion", "desirable"]
    found, _ = encode_examples(labels, tokenizer, None)
    assert [each.desirable for each in found if isinstance(each, Labelled)] == [True] * 8 + [False] * 8


def bought() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Samples of three problems: 3 right and 2 wrong, 1 right and none wrong, none right and 4 wrong."""
    kinds = {"a": "RRRWW", "b": "R", "c": "WWWW"}
    samples = [
        {"model": "wc", "problem_id": problem, "sample_index": i, "completion": f"{problem}{i}", "reasoning": None,
         "messages": None, "finish_reason": "stop", "kind": kind}
        for problem, letters in kinds.items()
        for i, kind in enumerate(letters)
    ]  # fmt: skip
    frame = pl.DataFrame(samples, schema_overrides={"reasoning": pl.String, "messages": pl.String})
    return frame.filter(pl.col("kind") == "R"), frame.filter(pl.col("kind") == "W")


def test_each_sample_is_in_one_pair_and_the_seed_draws() -> None:
    right, wrong = bought()
    rows = pairs.paired(right, wrong, 0)
    assert rows["problem_id"].to_list() == ["a", "a"]
    assert rows["sample_index"].n_unique() == 2 and rows["rejected_index"].n_unique() == 2
    assert rows["rejected"].to_list() == [f"a{i}" for i in rows["rejected_index"]]
    draws = {tuple(pairs.paired(right, wrong, seed)["sample_index"]) for seed in range(20)}
    assert len(draws) > 2
    again = pairs.paired(right.reverse(), wrong.reverse(), 0)
    assert again.sort("sample_index").equals(rows.sort("sample_index"))
    assert pairs.paired(right.clear(), wrong, 0).is_empty()


def test_labelled_rows_keep_all_samples_in_a_drawn_order() -> None:
    right, wrong = bought()
    rows = pairs.labelled(right, wrong, 0)
    assert rows.height == 10 and rows["desirable"].sum() == 4
    assert rows["problem_id"].to_list() == ["a"] * 5 + ["b"] + ["c"] * 4
    assert rows["sample_index"].to_list() != sorted(rows["sample_index"])


def test_truncated_and_unread_samples_are_no_rejected_ones() -> None:
    taken = pl.DataFrame(
        {
            "model": ["wc"] * 4,
            "problem_id": ["a"] * 4,
            "sample_index": [0, 1, 2, 3],
            "finish_reason": ["stop", "length", "stop", "stop"],
        }
    )
    verdicts = taken.select("model", "problem_id", "sample_index").with_columns(
        verdict=pl.Series(["wrong", "wrong", "no_answer", "correct"])
    )
    assert pairs.rejected(taken, verdicts)["sample_index"].to_list() == [0]


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_an_arm_with_an_objective_runs_beside_sft_to_the_report(
    materialize: Callable[..., Path], objective: str
) -> None:
    root = materialize(
        {
            "name": "preferred",
            "task": {"name": "arithmetic", "train": 40, "validation": 4, "test": 20},
            "models": {name: {"model": str(tiny.shipped(name))} for name in ("wc", "se")},
            "budgets": {"low": {"se": 2}},
            "sampling": {"temperature": 0.7, "top_k": 3, "max_tokens": 56},
            "sources": {"wc_other": {"take": {"wc": 1.0}, "objective": objective}},
            "targets": {"student": {"model": str(tiny.shipped("student"))}},
            "finetune": {
                "steps": 3,
                "batch_size": 8,
                "learning_rate": 5e-4,
                "checkpoints": 1,
                "preference": {"beta": 0.2, "learning_rate": 5e-5},
            },
        }
    )

    def rows(asset: str, source: str) -> pl.DataFrame:
        return tables.scan(root, "preferred", asset, ({"budget": "low", "source": source},)).collect()

    plain, other = rows("sft_set", "wc"), rows("sft_set", "wc_other")
    verdicts = tables.scan(root, "preferred", "verdicts", ({"budget": "low", "model": "wc"},)).collect()
    told = {(row["problem_id"], row["sample_index"]): row["verdict"] for row in verdicts.iter_rows(named=True)}
    if objective == "dpo":
        assert other.height and other["rejected"].null_count() == 0
        for row in other.iter_rows(named=True):
            assert told[row["problem_id"], row["sample_index"]] == "correct"
            assert told[row["problem_id"], row["rejected_index"]] == "wrong"
    else:
        assert other["desirable"].sum() == plain.height
        assert all(
            (told[row["problem_id"], row["sample_index"]] == "correct") == row["desirable"]
            for row in other.iter_rows(named=True)
        )
    assert plain["rejected"].null_count() == plain["desirable"].null_count() == plain.height
    trained = rows("student_checkpoint", "wc_other").row(0, named=True)
    assert trained["learning_rate"] == 5e-5
    assert rows("student_checkpoint", "wc").row(0, named=True)["learning_rate"] == 5e-4
    assert rows("student_eval", "wc_other").height == 20
    assert "wc_other" in (tables.folder(root, "preferred", "report") / "report.html").read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"sources": {"a": {"reference_solutions": True, "objective": "dpo"}}}, "objective: dpo needs right and wrong"),
        ({"sources": {"a": {"take": {"wc": 1.0}, "objective": "ppo"}}}, "objective"),
        ({"verification": "none"}, "sources.pairs.objective: dpo needs right samples, which verification: none"),
        (
            {"finetune": {"steps": 1, "packing": True}},
            r"sources.pairs.objective: dpo is not available with packing: true .student.",
        ),
        (
            {"finetune": {"steps": 1, "method": "external", "command": ["train", "{output}"]}},
            "dpo is not available with method: external",
        ),
    ],
)
def test_an_objective_that_cannot_be_trained_is_refused(more: dict[str, Any], message: str) -> None:
    given = {
        "name": "refused",
        "task": "arithmetic",
        "models": {name: {"model": str(tiny.shipped(name))} for name in ("wc", "se")},
        "budgets": {"low": {"se": 2}},
        "sources": {"pairs": {"take": {"wc": 1.0}, "objective": "dpo"}},
        "targets": {"student": {"model": str(tiny.shipped("student"))}},
        "finetune": {"steps": 1},
    }
    with pytest.raises(ValueError, match=message):
        study.parse(given | more)


def test_the_mask_of_both_completions_is_checked(base: Path) -> None:
    rows = preferences(8)
    assert wrongly_learned(rows, Base(str(base)), settings()) == 0
    assert wrongly_learned(pairs_as_labels(rows), Base(str(base)), settings()) == 0


def test_settings_of_preferences_do_not_change_the_identity_of_sft() -> None:
    plain, strong = settings(), settings(preference={"beta": 0.5, "learning_rate": 1e-6})
    assert plain.of("sft").recipe == strong.of("sft").recipe == plain.recipe
    assert plain.of("dpo").recipe != strong.of("dpo").recipe
    assert strong.of("dpo").learning_rates == (1e-6,)
