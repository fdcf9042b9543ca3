"""Model resolution: location of the weights, revision, fingerprint, and number of parameters."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from cos_assets.generation import adapters, engines
from cos_assets.generation.types import Chat, Model
from cos_assets.generation.weights import architecture

LARGE = 100e6
"""Number of parameters from which vLLM is worth its start on the processor."""
SERVED = "served.json"
"""In the folder of a model whose weights an API keeps: the name under which it is served, as `model`."""
_CONTENT = (".safetensors", ".json", ".model", ".txt", ".jinja", ".bin")


def hash_folder(folder: str | Path) -> str:
    """Return the SHA-256 of the names and contents of a checkpoint's weights, config and tokenizer files.

    Only files at the top level count, in sorted order.

    Raises
    ------
    ValueError
        If there are none.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "config.json").write_text("{}")
    ...     hash_folder(folder)[:16]
    '8205d8a0e95db5e5'
    """
    files = _content(folder)
    if not files:
        raise ValueError(
            f"{folder}: has no model files; expected a Hugging Face checkpoint (config.json, *.safetensors)"
        )
    return _digest(files).hexdigest()


def is_model(folder: str | Path) -> bool:
    """Return whether a folder holds a model: a checkpoint with its config, or the name of a served model.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     is_model(folder)
    False
    """
    return any(Path(folder, name).is_file() for name in ("config.json", SERVED))


def served_name(folder: str | Path) -> str | None:
    """Return the name of the served model that a folder names (see `SERVED`); None for all others.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, SERVED).write_text('{"model": "ft:org:1"}')
    ...     served_name(folder)
    'ft:org:1'
    """
    file = Path(folder, SERVED)
    return str(json.loads(file.read_text(encoding="utf-8"))["model"]) if file.is_file() else None


def hash_adapter(adapter: adapters.Adapter) -> str:
    """Return the SHA-256 of an adapter and its base model, independent of their paths.

    A local base model contributes the hash of its folder. A base model from the hub contributes its id and commit.

    Raises
    ------
    ValueError
        If the base model is not found.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     folder, base = Path(root, "adapter"), Path(root, "base")
    ...     for file in (folder / adapters.CONFIG, base / "config.json"):
    ...         file.parent.mkdir()
    ...         _ = file.write_text("{}")
    ...     hash_adapter(adapters.Adapter(folder, str(base), None, 8))[:16]
    'f0f154dc39a78794'
    """
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
    """Return the number of parameters of the model in a folder.

    The count is that of the architecture in `config.json`. Tied weights count once, and quantized weights count as
    unpacked. Other contents of the folder (stored copies of tied weights, other formats, an adapter) do not count. For
    an adapter's folder, the count is that of its low-rank weights. If transformers does not know the architecture, the
    safetensors headers are counted.

    Parameters
    ----------
    folder : str or Path
        A folder with `config.json` or `*.safetensors`.

    Raises
    ------
    ValueError
        If the files do not determine the count.

    Examples
    --------
    >>> import tempfile
    >>> config = {"peft_type": "LORA", "base_model_name_or_path": "org/base", "r": 2}
    >>> header = json.dumps({"lora_A.weight": {"dtype": "F32", "shape": [2, 8]}}).encode()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, adapters.CONFIG).write_text(json.dumps(config))
    ...     _ = Path(folder, "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    ...     count_parameters(folder)
    16
    """
    folder = Path(folder)
    if adapters.find(folder):
        return sum(prod(entry["shape"]) for entry in _headers(folder, ["adapter_model.safetensors"]).values())
    network = architecture(folder)
    return _stored_parameters(folder) if network is None else sum(weight.numel() for weight in network.parameters())


def _stored_parameters(folder: Path) -> int:
    """Count the parameters in the safetensors headers, without the output layer if `config.json` says it is tied."""
    index, config = folder / "model.safetensors.index.json", folder / "config.json"
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    elif (folder / "model.safetensors").is_file():
        names = ["model.safetensors"]
    else:
        names = sorted(file.name for file in folder.glob("*.safetensors") if not file.name.startswith("adapter_"))
    tensors = _headers(folder, names)
    if packed := [name for name, entry in tensors.items() if entry["dtype"][0] in "IU" and len(entry["shape"]) > 1]:
        raise ValueError(f"{folder}: {packed[0]} is packed, so the parameters cannot be counted; give `params:`")
    if config.is_file() and json.loads(config.read_text(encoding="utf-8")).get("tie_word_embeddings"):
        tensors = {name: entry for name, entry in tensors.items() if not name.endswith("lm_head.weight")}
    return sum(prod(entry["shape"]) for entry in tensors.values())


def _headers(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the header entries (dtype, shape) of safetensors files by tensor name. Raises ValueError if empty."""
    tensors: dict[str, dict[str, Any]] = {}
    for name in names:
        if (folder / name).is_file():
            with (folder / name).open("rb") as stream:
                (length,) = struct.unpack("<Q", stream.read(8))
                tensors |= json.loads(stream.read(length))
    tensors.pop("__metadata__", None)
    if not tensors:
        raise ValueError(
            f"{folder}: has neither an architecture that transformers knows nor *.safetensors, so the parameters"
            " cannot be counted; give `params:`"
        )
    return tensors


def resolve(
    model_id: str,
    *,
    engine: str,
    revision: str | None = None,
    params: float | None = None,
    chat: Chat | None = None,
    options: Mapping[str, Any] | None = None,
) -> Model:
    """Resolve a model id to a `Model` with its engine, revision, fingerprint and number of parameters.

    Parameters
    ----------
    model_id : str
        A folder with a model, an adapter or the name of a served model, a hub id, or the name of a served model.
    engine : str
        The name of an engine. `auto` becomes vLLM or transformers (see `pick_engine`).
    revision : str, optional
        A branch, tag or commit of a hub model; its commit becomes the revision.
    params : float, optional
        The number of parameters that a token passes through. Without it, all weights of a local folder are counted.
    chat : Chat, optional
        The inputs of the chat template, if it is used. They change the fingerprint, because the same text is then a
        different prompt.
    options : mapping, optional
        The `engine_options:`. `chat_template_kwargs` among them are added to those of `chat`. The fingerprint of a
        served model (engine openai) does not depend on where it is served.

    Raises
    ------
    ValueError
        If the model is not found, its parameters cannot be counted, or arguments of the chat template cannot be used.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "config.json").write_text("{}")
    ...     model = resolve(folder, engine="vllm", params=1e9, chat=Chat())
    >>> model.fingerprint, model.params
    ('local-8205d8a0e95db5e5-chat', 1000000000.0)
    """
    if served := served_name(model_id):
        if engine != "openai":
            raise ValueError(f"model: {served!r} is served by an API; give engine: openai, not {engine}")
        model_id = served
    given = dict(options or {})
    chat = _chat(chat, given.pop("chat_template_kwargs", None))
    if engine == engines.AUTO:
        found = resolve(model_id, engine="transformers", revision=revision, params=params, chat=chat, options=given)
        return replace(found, engine=pick_engine(found))
    if fingerprint := engines.get(engine).fingerprint(model_id, chat, given):
        return Model(model_id, fingerprint + _tail(chat), engine, revision, params, chat, given)
    tail = ("-chat" if chat else "") + _kwargs_tail(chat) + _tail(chat)
    if adapter := adapters.find(model_id):
        digest = hash_adapter(adapter)
        counted = params
        if params is None and Path(adapter.base).is_dir():
            counted = count_parameters(adapter.base) + count_parameters(model_id)
        return Model(str(model_id), f"adapter-{digest[:16]}{tail}", engine, digest, counted, chat, given)
    if Path(model_id).is_dir():
        digest = hash_folder(model_id)
        counted = params if params is not None else count_parameters(model_id)
        return Model(str(model_id), f"local-{digest[:16]}{tail}", engine, digest, counted, chat, given)
    commit = _commit(model_id, revision)
    name = hashlib.sha256(f"{model_id}@{commit}".encode()).hexdigest()[:16]
    return Model(model_id, f"{model_id.split('/')[-1]}-{name}{tail}", engine, commit, params, chat, given)


def _chat(chat: Chat | None, kwargs: Any) -> Chat | None:
    """Return the chat with the `chat_template_kwargs` of the engine options."""
    where = "engine_options.chat_template_kwargs"
    if kwargs is None or kwargs == {}:
        return chat
    if not isinstance(kwargs, Mapping):
        raise ValueError(f"{where}: {kwargs!r} is not allowed; expected a mapping of the chat template's arguments")
    if chat is None:
        raise ValueError(f"{where}: sets arguments of the chat template, which needs chat: true")
    if chat.kwargs:
        raise ValueError(f"{where}: chat_template_kwargs is given twice; leave it out of engine_options")
    try:
        return replace(chat, kwargs=template_kwargs(kwargs))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def template_kwargs(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return further arguments of a chat template. Raises ValueError if one of them is set by the engines.

    Examples
    --------
    >>> template_kwargs({"tokenize": False})
    Traceback (most recent call last):
    ValueError: tokenize is set by the engine; leave it out
    """
    if taken := sorted({"add_generation_prompt", "continue_final_message", "return_dict", "tokenize"} & given.keys()):
        raise ValueError(f"{taken[0]} is set by the engine; leave it out")
    return given


def _kwargs_tail(chat: Chat | None) -> str:
    return f"-{_short_hash(chat.kwargs)}" if chat and chat.kwargs else ""


def _tail(chat: Chat | None) -> str:
    """Return the fingerprint suffix for system message and reasoning; empty without them, as in older ledgers."""
    if chat is None:
        return ""
    tail = f"-system-{_short_hash(chat.system)}" if chat.system else ""
    return tail + (f"-reasoning-{_short_hash(chat.reasoning.identity)}" if chat.reasoning.identity else "")


def _short_hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]


def _commit(model_id: str, revision: str | None) -> str:
    """Return the commit of a hub id and revision, from the hub or, without a network, from the local download cache."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(model_id, "config.json", revision=revision)).parent.name
    except Exception as error:  # no network, model, revision or access: the hub raises many types
        reason = str(error).strip().split("\n")[0][:200]
        raise ValueError(
            f"model: {model_id!r} is not a folder and was not found on the hub ({type(error).__name__}: {reason});"
            " expected a hub id that can be reached, or a folder with config.json and *.safetensors"
        ) from error


def pick_engine(model: Model) -> str:
    """Return the name of the engine that `auto` selects for a model: "vllm" or "transformers".

    vLLM, where it is installed, is faster on a GPU, and on the processor for all but small models, for which its start
    takes longer than it saves. A model with `engine_options` keeps the same engine on every processor: transformers.

    Examples
    --------
    >>> pick_engine(Model("wc", "wc-1", "auto", params=1e6))
    'transformers'
    """
    from importlib.util import find_spec

    if find_spec("vllm") is None:
        return "transformers"
    import torch

    if torch.cuda.is_available():
        return "vllm"
    large = model.params is None or model.params >= LARGE
    return "vllm" if large and not model.engine_options else "transformers"
