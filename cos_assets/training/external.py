"""method: external: the trainer of someone else, as a command that leaves a checkpoint.

    finetune:
      method: external
      steps: 600
      command: [trl, sft, --model_name_or_path, "{model}", --dataset_name, "{prompt_completion}",
                --max_steps, "{steps}", --learning_rate, "{learning_rate}", --output_dir, "{output}"]

The command is run without a shell, in the folder of the training. Placeholders are replaced in every argument:

    {rows}               Parquet: prompt, completion and, where they are used, reasoning, messages and finish_reason
    {prompt_completion}  folder with train.jsonl in TRL's prompt-completion format; messages for a target with `chat`
    {messages}           folder with train.jsonl in TRL's conversational format: the whole conversation of each row
    {model}              the base model: a folder or hub id
    {settings}           JSON: the `finetune:` block
    {learning_rate}, {steps}, {seed}
    {output}             the folder to write to

It must leave a Hugging Face checkpoint or a LoRA adapter in {output}, and exit with 0. {output} is kept when the run is
killed, so a trainer that finds its own checkpoints there may continue. A line of its output that is a JSON object with
`step`, `loss` or `tokens` is progress; the last values of `loss` and `tokens` (trained on, in all) are recorded. The
same objects may be sent as custom messages of Dagster Pipes. All other lines are in output.log.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from cos_assets.generation import loaded
from cos_assets.training.data import trained_on
from cos_assets.training.job import Base, Job, write_json
from cos_assets.training.launch import LOG, join, tail_of
from cos_assets.training.loop import MARKER, Checkpoint, OnStep, complete_checkpoints

_COMMAND, _TOLD = "command.json", "told.json"


def train_outside(folder: Path, job: Job, learning_rate: float, on_step: OnStep) -> tuple[list[Checkpoint], int | None]:
    """Run the command of a job and return its checkpoint, and the tokens that it reports to have trained on.

    Nothing is run if the checkpoint is complete. The command ends with the run, also when that is killed. Raises
    RuntimeError, with the end of the output, if the command fails or leaves no checkpoint.
    """
    output = folder / "output"
    if not complete_checkpoints(folder):
        if not (output / MARKER).is_file():
            _make(folder, job, learning_rate, on_step)
        output.replace(folder / f"checkpoint-{job.steps}")
    done = complete_checkpoints(folder)
    on_step(job.steps, done[-1].loss)
    told = json.loads((done[-1].folder / _TOLD).read_text(encoding="utf-8"))
    return done, told.get("tokens")


def _make(folder: Path, job: Job, learning_rate: float, on_step: OnStep) -> None:
    """Run the command, and mark its output as complete."""
    loaded.release()
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _COMMAND, _written(folder, job, learning_rate))
    started = time.perf_counter()
    told = _run(folder, job, on_step)
    output, loss = folder / "output", told.get("loss")
    if not any((output / name).is_file() for name in ("config.json", "adapter_config.json")):
        found = ", ".join(sorted(path.name for path in output.iterdir())[:8]) if output.is_dir() else "no folder"
        raise RuntimeError(
            "command: left no checkpoint in {output}: expected config.json and weights, or adapter_config.json; found"
            f" {found or 'nothing'}\n{tail_of(folder / LOG)}"
        )
    finite = loss is not None and math.isfinite(loss)
    write_json(output / _TOLD, {"tokens": told["tokens"]} if "tokens" in told else {})
    facts = {"step": job.steps, "loss": loss if finite else None, "told": loss is not None}
    write_json(output / MARKER, facts | {"seconds": time.perf_counter() - started})


def as_messages(rows: pl.DataFrame, base: Base) -> Iterator[list[dict[str, Any]]]:
    """Yield the conversation of each row: the system prompt if there is one, the user's turn, and the assistant's."""
    system = base.chat.system if base.chat else None
    first = [{"role": "system", "content": system}] if system else []
    for row in rows.iter_rows(named=True):
        if row.get("messages") is not None:
            turns = json.loads(row["messages"])
        else:
            turns = [{"role": "assistant", "content": row["completion"]}]
            if row.get("reasoning") is not None:
                turns[0]["reasoning_content"] = row["reasoning"]
        yield [*first, {"role": "user", "content": row["prompt"]}, *turns]


def _written(folder: Path, job: Job, learning_rate: float) -> list[str]:
    """Write the inputs of the command, and return it with its placeholders replaced."""
    inputs = folder / "inputs"
    shutil.rmtree(inputs, ignore_errors=True)
    rows = trained_on(job.rows)
    for name in ("prompt_completion", "messages"):
        (inputs / name).mkdir(parents=True)
    rows.write_parquet(inputs / "rows.parquet")
    talks = list(as_messages(rows, job.base))
    if job.base.chat:
        start = 2 if job.base.chat.system else 1
        pairs = [{"prompt": talk[:start], "completion": talk[start:]} for talk in talks]
    else:
        pairs = [{"prompt": prompt, "completion": text} for prompt, text in rows["prompt", "completion"].iter_rows()]
    _write_lines(inputs / "prompt_completion" / "train.jsonl", pairs)
    _write_lines(inputs / "messages" / "train.jsonl", [{"messages": talk} for talk in talks])
    settings = job.settings.model_dump(mode="json") | {"steps": job.steps, "learning_rate": learning_rate}
    write_json(inputs / "settings.json", settings)
    values: Mapping[str, Any] = {
        "rows": inputs / "rows.parquet",
        "prompt_completion": inputs / "prompt_completion",
        "messages": inputs / "messages",
        "model": job.base.name,
        "settings": inputs / "settings.json",
        "learning_rate": repr(learning_rate),
        "steps": job.steps,
        "seed": job.seed,
        "output": folder / "output",
    }
    return [re.sub(r"\{(\w+)\}", lambda found: str(values[found[1]]), part) for part in job.settings.command or []]


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _run(folder: Path, job: Job, on_step: OnStep) -> dict[str, Any]:
    """Run the command, report its progress, and return the last values that it told."""
    told: dict[str, Any] = {}

    def note(line: str) -> bool:
        found = _progress(line)
        told.update(found)
        if "step" in found:
            on_step(int(found["step"]), told.get("loss"))
        return bool(found)

    supervised = [sys.executable, "-m", "cos_assets.training.external", str(folder), str(os.getpid())]
    with (folder / LOG).open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            supervised,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=os.environ | _pipes(job),
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if not note(line):
                    log.write(line)
                    log.flush()
        finally:
            process.terminate()
            code = process.wait()
    if code:
        raise RuntimeError(f"command: {job.settings.command} ended with exit code {code}\n{tail_of(folder / LOG)}")
    return told


def _pipes(job: Job) -> dict[str, str]:
    """Return the environment variables with which `open_dagster_pipes` sends its messages to the standard output."""
    from dagster_pipes import encode_param

    names = ("asset_keys", "code_version_by_asset_key", "provenance_by_asset_key", "partition_key")
    unused = dict.fromkeys((*names, "partition_key_range", "partition_time_window", "job_name"))
    context = unused | {"run_id": "", "retry_number": 0, "extras": {"steps": job.steps, "seed": job.seed}}
    return {
        "DAGSTER_PIPES_CONTEXT": encode_param({"data": context}),
        "DAGSTER_PIPES_MESSAGES": encode_param({"stdio": "stdout"}),
    }


def _progress(line: str) -> dict[str, float]:
    """Return `step`, `loss` and `tokens` of a line that is a JSON object, as far as it has them as numbers."""
    try:
        found = json.loads(line) if line.lstrip().startswith("{") else None
    except ValueError:
        return {}
    if isinstance(found, dict) and "__dagster_pipes_version" in found:
        found = (found.get("params") or {}).get("payload")
    if not isinstance(found, dict):
        return {}
    names = ("step", "loss", "tokens")
    return {name: found[name] for name in names if isinstance(found.get(name), (int, float))}


def supervise(folder: Path, parent: int) -> int:
    """Run the command in `folder` in a session of its own, which ends with this process or when `parent` exits."""
    command = json.loads((folder / _COMMAND).read_text(encoding="utf-8"))
    try:
        process = subprocess.Popen(command, cwd=folder, start_new_session=True, stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}")
        return 127

    def end(*_: Any) -> None:
        os.killpg(process.pid, signal.SIGKILL)

    def stop(*_: Any) -> None:
        end()
        sys.exit(1)

    signal.signal(signal.SIGTERM, stop)
    join(folder.parent, parent, end)
    return abs(process.wait())


if __name__ == "__main__":
    sys.exit(supervise(Path(sys.argv[1]), int(sys.argv[2])))
