"""The vLLM engine on the shipped WC model: greedy text equals transformers, seeds repeat samples, tokens are
counted."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest

from cos_assets.generation.completions import cut, sample_seed
from cos_assets.generation.engines.vllm import VllmEngine
from cos_assets.generation.generate import open_engine
from cos_assets.generation.types import Completion, Model, Request, Sampling

MAX_TOKENS = 56
SAMPLING = Sampling(temperature=0.7, top_k=3, max_tokens=MAX_TOKENS, seed=1)
Samples = dict[tuple[str, int], Completion]


def test_stop_strings_end_the_text() -> None:
    assert cut("a b\nQuestion: c\nQuestion: d", ("\nQuestion:",)) == "a b"
    assert cut("one two three", ("three", "two")) == "one "
    assert cut("one", ()) == cut("one", ("two",)) == "one"


def test_every_sample_has_its_own_seed() -> None:
    seeds = {sample_seed(s, p, i) for s in range(3) for p in ("a", "b", "1/a") for i in range(20)}
    assert len(seeds) == 3 * 3 * 20
    assert all(0 <= s < 2**56 for s in seeds)
    assert sample_seed(0, "a", 1) == 0x62DE5AB5CA7136, (
        "seeds must not change between versions: stored samples refer to them"
    )


def test_missing_vllm_is_reported_with_the_command_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ModuleNotFoundError, match=r"install it with `make gpu` \(CUDA\) or `pip install --no-deps -r requirements"
    ):
        open_engine(Model("m", "m", "vllm"))


@pytest.fixture(scope="module")
def model() -> Model:
    try:
        import vllm  # noqa: F401
    except ImportError as error:
        if os.environ.get("CI"):
            pytest.fail(f"vllm cannot be imported ({error}): in CI these tests must run")
        pytest.skip(f"vllm cannot be imported ({error})")
    from cos_assets.tiny import shipped

    return Model(str(shipped("wc")), "wc", "vllm", engine_options={"max_num_seqs": 64})


@pytest.fixture(scope="module")
def engine(model: Model) -> Iterator[VllmEngine]:
    engine = open_engine(model)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def prompts() -> dict[str, str]:
    from cos_assets.tasks.arithmetic import Arithmetic

    task = Arithmetic(train=1, validation=1, test=50)
    problems = task.load().filter(pl.col("split") == "test")
    return {p["problem_id"]: task.prompt(p) for p in problems.to_dicts()}


def ask(
    engine: VllmEngine, prompts: dict[str, str], indices: tuple[int, ...], sampling: Sampling = SAMPLING
) -> Samples:
    requests = [Request(problem_id, prompt, indices) for problem_id, prompt in prompts.items()]
    found = [c for batch in engine.stream(requests, sampling) for c in batch]
    assert sorted((c.problem_id, c.index) for c in found) == sorted((p, i) for p in prompts for i in indices)
    return {(c.problem_id, c.index): c for c in found}


def greedy_with_transformers(model: Model, prompts: dict[str, str]) -> dict[str, tuple[str, int]]:
    """The text and its number of tokens, one prompt at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from cos_assets.generation.prompts import prompt_ids
    from cos_assets.generation.tokens import decode

    tokenizer = AutoTokenizer.from_pretrained(model.model_id)
    network: Any = AutoModelForCausalLM.from_pretrained(model.model_id, dtype=torch.float32)
    texts = {}
    for problem_id, prompt in prompts.items():
        ids = torch.tensor([prompt_ids(tokenizer, prompt)])
        out = network.generate(ids, do_sample=False, max_new_tokens=MAX_TOKENS, eos_token_id=tokenizer.eos_token_id)
        new = out[0, ids.shape[1] :].tolist()
        texts[problem_id] = decode(tokenizer, new), len(new)
    return texts


def test_greedy_text_equals_transformers(engine: VllmEngine, model: Model, prompts: dict[str, str]) -> None:
    expected = greedy_with_transformers(model, prompts)
    found = ask(engine, prompts, (0,), Sampling(temperature=0, max_tokens=MAX_TOKENS))
    assert {p: (c.text, c.completion_tokens) for (p, _), c in found.items()} == expected
    assert len({text for text, _ in expected.values()}) > 25, "the texts depend on the prompts"


def test_samples_differ_and_a_seed_repeats_them(engine: VllmEngine, prompts: dict[str, str]) -> None:
    first = ask(engine, prompts, tuple(range(8)))
    texts = {k: c.text for k, c in first.items()}
    assert {k: c.text for k, c in ask(engine, prompts, tuple(range(8))).items()} == texts
    distinct = [len({texts[p, i] for i in range(8)}) for p in prompts]
    assert sum(distinct) > 3 * len(prompts), "the samples of one prompt differ"
    # A sample does not depend on the other samples of the purchase.
    part = ask(engine, dict(list(prompts.items())[10:20]), (5, 2))
    assert {k: c.text for k, c in part.items()} == {k: texts[k] for k in part}
    other = ask(engine, prompts, tuple(range(8)), SAMPLING.model_copy(update={"seed": 2}))
    assert sum(c.text != texts[k] for k, c in other.items()) > len(texts) / 4


def test_prompt_and_completion_tokens_are_counted(engine: VllmEngine, prompts: dict[str, str]) -> None:
    from transformers import AutoTokenizer

    from cos_assets.generation.prompts import prompt_ids
    from cos_assets.generation.tokens import completion_ids

    tokenizer = AutoTokenizer.from_pretrained(engine._model.model_id)
    for completion in ask(engine, prompts, (0, 1)).values():
        assert completion.prompt_tokens == len(prompt_ids(tokenizer, completion.prompt))
        assert completion.error is None
        if completion.finish_reason == "stop":
            assert completion.completion_tokens == len(completion_ids(tokenizer, completion.text))
    short = ask(engine, prompts, (0,), SAMPLING.model_copy(update={"max_tokens": 5}))
    assert {(c.finish_reason, c.completion_tokens) for c in short.values()} == {("length", 5)}


def test_stop_string_ends_a_completion(engine: VllmEngine, prompts: dict[str, str]) -> None:
    greedy = Sampling(temperature=0, max_tokens=MAX_TOKENS)
    whole = ask(engine, prompts, (0,), greedy)
    cut = ask(engine, prompts, (0,), greedy.model_copy(update={"stop": ("answer",)}))
    stopped = [k for k, c in whole.items() if "answer" in c.text]
    assert stopped
    for key in stopped:
        assert cut[key].text == whole[key].text.split("answer")[0]
        assert cut[key].finish_reason == "stop"
        assert cut[key].completion_tokens < whole[key].completion_tokens


def test_a_prompt_that_is_too_long_does_not_affect_the_others(engine: VllmEngine, prompts: dict[str, str]) -> None:
    (good, prompt), *_ = prompts.items()
    found = ask(engine, {good: prompt, "long": prompt * 1000}, (0, 1))
    assert found[good, 0].finish_reason in ("stop", "length")
    for index in (0, 1):
        assert found["long", index].finish_reason == "error"
        assert found["long", index].completion_tokens == 0
        assert "maximum context length" in (found["long", index].error or "")


def test_samples_arrive_before_all_are_done(engine: VllmEngine, prompts: dict[str, str]) -> None:
    """Also: closing the stream leaves no state for the next call."""
    requests = [Request(p, t, tuple(range(20))) for p, t in prompts.items()]
    stream = engine.stream(requests, SAMPLING)
    first = next(stream)
    assert 0 < len(first) < 20 * len(prompts) / 2
    stream.close()
    ask(engine, prompts, (0,))


def test_the_number_of_torch_threads_can_be_set_after_loading(engine: VllmEngine, prompts: dict[str, str]) -> None:
    import torch

    ask(engine, prompts, (0,))
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_an_unknown_option_is_refused_with_its_name(model: Model) -> None:
    wrong = Model(model.model_id, "wc", "vllm", engine_options={"max_seqs": 3})
    with pytest.raises(ValueError, match=r"engine_options: .*max_seqs"):
        next(iter(open_engine(wrong).stream([Request("p", "x", (0,))], SAMPLING)))
