"""verdicts: the graded answer of each sample."""

from __future__ import annotations

import dagster as dg

from cos_assets.assets.metadata import result, sketch
from cos_assets.assets.step import Inputs, Step, asset, own
from cos_assets.grading import answers
from cos_assets.grading.cores import usable_cores
from cos_assets.grading.grade import VERDICTS
from cos_assets.judging.readable import unread
from cos_assets.judging.verdicts import second_opinion, verdict_counts
from cos_assets.judging.verdicts import verdicts as grade_samples
from cos_assets.orchestration import checks
from cos_assets.orchestration.checks import Check
from cos_assets.orchestration.partitions import by_model
from cos_assets.report import partition_figures
from cos_assets.study import StudySpec


def verdicts(spec: StudySpec) -> dg.AssetsDefinition:
    def body(step: Step, inputs: Inputs) -> dg.MaterializeResult:
        problems = inputs["problems"].collect()
        samples = inputs["samples"].collect()
        frame = grade_samples(samples, problems, spec.task, workers=usable_cores())
        counts = verdict_counts(frame)
        disagree, shown = second_opinion(frame, problems)
        facts = {
            "grader_version": answers.GRADER_VERSION,
            "extract_version": spec.task.extract_version,
            "extract": spec.task.extract,
            "task": spec.task.name,
            "graders_disagree": disagree,
        }
        unclear = {verdict: counts[verdict] for verdict in ("no_answer", "grader_error")}
        facts |= counts
        # Counted by finish_reason: instructions are checked in truncated replies too, which then have another verdict.
        facts["truncated"] = int((samples["finish_reason"] == "length").sum())
        left = unread(samples.with_columns(frame["answer"]), problems, spec.task, workers=usable_cores())
        facts |= {
            "unread": left.unread,
            "complete": left.complete,
            "flexible_would_read": left.lenient_read,
            "flexible_would_be_right": left.lenient_correct,
        }
        return result(
            frame,
            facts,
            Check(checks.GRADED, unclear),
            checks.gradable(frame),
            checks.readable([left]),
            checks.added_up(samples, frame, spec.task.answer_kind is not None),
            disagreements=dg.MetadataValue.json(shown.to_dicts()),
            figure=sketch(partition_figures.counts, "samples by verdict", counts, "samples by verdict", VERDICTS[1:]),
        )

    return asset(
        spec,
        "verdicts",
        body,
        checks=[checks.GRADED, checks.GRADABLE, checks.READABLE, checks.ADDED_UP],
        ins={"problems": own(spec, "problems"), "samples": own(spec, "samples")},
        description="One verdict per sample: correct, wrong, no_answer, truncated or grader_error.",
        config=[
            "verdicts-3",
            answers.GRADER_VERSION,
            spec.task.name,
            spec.task.answer_kind,
            spec.task.reading,
        ],
        partitions=by_model(spec),
    )
