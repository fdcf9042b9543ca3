"""Samples that take the places of finished ones, where samples may depend on the batch.

Rounding may differ from that of a sample alone, so sampled texts are compared as a share.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.random_models import BPE_PROMPTS, GREEDY, KINDS, SAMPLING, ask, generated, random_model, texts, wc

from cos_assets.generation.engines.transformers import TransformersEngine, decoding
from cos_assets.generation.engines.transformers import engine as engine_module
from cos_assets.generation.engines.transformers.decoding import Batch, Job, ReasoningLimit
from cos_assets.generation.generate import open_engine
from cos_assets.generation.types import Model, Sampling
from cos_assets.tasks.arithmetic import Arithmetic
from cos_assets.tiny import shipped

ROWS = 8


@pytest.fixture(autouse=True)
def dependent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with several threads, which would compete with those of other tests."""
    for module in (decoding, engine_module):
        monkeypatch.setattr(module, "independent", lambda network: False)


@pytest.fixture(scope="module")
def prompts() -> dict[str, str]:
    task = Arithmetic(train=1, validation=1, test=24)
    problems = [problem for problem in task.load().to_dicts() if problem["split"] == "test"]
    return {problem["problem_id"]: task.prompt(problem) for problem in problems}


@pytest.fixture
def admitted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """For each call of `admit`: the rows that were there, and those that were added."""
    calls: list[tuple[int, int]] = []
    admit = Batch.admit

    def noted(self: Batch, jobs: list[Job], padded: int) -> None:
        calls.append((len(self.jobs), len(jobs)))
        admit(self, jobs, padded)

    monkeypatch.setattr(Batch, "admit", noted)
    return calls


def joined(calls: list[tuple[int, int]]) -> int:
    return sum(new for before, new in calls if before)


def test_greedy_text_of_joined_samples_equals_generate(
    prompts: dict[str, str], admitted: list[tuple[int, int]]
) -> None:
    expected = generated(shipped("wc"), prompts, GREEDY.max_tokens)
    found = ask(wc(batch_size=ROWS), prompts, (0,), GREEDY)
    assert {p: (c.text, c.completion_tokens) for (p, _), c in found.items()} == expected
    assert joined(admitted) > len(prompts) / 4
    assert all(before + new <= ROWS for before, new in admitted)


@pytest.mark.parametrize(
    "more",
    [{}, {"top_k": None, "top_p": 0.9}, {"repetition_penalty": 1.2, "frequency_penalty": 0.3}, {"stop": ("\n", "7 ")}],
    ids=str,
)
def test_joined_samples_are_those_of_one_batch(
    prompts: dict[str, str], admitted: list[tuple[int, int]], more: dict[str, Any]
) -> None:
    sampling = SAMPLING.model_copy(update=more)
    whole = ask(wc(), prompts, (0, 1, 2), sampling)
    assert joined(admitted) == 0
    found = ask(wc(batch_size=ROWS), prompts, (0, 1, 2), sampling)
    assert joined(admitted) > len(whole) / 4
    same = sum(found[key].text == completion.text for key, completion in whole.items())
    assert same >= 0.95 * len(whole)
    assert len(set(texts(whole).values())) > len(whole) / 4


def test_a_prompt_counts_as_cached_once_it_has_been_processed(
    prompts: dict[str, str], admitted: list[tuple[int, int]]
) -> None:
    """A prompt whose samples begin at different times is processed again, and counts as such."""
    found = ask(wc(batch_size=ROWS), prompts, tuple(range(5)))
    paid = sum(not completion.cached_tokens for completion in found.values())
    assert len(prompts) <= paid <= len(prompts) + len(admitted)
    assert all(completion.cached_tokens in (0, completion.prompt_tokens) for completion in found.values())


@pytest.mark.parametrize("kind", KINDS)
def test_architectures_join_samples_where_all_layers_keep_all_tokens(
    kind: str, tmp_path: Path, admitted: list[tuple[int, int]]
) -> None:
    folder = random_model(tmp_path, kind, **KINDS[kind])
    expected = generated(folder, BPE_PROMPTS, 30)
    engine = open_engine(Model(str(folder), kind, "transformers", engine_options={"device": "cpu", "batch_size": 4}))
    found = ask(engine, BPE_PROMPTS, (0,), Sampling(temperature=0, max_tokens=30))
    assert {p: (c.text, c.completion_tokens) for (p, _), c in found.items()} == expected
    # Rows end at different times if a frequent character ends them.
    ask(engine, BPE_PROMPTS, (0, 1), Sampling(temperature=1, max_tokens=30, stop=("a", "e", "i")))
    assert (joined(admitted) > 0) == (kind != "mistral"), "a sliding window does not keep all tokens"


def test_the_limit_of_reasoning_counts_from_the_beginning_of_each_sample(
    prompts: dict[str, str], admitted: list[tuple[int, int]]
) -> None:
    engine = wc(batch_size=ROWS)
    engine.load()
    closing = engine._tokenizer("= =", add_special_tokens=False)["input_ids"]
    engine._limit = ReasoningLimit(5, [], closing)
    found = ask(engine, prompts, (0, 1))
    assert joined(admitted) > len(prompts) / 4
    for completion in found.values():
        ids = engine._tokenizer(completion.text, add_special_tokens=False)["input_ids"]
        assert ids[5 : 5 + len(closing)] == closing, completion.text


def test_rows_have_room_for_the_longest_sample(monkeypatch: pytest.MonkeyPatch, prompts: dict[str, str]) -> None:
    """The cache of a batch stays below the memory that is set aside for it, whenever samples join."""
    widths: list[int] = []
    keep = Batch.keep_live

    def noted(self: Batch) -> None:
        keep(self)
        if self._cache is not None:
            widths.append(self._cache.get_seq_length())

    monkeypatch.setattr(Batch, "keep_live", noted)
    engine: TransformersEngine = wc(batch_size=ROWS)
    found = ask(engine, prompts, tuple(range(4)))
    longest = max((c.prompt_tokens or 0) + (c.completion_tokens or 0) for c in found.values())
    assert widths
    assert max(widths) <= longest
