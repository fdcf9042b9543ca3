"""The report on simulated studies with a known truth."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import polars as pl
import pytest

from cos_assets import report, study
from cos_assets.metrics.differences import paired_difference
from cos_assets.report import figures
from cos_assets.report.compare import SCHEMA, accuracies, comparisons

PROBLEMS = 300
SPEC = study.parse(
    {
        "name": "simulated",
        "task": "arithmetic",
        "models": {"wc": {"model": "./wc"}, "se": {"model": "./se"}},
        "budgets": {"low": {"se": 2}},
        "sources": {"gt": {"reference_solutions": True}},
        "targets": {"student": {"model": "./student"}, "wc": {}},
        "finetune": {"steps": 10},
    }
)
COST = {"wc": 200.0, "se": 610.0}  # FLOPs per token
PLAN = pl.DataFrame(
    {
        "budget": ["low", "low"],
        "model": ["wc", "se"],
        "match": ["flops", "flops"],
        "samples": [6, 2],
        "exact_samples": [6.1, 2.0],
        "mismatch": [6 / 6.1 - 1, 0.0],
        "reference": [False, True],
        "params": [100.0, 305.0],
        "unit_cost": [COST["wc"], COST["se"]],
    }
)
BOUGHT = {"wc": 6, "se": 2}
TRAINED = (
    *("budget", "source", "target", "examples", "epochs"),
    *("chosen_step", "steps", "validation_accuracy", "tokens", "flops"),
)


def simulated(
    right: dict[str, float], wrong_reasoning: dict[str, float], accuracy: dict[str, float], seed: int = 0
) -> dict[str, pl.DataFrame]:
    """A study's tables, from the probability of a correct sample, that of wrong reasoning in a correct one, and the
    accuracy of a model finetuned on each source."""
    rng = np.random.default_rng(seed)
    ids = [f"p{i:03d}" for i in range(PROBLEMS)]
    verdicts, judgements, samples = [], [], []
    for model, count in BOUGHT.items():
        for problem in ids:
            for index in range(count):
                correct = bool(rng.random() < right[model])
                kind = f"{model}{rng.integers(3)}" if correct else None
                verdict = "correct" if correct else "wrong"
                verdicts.append(("low", model, problem, index, verdict, correct, kind, kind))
                samples.append(("low", model, problem, index, "stop", 30, 30 * COST[model], None))
                if correct:
                    judgements.append(("low", model, problem, index, bool(rng.random() < wrong_reasoning[model])))
    answered = []
    for target in ("student", "wc"):
        for source in ("wc", "se", "gt"):
            luck = np.random.default_rng(seed + 1).random(PROBLEMS)  # the same problems are hard for all models
            noise = rng.random(PROBLEMS)
            mixed = 0.7 * luck + 0.3 * noise
            cut = np.quantile(mixed, accuracy[source])
            answered += [
                ("low", source, target, "arithmetic", p, bool(m < cut)) for p, m in zip(ids, mixed, strict=True)
            ]
    columns = ["budget", "model", "problem_id", "sample_index"]
    evals = ["budget", "source", "target", "benchmark", "problem_id", "correct"]
    verdict_columns = [*columns, "verdict", "correct", "text_key", "equations_key"]
    spent = {"finish_reason": pl.String, "completion_tokens": pl.Int64, "flops": pl.Float64, "cost": pl.Float64}
    base = [
        (None, "base", target, "arithmetic", p, i % 2 == 0) for target in ("student", "wc") for i, p in enumerate(ids)
    ]
    return {
        "problems": pl.DataFrame({"problem_id": ids, "split": ["train"] * PROBLEMS}),
        "budget_plan": PLAN,
        "samples": pl.DataFrame(samples, schema=[*columns, *spent.items()], orient="row"),
        "verdicts": pl.DataFrame(verdicts, schema=verdict_columns, orient="row"),
        "judgements": pl.DataFrame(judgements, schema=[*columns, "wrong_reasoning"], orient="row").with_columns(
            judge=pl.lit("steps"), correct=True, weight=1.0
        ),
        "sample_metrics": _metrics(pl.DataFrame(verdicts, schema=verdict_columns, orient="row")),
        "evals": pl.DataFrame(answered, schema=evals, orient="row"),
        "base_eval": pl.DataFrame(
            base, schema={**dict.fromkeys(evals, pl.String), "correct": pl.Boolean}, orient="row"
        ),
    }


def _metrics(verdicts: pl.DataFrame) -> pl.DataFrame:
    from cos_assets.metrics.summary import sample_metrics

    frames = []
    for (budget, model), rows in verdicts.group_by("budget", "model", maintain_order=True):
        table = sample_metrics(rows.with_columns(level=pl.lit(None, pl.String)))
        frames.append(table.with_columns(budget=pl.lit(budget), model=pl.lit(model)))
    return pl.concat(frames)


EQUAL: dict[str, Any] = {
    "right": {"wc": 0.4, "se": 0.4},
    "wrong_reasoning": {"wc": 0.1, "se": 0.1},
    "accuracy": {"wc": 0.6, "se": 0.6, "gt": 0.7},
}


def row(table: pl.DataFrame, metric: str, target: str | None = None) -> dict[str, Any]:
    return table.filter(pl.col("metric") == metric, pl.col("target").eq_missing(target)).row(0, named=True)


def test_a_clear_winner_is_named() -> None:
    tables = simulated(**EQUAL | {"accuracy": {"wc": 0.7, "se": 0.6, "gt": 0.7}})
    made = report.build(SPEC, tables)
    assert made.comparisons.schema == SCHEMA
    found = row(made.comparisons, "accuracy", "all")
    assert found["better"] == "wc"
    assert 0 < found["low"] < found["difference"] < found["high"]
    assert found["difference"] == pytest.approx(0.1, abs=0.01)
    (verdict,) = made.verdicts
    assert verdict.better == "wc"
    assert "wc data was the better buy; wc − se is +" in verdict.sentence
    assert "(se 2, wc 6 samples per problem, matched by flops)" in verdict.sentence
    assert f"points of accuracy on {PROBLEMS} problems, 95 % interval [+" in verdict.sentence
    assert verdict.sentence.endswith("mean of 2 finetuned models.")
    swapped = report.build(SPEC, simulated(**EQUAL | {"accuracy": {"wc": 0.6, "se": 0.7, "gt": 0.7}}))
    assert [v.better for v in swapped.verdicts] == ["se"]


def test_equal_data_cannot_be_told_apart() -> None:
    made = report.build(SPEC, simulated(**EQUAL))
    assert row(made.comparisons, "accuracy", "all")["better"] == "cannot tell"
    assert "cannot tell which data was the better buy" in made.verdicts[0].sentence


def test_fewer_false_positives_are_better() -> None:
    made = report.build(SPEC, simulated(**EQUAL | {"wrong_reasoning": {"wc": 0.3, "se": 0.05}}))
    found = row(made.comparisons, "false_positive_rate")
    assert found["difference"] > 0.15
    assert found["better"] == "se"


def test_values_equal_those_of_the_metrics() -> None:
    tables = simulated(**EQUAL)
    compared = comparisons(SPEC, tables)
    solved = tables["verdicts"].group_by("model", "problem_id").agg(value=pl.col("correct").any().cast(pl.Float64))
    sides = [solved.filter(pl.col("model") == m).drop("model").sort("problem_id") for m in ("wc", "se")]
    wanted = paired_difference(sides[0], sides[1])
    found = row(compared, "coverage")
    # With k = n, coverage@k of a problem is 1 if any of its samples is correct.
    assert (found["difference"], found["low"], found["high"]) == pytest.approx(wanted[:3])
    assert (found["k_weak"], found["k_strong"]) == (6, 2)
    distinct = (
        tables["verdicts"].filter("correct").group_by("model", "problem_id").agg(pl.col("equations_key").n_unique())
    )
    wc = distinct.filter(pl.col("model") == "wc")["equations_key"].sum() / PROBLEMS
    assert row(compared, "diversity")["weak_value"] == pytest.approx(wc)
    student = tables["evals"].filter(pl.col("target") == "student")
    means: dict[str, Any] = {s: student.filter(pl.col("source") == s)["correct"].mean() for s in ("wc", "se")}
    assert row(compared, "accuracy", "student")["difference"] == pytest.approx(means["wc"] - means["se"])


def test_problems_with_fewer_samples_are_left_out_of_both_sides() -> None:
    tables = simulated(**EQUAL)
    short = (pl.col("model") == "wc") & (pl.col("problem_id") < "p010") & (pl.col("sample_index") > 2)
    tables["verdicts"] = tables["verdicts"].filter(~short)
    assert row(comparisons(SPEC, tables), "coverage")["n_problems"] == PROBLEMS - 10


def test_samples_without_verdicts_have_no_coverage() -> None:
    tables = simulated(**EQUAL)
    tables["judgements"] = tables["judgements"].clear()
    tables["verdicts"] = tables["verdicts"].with_columns(correct=pl.lit(None, pl.Boolean))
    made = report.build(SPEC, tables)
    assert set(made.comparisons["metric"]) == {"accuracy"}
    assert "better buy" in made.verdicts[0].sentence


def test_a_few_problems_with_more_samples_do_not_set_k() -> None:
    tables = simulated(**EQUAL)
    short = (pl.col("model") == "wc") & (pl.col("problem_id") >= "p010") & (pl.col("sample_index") > 3)
    tables["verdicts"] = tables["verdicts"].filter(~short)
    found = row(comparisons(SPEC, tables), "coverage")
    assert (found["k_weak"], found["n_problems"]) == (4, PROBLEMS)


def test_missing_tables_give_no_rows() -> None:
    tables = simulated(**EQUAL)
    for name in ("judgements", "evals", "base_eval"):
        del tables[name]
    made = report.build(SPEC, tables)
    assert set(made.comparisons["metric"]) == {"coverage", "diversity", "diversity_exact"}
    assert made.verdicts[0].better == "wc"  # six samples of the same quality cover more than two
    assert "points of coverage" in made.verdicts[0].sentence
    assert made.verdicts[0].sentence.endswith("(no finetuned models to compare).")
    assert set(made.figures) == {"answer", "quality", "curves"}


@pytest.mark.parametrize("how", ["absent", "empty"])
@pytest.mark.parametrize("name", ["problems", "budget_plan", "samples", "verdicts", "sample_metrics", "base_eval"])
def test_each_table_may_be_missing(name: str, how: str) -> None:
    tables = simulated(**EQUAL)
    wanted = row(comparisons(SPEC, tables), "accuracy", "all")
    gone = tables.pop(name)
    if how == "empty":
        tables[name] = gone.clear()
    made = report.build(SPEC, tables)
    assert row(made.comparisons, "accuracy", "all") == wanted
    assert made.verdicts[0].sentence in made.html
    assert ("curves" in made.figures) == (name not in ("budget_plan", "sample_metrics"))


def test_a_study_without_tables_has_a_page() -> None:
    made = report.build(SPEC, {})
    assert made.comparisons.is_empty() and not made.verdicts and not made.figures
    assert "Nothing to compare yet" in made.html


def test_an_unfinished_model_is_not_counted_in_the_mean() -> None:
    tables = simulated(**EQUAL)
    tables["evals"] = tables["evals"].filter((pl.col("target") == "wc") | (pl.col("source") != "se"))
    made = report.build(SPEC, tables)
    assert set(made.comparisons.filter(pl.col("metric") == "accuracy")["target"]) == {"wc", "all"}
    assert made.verdicts[0].sentence.endswith("mean of 1 of 2 finetuned models.")


def test_accuracies_are_compared_on_problems_that_all_answered() -> None:
    tables = simulated(**EQUAL)
    lost = (pl.col("target") == "student") & (pl.col("source") == "wc") & (pl.col("problem_id") < "p010")
    tables["evals"] = tables["evals"].filter(~lost)
    compared = comparisons(SPEC, tables)
    assert [row(compared, "accuracy", t)["n_problems"] for t in ("student", "wc", "all")] == [290, 300, 290]
    rest = tables["evals"].filter(pl.col("problem_id") >= "p010")
    means: dict[str, Any] = {s: rest.filter(pl.col("source") == s)["correct"].mean() for s in ("wc", "se")}
    assert row(compared, "accuracy", "all")["difference"] == pytest.approx(means["wc"] - means["se"])
    assert f"on {PROBLEMS - 10} problems" in report.build(SPEC, tables).verdicts[0].sentence


def test_the_first_benchmark_decides_and_the_others_are_shown() -> None:
    tables = simulated(**EQUAL | {"accuracy": {"wc": 0.8, "se": 0.5, "gt": 0.7}})
    other = simulated(**EQUAL | {"accuracy": {"wc": 0.5, "se": 0.8, "gt": 0.7}}, seed=5)
    for name in ("evals", "base_eval"):
        tables[name] = pl.concat([other[name].with_columns(benchmark=pl.lit("gsm8k")), tables[name]])
    better = {}
    for benchmarks in (["arithmetic", "gsm8k"], ["gsm8k", "arithmetic"]):
        spec = study.parse(SPEC.model_dump(exclude_unset=True) | {"evaluation": {"benchmarks": benchmarks}})
        made = report.build(spec, tables)
        better[benchmarks[0]] = made.verdicts[0].better
        alone = made.comparisons.filter(pl.col("target") == "all")
        assert dict(alone.select("benchmark", "better").iter_rows()) == {"arithmetic": "wc", "gsm8k": "se"}
        assert f"points of accuracy on 300 problems of {benchmarks[0]}, 95 % interval" in made.verdicts[0].sentence
        assert "accuracy on gsm8k, student" in made.html
        assert f"accuracy on {benchmarks[0]}, %" in made.figures["accuracy"]
    assert better == {"arithmetic": "wc", "gsm8k": "se"}


def test_one_problem_has_no_interval() -> None:
    tables = simulated(**EQUAL)
    for name in ("evals", "base_eval", "verdicts", "judgements"):
        tables[name] = tables[name].filter(pl.col("problem_id") == "p000")
    made = report.build(SPEC, tables)
    assert set(made.comparisons["better"]) == {"cannot tell"}
    assert "on 1 problem, too few for an interval" in made.verdicts[0].sentence
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", made.html, flags=re.DOTALL)


def two_budgets() -> tuple[Any, dict[str, pl.DataFrame]]:
    """The simulated study with a second budget without judgements and finetuned models."""
    tables = simulated(**EQUAL)
    for name in ("budget_plan", "verdicts", "samples", "sample_metrics"):
        tables[name] = pl.concat([tables[name], tables[name].with_columns(budget=pl.lit("high"))])
    return SPEC.model_copy(update={"budgets": {"low": {"se": 2}, "high": {"se": 2}}}), tables


def test_budgets_may_have_different_parts() -> None:
    spec, tables = two_budgets()
    made = report.build(spec, tables)
    parts = made.comparisons.group_by("budget").agg(pl.col("metric").unique())
    found = {budget: set(metrics) for budget, metrics in parts.iter_rows()}
    samples = {"coverage", "diversity", "diversity_exact"}
    assert found == {"low": samples | {"false_positive_rate", "accuracy"}, "high": samples}
    low, high = made.verdicts
    assert "points of accuracy" in low.sentence
    assert "points of coverage" in high.sentence


def test_the_answer_figure_labels_its_rows_when_budgets_differ() -> None:
    spec, tables = two_budgets()
    compared = comparisons(spec, tables)
    low, high = figures.answer(spec, compared).axes
    labels = dict(zip(low.get_yticks(), (label.get_text() for label in low.get_yticklabels()), strict=True))
    drawn = {}
    for line in low.get_lines():
        if line.get_marker() == "o":
            drawn[labels[line.get_ydata()[0]]] = line.get_xdata()[0]
    wanted = {
        "coverage of the data": row(compared.filter(budget="low"), "coverage"),
        "accuracy of student": row(compared, "accuracy", "student"),
        "accuracy of wc": row(compared, "accuracy", "wc"),
        "mean accuracy of the models": row(compared, "accuracy", "all"),
    }
    assert drawn == {name: 100 * found["difference"] for name, found in wanted.items()}
    (only,) = [line for line in high.get_lines() if line.get_marker() == "o"]
    assert labels[only.get_ydata()[0]] == "coverage of the data"


def test_the_accuracy_figure_labels_its_points() -> None:
    table = accuracies(SPEC, simulated(**EQUAL))
    (axis,) = figures.accuracy(SPEC, table).axes
    labels = dict(zip(axis.get_yticks(), (label.get_text() for label in axis.get_yticklabels()), strict=True))
    bold = [label.get_text() for label in axis.get_yticklabels() if label.get_fontweight() == "bold"]
    assert bold == ["student", "wc"]
    points = [line for line in axis.get_lines() if line.get_marker() == "o"]
    drawn = [(labels[line.get_ydata()[0]], line.get_xdata()[0]) for line in points]
    tuned = table.filter(pl.col("source") != "base")
    names = tuned["source"].replace({"wc": "wc data", "se": "se data"})
    assert drawn == list(zip(names, tuned["value"] * 100, strict=True))


def test_many_budgets_are_drawn_in_rows_of_three() -> None:
    names = ["b1", "b2", "b3", "b4"]
    spec = SPEC.model_copy(update={"budgets": {name: {"se": 2} for name in names}})
    tables = simulated(**EQUAL)
    for name in ("budget_plan", "verdicts", "evals"):
        tables[name] = pl.concat([tables[name].with_columns(budget=pl.lit(budget)) for budget in names])
    svg = report.build(spec, tables).figures["answer"]
    assert all(f"{name} budget" in svg for name in names)


def test_the_curves_mark_the_budgets_in_any_order() -> None:
    spec = SPEC.model_copy(update={"budgets": {"high": {"se": 2}, "low": {"se": 1}}})
    tables = simulated(**EQUAL)
    small = PLAN.with_columns(budget=pl.lit("low"), samples=pl.Series([3, 1]))
    plan = pl.concat([PLAN.with_columns(budget=pl.lit("high")), small])
    metrics = tables["sample_metrics"]
    high = metrics.with_columns(budget=pl.lit("high"))
    low = metrics.filter((pl.col("model") == "wc") & (pl.col("k") <= 3) | (pl.col("k") <= 1))
    coverage, _ = figures.curves(spec, plan, pl.concat([high, low])).axes
    marks = {text.get_text(): text.xy[0] for text in coverage.texts if "budget" in text.get_text()}
    assert marks == {"high budget": 2, "low budget": 1}
    wc = next(line for line in coverage.get_lines() if len(line.get_xdata()) == 6)
    assert wc.get_xdata()[-1] == pytest.approx(6 * 200 / 610)


def test_cost_and_training_details_are_shown() -> None:
    tables = simulated(**EQUAL)
    cut = (pl.col("model") == "se") & (pl.col("problem_id") < "p007") & (pl.col("sample_index") == 0)
    reason = pl.when(cut).then(pl.lit("length")).otherwise("finish_reason")
    tables["samples"] = tables["samples"].with_columns(finish_reason=reason)
    tables["checkpoints"] = pl.DataFrame(
        [("low", source, "student", 4321, 3.25, 5, 10, 0.5, 987654, 1.5e12) for source in ("se", "wc")],
        schema=list(TRAINED),
        orient="row",
    )
    cells = [re.findall("<td>(.*?)</td>", line) for line in report.build(SPEC, tables).html.splitlines()]
    share = tables["verdicts"].filter(pl.col("model") == "se")["correct"].sum() / (2 * PROBLEMS)
    assert ["low", "se", "300", "600", "18,000", "1.1e+07", "–", "100%", "7", f"{share:.1%}"] in cells
    assert ["low", "wc", "98%"] in [[*line[:2], line[7]] for line in cells if len(line) == 10]
    trained = ["4,321", "987,654", "3.2", "5 of 10", "50.0%", "1.5e+12"]
    assert [line for line in cells if line[3:] == trained] == [
        ["low", "wc", "student", *trained],
        ["low", "se", "student", *trained],
    ]


def test_the_page_states_the_matching_rule() -> None:
    tables = simulated(**EQUAL)
    said = {m: report.build(SPEC.model_copy(update={"match": m}), tables).html for m in ("flops", "price", "number")}
    assert [m for m, page in said.items() if "2·P FLOPs" in page] == ["flops"]
    assert [m for m, page in said.items() if "whose output tokens are r times cheaper" in page] == ["price"]


def test_the_confidence_is_shown_unrounded() -> None:
    spec = SPEC.model_copy(update={"confidence": 0.975})
    made = report.build(spec, simulated(**EQUAL))
    for text in (made.verdicts[0].sentence, made.figures["answer"], made.figures["accuracy"]):
        assert "97.5 %" in text
    assert "Intervals are 97.5 %" in made.html


def test_a_study_with_one_sampler_has_no_comparison() -> None:
    alone = SPEC.model_copy(update={"models": {"wc": SPEC.models["wc"]}, "budgets": {"low": {"wc": 6}}, "targets": {}})
    tables = simulated(**EQUAL)
    tables["budget_plan"] = PLAN.filter(pl.col("model") == "wc").with_columns(reference=True)
    for name in ("samples", "verdicts", "judgements", "sample_metrics"):
        tables[name] = tables[name].filter(pl.col("model") == "wc")
    del tables["evals"], tables["base_eval"]
    made = report.build(alone, tables)
    assert made.comparisons.is_empty()
    assert "nothing to compare" in made.html
    assert "nothing to compare" in report.summary_text(made)


def test_accuracies_are_listed_with_the_untouched_models_first() -> None:
    table = accuracies(SPEC, simulated(**EQUAL))
    assert table["source"].to_list() == ["base", "base", *["wc", "se", "gt"] * 2]
    assert table.filter(pl.col("source") == "base")["value"].to_list() == [0.5, 0.5]


def test_the_page_is_self_contained_and_reproducible() -> None:
    tables = simulated(**EQUAL)
    page = report.build(SPEC, tables).html
    assert page.count("<script>") == page.count("<script") == 1 and "fetch(" not in page  # the script copies tables
    assert not re.findall(r"""(?:src|href)=["'](?!#)""", page)
    assert "@import" not in page
    # The namespaces of SVG are the only URLs.
    assert set(re.findall(r"https?://[^\s\"'<)]+", page)) == {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert page == report.build(SPEC, tables).html
    assert page.count("<svg") == 4
    for text in ("1,800", "600", "6.10"):  # bought samples, and the number that an exact match would buy
        assert text in page


def test_names_and_descriptions_are_escaped() -> None:
    models = {"wc": SPEC.models["wc"].model_copy(update={"model": "<b>bolder"}), "se": SPEC.models["se"]}
    spec = SPEC.model_copy(update={"description": "<b>bold & brave</b>", "models": models})
    page = report.build(spec, simulated(**EQUAL)).html
    assert "&lt;b&gt;bold &amp; brave&lt;/b&gt;" in page
    assert "&lt;b&gt;bolder" in page
    assert "<b>bold" not in page


def test_the_terminal_dagster_and_the_page_show_the_same_numbers() -> None:
    made = report.build(SPEC, simulated(**EQUAL))
    text = report.summary_text(made)
    assert made.verdicts[0].sentence in text
    assert made.verdicts[0].sentence in made.summary_markdown
    found = row(made.comparisons, "coverage")
    for shown in (text, made.summary_markdown, made.html):
        assert f"{100 * found['difference']:+.1f} points" in shown
