"""The output of `cos plan`: what each budget buys, what that costs, and what results to expect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from cos_assets.budget.matching import RULES

_MEASURES = ("solved", "correct", "distinct")
_GPUS = (16, 24, 40, 48, 80, 96, 141, 192)  # GB
_TOTALS = (("tokens", ",.0f"), ("flops", ".3g"), ("cost", ",.2f"))


def plan_lines(plan: pl.DataFrame, facts: Mapping[str, Any]) -> list[str]:
    """Return the plan for a terminal: samples per problem, and totals.

    A total is the expected one, with its interval if a pilot gives one; with ≤ it is the cost of all samples at the
    token limit. `facts` are those of the plan's lineage.
    """
    rows = [("budget", "model", "samples/problem", "unrounded", "off by", "samples", "tokens", "FLOPs", "cost")]
    for row in plan.iter_rows(named=True):
        rows.append(
            (
                *(row["budget"], row["model"], f"{row['samples']}", f"{row['exact_samples']:.2f}"),
                *(f"{row['mismatch']:+.1%}", f"{row['completions']:,}"),
                *(_total(row, name, form) for name, form in _TOTALS),
            )
        )
    lines = [*columns(rows), "", f"Matched by {_rule(facts)}."]
    # Budgets share their samples, so the largest budget of each model is all that is bought.
    largest = plan.sort("completions", maintain_order=True).unique("model", keep="last", maintain_order=True)
    for kind, form in (("flops", ".3g"), ("cost", ",.2f")):
        limit = facts.get(f"cap_{kind}")
        column = f"{kind}_expected" if largest[f"{kind}_expected"].null_count() == 0 else f"{kind}_ceiling"
        if limit is not None and largest[column].null_count() == 0:
            total, word = largest[column].sum(), "expected" if column.endswith("expected") else "at most"
            state = "is enough for all budgets" if total <= limit else "stops the purchase before it is complete"
            lines.append(f"cap.{kind} {limit:{form}} {state} ({word} {total:{form}}).")
    if trainings := facts.get("training"):
        lines += ["", *_training_lines(trainings)]
    for judge, most in facts.get("judging", {}).items():
        flops = f", {most['flops']:.3g} FLOPs" if most["flops"] else ""
        cost = f", {most['cost']:,.2f} {most['currency']}" if most["cost"] else ""
        lines.append(
            f"The judge {judge} reads at most {most['judgements']:,} samples and {most['reference_solutions']:,}"
            f" reference solutions: at most {most['tokens']:,} tokens{flops}{cost}, plus its prompts."
        )
    return lines


def _training_lines(trainings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    parts = ("weights", "gradients", "optimizer", "activations", "logits")
    rows = [("target", "method", "rows x tokens", *parts, "GB per process", "fits a GPU of")]
    for name, known in trainings.items():
        size = next((size for size in _GPUS if known["total"] <= size * 1e9), None)
        rows.append(
            (
                *(name, known["method"], f"{known['rows']} x {known['length']:,}"),
                *(f"{known[part] / 1e9:.1f}" for part in parts),
                *(f"{known['total'] / 1e9:.1f}", "none" if size is None else f"{size} GB"),
            )
        )
    saved = {
        key: [n for n, known in trainings.items() if known[key]] for key in ("gradient_checkpointing", "chunked_loss")
    }
    said = [f"{key}: {', '.join(names)}" for key, names in saved.items() if names]
    return [*columns(rows), *([f"Counted with {'; '.join(said)}."] if said else [])]


def prediction_lines(found: pl.DataFrame) -> list[str]:
    """Return the strategies for each budget for a terminal: all sources on all problems at half, once and twice the
    budget, and on fewer problems at the budget itself. `found` is the result of `budget.strategies.ways`."""
    rows = [("budget", "source", "samples/problem", "problems", "solved", "correct", "different")]
    most = found["problems"].max()
    for way in found.filter((pl.col("scale") == 1.0) | (pl.col("problems") == most)).iter_rows(named=True):
        part = {0.5: "½ × ", 2.0: "2 × "}.get(way["scale"], "")
        bought = " + ".join(f"{one['samples']} {one['model']}" for one in way["samples"])
        totals = (f"{way[n]:,.0f} [{way[f'{n}_low']:,.0f}, {way[f'{n}_high']:,.0f}]" for n in _MEASURES)
        rows.append((f"{part}{way['budget']}", way["source"], bought, f"{way['problems']:,}", *totals))
    return columns(rows)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Format rows of cells as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _rule(facts: Mapping[str, Any]) -> str:
    match, rule = facts["match"], RULES[facts["match"]]
    if not rule.by_length:
        return f"{match}, counting solutions"
    if facts["match_rule"] == "nominal":
        return f"{match}, by the nominal rule, which assumes solutions of equal length"
    prompts = rule.prompts == "always" or (rule.prompts == "count_prefill" and facts["count_prefill"])
    return f"{match}, by each model's own tokens per solution{', prompts included' if prompts else ''}"


def _total(row: Mapping[str, Any], name: str, form: str) -> str:
    expected, low, high, most = (row[f"{name}_{label}"] for label in ("expected", "low", "high", "ceiling"))
    unit = f" {row['currency']}" if name == "cost" else ""
    if expected is None:
        return "–" if most is None else f"≤ {most:{form}}{unit}"
    return f"{expected:{form}}{unit}" + ("" if low is None else f" [{low:{form}}, {high:{form}}]")
