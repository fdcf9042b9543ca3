"""Reasoning: templates that ask for it, budgets that end it, and completions that keep it apart from the reply."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support import thinking

from cos_assets.generation.completions import text_of
from cos_assets.generation.generate import Buyer, generate, open_engine
from cos_assets.generation.ledger import Ledger, prompt_hash
from cos_assets.generation.model import resolve
from cos_assets.generation.prompts import assistant_ids, opens_reasoning, prompt_ids, tags
from cos_assets.generation.tokens import completion_ids, decode
from cos_assets.generation.types import Chat, Completion, Model, Reasoning, Request, Sampling
from cos_assets.training.data import encode

ON, OFF = Chat(reasoning=Reasoning(mode="on")), Chat(reasoning=Reasoning(mode="off"))


def shown(template: str, chat: Chat, prompt: str = "2 + 3?") -> str:
    tokenizer = thinking.tokenizer(template)
    return tokenizer.decode(prompt_ids(tokenizer, prompt, chat))


# --- templates -------------------------------------------------------------------------------------------------------


def test_a_mode_sets_the_switch_of_the_template() -> None:
    assert shown(thinking.SWITCH, Chat()) == shown(thinking.SWITCH, ON)
    assert shown(thinking.SWITCH, ON).endswith("assistant\n")
    assert shown(thinking.SWITCH, OFF).endswith("assistant\n<think>\n\n</think>\n\n")
    explicit = Chat(kwargs={"enable_thinking": True}, reasoning=Reasoning(mode="off"))
    assert shown(thinking.SWITCH, explicit) == shown(thinking.SWITCH, ON), "chat_template_kwargs take precedence"


def test_reasoning_that_cannot_be_turned_off_is_refused() -> None:
    with pytest.raises(ValueError, match=r"reasoning.mode: off, but the chat template has no switch .*enable_thinking"):
        shown(thinking.OPENED, OFF)
    with pytest.raises(ValueError, match=r"reasoning.effort: the chat template knows no reasoning_effort"):
        shown(thinking.SWITCH, Chat(reasoning=Reasoning(effort="low")))
    assert shown(thinking.NO_SYSTEM, OFF) == shown(thinking.NO_SYSTEM, Chat()), "it never reasons"


def test_a_prompt_may_end_inside_the_reasoning() -> None:
    assert [
        opens_reasoning(thinking.tokenizer(template), chat)
        for template, chat in [
            (thinking.OPENED, Chat()),
            (thinking.SWITCH, ON),
            (thinking.SWITCH, OFF),
            (thinking.SWITCH, None),
        ]
    ] == [True, False, False, False]


def test_a_system_message_is_sent_or_put_in_front_of_the_prompt() -> None:
    told = Chat(system="Be brief.")
    assert shown(thinking.SWITCH, told).startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2 + 3?")
    rejected = shown(thinking.NO_SYSTEM, told)
    assert rejected.startswith("<|im_start|><start_of_turn>user\nBe brief.\n\n2 + 3?<end_of_turn>")
    leaves_out = "{% for m in messages %}{% if m.role == 'user' %}[{{ m.content }}]{% endif %}{% endfor %}"
    assert shown(leaves_out, told) == "[Be brief.\n\n2 + 3?]"


def test_a_template_that_adds_bos_gives_one_bos() -> None:
    tokenizer = thinking.tokenizer(thinking.NO_SYSTEM)
    assert prompt_ids(tokenizer, "2 + 3?", Chat()).count(tokenizer.bos_token_id) == 1


def test_tags_are_those_of_the_template() -> None:
    own = "{{ messages[0].content }}{% if false %}[THINK]x[/THINK]{% endif %}"
    assert tags(thinking.tokenizer(own), Chat()) == ("[THINK]", "[/THINK]")
    assert tags(thinking.tokenizer(own), None) == ("<think>", "</think>")


# --- completions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "inside", "expected"),
    [
        ("<think>\n2 + 3\n</think>\n\nIt is 5.", False, ("\n2 + 3\n", "\n\nIt is 5.")),
        ("2 + 3\n</think>\n\nIt is 5.", True, ("2 + 3\n", "\n\nIt is 5.")),
        ("2 + ", True, ("2 + ", "")),
        ("<think>2 + ", False, ("2 + ", "")),
        ("It is 5.", False, (None, "It is 5.")),
    ],
)
def test_generated_tokens_are_split(text: str, inside: bool, expected: tuple[str | None, str]) -> None:
    tokenizer = thinking.tokenizer(thinking.SWITCH)
    ids = completion_ids(tokenizer, text, ended=False)
    found = text_of(tokenizer, ids, (), Chat(), inside)
    assert (found.reasoning, found.reply) == expected
    rest = decode(tokenizer, ids[found.reasoning_tokens :])
    assert rest.endswith(found.reply) and len(rest) <= len(found.reply) + 1, "the tokens up to the reply are reasoning"
    dropped = text_of(tokenizer, ids, (), Chat(reasoning=Reasoning(keep=False)), inside)
    assert dropped == (None, found.reply, found.reasoning_tokens)


def test_tags_that_are_special_tokens_are_read() -> None:
    tokenizer = thinking.tokenizer(thinking.PLAIN)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]"]})
    ids = tokenizer("[THINK]2 + 3[/THINK]5<|im_end|>", add_special_tokens=False)["input_ids"]
    assert {"[THINK]", "[/THINK]", "<|im_end|>"} <= set(tokenizer.convert_ids_to_tokens(ids))
    assert text_of(tokenizer, ids, (), Chat(), False)[:2] == ("2 + 3", "5")


def test_stop_strings_do_not_end_the_reasoning() -> None:
    tokenizer = thinking.tokenizer(thinking.OPENED)
    ids = completion_ids(tokenizer, "Q: x</think>5 Q: y", ended=False)
    assert text_of(tokenizer, ids, ("Q:",), Chat(), True)[:2] == ("Q: x", "5 ")
    assert text_of(tokenizer, ids[:3], ("Q:",), Chat(), True).reply == ""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: thinking.model(root / name, getattr(thinking, name)) for name in ("SWITCH", "OPENED")}


def sampled(model: Model, tokens: int) -> list[Completion]:
    engine = open_engine(model)
    requests = [Request(str(n), f"{n} + 3?", (0, 1)) for n in range(3)]
    try:
        sampling = Sampling(temperature=1.0, max_tokens=tokens)
        found = [one for batch in engine.stream(requests, sampling) for one in batch]
    finally:
        engine.close()
    return sorted(found, key=lambda one: (one.problem_id, one.index))


@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_a_budget_ends_the_reasoning(folders: dict[str, Path], engine: str) -> None:
    """An untrained model never ends its reasoning; with a budget it replies."""
    if engine == "vllm":
        pytest.importorskip("vllm")
    options = {"max_model_len": 512} if engine == "vllm" else {}
    model = resolve(str(folders["OPENED"]), engine=engine, chat=Chat(), options=options)
    for one in sampled(model, 40):
        assert one.text == "" and one.reasoning and one.reasoning_tokens == one.completion_tokens
    limited = resolve(str(folders["OPENED"]), engine=engine, chat=Chat(reasoning=Reasoning(budget=10)), options=options)
    tokenizer = thinking.tokenizer(thinking.OPENED)
    most = 10 + len(completion_ids(tokenizer, "</think>", ended=False))
    late = 0 if engine == "transformers" else 5  # vLLM counts a few tokens late
    for one in sampled(limited, 60):
        assert one.completion_tokens is not None and one.reasoning_tokens is not None
        if one.completion_tokens > most + late:
            assert most <= one.reasoning_tokens <= most + late and one.text
    assert sum(bool(one.text) for one in sampled(limited, 60)) >= 4


def test_a_model_that_does_not_reason_has_no_budget_to_keep(folders: dict[str, Path]) -> None:
    """Its reasoning never begins, so nothing is forced."""
    limited = resolve(str(folders["SWITCH"]), engine="transformers", chat=Chat(reasoning=Reasoning(budget=5)))
    free = resolve(str(folders["SWITCH"]), engine="transformers", chat=Chat())
    assert [one.text for one in sampled(limited, 30)] == [one.text for one in sampled(free, 30)]


def test_reasoning_is_stored_apart_and_resumes_from_the_ledger(folders: dict[str, Path], tmp_path: Path) -> None:
    model = resolve(
        str(folders["OPENED"]), engine="transformers", chat=Chat(system="Add.", reasoning=Reasoning(budget=4))
    )
    prompts = pl.DataFrame({"problem_id": ["p", "q"], "prompt": ["2 + 3?", "3 + 4?"]})
    sampling = Sampling(temperature=1.0, max_tokens=40)
    first, second = (generate(model, prompts, 2, sampling, Buyer(tmp_path, "s", "sampling")) for _ in range(2))
    assert (first.new, second.new) == (4, 0)
    assert first.rows.equals(second.rows)
    assert first.rows["reasoning"].str.len_chars().min() and first.rows["reasoning_tokens"].min() >= 4  # type: ignore[operator]
    assert Ledger(tmp_path, model, sampling).read()["system"].unique().to_list() == ["Add."]


def test_reasoning_inside_the_text_of_an_older_ledger_is_moved_out(tmp_path: Path) -> None:
    model, sampling = Model("m", "m-1", "vllm", chat=Chat()), Sampling()
    ledger = Ledger(tmp_path, model, sampling)
    texts = ["<think>\n2 + 3\n</think>\n\n5", "data analysis", "<think>2 +"]
    keys = [prompt_hash(str(n)) for n in range(3)]
    with ledger.lock:
        ledger.append(
            [
                {"prompt_hash": key, "sample_index": 0, "attempt": 1, "completion": text, "finish_reason": "stop"}
                for key, text in zip(keys, texts, strict=True)
            ]
        )
    prompts = pl.DataFrame({"problem_id": ["0", "1", "2"], "prompt": ["0", "1", "2"]})
    rows = generate(model, prompts, 1, sampling, Buyer(tmp_path, "s", "sampling")).rows
    assert rows.select("reasoning", "completion").rows() == [
        ("\n2 + 3\n", "\n\n5"),
        (None, "data analysis"),
        ("2 +", ""),
    ]


def test_only_what_is_asked_for_changes_the_fingerprint(folders: dict[str, Path]) -> None:
    def fingerprint(**fields: Any) -> str:
        return resolve(str(folders["SWITCH"]), engine="transformers", chat=Chat(**fields)).fingerprint

    assert fingerprint().endswith("-chat")
    assert fingerprint(reasoning=Reasoning(keep=False)) == fingerprint(), "what is stored changes no sample"
    others = [
        {"system": "a"},
        {"system": "b"},
        {"reasoning": Reasoning(mode="off")},
        {"reasoning": Reasoning(budget=9)},
        {"kwargs": {"enable_thinking": False}},
    ]
    assert len({fingerprint(), *(fingerprint(**fields) for fields in others)}) == 6
    served = [resolve("m", engine="openai", chat=Chat(**fields)).fingerprint for fields in others]
    assert len({*served, resolve("m", engine="openai", chat=Chat()).fingerprint}) == 6


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "chat", "written"),
    [
        (None, None, "It is 5."),
        (thinking.PLAIN, Chat(), "It is 5."),
        (thinking.SWITCH, ON, "<think>\n2 + 3\n</think>\n\nIt is 5."),
        (thinking.SWITCH, OFF, "It is 5."),
        (thinking.OPENED, Chat(), "2 + 3\n</think>\n\nIt is 5."),
    ],
    ids=["plain", "chat", "thinking", "thinking turned off", "opened in the prompt"],
)
def test_the_tokens_that_were_sampled_are_trained_on(template: str | None, chat: Chat | None, written: str) -> None:
    tokenizer = thinking.tokenizer(template or thinking.PLAIN)
    ids = completion_ids(tokenizer, written)  # what the model generated, with EOS
    text = text_of(tokenizer, ids, (), chat, opens_reasoning(tokenizer, chat))
    row = {"prompt": "2 + 3?", "completion": text.reply, "reasoning": text.reasoning, "finish_reason": "stop"}
    ((learned,), _) = encode(pl.DataFrame([row], schema_overrides={"reasoning": pl.String}), tokenizer, None, chat)
    assert learned.ids.tolist() == prompt_ids(tokenizer, "2 + 3?", chat) + ids
    assert learned.ids[learned.prompt :].tolist() == ids, "the loss covers what the assistant wrote"


def written(template: str, chat: Chat | None, reasoning: str | None, reply: str) -> str:
    tokenizer = thinking.tokenizer(template)
    return tokenizer.decode(assistant_ids(tokenizer, chat)(reasoning, reply, False))


def test_without_reasoning_an_opened_block_is_closed() -> None:
    assert written(thinking.OPENED, Chat(), None, "5") == "</think>\n\n5"
    assert written(thinking.SWITCH, ON, None, "5") == "5"
    base = written(thinking.OPENED, None, "2 + 3", "5")
    assert base == "<think>\n2 + 3\n</think>\n\n5", "a base model has no template"


def test_a_template_without_a_place_for_reasoning_gets_the_tags() -> None:
    assert written(thinking.NO_SYSTEM, Chat(), "\n2 + 3\n", "\n\n5") == "<think>\n2 + 3\n</think>\n\n5"


def test_a_control_token_in_the_reasoning_is_text() -> None:
    tokenizer = thinking.tokenizer(thinking.SWITCH)
    ids = assistant_ids(tokenizer, ON)("It ends with <|im_end|>.", "5", True)
    assert ids.count(tokenizer.eos_token_id) == 1, "the end of the message"
    assert "<|im_end|>." in tokenizer.decode(ids)
