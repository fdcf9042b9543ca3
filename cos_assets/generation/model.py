"""Which model is asked: where its weights are, which revision, how many parameters."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any

from cos_assets.generation import adapters
from cos_assets.generation.types import Model

_CONTENT = (".safetensors", ".json", ".model", ".txt", ".jinja", ".bin")


def hash_folder(folder: str | Path) -> str:
    """SHA-256 over the names and contents of a checkpoint's weights, config and tokenizer files (top level, sorted)."""
    files = _content(folder)
    if not files:
        raise ValueError(
            f"{folder}: no model files here; expected a Hugging Face checkpoint (config.json, *.safetensors)"
        )
    return _digest(files).hexdigest()


def hash_adapter(adapter: adapters.Adapter) -> str:
    """SHA-256 over an adapter and its base model's content (of a hub id: its commit), wherever the two lie."""
    digest = _digest([file for file in _content(adapter.folder) if file.name != adapters.CONFIG])
    digest.update(adapters.described(adapter.folder) + b"\0")
    base = adapter.base
    digest.update((hash_folder(base) if Path(base).is_dir() else f"{base}@{_commit(base, adapter.revision)}").encode())
    return digest.hexdigest()


def _content(folder: str | Path) -> list[Path]:
    return [f for f in sorted(Path(folder).iterdir()) if f.suffix in _CONTENT and not f.name.startswith("training_")]


def _digest(files: Iterable[Path]) -> Any:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0")
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest


def count_parameters(folder: str | Path) -> int:
    """Parameters in a local checkpoint, read from its safetensors headers (tied weights are stored once)."""
    total = 0
    for file in sorted(Path(folder).glob("*.safetensors")):
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
        total += sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    if not total:
        raise ValueError(f"{folder}: no *.safetensors here, so its parameters cannot be counted; give `params:`")
    return total


def resolve(
    model_id: str,
    *,
    engine: str,
    revision: str | None = None,
    params: float | None = None,
    chat: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Model:
    """A model ready to be asked. `auto` becomes vLLM where it is installed beside a GPU, else transformers.

    With `chat` it has a fingerprint of its own: the same text is another prompt. A served model (engine openai) is
    known by its name alone, wherever it is served.
    """
    if engine == "auto":
        engine = pick_engine()
    if engine == "imported":
        from cos_assets.generation.engines.imported import fingerprint

        return Model(
            model_id,
            f"imported-{fingerprint(dict(options or {}))[:16]}",
            engine,
            revision,
            params,
            engine_options=dict(options or {}),
        )
    if engine == "openai":
        from cos_assets.generation.engines.openai_options import identity

        name = hashlib.sha256(json.dumps(identity(model_id, chat, options or {}), sort_keys=True).encode()).hexdigest()
        label = re.sub(r"[^A-Za-z0-9._-]", "-", model_id.split("/")[-1])
        return Model(model_id, f"{label}-{name[:16]}", engine, revision, params, chat, dict(options or {}))
    tail = "-chat" if chat else ""
    if adapter := adapters.find(model_id):
        digest = hash_adapter(adapter)
        counted = params
        if params is None and Path(adapter.base).is_dir():
            counted = count_parameters(adapter.base) + count_parameters(model_id)
        return Model(str(model_id), f"adapter-{digest[:16]}{tail}", engine, digest, counted, chat, dict(options or {}))
    if Path(model_id).is_dir():
        digest = hash_folder(model_id)
        counted = params if params is not None else count_parameters(model_id)
        return Model(str(model_id), f"local-{digest[:16]}{tail}", engine, digest, counted, chat, dict(options or {}))
    commit = _commit(model_id, revision)
    name = hashlib.sha256(f"{model_id}@{commit}".encode()).hexdigest()[:16]
    return Model(model_id, f"{model_id.split('/')[-1]}-{name}{tail}", engine, commit, params, chat, dict(options or {}))


def _commit(model_id: str, revision: str | None) -> str:
    """The commit behind a hub id and a branch, from the hub or, without a network, from what was downloaded before."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(model_id, "config.json", revision=revision)).parent.name
    except Exception as error:  # no network, no such model or revision, no access: the hub raises many kinds
        reason = str(error).strip().split("\n")[0][:200]
        raise ValueError(
            f"model: {model_id!r} is no folder here and was not found on the hub ({type(error).__name__}: {reason});"
            " expected a hub id that can be reached, or a folder with config.json and *.safetensors"
        ) from None


def pick_engine() -> str:
    """vLLM pays for itself on a GPU; on a CPU its start-up outweighs what small models gain."""
    from importlib.util import find_spec

    if find_spec("vllm") is None:
        return "transformers"
    import torch

    return "vllm" if torch.cuda.is_available() else "transformers"
