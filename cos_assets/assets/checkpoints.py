"""<target>_checkpoint: the models finetuned on each SFT set."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import dagster as dg
import polars as pl

from cos_assets.assets.benchmarks import answer_prompts, answer_settings, greedy, versions
from cos_assets.assets.metadata import picture, result
from cos_assets.assets.models import checkpoint_inputs, finetuned, target, target_spec, trained_from
from cos_assets.assets.step import Inputs, Step, asset, own
from cos_assets.orchestration import checks
from cos_assets.orchestration.checks import Check
from cos_assets.orchestration.partitions import by_source
from cos_assets.orchestration.pools import GPU
from cos_assets.report import training_curves
from cos_assets.report.figures import svg
from cos_assets.storage.tables import content_hash
from cos_assets.study import StudySpec
from cos_assets.training import checkpoints
from cos_assets.training.data import SCHEDULE, objective_of
from cos_assets.training.evaluation import accuracy, evaluate
from cos_assets.training.job import Job
from cos_assets.training.loss_mask import wrongly_learned
from cos_assets.training.sft import Trained
from cos_assets.training.sft_sets import in_own_prompts


def checkpoint(spec: StudySpec, name: str) -> dg.AssetsDefinition:
    settings = spec.finetuning_of(name)
    trains_here = settings.method != "hosted"  # an API masks the loss itself, and leaves one candidate

    def body(step: Step, inputs: Inputs) -> dg.MaterializeResult:
        base = target(step, name, inputs)
        problems = inputs["problems"].collect()
        validation = problems.filter(pl.col("split") == "validation")
        # A split that scores the finetuned models must not choose their checkpoints as well.
        scores_it = any(map(spec.is_own, spec.benchmarks.values())) and spec.evaluation.split == "validation"
        can_choose = trains_here and spec.task.answer_kind is not None
        chooses = validation.height > 0 and not scores_it and can_choose

        def score(folder: Path) -> float:
            model = finetuned(folder, target_spec(spec, name))
            buyer = step.buyer("validation", name)
            return accuracy(evaluate(model, name, validation, asked, spec.task, ways, buyer))

        asked, ways = answer_prompts(spec, name, spec.task, validation, problems), [greedy(spec, name)]
        choice = ""
        if chooses:
            told = map(str, answer_settings(spec, name))
            choice = "/".join([content_hash(validation), *told, *versions(spec.task)])
        rows = in_own_prompts(spec.task, inputs["sft_set"].collect(), problems, base.chat is not None)
        untouched = trained_from(base)
        if trains_here:
            step.require(Check(checks.MASKED, {"wrongly_learned": wrongly_learned(rows, untouched, settings)}))
        own_settings = settings.of(objective_of(rows))
        made: list[tuple[pl.DataFrame, Trained]] = []
        for number in range(settings.seeds):
            job = Job(rows, untouched, own_settings, settings.steps_for(step.budget), spec.seed + number)
            buyer = step.buyer("training", name)
            made.append(checkpoints.checkpoint(buyer, name, base, job, score if chooses else None, choice))
        frame, trained = pl.concat([row for row, _ in made]), made[0][1]
        facts = frame.drop("curve").row(0, named=True) | {"seconds": sum(each.seconds for _, each in made)}
        if settings.seeds > 1:
            facts |= {"seeds": settings.seeds, "validation_accuracy": frame["validation_accuracy"].mean()}
        curves = picture(svg(partial(training_curves.of_checkpoint, frame)), "loss and validation accuracy by step")
        return result(frame, facts, model=dg.MetadataValue.path(str(trained.path)), figure=curves)

    return asset(
        spec,
        f"{name}_checkpoint",
        body,
        checks=[checks.MASKED] if trains_here else [],
        ins={
            "sft_set": own(spec, "sft_set"),
            "problems": own(spec, "problems"),
            **checkpoint_inputs(target_spec(spec, name)),
        },
        description=f"`{name}` finetuned on the source's rows: the checkpoint with the best validation result.",
        config=[
            "checkpoint-1",
            SCHEDULE,
            settings.described,
            *([{"seeds": settings.seeds}] if settings.seeds > 1 else []),
            target_spec(spec, name).model_dump(mode="json"),
            *answer_settings(spec, name),
            spec.evaluation.split,
            spec.task.asked_version(target_spec(spec, name).chat),
            spec.seed,
        ],
        partitions=by_source(spec),
        kinds={"huggingface"},
        pool=GPU if trains_here else None,
    )
