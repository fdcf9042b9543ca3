"""method: external: trainers that this package did not write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
from pydantic import ValidationError
from support.toy_training import accuracy, finetune

from cos_assets import tiny
from cos_assets.generation.model import count_parameters
from cos_assets.generation.types import Chat
from cos_assets.storage import tables
from cos_assets.training.external import as_messages, train_outside
from cos_assets.training.job import Base, Job
from cos_assets.training.settings import Finetune
from cos_assets.training.sft import training_flops

OWN = [sys.executable, str(Path(__file__).parents[1] / "support" / "own_trainer.py"), "--rows", "{rows}"]
OWN += ["--model", "{model}", "--settings", "{settings}", "--output", "{output}"]


def external(command: list[str], **more: Any) -> Finetune:
    given = {"steps": 60, "batch_size": 8, "learning_rate": 5e-3, "method": "external", "command": command}
    return Finetune.model_validate(given | more)


def script(text: str) -> list[str]:
    """A command that runs Python with the folder of the output and the rows as arguments."""
    return [sys.executable, "-c", text, "{output}", "{rows}"]


def steps_of(job: Job, folder: Path) -> tuple[list[Any], list[tuple[int, float | None]], int | None]:
    seen: list[tuple[int, float | None]] = []
    done, tokens = train_outside(folder, job, 5e-3, lambda step, loss: seen.append((step, loss)))
    return done, seen, tokens


def test_a_script_of_20_lines_trains_a_model(tmp_path: Path, base: Path, rows: pl.DataFrame) -> None:
    few, seen = rows.head(8), []

    def on_progress(stage: str, done: int, total: int, tokens: int | None, loss: float | None) -> None:
        seen.append((stage, done))

    run = finetune(few, base, tmp_path, external(OWN), 60, 0, lambda folder: accuracy(folder, few), on_progress)
    assert run.validation_accuracy == 1.0
    assert [stage_done for stage_done in seen if stage_done[0] == "train"][-1] == ("train", 60)
    assert len({done for stage, done in seen if stage == "train"}) > 30
    assert run.curve[0]["loss"] < 0.25
    assert run.tokens > 60 * 8 * 5
    assert run.flops == training_flops(count_parameters(run.path), run.tokens)
    assert run.method == "external"
    assert (run.path / "tokenizer.json").is_file()
    again = finetune(few, base, tmp_path, external(OWN), 60, 0)
    assert again == run  # nothing is run again


def test_trl_trains_an_adapter(tmp_path: Path, base: Path, rows: pl.DataFrame) -> None:
    command = [str(Path(sys.executable).with_name("trl")), "sft", "--model_name_or_path", "{model}"]
    command += ["--dataset_name", "{prompt_completion}", "--max_steps", "{steps}", "--learning_rate", "{learning_rate}"]
    command += ["--output_dir", "{output}", "--seed", "{seed}", "--use_peft", "--lora_r", "4", "--use_cpu", "true"]
    command += ["--lora_target_modules", "all-linear", "--report_to", "none", "--save_strategy", "no"]
    run = finetune(rows, base, tmp_path, external(command), 3, 0)
    assert (run.path.parent / "adapter" / "adapter_model.safetensors").is_file()
    assert count_parameters(run.path) == count_parameters(base)
    assert run.curve == [{"learning_rate": 5e-3, "step": 3, "loss": None, "validation_accuracy": None}]
    # trl does not tell its tokens, so they are those of 3 steps of 8 rows.
    assert run.tokens == pytest.approx(3 * 8 * 14, rel=0.25)
    assert run.flops < training_flops(count_parameters(run.path), run.tokens)


def test_progress_may_come_through_dagster_pipes(tmp_path: Path, base: Path, rows: pl.DataFrame) -> None:
    command = script(
        "import shutil, sys\n"
        "from dagster_pipes import open_dagster_pipes\n"
        "with open_dagster_pipes() as pipes:\n"
        "    assert pipes.get_extra('steps') == 4\n"
        "    for step in range(1, 5):\n"
        "        pipes.report_custom_message({'step': step, 'loss': 1 / step, 'tokens': 10 * step})\n"
        "    pipes.log.info('copied')\n"
        f"shutil.copytree({str(base)!r}, sys.argv[1])\n"
    )
    done, seen, tokens = steps_of(Job(rows, Base(str(base)), external(command), 4, 0), tmp_path / "lr")
    assert [step for step, _ in seen] == [1, 2, 3, 4, 4]
    assert (done[0].step, done[0].loss, tokens) == (4, 0.25, 40)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import sys; print('no memory left'); sys.exit(3)", r"exit code 3\nno memory left"),
        ("print('forgot to save')", r"left no checkpoint in \{output\}.*found no folder\nforgot to save"),
        ("import os, sys; os.mkdir(sys.argv[1]); open(sys.argv[1] + '/a.bin', 'w')", r"found a\.bin"),
        ("import os; os.kill(os.getpid(), 9)", "exit code 9"),
    ],
)
def test_a_command_that_fails_is_reported_with_the_end_of_its_output(
    tmp_path: Path, base: Path, rows: pl.DataFrame, text: str, message: str
) -> None:
    with pytest.raises(RuntimeError, match=message):
        finetune(rows, base, tmp_path, external(script(text)), 2, 0)


def test_a_program_that_does_not_exist_is_named(tmp_path: Path, base: Path, rows: pl.DataFrame) -> None:
    with pytest.raises(RuntimeError, match="no-such-trainer: No such file or directory"):
        finetune(rows, base, tmp_path, external(["no-such-trainer", "{rows}", "{output}"]), 2, 0)


def test_incomplete_weights_are_refused(tmp_path: Path, base: Path, rows: pl.DataFrame) -> None:
    text = f"import shutil, sys; shutil.copytree({str(base)!r}, sys.argv[1], ignore=lambda *_: ['model.safetensors'])"
    with pytest.raises(OSError, match=r"model\.safetensors"):
        finetune(rows, base, tmp_path, external(script(text)), 2, 0)


def test_a_loss_that_is_not_finite_is_a_diverged_training(tmp_path: Path, base: Path, rows: pl.DataFrame) -> None:
    text = f'import shutil, sys; print(\'{{"step": 2, "loss": NaN}}\'); shutil.copytree({str(base)!r}, sys.argv[1])'
    with pytest.raises(ValueError, match="the loss is no longer finite"):
        finetune(rows, base, tmp_path, external(script(text)), 2, 0)


def test_the_command_ends_with_a_killed_run_and_finds_its_output_again(
    tmp_path: Path, base: Path, rows: pl.DataFrame
) -> None:
    begun = tmp_path / "begun"
    text = (
        "import os, shutil, sys, time\n"
        "first = not os.path.isdir(sys.argv[1])\n"
        "os.makedirs(sys.argv[1], exist_ok=True)\n"
        f"open({str(begun)!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
        "time.sleep(600 if first else 0)\n"
        f"shutil.copytree({str(base)!r}, sys.argv[1], dirs_exist_ok=True)\n"
    )
    rows.write_parquet(tmp_path / "rows.parquet")
    job = Job(rows, Base(str(base)), external(script(text)), 2, 0)
    job.write(tmp_path / "job")
    code = (
        "import sys; from pathlib import Path\n"
        "from cos_assets.training import external; from cos_assets.training.job import Job\n"
        "external.train_outside(Path(sys.argv[2]), Job.read(Path(sys.argv[1])), 1e-3, lambda step, loss: None)\n"
    )
    folder = tmp_path / "work" / "lr"
    folder.parent.mkdir()
    run = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "job"), str(folder)])
    while not (begun.is_file() and begun.read_text().endswith("\n")):
        assert run.poll() is None
        time.sleep(0.05)
    trainer = psutil.Process(int(begun.read_text()))
    run.kill()
    run.wait()
    trainer.wait(timeout=20)  # raises if it is still alive
    done, _, _ = steps_of(job, folder)
    assert (done[0].folder / "model.safetensors").is_file()
    assert len(begun.read_text().split()) == 2


def test_rows_are_written_as_conversations(tmp_path: Path) -> None:
    rows = pl.DataFrame(
        {
            "prompt": ["a?", "b?"],
            "completion": ["A", "B"],
            "reasoning": [None, "hm"],
            "messages": ['[{"role": "tool", "content": "1"}, {"role": "assistant", "content": "A"}]', None],
        }
    )
    base = Base("base", chat=Chat(system="Be brief."))
    system = {"role": "system", "content": "Be brief."}
    assert list(as_messages(rows, base)) == [
        [system, {"role": "user", "content": "a?"}, *json.loads(rows["messages"][0])],
        [
            system,
            {"role": "user", "content": "b?"},
            {"role": "assistant", "content": "B", "reasoning_content": "hm"},
        ],
    ]


def test_both_formats_are_those_of_trl(tmp_path: Path, base: Path, rows: pl.DataFrame) -> None:
    from datasets import load_dataset

    text = f"import shutil, sys; shutil.copytree({str(base)!r}, sys.argv[1])"
    for chat in (None, Chat()):
        folder = tmp_path / str(chat is None)
        steps_of(Job(rows.head(3), Base(str(base), chat=chat), external(script(text)), 1, 0), folder)
        pairs, talks = (
            load_dataset(str(folder / "inputs" / name), split="train", cache_dir=str(tmp_path / "cache"))
            for name in ("prompt_completion", "messages")
        )
        user, reply = (
            {"role": "user", "content": rows["prompt"][0]},
            {"role": "assistant", "content": rows["completion"][0]},
        )
        assert talks[0] == {"messages": [user, reply]}
        plain = {"prompt": rows["prompt"][0], "completion": rows["completion"][0]}
        assert pairs[0] == (plain if chat is None else {"prompt": [user], "completion": [reply]})
        settings = json.loads((folder / "inputs" / "settings.json").read_text())
        assert (settings["steps"], settings["batch_size"], settings["learning_rate"]) == (1, 8, 5e-3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "external"}, "method: external needs it"),
        ({"command": ["train", "{rows}", "{output}"]}, "command: goes with method: external"),
        (
            {"method": "external", "command": ["train", "{row}", "{output}"]},
            r"\{row\} is not a placeholder; allowed: \{rows\}",
        ),
        ({"method": "external", "command": ["train", "{rows}"]}, r"needs \{output\}, the folder"),
        ({"method": "external", "command": []}, "at least 1 item"),
    ],
)
def test_an_unusable_command_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Finetune.model_validate({"steps": 1, **given})


def test_the_command_is_part_of_the_identity() -> None:
    assert external(OWN).recipe != external([*OWN, "--more"]).recipe
    assert "command" not in Finetune(steps=1).recipe
    assert os.environ.get("DAGSTER_PIPES_CONTEXT") is None


def test_a_study_with_an_external_trainer_runs_to_its_report(materialize: Callable[[dict[str, Any]], Path]) -> None:
    root = materialize(
        {
            "name": "outside",
            "task": {"name": "arithmetic", "train": 30, "validation": 4, "test": 20},
            "models": {name: {"model": str(tiny.shipped(name))} for name in ("wc", "se")},
            "budgets": {"low": {"se": 1}},
            "sampling": {"temperature": 0.7, "top_k": 3, "max_tokens": 56},
            "targets": {"student": {"model": str(tiny.shipped("student"))}},
            "finetune": {"method": "external", "command": OWN, "steps": 3, "batch_size": 8, "learning_rate": 1e-3},
        }
    )
    for source in ("wc", "se"):
        (row,) = (
            tables.scan(root, "outside", "student_checkpoint", ({"budget": "low", "source": source},))
            .collect()
            .to_dicts()
        )
        assert (row["method"], row["steps"]) == ("external", 3)
        assert row["tokens"] > 3 * 8 * 20
        assert row["flops"] == training_flops(row["params"], row["tokens"])
    assert tables.scan(root, "outside", "report").collect().height
