"""The cost of completions, and the cap on a study's spend on data."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_generate import PROBLEMS, bookings, solutions

from cos_assets import tasks, tiny
from cos_assets.budget.matching import Prices
from cos_assets.generation.generate import Buyer, generate
from cos_assets.generation.model import resolve
from cos_assets.generation.spend import Cap, CapReached, Spend, Tariff, spent
from cos_assets.generation.types import Completion, Model, Sampling
from cos_assets.training.sft_sets import prompts as plain_prompts

SAMPLING = Sampling(max_tokens=20)
CEILING = 2 * 100 * 20  # the maximum FLOPs of one completion: P is 100


def ask(root: Path, model: Model, samples: int, cap: Cap | None, prices: Prices | None = None, **who: str) -> int:
    ids = [f"p{i}" for i in range(PROBLEMS)]
    asked = pl.DataFrame({"problem_id": ids, "prompt": [f"question {i}" for i in ids]})
    buyer = Buyer(root, who.get("study", "s"), who.get("stage", "sampling"), cap=cap)  # type: ignore[arg-type]
    return generate(model, asked, samples, SAMPLING, buyer, prices).new


@settings(max_examples=40, deadline=None)
@given(st.floats(1.0, 100_000.0), st.integers(1, 5))
def test_spend_uses_the_cap_and_never_exceeds_it(limit: float, samples: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = solutions(root, 5)
        everything = 2 * 100 * sum(10 + i for i in range(samples)) * PROBLEMS
        try:
            ask(root, model, samples, Cap(flops=limit))
        except CapReached:
            used = spent(root, "s").flops
            assert used <= limit and limit - used < CEILING, "it stops only when one more sample could exceed the cap"
        else:
            assert spent(root, "s").flops == everything <= limit
        new = ask(root, model, samples, Cap(flops=everything + CEILING))
        booked = bookings(root)
        assert booked.height == samples * PROBLEMS == booked.select("prompt_hash", "sample_index").n_unique()
        assert new <= samples * PROBLEMS and booked["flops"].sum() == everything


def test_a_reached_cap_reports_the_missing_completions(tmp_path: Path) -> None:
    model = solutions(tmp_path, 4)
    with pytest.raises(CapReached) as caught:
        ask(tmp_path, model, 4, Cap(flops=9000.0, cost=100.0), Prices(1.0, 1.0))
    kept = bookings(tmp_path).height
    text = str(caught.value)
    assert 0 < kept < 24 and f"{24 - kept} of 24 completions for sampling with them are missing" in text
    assert text.startswith("cap.flops: 9000: study 's' has spent") and "cap.cost" not in text and "\n" not in text


def test_a_cap_on_cost_includes_the_prompts(tmp_path: Path) -> None:
    model = solutions(tmp_path, 4)
    with pytest.raises(CapReached, match=r"cap\.cost: 0\.001: .* has spent 0 on data"):
        ask(tmp_path, model, 1, Cap(cost=0.001), Prices(input=100.0, output=1e-6))  # the prompt may cost more
    assert not list((tmp_path / "ledger").rglob("part-*.parquet"))


def test_all_stages_and_models_of_a_study_share_a_cap(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    wc, se = solutions(tmp_path, 2), solutions(other, 3)
    assert wc.fingerprint != se.fingerprint
    ask(tmp_path, wc, 1, Cap(flops=1e9), stage="pilot")
    ask(tmp_path, se, 3, None, study="elsewhere")  # counts for another study
    ask(tmp_path, se, 1, None, stage="evaluation")  # buys no data
    used = spent(tmp_path, "s").flops
    assert used == 2 * 100 * 10 * PROBLEMS
    ask(tmp_path, se, 3, Cap(flops=used))  # all samples are in the ledger
    with pytest.raises(CapReached):
        ask(tmp_path, wc, 2, Cap(flops=used + CEILING / 2))


def test_a_request_is_split_at_the_cap() -> None:
    from cos_assets.generation.types import Request

    asked = [Request("a", "?", (0, 1, 2)), Request("b", "?", (0, 1))]
    now, later = Cap(flops=4 * CEILING).affordable(asked, Spend(), Tariff(100.0), SAMPLING)
    assert now == [Request("a", "?", (0, 1, 2)), Request("b", "?", (0,))] and later == [Request("b", "?", (1,))]
    assert Cap(flops=4 * CEILING).affordable(asked, Spend(4 * CEILING), Tariff(100.0), SAMPLING) == ([], asked)


def test_a_tariff_computes_flops_and_cost_and_bounds_unknown_counts() -> None:
    used = Completion("p", "?", 0, "", "stop", 100, 50, 80, 1.0)
    assert Tariff(7.0).flops(used) == 2 * 7 * 50
    assert Tariff(7.0, prefill=True).flops(used) == 2 * 7 * (50 + 20)
    assert Tariff().flops(used) is None and Tariff(7.0).cost(used) is None
    assert Tariff(prices=Prices(2, 10, cached=0.5)).cost(used) == pytest.approx((20 * 2 + 80 * 0.5 + 50 * 10) / 1e6)
    unknown = Completion("p", "?", 0, "", "error", None, None, None, 1.0)
    assert Tariff(7.0).flops(unknown) is None
    assert Tariff(7.0).spend(unknown, SAMPLING).flops == 2 * 7 * 20, (
        "a reply without counts may have been billed in full"
    )


@pytest.mark.parametrize("prefill", [False, True])
def test_rows_are_priced_by_the_study_that_reads_them(tmp_path: Path, prefill: bool) -> None:
    """The samples were bought without a price; a later study applies its own price to them."""
    model = solutions(tmp_path, 3)
    ask(tmp_path, model, 3, None)
    asked = pl.DataFrame({"problem_id": ["p0"], "prompt": ["question p0"]})
    prices = Prices(2, 10, cached=0.5)
    buyer = Buyer(tmp_path, "later", "sampling", prefill=prefill)
    bought = generate(model, asked, 3, SAMPLING, buyer, prices)
    assert bought.new == 0
    tariff = Tariff(model.params, prices, prefill)
    for row in bought.rows.iter_rows(named=True):
        counts = row["prompt_tokens"], row["completion_tokens"], None
        as_if = Completion("p0", "question p0", row["sample_index"], "", "stop", *counts, 0.0)
        assert row["flops"] == tariff.flops(as_if) and row["cost"] == pytest.approx(tariff.cost(as_if))
    assert spent(tmp_path, "later") == Spend()


def test_a_shared_prompt_counts_once(tmp_path: Path) -> None:
    """The engine reports which prompts it ran: one per problem, for any number of samples."""
    task = tasks.make({"name": "arithmetic", "train": 5, "validation": 1, "test": 1})
    asked = plain_prompts(task, task.load().filter(split="train"))
    model = resolve(str(tiny.shipped("wc")), engine="transformers")
    buyer = Buyer(tmp_path, "s", "sampling", prefill=True)
    rows = generate(model, asked, 4, Sampling(max_tokens=56), buyer).rows
    once = rows.unique("prompt_hash")["prompt_tokens"].sum()
    assert model.params is not None
    assert rows["flops"].sum() == 2 * model.params * (rows["completion_tokens"].sum() + once)


TWO = """
    import sys
    from pathlib import Path
    from cos_assets import tasks
    from cos_assets import tiny
    from cos_assets.generation import generate as purchase
    from cos_assets.generation.model import resolve
    from cos_assets.generation.spend import Cap
    from cos_assets.generation.spend import CapReached
    from cos_assets.generation.types import Sampling
    from cos_assets.training.sft_sets import prompts

    task = tasks.make({"name": "arithmetic", "train": 40, "validation": 1, "test": 1})
    asked = prompts(task, task.load().filter(split="train"))
    model = resolve(str(tiny.shipped(sys.argv[2])), engine="transformers")
    buyer = purchase.Buyer(Path(sys.argv[1]), "s", "sampling", cap=Cap(flops=float(sys.argv[3])))
    try:
        purchase.generate(model, asked, 8, Sampling(max_tokens=56), buyer)
    except CapReached:
        print("reached")
"""


def test_two_concurrent_processes_do_not_exceed_a_common_cap(tmp_path: Path) -> None:
    """All 320 samples of both models need about 8.6e9 FLOPs."""
    limit = 4e9
    command = [sys.executable, "-c", textwrap.dedent(TWO), str(tmp_path)]
    running = [
        subprocess.Popen([*command, name, str(limit)], stdout=subprocess.PIPE, text=True) for name in ("wc", "se")
    ]
    said = [process.communicate()[0].strip() for process in running]
    assert "reached" in said and all(process.returncode == 0 for process in running)
    used = spent(tmp_path, "s").flops
    assert limit - 2 * 356_256 * 56 < used <= limit
