"""A trainer of 20 lines that someone could have written: full finetuning on Parquet rows, progress as JSON lines."""

import argparse
import json
from pathlib import Path

import polars as pl
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

parser = argparse.ArgumentParser()
for name in ("rows", "model", "settings", "output"):
    parser.add_argument(f"--{name}")
given = parser.parse_args()
settings = json.loads(Path(given.settings).read_text())
torch.manual_seed(0)
tokenizer, network = AutoTokenizer.from_pretrained(given.model), AutoModelForCausalLM.from_pretrained(given.model)
optimizer = torch.optim.AdamW(network.parameters(), settings["learning_rate"])
texts = [prompt + completion + tokenizer.eos_token for prompt, completion in pl.read_parquet(given.rows).iter_rows()]
batch = tokenizer(texts[: settings["batch_size"]], return_tensors="pt", padding=True)
batch.pop("token_type_ids", None)
labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
print("starting")
for step in range(1, settings["steps"] + 1):
    loss = network(**batch, labels=labels).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(
        json.dumps({"step": step, "loss": loss.item(), "tokens": step * int(batch["attention_mask"].sum())}), flush=True
    )
network.save_pretrained(given.output)
