"""Settings of single models: what overrides what, and which assets depend on it."""

from __future__ import annotations

from typing import Any

import pytest

from cos_assets import study
from cos_assets.assets import benchmarks, build_study
from cos_assets.study import StudySpec


def spec(wc: dict[str, Any] | None = None, student: dict[str, Any] | None = None, **more: Any) -> StudySpec:
    return study.parse(
        {
            "name": "s",
            "task": "gsm8k",
            "models": {
                "wc": {"model": "./a", "params": 1e6, "chat": True, **(wc or {})},
                "se": {"model": "./b", "params": 4e6},
            },
            "budgets": {"low": {"se": 1}},
            "sampling": {"temperature": 0.7, "max_tokens": 100, "stop": ["END"], "shots": 2},
            "targets": {"student": {"model": "./c", **(student or {})}, "wc": {}},
            "finetune": {"steps": 1},
            **more,
        }
    )


def versions(of: StudySpec) -> dict[str, str]:
    found = {}
    for asset in build_study(of):
        for one in getattr(asset, "specs", []):
            found[one.key.path[-1]] = one.code_version
    return found


def changed(**settings: Any) -> set[str]:
    before, after = versions(spec()), versions(spec(**settings))
    return {name for name in before if before[name] != after[name]}


def test_a_model_overrides_keys_of_the_study() -> None:
    own = spec({"sampling": {"temperature": 1.0, "stop": ["Q:"], "min_p": 0.1}, "shots": 0})
    wc, se = own.sampling_of("wc"), own.sampling_of("se")
    assert (wc.temperature, wc.max_tokens, wc.stop, wc.min_p, wc.shots) == (1.0, 100, ("Q:",), 0.1, 0)
    assert (se.temperature, se.max_tokens, se.stop, se.min_p, se.shots) == (0.7, 100, ("END",), 0.0, 2)
    assert wc.parameters(seed=3, stop=("\n",)).model_dump(exclude_defaults=True) == {
        "temperature": 1.0,
        "max_tokens": 100,
        "stop": ("Q:", "\n"),
        "seed": 3,
        "min_p": 0.1,
    }


def test_a_target_overrides_the_evaluation() -> None:
    own = spec(student={"sampling": {"max_tokens": 50, "temperature": 0.9}}, evaluation={"samples": 4, "max_tokens": 9})
    (one, greedy), (draws, drawn) = benchmarks.ways(own, "student")
    assert (one, greedy.temperature, greedy.max_tokens) == (1, 0.0, 50)
    assert (draws, drawn.temperature, drawn.max_tokens) == (4, 0.9, 50)
    assert benchmarks.max_tokens(own, "wc") == 9


def test_an_empty_target_answers_with_the_limit_of_its_sampler() -> None:
    assert benchmarks.max_tokens(spec({"sampling": {"max_tokens": 700}}), "wc") == 700
    assert benchmarks.max_tokens(spec(), "wc") == 100


@pytest.mark.parametrize(
    "settings",
    [
        {"sampling": {"temperature": 0.0}},
        {"sampling": {"top_k": None}},
        {"system": "Be brief."},
        {"reasoning": {"mode": "off"}},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"shots": 0},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_a_setting_of_a_sampler_makes_its_samples_stale(settings: dict[str, Any]) -> None:
    assert {"samples", "report"} <= changed(wc=settings)


def test_a_setting_that_equals_a_default_is_not_the_same_as_none() -> None:
    assert "samples" in changed(wc={"sampling": {"temperature": 0.0}})
    first, second = ({"sampling": {"max_tokens": 5}}, {"sampling": {"max_tokens": 5, "temperature": 0.0}})
    assert versions(spec(first))["samples"] != versions(spec(second))["samples"]


def test_settings_of_a_target_make_its_answers_stale_and_no_samples() -> None:
    for settings in ({"sampling": {"max_tokens": 50}}, {"shots": 4}):
        found = changed(student=settings)
        assert {"student_eval", "base_eval", "student_checkpoint"} <= found
        assert not found & {"samples", "verdicts", "sft_set", "wc_eval"}


def test_reasoning_of_a_source_makes_the_sft_sets_stale() -> None:
    before = versions(spec(sources={"mix": {"take": {"wc": 1.0}}}))
    after = versions(spec(sources={"mix": {"take": {"wc": 1.0}, "reasoning": "strip"}}))
    assert {name for name in before if before[name] != after[name]} == {"sft_set", "report"}
