"""Fixtures for the task of `toy_training`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support.toy_training import make_base, make_rows


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def rows() -> pl.DataFrame:
    return make_rows(40)


@pytest.fixture
def tokenizer(base: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)
