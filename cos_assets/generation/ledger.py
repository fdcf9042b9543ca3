"""The ledger: every completion ever bought, so that nothing is bought twice and every attempt counts as spend.

    <root>/ledger/model=<fingerprint>/params=<hash>/part-*.parquet

A row is keyed by (model, sampling parameters, prompt hash, sample index) and an attempt number. The ledger is
append-only. Rows are added in parts (see `parts`), each of which is written under a temporary name and renamed. Rows
that arrive between two parts are written to a local journal. If the process is killed, the next one that takes the lock
converts the journal to a part. Failed attempts are rows too: they count as spend, and are retried.

On an object store each part is one object, which every machine downloads once. A part that could not be uploaded (the
store was unavailable, or the process was killed) is kept in this machine's local copy, and is uploaded before anything
else is bought.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from cos_assets.generation import parts
from cos_assets.generation.parts import SCHEMA, UNUSABLE
from cos_assets.generation.types import Model, Sampling
from cos_assets.storage import paths
from cos_assets.storage.locks import ObjectLock, lock
from cos_assets.storage.paths import ObjectPath, Place

_KEY = ["prompt_hash", "sample_index"]
_FAILED = pl.col("finish_reason") == "error"
_UNSENT = ".unsent-"
_JOURNAL = ".journal-"
_SYNC_EVERY = 1.0  # seconds
_MOST = {name: 2**63 if kind == pl.Int64 else 2**31 for name, kind in SCHEMA.items() if kind.is_integer()}
_log = logging.getLogger(__name__)


def prompt_hash(prompt: str) -> str:
    """Return the first 32 hex digits of the prompt's SHA-256.

    Examples
    --------
    >>> prompt_hash("2 + 3?")
    'c1f22f18a43e028fb4206dd295199c16'
    """
    return hashlib.sha256(prompt.encode()).hexdigest()[:32]


def parameters_hash(sampling: Sampling) -> str:
    """Return the first 16 hex digits of the SHA-256 of the sampling parameters.

    Greedy decoding does not depend on seed, top-k and top-p, so these are set to their defaults first.

    Examples
    --------
    >>> parameters_hash(Sampling(temperature=0, seed=1)) == parameters_hash(Sampling(temperature=0, seed=2))
    True
    """
    if sampling.temperature == 0:
        sampling = sampling.model_copy(update={"seed": 0, "top_k": None, "top_p": 1.0})
    return hashlib.sha256(sampling.model_dump_json().encode()).hexdigest()[:16]


def book(root: Place, model: Model, name: str, row: dict[str, Any]) -> None:
    """Record a cost that has no prompt, such as a finetuning, once per name. An existing record is not changed.

    Parameters
    ----------
    root : Path or ObjectPath
        The root of the ledger (`COS_HOME`).
    model : Model
        The model to which the cost belongs.
    name : str
        The name of the record, unique for the model.
    row : dict
        Some of the columns of `SCHEMA`; the others are null.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     book(Path(folder), Model("m", "m-1", "vllm"), "finetuning", {"study": "s", "flops": 6e9})
    ...     [file.name for file in Path(folder).rglob("*.parquet")]
    ['part-finetuning.parquet']
    """
    part = root / "ledger" / f"model={model.fingerprint}" / "params=none" / f"part-{name}.parquet"
    if not part.is_file():
        frame = pl.DataFrame([{column: row.get(column) for column in SCHEMA}], schema=SCHEMA, orient="row")
        parts.write(part, frame)


class Ledger:
    """The completions of one model under one set of sampling parameters. Hold `lock` while buying.

    Parameters
    ----------
    root : Path or ObjectPath
        The root of the ledger (`COS_HOME`), on a disk or an object store.
    model : Model
        The model; its fingerprint names the folder.
    sampling : Sampling
        The sampling parameters; `parameters_hash` names the folder below.

    Attributes
    ----------
    folder : Path or ObjectPath
        The folder of the parts.
    lock : context manager
        One buyer at a time: a second process waits, and then reads what the first one bought.

    Examples
    --------
    >>> import tempfile
    >>> key = prompt_hash("2 + 3?")
    >>> row = {"prompt_hash": key, "sample_index": 0, "attempt": 1, "completion": "5", "finish_reason": "stop"}
    >>> with tempfile.TemporaryDirectory() as root:
    ...     ledger = Ledger(Path(root), Model("m", "m-1", "vllm"), Sampling())
    ...     with ledger.lock:
    ...         ledger.append([row])
    ...     ledger.held([key])["indices"].to_list(), ledger.read()["completion"].to_list()
    ([[0]], ['5'])
    """

    def __init__(self, root: Place, model: Model, sampling: Sampling) -> None:
        self.folder = root / "ledger" / f"model={model.fingerprint}" / f"params={parameters_hash(sampling)}"
        # One buyer at a time: a second process waits, and then reads what the first one bought.
        self.lock = lock(self.folder / ".lock")
        self._part = ""  # name of the part that the journal is for
        self._synced = 0.0  # time of the last fsync of the journal

    def held(self, prompts: Iterable[str], failed: bool = False) -> pl.DataFrame:
        """Return the sample indices that are in the ledger.

        Only key columns are read, so that ten million rows take about a second (see benchmarks/ledger.py).

        Parameters
        ----------
        prompts : iterable of str
            Prompt hashes.
        failed : bool
            Whether indices with only failed attempts are included.

        Returns
        -------
        polars.DataFrame
            [prompt_hash, indices (List of Int32)], one row per prompt that has any, in no particular order.
        """

        def indices(rows: pl.LazyFrame) -> pl.LazyFrame:
            good = rows.filter(~_FAILED | failed)
            return good.group_by("prompt_hash").agg(indices=pl.col("sample_index").unique())

        return self._query(prompts, indices)

    def failed_attempts(self, prompts: Iterable[str]) -> dict[tuple[str, int], int]:
        """Return the number of failed attempts of each (prompt hash, sample index) that has any.

        `prompts` are prompt hashes.
        """
        attempts = self._query(prompts, lambda rows: rows.filter(_FAILED).group_by(_KEY).agg(pl.col("attempt").max()))
        return {(prompt, index): attempt for prompt, index, attempt in attempts.iter_rows()}

    def read(self, prompts: Iterable[str] | None = None, samples: int | None = None) -> pl.DataFrame:
        """Return one row per (prompt hash, sample index): the first successful attempt, else the last failed one.

        Parameters
        ----------
        prompts : iterable of str, optional
            Prompt hashes; None reads all prompts.
        samples : int, optional
            Only indices below this number are read; None reads all indices.

        Returns
        -------
        polars.DataFrame
            Rows with the schema `SCHEMA`, sorted by prompt hash and sample index.
        """
        order = pl.when(_FAILED).then(1_000_000 - pl.col("attempt")).otherwise(pl.col("attempt") - 1_000_000)

        def that_count(rows: pl.LazyFrame) -> pl.LazyFrame:
            if samples is not None:
                rows = rows.filter(pl.col("sample_index") < samples)
            return rows.sort(*_KEY, order).unique(_KEY, keep="first", maintain_order=True)

        return self._query(prompts, that_count)

    def _query(self, prompts: Iterable[str] | None, ask: Callable[[pl.LazyFrame], pl.LazyFrame]) -> pl.DataFrame:
        if prompts is None:
            return parts.query(self.folder, parts.PATTERN, ask)
        wanted = pl.LazyFrame({"prompt_hash": pl.Series(list(prompts), dtype=pl.String)})
        return parts.query(
            self.folder, parts.PATTERN, lambda rows: ask(rows.join(wanted, on="prompt_hash", how="semi"))
        )

    def note(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write rows to the local journal, which `append` replaces by a part, so that a killed process loses no rows.

        The journal is synced to disk at most once per second, so a power failure can lose the rows of the last second.

        Parameters
        ----------
        rows : sequence of dict
            Rows with all columns of `SCHEMA`. Integers that exceed the range of the ledger's column are replaced by
            None in place, because a server may send any number.
        """
        if not rows:
            return
        for row in rows:
            row.update({name: None for name, most in _MOST.items() if not -most <= (row.get(name) or 0) < most})
        self._part = self._part or parts.name()
        lines = "".join(json.dumps(row, default=datetime.isoformat) + "\n" for row in rows)
        journal = self._journal(self._part)
        journal.parent.mkdir(parents=True, exist_ok=True)
        with journal.open("a", encoding="utf-8") as file:
            file.write(lines)
            if time.monotonic() - self._synced >= _SYNC_EVERY:
                file.flush()
                os.fsync(file.fileno())
                self._synced = time.monotonic()

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Write rows as one part. When this returns, the rows are stored durably.

        Parameters
        ----------
        rows : list of dict
            Rows with columns of `SCHEMA`. The list is cleared as soon as the part is on the local disk. If a later step
            (the upload) fails, the caller must not write the rows again.

        Raises
        ------
        OSError
            If the part cannot be written or uploaded. A part that was not uploaded is kept for `clear_leftovers`.
        """
        if not rows:
            return
        frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
        name = self._part or parts.name()
        here = paths.local(self.folder)
        unsent = None if isinstance(self.folder, Path) else here / (_UNSENT + name)
        parts.write(unsent or here / name, frame)
        rows.clear()
        self._journal(name).unlink(missing_ok=True)
        self._part = ""
        if unsent:
            self._send(unsent)
            self._check_lock()

    def clear_leftovers(self) -> None:
        """Recover from a killed writer, and merge small parts. The caller must hold the lock.

        Removes temporary files, uploads parts that were not uploaded, and converts journals to parts. Unusable lines of
        a journal are kept in a separate file, with a warning.
        """
        here = paths.local(self.folder)
        if isinstance(self.folder, Path):
            for file in self.folder.glob(".part-*.tmp"):
                file.unlink(missing_ok=True)
        else:
            for file in sorted(here.glob(_UNSENT + "part-*.parquet")):
                self._send(file)
        for file in sorted(here.glob(_JOURNAL + "part-*.jsonl")):
            # Use the part's original name: if the part exists already, it is overwritten, not duplicated.
            self._part = file.name.removeprefix(_JOURNAL).removesuffix(".jsonl")
            rows, unusable = _noted(file)
            if unusable:
                place = file.with_name(UNUSABLE + file.name.removeprefix("."))
                place.write_bytes(b"".join(unusable))
                _log.warning(f"{file}: {len(unusable)} lines are unusable; they were moved to {place}")
            self.append(rows)
            file.unlink(missing_ok=True)
        self._part = ""
        parts.merge(self.folder, self._check_lock)

    def _check_lock(self) -> None:
        """Raise if another machine has taken over the lock, which can happen on an object store."""
        if isinstance(self.lock, ObjectLock):
            self.lock.check()

    def _journal(self, part: str) -> Path:
        return paths.local(self.folder) / f"{_JOURNAL}{part}.jsonl"

    def _send(self, unsent: Path) -> None:
        name = unsent.name.removeprefix(_UNSENT)
        part = self.folder / name
        assert isinstance(part, ObjectPath)
        part.put(unsent)
        unsent.replace(unsent.with_name(name))


def _noted(journal: Path) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Return the rows of a journal, and the lines that are not valid rows. A truncated last line is ignored."""
    rows: list[dict[str, Any]] = []
    unusable = []
    lines = journal.read_bytes().splitlines(keepends=True)
    for line in lines:
        try:
            row = json.loads(line)
            row |= {"time": datetime.fromisoformat(row["time"])}
            pl.DataFrame([row], schema=SCHEMA, orient="row")
        except (ValueError, TypeError, KeyError, RecursionError, pl.exceptions.PolarsError):
            if line.endswith(b"\n") or line is not lines[-1]:
                unusable.append(line)
        else:
            rows.append(row)
    return rows, unusable
