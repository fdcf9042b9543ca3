"""Invalid budgets and matching rules: each is reported in one line with the key."""

from __future__ import annotations

from typing import Any

import pytest

from cos_assets import study

PRICE = {"input": 2.5, "output": 10.0, "date": "2026-11-01"}


def attributes(**more: Any) -> dict[str, Any]:
    models = {"wc": {"model": "a/small", "params": 9e9}, "se": {"model": "a/large", "params": 27e9}}
    for name, changes in more.pop("models", {}).items():
        models[name] = models[name] | changes
    return {"name": "s", "task": "arithmetic", "models": models, "budgets": {"low": {"se": 1}}} | more


def both(**changes: Any) -> dict[str, Any]:
    return {"wc": changes, "se": changes}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"models": both(price=PRICE | {"output": 1.05e-05})},
            "models.wc.price.output: 1.05e-05: is too small for a price per million tokens",
        ),
        (
            {"models": both(price=PRICE | {"output": 2e6})},
            "models.wc.price.output: 2000000.0: is too large for a price per million",
        ),
        ({"models": both(price=PRICE | {"unit": "1k"})}, "models.wc.price.unit: unknown key"),
        ({"models": both(price=PRICE | {"currency": "dollars"})}, "models.wc.price.currency: 'dollars' is not allowed"),
        ({"models": both(price=PRICE | {"batch_discount": 1.0})}, "models.wc.price.batch_discount: 1.0 is not allowed"),
        (
            {"match": "price", "models": {"wc": {"price": PRICE}, "se": {"price": PRICE | {"currency": "EUR"}}}},
            "models: prices are in EUR and USD; give all in one currency",
        ),
        ({"budgets": {"low": {"se": 0}}}, "budgets.low.se: 0 is not allowed; allowed: a whole number of at least 1"),
        ({"budgets": {"low": {"se": -3}}}, "budgets.low.se: -3 is not allowed; allowed: a whole number of at least 1"),
        ({"cap": {}}, "cap: give flops:, cost:, or both"),
        ({"cap": {"flops": 0}}, "cap.flops: 0 is not allowed; allowed: a number above 0"),
        ({"cap": {"cost": 10}}, "models.wc.price: is missing; cap.cost needs the price of every model"),
        (
            {"match": "number", "cap": {"flops": 1e20}, "models": both(params=None)},
            "models.wc.params: is missing; cap.flops needs the number of parameters of every model",
        ),
        ({"models": both(price=PRICE | {"cached": 3.0})}, "models.wc.price: cached: 3 is more than input: 2.5"),
        ({"pilot": {"samples": 1}}, "pilot.samples: 1 is not allowed; allowed: a whole number of at least 2"),
        ({"match_rule": "measured"}, "models.wc.tokens_per_solution: is missing; give it for every model or for none"),
        ({"match": "number", "match_rule": "measured"}, "match_rule: match: number counts solutions, not tokens"),
        ({"count_prefill": True}, "count_prefill: the nominal rule counts no prompts"),
        (
            {"count_prefill": True, "models": both(tokens_per_solution=100)},
            "models.wc.tokens_per_prompt: is missing; count_prefill: true needs it",
        ),
        ({"models": {"wc": {"active_params": 10e9}}}, "models.wc.active_params: 1e+10 is more than params: 9e+09"),
        ({"allocation": "adaptive"}, "pilot: is missing; allocation: adaptive needs one"),
        (
            {"allocation": "adaptive", "pilot": {}, "sources": {"half": {"take": {"wc": 0.5}}}},
            "sources.half: allocation: adaptive needs all samples of a model; give take: {<model>: 1}",
        ),
    ],
)
def test_an_invalid_matching_rule_is_refused_with_its_key(more: dict[str, Any], message: str) -> None:
    with pytest.raises(study.StudyError) as caught:
        study.parse(attributes(**more))
    assert f"study: {message}" in str(caught.value)


@pytest.mark.parametrize(
    "more",
    [
        {"pilot": {}, "match_rule": "measured", "count_prefill": True},
        {"pilot": {}, "match": "gpu_seconds"},
        {"match": "price", "models": both(price=PRICE | {"cached": 1.25, "batch_discount": 0.5}), "cap": {"cost": 9}},
        {"models": both(tokens_per_solution=100, tokens_per_prompt=50), "count_prefill": True},
        {"models": {"wc": {"active_params": 2e9}}, "cap": {"flops": 1e20}},
        {"allocation": "adaptive", "pilot": {"samples": 2}},
    ],
)
def test_a_valid_matching_rule_is_accepted(more: dict[str, Any]) -> None:
    study.parse(attributes(**more))
