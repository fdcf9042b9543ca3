"""pilot: a few graded samples of every model, bought before the budgets are planned."""

from __future__ import annotations

import hashlib

import dagster as dg
import polars as pl

from cos_assets.assets.metadata import result, sketch
from cos_assets.assets.models import check_samplers, checkpoint_inputs, prices, sampler
from cos_assets.assets.samples import look_of, prompts, sampler_prompts
from cos_assets.assets.step import Inputs, Step, asset, own
from cos_assets.assets.training_plan import training_plan
from cos_assets.generation import engines
from cos_assets.generation.generate import generate
from cos_assets.generation.spend import Spend, Tariff
from cos_assets.grading.answers import GRADER_VERSION
from cos_assets.judging.readable import unread
from cos_assets.judging.verdicts import verdict_counts, verdicts
from cos_assets.orchestration import checks
from cos_assets.orchestration.partitions import pilot_by_model
from cos_assets.orchestration.pools import pool_of
from cos_assets.report import partition_figures
from cos_assets.study import StudySpec

_GRADED = ("verdict", "correct", "text_key", "equations_key")


def pilot(spec: StudySpec) -> dg.AssetsDefinition:
    """Declare the pilot. Every budget starts with its samples, which are in the ledger when the rest is bought."""
    assert spec.pilot is not None
    size = spec.pilot

    def body(step: Step, inputs: Inputs) -> dg.MaterializeResult:
        name = step.partition["model"]
        check_samplers(step, inputs)
        problems = inputs["problems"].collect()
        training_plan(step, inputs, problems)  # raises before anything is bought
        drawn = pilot_problems(spec, problems)
        _within_cap(step, inputs, problems, drawn)
        model = sampler(step, name, inputs, drawn)
        asked, own = _asked(spec, problems, drawn, name), spec.models[name]
        sampling, price = spec.sampling_of(name).parameters(spec.seed, spec.task.stops(own.chat)), own.price
        look, buyer = look_of(spec, name, model), step.buyer("pilot", name)
        bought = generate(model, asked, size.samples, sampling, buyer, prices(spec, name), look)
        graded = verdicts(bought.rows, problems, spec.task)
        # Columns that differ from run to run are null, except where budgets are matched by them.
        timed = spec.matching.needs == "tokens_per_second" and spec.models[name].tokens_per_second is None
        used = {"seconds": timed, "cached_tokens": price is not None and price.cached is not None}
        rows = pl.concat([bought.rows, graded.select(_GRADED), bought.served], how="horizontal").with_columns(
            pl.lit(None, bought.served.schema[column]).alias(column) for column, kept in used.items() if not kept
        )
        rates = rows.select(pl.col("correct").mean(), pl.col("completion_tokens").mean()).row(0)
        facts = {
            "model_id": model.model_id,
            "revision": model.revision,
            "engine": model.engine,
            "problems": drawn.height,
            "samples_per_problem": size.samples,
            "bought_now": bought.new,
            "from_the_ledger": rows.height - bought.new,
            "not_to_be_had": bought.missing,
            **verdict_counts(rows),
            "accuracy": rates[0],
            "tokens_per_solution": rates[1],
            "flops": float(rows["flops"].sum()),
            "cost": float(rows["cost"].sum()) if rows["cost"].null_count() < rows.height else None,
        }
        return result(
            rows,
            facts,
            checks.short(rows),
            checks.numbered(rows),
            checks.varied(rows, sampling.temperature),
            checks.gradable(rows),
            checks.readable([unread(bought.rows.with_columns(graded["answer"]), problems, spec.task)]),
            figure=sketch(partition_figures.lengths, "completions by tokens", rows.drop_nulls("completion_tokens")),
        )

    return asset(
        spec,
        "pilot",
        body,
        checks=[checks.SHORT, checks.NUMBERED, checks.VARIED, checks.GRADABLE, checks.READABLE],
        ins={"problems": own(spec, "problems"), **checkpoint_inputs(*spec.models.values())},
        description="A few graded samples of the model, which measure the length and accuracy of its solutions.",
        config=[
            "pilot-1",
            size.model_dump(mode="json"),
            spec.cap.model_dump(mode="json") if spec.cap else None,
            spec.match,
            spec.count_prefill,
            sampler_prompts(spec),
            spec.task.reading,
            GRADER_VERSION,
            spec.sampling.model_dump(mode="json"),
            spec.seed,
            {name: model.model_dump(mode="json") for name, model in spec.models.items()},
        ],
        partitions=pilot_by_model(spec),
        pool=pool_of(spec.models.values()),
    )


def pilot_problems(spec: StudySpec, problems: pl.DataFrame) -> pl.DataFrame:
    """Return the problems of the pilot, drawn by the seed, in the order of `problems`."""
    asked = problems.filter(pl.col("split") == spec.sampling.split)
    if spec.pilot is None or spec.pilot.problems is None or spec.pilot.problems >= asked.height:
        return asked
    lots = {p: hashlib.sha256(f"{spec.seed}/pilot/{p}".encode()).digest() for p in asked["problem_id"]}
    drawn = sorted(lots, key=lots.__getitem__)[: spec.pilot.problems]
    return asked.filter(pl.col("problem_id").is_in(drawn))


def pilot_of(inputs: Inputs, name: str) -> pl.DataFrame:
    """Return the pilot's rows of one model."""
    return inputs["pilot"].filter(pl.col("model") == name).collect()


def _asked(spec: StudySpec, problems: pl.DataFrame, drawn: pl.DataFrame, name: str) -> pl.DataFrame:
    """Return a sampler's prompts [problem_id, prompt] for the pilot's problems."""
    return prompts(spec, problems, name).join(drawn, on="problem_id", how="semi", maintain_order="left")


def _within_cap(step: Step, inputs: Inputs, problems: pl.DataFrame, drawn: pl.DataFrame) -> None:
    """Raise ValueError if the pilots of all models can cost more than the whole cap."""
    spec = step.spec
    if spec.cap is None or spec.pilot is None:
        return
    most = Spend()
    for name, model in spec.models.items():
        if not engines.get(model.engine).recorded:
            params = model.active_params or model.params or sampler(step, name, inputs).params
            tariff = Tariff(params, prices(spec, name), spec.count_prefill, model.chat)
            sampling = spec.sampling_of(name).parameters(spec.seed, ())
            each = [tariff.ceiling(text, sampling) for text in _asked(spec, problems, drawn, name)["prompt"]]
            most += Spend(*(spec.pilot.samples * sum(getattr(e, kind) for e in each) for kind in ("flops", "cost")))
    for kind in ("flops", "cost"):
        limit, needed = getattr(spec.cap, kind), getattr(most, kind)
        if limit is not None and needed > limit:
            raise ValueError(
                f"cap.{kind}: {limit:g} is less than the pilot can cost: {needed:.4g} for {spec.pilot.samples} samples"
                f" of each model on {drawn.height:,} problems; raise the cap, or lower"
                " pilot.problems or pilot.samples"
            )
