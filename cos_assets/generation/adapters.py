"""LoRA adapters as models: a folder with adapter_config.json, as PEFT writes it, on top of a base model.

A finetuning with `method: lora` leaves one in `adapter`, beside the merged model in `model`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG = "adapter_config.json"
_BASE = ("base_model_name_or_path", "revision")


@dataclass(frozen=True)
class Adapter:
    """Where an adapter and its base model are. `revision` is that of a base from the hub."""

    folder: Path
    base: str
    revision: str | None
    rank: int
    """The largest one, where layers differ."""

    @property
    def has_tokenizer(self) -> bool:
        return (self.folder / "tokenizer_config.json").is_file()

    @property
    def tokenizer(self) -> str:
        """The adapter's own where it has one (tokens may have been added), else the base's."""
        return str(self.folder) if self.has_tokenizer else self.base

    @property
    def tokenizer_revision(self) -> str | None:
        return None if self.has_tokenizer else self.revision


def find(model_id: str | Path) -> Adapter | None:
    """The adapter in a folder; None where there is none, or a whole model beside it.

    A base that is a path may be relative to the adapter. Raises ValueError for an adapter that is no LoRA, that names
    no base, or that carries trained weights beside the low-rank ones.
    """
    folder = Path(model_id)
    if not (folder / CONFIG).is_file() or (folder / "config.json").is_file():
        return None
    config = _read(folder)
    where = f"{folder / CONFIG}: "
    if config.get("peft_type") != "LORA":
        raise ValueError(f"{where}peft_type: {config.get('peft_type')!r} cannot be sampled; expected LORA, or merge it")
    base = config.get("base_model_name_or_path")
    if not base:
        raise ValueError(f"{where}base_model_name_or_path: is missing; expected the base model's hub id or folder")
    if config.get("modules_to_save"):
        raise ValueError(f"{where}modules_to_save: {config['modules_to_save']!r} cannot be served; merge the adapter")
    if (folder / base).is_dir():
        base = str((folder / base).resolve())
    ranks = [config["r"], *(config.get("rank_pattern") or {}).values()]
    return Adapter(folder, base, config.get("revision"), max(ranks))


def described(folder: Path) -> bytes:
    """What an adapter's config says, but for where its base lies: that is another day's path."""
    config = {key: value for key, value in _read(folder).items() if key not in _BASE}
    return json.dumps(config, sort_keys=True).encode()


def _read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / CONFIG).read_text(encoding="utf-8"))
