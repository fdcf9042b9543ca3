"""The transformers engine: greedy text equals `generate`, samples follow the distribution and do not depend on the
batch."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.random_models import (
    BPE_PROMPTS,
    CONTEXT,
    GREEDY,
    KINDS,
    LLAMA,
    MAX_TOKENS,
    SAMPLING,
    ask,
    generated,
    random_model,
    texts,
    wc,
)

from cos_assets.generation.engines.transformers import TransformersEngine, decoding, drawing
from cos_assets.generation.engines.transformers import engine as module
from cos_assets.generation.generate import open_engine
from cos_assets.generation.prompts import prompt_ids
from cos_assets.generation.tokens import completion_ids, decode
from cos_assets.generation.types import Model, Request, Sampling
from cos_assets.tiny import shipped


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Samples are independent of the batch only with one thread."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return wc()


@pytest.fixture(scope="module")
def prompts() -> dict[str, str]:
    from cos_assets.tasks.arithmetic import Arithmetic

    task = Arithmetic(train=1, validation=1, test=64)
    problems = task.load().filter(pl.col("split") == "test")
    return {p["problem_id"]: task.prompt(p) for p in problems.to_dicts()}


def test_greedy_text_equals_generate(engine: TransformersEngine, prompts: dict[str, str]) -> None:
    expected = generated(shipped("wc"), prompts, MAX_TOKENS)
    found = ask(engine, prompts, (0,), GREEDY)
    assert {p: (c.text, c.completion_tokens) for (p, _), c in found.items()} == expected
    assert len({text for text, _ in expected.values()}) > 30, "the texts depend on the prompts"
    assert len({c.prompt_tokens for c in found.values()}) > 10, "prompts of many lengths"


@pytest.mark.parametrize("multiple", [1, 16])
def test_padding_does_not_change_greedy_text(
    multiple: int, engine: TransformersEngine, prompts: dict[str, str]
) -> None:
    assert texts(ask(wc(pad_to_multiple_of=multiple), prompts, (0,), GREEDY)) == texts(
        ask(engine, prompts, (0,), GREEDY)
    )


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(0.9, 8, 1.0), (1.5, None, 0.8), (2.0, 20, 0.7), (1.0, None, 1.0)]
)
def test_first_token_has_the_models_distribution(
    engine: TransformersEngine, prompts: dict[str, str], temperature: float, top_k: int | None, top_p: float
) -> None:
    """A chi-squared test against the filtered softmax, on 4,000 samples of a fixed seed."""
    import torch
    from scipy.stats import chisquare
    from transformers import AutoModelForCausalLM, AutoTokenizer

    n = 4000
    problem_id, prompt = next(iter(prompts.items()))
    tokenizer = AutoTokenizer.from_pretrained(shipped("wc"))
    network: Any = AutoModelForCausalLM.from_pretrained(shipped("wc"), dtype=torch.float32)
    with torch.inference_mode():
        logits = network(torch.tensor([prompt_ids(tokenizer, prompt)])).logits[0, -1].double().numpy()
    expected = np.exp((logits - logits.max()) / temperature)
    order = np.argsort(-expected)
    expected[order[top_k or len(order) :]] = 0
    expected /= expected.sum()
    expected[order[1:][np.cumsum(expected[order])[:-1] >= top_p]] = 0
    expected /= expected.sum()

    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, max_tokens=1, seed=3)
    found = ask(engine, {problem_id: prompt}, tuple(range(n)), sampling)
    counts = Counter(c.text for c in found.values())
    allowed = np.flatnonzero(expected)
    names = [decode(tokenizer, [int(i)]) for i in allowed]
    if top_k or top_p < 1:
        assert set(counts) <= set(names)
    common = allowed[expected[allowed] * n >= 5]
    seen = [counts[decode(tokenizer, [int(i)])] for i in common]
    wanted = [expected[i] * n for i in common]
    rest = n - sum(wanted)
    if rest > 1e-6:
        seen, wanted = [*seen, n - sum(seen)], [*wanted, rest]
    assert len(wanted) > 2
    assert chisquare(seen, wanted).pvalue > 0.001


PROBABILITIES = np.array([0.2, 0.4, 0.1, 0.3])


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(temperature=1), {0: 2 / 10, 1: 4 / 10, 2: 1 / 10, 3: 3 / 10}),
        (Sampling(temperature=0.5), {0: 4 / 30, 1: 16 / 30, 2: 1 / 30, 3: 9 / 30}),
        (Sampling(temperature=1, top_k=2), {1: 4 / 7, 3: 3 / 7}),
        (Sampling(temperature=1, top_k=9), {0: 2 / 10, 1: 4 / 10, 2: 1 / 10, 3: 3 / 10}),
        (Sampling(temperature=1, top_p=0.6), {1: 4 / 7, 3: 3 / 7}),
        (Sampling(temperature=1, top_p=0.75), {0: 2 / 9, 1: 4 / 9, 3: 3 / 9}),
        (Sampling(temperature=1, top_p=0.01), {1: 1.0}),
        # Top-p comes after top-k: of 4/9, 3/9, 2/9 the first two reach 0.75.
        (Sampling(temperature=1, top_k=3, top_p=0.75), {1: 4 / 7, 3: 3 / 7}),
        # And after the temperature: of 16/30, 9/30, 4/30, 1/30 the first two reach 0.75.
        (Sampling(temperature=0.5, top_p=0.75), {1: 16 / 25, 3: 9 / 25}),
        (Sampling(temperature=1e-9), {1: 1.0}),
        (Sampling(temperature=0), {1: 1.0}),
    ],
)
def test_filtered_sampling_gives_the_expected_shares(
    sampling: Sampling, expected: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evenly spaced uniforms give each token its share."""
    import torch

    n = 63_000
    logits = torch.tensor(np.log(PROBABILITIES) + 3, dtype=torch.float32).expand(n, -1)
    uniforms = torch.arange(n, dtype=torch.float64)[:, None] / n
    drawn = drawing.draw(logits, uniforms, sampling)
    shares = {i: int((drawn == i).sum()) / n for i in range(4) if (drawn == i).any()}
    assert shares == pytest.approx(expected, abs=2 / n)
    monkeypatch.setattr(drawing, "_DRAW_CELLS", 4 * 1000)  # large vocabularies are done in parts
    assert torch.equal(drawing.draw(logits, uniforms, sampling), drawn)


def test_a_token_of_probability_zero_is_never_drawn() -> None:
    import torch

    logits = torch.tensor([[-torch.inf, 1.0, 2.0, -torch.inf]]).expand(3, -1)
    ends = torch.tensor([[0.0], [np.nextafter(1, 0)], [0.5]], dtype=torch.float64)
    for top_k, top_p in ((None, 1.0), (4, 1.0), (None, 0.99), (3, 0.5)):
        sampling = Sampling(temperature=0.3, top_k=top_k, top_p=top_p)
        assert set(drawing.draw(logits, ends, sampling).tolist()) <= {1, 2}


def test_a_sample_does_not_depend_on_order_batch_or_other_prompts(
    engine: TransformersEngine, prompts: dict[str, str]
) -> None:
    first = texts(ask(engine, prompts, tuple(range(8))))
    distinct = [len({first[p, i] for i in range(8)}) for p in prompts]
    assert sum(distinct) > 3 * len(prompts), "the samples of one prompt differ"
    items = list(prompts.items())
    assert texts(ask(engine, dict(reversed(items)), tuple(reversed(range(8))))) == first
    assert texts(ask(wc(batch_size=7), prompts, tuple(range(8)))) == first
    for rows, indices in ((items[10:30], (5, 2)), (items[3:4], (7,)), (items[40:42], (0,)), (items[:1], (1, 2, 3))):
        part = texts(ask(engine, dict(rows), indices))
        assert part == {key: first[key] for key in part}
    # The id of the problem has no effect.
    twice = texts(ask(engine, {"a": items[0][1], "b": items[0][1]}, (4,)))
    assert twice["a", 4] == twice["b", 4] == first[items[0][0], 4]


def most_alike(engine: TransformersEngine, jobs: list[decoding.Job]) -> tuple[list[decoding.Job], int]:
    """Return the largest of the batches that the engine makes of the jobs, and the padded length of its prompts."""
    waiting = deque(sorted(jobs, key=lambda job: len(job.prompt)))
    empty, batches = decoding.Batch(engine._network, SAMPLING), []
    while waiting:
        batches.append(engine._next(waiting, empty))
        for _ in batches[-1][0]:
            waiting.popleft()
    return max(batches, key=lambda part: len(part[0]))


def test_the_logits_of_a_row_are_bitwise_equal_in_any_batch(
    engine: TransformersEngine, prompts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The condition for the test above: equal texts alone could be chance."""
    import torch

    logits: list[Any] = []
    plain = decoding.draw

    def recorded(x: Any, uniforms: Any, sampling: Sampling) -> Any:
        logits.append(x)
        return plain(x, uniforms, sampling)

    monkeypatch.setattr(decoding, "draw", recorded)
    ask(engine, dict(list(prompts.items())[:1]), (0,))
    jobs, _ = engine._jobs([Request(p, t, (0, 1)) for p, t in prompts.items()], SAMPLING)
    chunk, padded = most_alike(engine, jobs)
    assert len(chunk) > 40

    def run(chunk: list[decoding.Job], row: int, drop_to: list[int]) -> Any:
        """The logits of one row for 10 steps, the last 5 after all rows but `drop_to` are gone."""
        logits.clear()
        batch = decoding.Batch(engine._network, SAMPLING)
        batch.admit(chunk, padded)
        batch.advance(4)
        batch.live[:] = np.isin(np.arange(len(chunk)), drop_to)
        batch.keep_live()
        batch.advance(5)
        return torch.stack([x[row] for x in logits[:5]] + [x[drop_to.index(row)] for x in logits[5:]])

    for row in (0, 7, 30):
        whole = run(chunk, row, list(range(len(chunk))))
        assert torch.equal(run(chunk[row : row + 1], 0, [0]), whole)
        assert torch.equal(run(chunk, row, [row]), whole)
        assert torch.equal(run(chunk[row - 2 if row else 0 : row + 9], 2 if row else 0, [2 if row else 0, 4]), whole)


def test_another_seed_gives_other_samples(engine: TransformersEngine, prompts: dict[str, str]) -> None:
    first = texts(ask(engine, prompts, (0, 1)))
    other = texts(ask(engine, prompts, (0, 1), SAMPLING.model_copy(update={"seed": 2})))
    assert sum(other[key] != text for key, text in first.items()) > len(first) / 4
    greedy = texts(ask(engine, prompts, (0,), GREEDY))
    assert texts(ask(engine, prompts, (0,), GREEDY.model_copy(update={"seed": 2}))) == greedy


def test_prompt_and_completion_tokens_are_counted(engine: TransformersEngine, prompts: dict[str, str]) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shipped("wc"))
    found = ask(engine, prompts, (0, 1, 2))
    for completion in found.values():
        assert completion.prompt_tokens == len(prompt_ids(tokenizer, completion.prompt))
        assert completion.error is None
        assert completion.seconds > 0
        ids = completion_ids(tokenizer, completion.text)
        if completion.finish_reason == "stop":
            assert completion.completion_tokens == len(ids), "the end token is counted"
        else:
            assert (completion.finish_reason, completion.completion_tokens) == ("length", MAX_TOKENS)
    for problem_id in prompts:
        length = found[problem_id, 0].prompt_tokens
        cached = sorted(found[problem_id, i].cached_tokens or 0 for i in range(3))
        assert cached == [0, length, length], "a prompt is run once"
    short = ask(engine, prompts, (0,), SAMPLING.model_copy(update={"max_tokens": 5}))
    assert {(c.finish_reason, c.completion_tokens) for c in short.values()} == {("length", 5)}


@pytest.mark.parametrize("stop", ["answer", "The answer", ". The"])
def test_stop_string_ends_a_completion(engine: TransformersEngine, prompts: dict[str, str], stop: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shipped("wc"))
    whole = ask(engine, prompts, (0,), GREEDY)
    cut = ask(engine, prompts, (0,), GREEDY.model_copy(update={"stop": ("Question", stop)}))
    stopped = 0
    for key, completion in whole.items():
        if stop not in completion.text:
            assert cut[key].text == completion.text
            continue
        stopped += 1
        assert cut[key].text == completion.text.split(stop)[0]
        assert cut[key].finish_reason == "stop"
        n = cut[key].completion_tokens
        ids = completion_ids(tokenizer, completion.text)
        assert n is not None
        assert stop in decode(tokenizer, ids[:n])
        assert stop not in decode(tokenizer, ids[: n - 1])
    assert stopped > len(prompts) / 2


def test_a_prompt_that_is_too_long_does_not_affect_the_others(
    engine: TransformersEngine, prompts: dict[str, str]
) -> None:
    (good, prompt), *_ = prompts.items()
    found = ask(engine, {"long": prompt * 100, "none": "", good: prompt}, (0, 1))
    alone = ask(engine, {good: prompt}, (0, 1))
    for index in (0, 1):
        assert found[good, index].text == alone[good, index].text
        for name in ("long", "none"):
            assert (found[name, index].finish_reason, found[name, index].text) == ("error", "")
            assert found[name, index].completion_tokens == 0
        assert f"maximum context length is {CONTEXT}" in (found["long", index].error or "")
        assert "no tokens" in (found["none", index].error or "")


def test_a_completion_ends_at_the_context_length(engine: TransformersEngine, prompts: dict[str, str]) -> None:
    """In a batch with a prompt of two tokens less, padded to the same length."""
    words = prompts[next(iter(prompts))].split()
    near = {str(n): " ".join((words * 100)[:n]) for n in (CONTEXT - 5, CONTEXT - 3)}
    found = ask(engine, near, (0,), Sampling(temperature=50, max_tokens=MAX_TOKENS, seed=1))
    for name, room in ((str(CONTEXT - 5), 5), (str(CONTEXT - 3), 3)):
        assert found[name, 0].prompt_tokens == int(name)
        assert (found[name, 0].finish_reason, found[name, 0].completion_tokens) == ("length", room)


def test_samples_arrive_before_all_are_done(prompts: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also: closing the stream leaves no state, and a closed engine can be used again."""
    engine = wc(batch_size=100)
    requests = [Request(p, t, tuple(range(20))) for p, t in prompts.items()]
    whole = list(engine.stream(requests, SAMPLING))
    assert max(map(len, whole)) <= 100
    monkeypatch.setattr(module, "_FLUSH_SECONDS", 0.0)  # every batch takes too long, so it is returned in parts
    parts = list(engine.stream(requests, SAMPLING))
    assert len(parts) > 2 * len(whole)
    assert sorted((c.problem_id, c.index, c.text) for part in parts for c in part) == sorted(
        (c.problem_id, c.index, c.text) for part in whole for c in part
    )
    stream: Any = engine.stream(requests, SAMPLING)
    next(stream)
    stream.close()
    before = texts(ask(engine, prompts, (0,)))
    engine.close()
    engine.close()
    assert texts(ask(engine, prompts, (0,))) == before


def test_an_empty_order_loads_no_model() -> None:
    engine = open_engine(Model("no/such-model", "m", "transformers"))
    assert list(engine.stream([], SAMPLING)) == []
    engine.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"trust_remote_code": True},
            r"engine_options\.trust_remote_code: unknown key; allowed: dtype, device, batch_size, pad_to_multiple_of",
        ),
        ({"batch_size": 0}, r"engine_options\.batch_size: 0 is not allowed; expected a whole number of 1 or more"),
        ({"batch_size": True}, r"engine_options\.batch_size: True is not allowed"),
        ({"pad_to_multiple_of": 1.5}, r"engine_options\.pad_to_multiple_of: 1\.5 is not allowed"),
        ({"dtype": "int8"}, r"engine_options\.dtype: 'int8' is not allowed; expected one of float32, bfloat16"),
        ({"device": "tpu"}, r"engine_options\.device: 'tpu' is not allowed; expected cpu, cuda or cuda:<n>"),
    ],
)
def test_an_invalid_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_engine(Model("m", "m", "transformers", engine_options=options))


@pytest.mark.parametrize("kind", KINDS)
def test_other_architectures_and_tokenizers_match_generate(kind: str, tmp_path: Path) -> None:
    folder = random_model(tmp_path, kind, **KINDS[kind])
    expected = generated(folder, BPE_PROMPTS, 30)
    engine = open_engine(Model(str(folder), kind, "transformers", engine_options={"device": "cpu"}))
    found = ask(engine, BPE_PROMPTS, (0,), Sampling(temperature=0, max_tokens=30))
    assert {p: (c.text, c.completion_tokens) for (p, _), c in found.items()} == expected
    assert len({text for text, _ in expected.values()}) > 6
    sampling = Sampling(temperature=1, top_p=0.9, max_tokens=20)
    first = texts(ask(engine, BPE_PROMPTS, (0, 1, 2), sampling))
    part = texts(ask(engine, {"3": BPE_PROMPTS["3"]}, (1,), sampling))
    assert part["3", 1] == first["3", 1]


def test_every_end_token_of_the_generation_config_ends_a_completion(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, GenerationConfig

    folder = random_model(tmp_path, "llama", **LLAMA)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = Model(str(folder), "m", "transformers", engine_options={"device": "cpu"})
    sampling = Sampling(temperature=1, max_tokens=20)
    whole = ask(open_engine(model), BPE_PROMPTS, tuple(range(10)), sampling)
    digit = tokenizer.convert_tokens_to_ids("7")
    GenerationConfig(eos_token_id=[2, digit]).save_pretrained(folder)
    found = ask(open_engine(model), BPE_PROMPTS, tuple(range(10)), sampling)
    ended = 0
    for key, completion in whole.items():
        assert found[key].text == completion.text.split("7")[0]
        if "7" in completion.text:
            ended += 1
            assert found[key].finish_reason == "stop"
            assert 0 < (found[key].completion_tokens or 0) <= (completion.completion_tokens or 0)
    assert ended > 3


def test_models_that_cannot_be_sampled_are_refused_with_the_reason(tmp_path: Path) -> None:
    request = [Request("p", "Zoë buys", (0,))]
    broken = random_model(tmp_path / "nan", "llama", spoil=True, **LLAMA)
    with pytest.raises(ValueError, match="NaN logits"):
        list(
            open_engine(Model(str(broken), "m", "transformers", engine_options={"device": "cpu"})).stream(
                request, GREEDY
            )
        )
    mamba = random_model(tmp_path / "mamba", "mamba", hidden_size=16, num_hidden_layers=1)
    with pytest.raises(ValueError, match="has no key-value cache"):
        list(
            open_engine(Model(str(mamba), "m", "transformers", engine_options={"device": "cpu"})).stream(
                request, GREEDY
            )
        )
