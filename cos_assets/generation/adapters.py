"""LoRA adapters as models: a folder with adapter_config.json, as PEFT writes it, on top of a base model.

A finetuning with `method: lora` writes an adapter to `adapter`, next to the merged model in `model`.
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
    """The locations of an adapter and its base model. `find` creates it.

    Attributes
    ----------
    folder : Path
        The folder of the adapter.
    base : str
        The folder or hub id of the base model.
    revision : str or None
        The revision of a base model from the hub.
    rank : int
        The largest rank of all layers.

    Examples
    --------
    >>> Adapter(Path("adapter"), "org/base", "main", 8).tokenizer
    'org/base'
    """

    folder: Path
    base: str
    revision: str | None
    rank: int

    @property
    def has_tokenizer(self) -> bool:
        """Whether the folder of the adapter holds a tokenizer."""
        return (self.folder / "tokenizer_config.json").is_file()

    @property
    def tokenizer(self) -> str:
        """The adapter's own tokenizer if it has one (tokens may have been added), else that of the base model."""
        return str(self.folder) if self.has_tokenizer else self.base

    @property
    def tokenizer_revision(self) -> str | None:
        """The revision from which the tokenizer is loaded; None for a folder."""
        return None if self.has_tokenizer else self.revision


def find(model_id: str | Path) -> Adapter | None:
    """Return the adapter in a folder.

    Parameters
    ----------
    model_id : str or Path
        A folder, or a hub id (which is never an adapter).

    Returns
    -------
    Adapter or None
        None if there is no adapter, or if the folder also holds a full model. A base model that is a path relative to
        the adapter is resolved.

    Raises
    ------
    ValueError
        If the adapter is not LoRA, does not name a base model, or holds trained weights other than the low-rank ones
        (`modules_to_save`).

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     config = {"peft_type": "LORA", "base_model_name_or_path": "org/base", "r": 8}
    ...     _ = Path(folder, "adapter_config.json").write_text(json.dumps(config))
    ...     adapter = find(folder)
    >>> adapter.base, adapter.rank
    ('org/base', 8)
    """
    folder = Path(model_id)
    if not (folder / CONFIG).is_file() or (folder / "config.json").is_file():
        return None
    config = _read(folder)
    where = f"{folder / CONFIG}: "
    if config.get("peft_type") != "LORA":
        raise ValueError(
            f"{where}peft_type: {config.get('peft_type')!r} cannot be served; expected LORA, or a merged model"
        )
    base = config.get("base_model_name_or_path")
    if not base:
        raise ValueError(f"{where}base_model_name_or_path: is missing; expected the base model's hub id or folder")
    if config.get("modules_to_save"):
        raise ValueError(f"{where}modules_to_save: {config['modules_to_save']!r} cannot be served; merge the adapter")
    if (folder / base).is_dir():
        base = str((folder / base).resolve())
    ranks = [config["r"], *(config.get("rank_pattern") or {}).values()]
    return Adapter(folder, base, config.get("revision"), max(ranks))


def base_of(source: str, revision: str | None) -> tuple[Any, ...]:
    """Return what identifies the weights that an engine loads for a model: those of its base, if it is an adapter.

    Parameters
    ----------
    source : str
        A folder, also of an adapter, or a hub id.
    revision : str or None
        The revision of a hub id.

    Examples
    --------
    >>> base_of("org/model", "main")
    ('org/model', 'main')
    """
    if adapter := find(source):
        source, revision = adapter.base, adapter.revision
    if not Path(source).is_dir():
        return source, revision
    files = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in Path(source).iterdir())
    return str(Path(source).resolve()), *files


def described(folder: Path) -> bytes:
    """Return an adapter's config as JSON, without the path and revision of its base model, since paths can change.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     config = {"r": 8, "base_model_name_or_path": "org/base", "revision": "main"}
    ...     _ = Path(folder, "adapter_config.json").write_text(json.dumps(config))
    ...     described(Path(folder))
    b'{"r": 8}'
    """
    config = {key: value for key, value in _read(folder).items() if key not in _BASE}
    return json.dumps(config, sort_keys=True).encode()


def _read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / CONFIG).read_text(encoding="utf-8"))
