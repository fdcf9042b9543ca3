"""Validation rules that involve several keys of a study."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cos_assets.generation import engines
from cos_assets.study.models import ModelSpec, TargetSpec
from cos_assets.study.spec import StudySpec

_UNPRICED = "is missing; cap.cost needs the price of every model that is called"


def disagreements(spec: StudySpec) -> Iterator[str]:
    """Yield one line for each mistake that involves several keys."""
    models, budgets = ", ".join(spec.models), ", ".join(spec.budgets)
    kinds: dict[str, Iterable[str]] = {
        "models": spec.models,
        "budgets": spec.budgets,
        "sources": spec.arms,
        "targets": spec.targets,
    }
    for kind, names in kinds.items():
        seen: dict[str, str] = {}
        for name in names:
            other = seen.setdefault(name.casefold(), name)
            if other != name and (kind != "sources" or name in spec.sources):
                yield f"{kind}.{name}: some file systems cannot distinguish {name!r} from {other!r}; rename one"
    for kind, names in (("models", spec.models), ("sources", spec.sources)):
        for name in names:
            if name.casefold() == "base":
                yield f"{kind}.{name}: {name!r} is reserved for the untouched models; choose another name"
    for budget, stated in spec.budgets.items():
        if not stated:
            example = f"{{{next(iter(spec.models))}: 1}}"
            yield f"budgets.{budget}: is empty; expected {{<model>: <samples per problem>}}, for example {example}"
        for named in stated:
            if named not in spec.models:
                yield f"budgets.{budget}.{named}: {named!r} is not a model of this study; allowed: {models}"
    for name, source in spec.sources.items():
        if name in spec.models:
            yield f"sources.{name}: {name!r} is already the data arm of the model {name!r}; choose another name"
        for named in source.models:
            if named not in spec.models:
                key = "take" if source.take else "samples"
                yield f"sources.{name}.{key}.{named}: {named!r} is not a model of this study; allowed: {models}"
    for name, target in spec.targets.items():
        if name.casefold() == "base":
            yield f"targets.{name}: {name!r} is reserved: base_eval is the untouched models' asset; choose another name"
        if name.casefold() == "all":
            yield f"targets.{name}: {name!r} is reserved for the mean of all targets; choose another name"
        if target.model is None and target.checkpoint is None:
            if name not in spec.models:
                yield (
                    f"targets.{name}: {{}} refers to the model {name!r}, which this study does not have;"
                    f" give model: or checkpoint:, or rename the target to one of: {models}"
                )
            elif (engine := engines.get(spec.models[name].engine)).recorded:
                yield (
                    f"targets.{name}: {{}} refers to the model {name!r}, which is {engine.origin} and cannot be"
                    " finetuned;"
                    " give model: or checkpoint:"
                )
    names = [task.name for task in spec.evaluation.benchmarks]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"evaluation.benchmarks: {name!r} is listed twice; list each task once"
    if spec.finetune is None and any(target.finetune is None for target in spec.targets.values()):
        yield "finetune: is missing; targets: need it, for example finetune: {steps: 100}"
    yield from _hosted_rules(spec)
    yield from _objective_rules(spec)
    scores_itself = any(map(spec.is_own, spec.benchmarks.values()))
    if spec.targets and scores_itself and spec.evaluation.split == spec.sampling.split:
        yield (
            f"evaluation.split: {spec.evaluation.split!r} is also sampling.split, which models are trained on;"
            " choose two different splits"
        )
    yield from _judge_rules(spec)
    for name, task in spec.benchmarks.items() if spec.targets else ():
        if task.answer_kind is None:
            yield f"evaluation.benchmarks: {name!r} has no gold answers to score models with; choose a task that has"
    finetunings = {"finetune": spec.finetune} | {f"targets.{n}.finetune": t.finetune for n, t in spec.targets.items()}
    for key, settings in finetunings.items():
        if settings and len(settings.learning_rates) > 1 and spec.task.answer_kind is None:
            yield f"{key}.learning_rate: task {spec.task.name!r} has no gold answers to select a rate with; give one"
        if settings is None or not isinstance(settings.steps, dict):
            continue
        for budget in spec.budgets:
            if budget not in settings.steps:
                yield f"{key}.steps: has no entry for budget {budget!r}; give one number, or one each for: {budgets}"
        for budget in settings.steps:
            if budget not in spec.budgets:
                yield f"{key}.steps.{budget}: {budget!r} is not a budget of this study; allowed: {budgets}"
    rule = spec.matching
    for name, model in spec.models.items():
        asked, countable = not engines.get(model.engine).recorded, _countable(model)
        # A pilot cannot measure the speed of recorded solutions.
        known = {
            "params": bool(model.active_params or model.params or countable),
            "price": model.price is not None,
            "tokens_per_second": model.tokens_per_second is not None or (spec.pilot is not None and asked),
        }
        if rule.needs and not known[rule.needs]:
            yield f"models.{name}.{rule.needs}: is missing; match: {spec.match} needs {rule.needed}"
        if not rule.by_length and model.tokens_per_solution is not None:
            yield f"models.{name}.tokens_per_solution: match: {spec.match} counts solutions, not tokens; leave it out"
        lengths = [m.tokens_per_solution for m in spec.models.values() if rule.by_length]
        if (any(lengths) or spec.match_rule == "measured") and model.tokens_per_solution is None and not spec.pilot:
            yield (
                f"models.{name}.tokens_per_solution: is missing; give it for every model or for none,"
                " or add a pilot:, which measures it"
            )
        if spec.count_prefill and spec.measured and model.tokens_per_prompt is None and not spec.pilot:
            yield (
                f"models.{name}.tokens_per_prompt: is missing; count_prefill: true needs it for every model,"
                " or a pilot:, which measures it"
            )
        if model.active_params and model.params and model.active_params > model.params:
            yield f"models.{name}.active_params: {model.active_params:g} is more than params: {model.params:g}"
        if spec.cap and spec.cap.cost and model.price is None and asked:
            yield f"models.{name}.price: {_UNPRICED}"
        if spec.cap and spec.cap.flops and asked and not known["params"] and rule.needs != "params":
            yield f"models.{name}.params: is missing; cap.flops needs the number of parameters of every model"
    for key, part in _asked(spec):
        try:
            engines.get(part.engine).validate(part.model or "", part.chat_format, part.engine_options)
            lacking = engines.get(part.engine).unsupported(part.engine_options)
        except ValueError as error:
            yield f"{key}.{error}"
            continue
        common = spec.sampling.model_dump() if key.startswith("models.") else {}
        for name in lacking:
            if {**common, **part.overrides}.get(name) is not None:
                where = f"{key}.sampling.{name}" if name in part.overrides else f"sampling.{name}"
                yield (
                    f"{where}: {key} is served by an API that has no {name}; leave it out, or omit it there with"
                    f" engine_options: {{extra_body: {{{name}: null}}}}"
                )
    yield from _budget_rules(spec)
    if spec.published:
        yield from spec.published.strays(spec.budgets, spec.models, spec.arms, spec.targets)
    if spec.compare:
        for named in spec.compare:
            if named not in spec.models:
                yield f"compare: {named!r} is not a model of this study; allowed: {models}"
        if len(set(spec.compare)) < 2:
            yield f"compare: {spec.compare[0]!r} is listed twice; expected two models, the weak-cheap one first"


def _asked(spec: StudySpec) -> Iterator[tuple[str, ModelSpec | TargetSpec]]:
    """Yield every model, target and judge that an engine serves, with its key."""
    for kind, parts in (("models", spec.models), ("targets", spec.targets)):
        yield from ((f"{kind}.{name}", part) for name, part in parts.items())
    for name, judge in spec.judge.models.items():
        yield f"judge.judges.{name}" if spec.judge.judges else "judge", judge


def _countable(model: ModelSpec) -> bool:
    """Return whether the parameters can be counted once the files exist. This holds for a folder or a checkpoint, but
    not for a hub id, a served name or an import."""
    here = model.checkpoint is not None or (model.model or "").startswith((".", "/", "~"))
    return here and engines.get(model.engine).local


def _objective_rules(spec: StudySpec) -> Iterator[str]:
    """Yield mistakes between `objective:` of a source and the task or the training."""
    for name, source in spec.sources.items():
        if source.objective == "sft":
            continue
        key = f"sources.{name}.objective"
        if spec.task.answer_kind is None:
            yield f"{key}: {source.objective} needs wrong samples, and task {spec.task.name!r} has no gold answers"
        if (source.verification or spec.verification) == "none":
            yield f"{key}: {source.objective} needs right samples, which verification: none does not choose"
        for target in spec.targets:
            settings = spec.targets[target].finetune or spec.finetune
            if settings and settings.method in ("external", "hosted"):
                yield f"{key}: {source.objective} is not available with method: {settings.method} ({target})"
            if settings and settings.packing:
                yield f"{key}: {source.objective} is not available with packing: true ({target})"


def _hosted_rules(spec: StudySpec) -> Iterator[str]:
    """Yield mistakes between `method: hosted` and the engines of the targets."""
    for name in spec.targets:
        settings, target = spec.targets[name].finetune or spec.finetune, _origin(spec, name)
        if settings is None or target is None or engines.get(target.engine).recorded:
            continue
        key = f"models.{name}" if spec.targets[name].is_sampler else f"targets.{name}"
        engine, hosted = engines.get(target.engine), settings.method == "hosted"
        if not engine.local and not hosted:
            other = "use method: hosted, or give" if target.engine == "openai" else "give"
            yield (
                f"targets.{name}.finetune.method: {settings.method} cannot train a model that is {engine.origin};"
                f" {other} a model whose weights are here"
            )
        if hosted and target.engine != "openai":
            yield f"{key}.engine: method: hosted trains a model behind an API; give engine: openai"
        if hosted and not target.chat:
            yield f"{key}.chat: method: hosted trains on conversations; give chat: true"
        if hosted and isinstance(target.engine_options.get("base_url"), list):
            yield f"{key}.engine_options.base_url: method: hosted works with one server only; give one URL"


def _origin(spec: StudySpec, target: str) -> ModelSpec | TargetSpec | None:
    """Return what a target's model is resolved from; None for {} without a sampler of that name."""
    part = spec.targets[target]
    return spec.models.get(target) if part.is_sampler else part


def _judge_rules(spec: StudySpec) -> Iterator[str]:
    """Yield mistakes in the judges, and between the judges and the verification of samples."""
    judges = spec.judge.all
    several = spec.judge.judges is not None
    for name, judge in judges.items():
        key = f"judge.judges.{name}" if several else "judge"
        others = [other for other, one in judges.items() if not one.implementation.votes]
        for member in judge.of or ():
            if member not in others:
                yield f"{key}.of: {member!r} is not a judge that can vote; allowed: {', '.join(others) or 'none'}"
        voters = judge.of or []
        if twice := [voter for voter in voters if voters.count(voter) > 1]:
            yield f"{key}.of: {twice[0]!r} is listed twice; list each judge once"
        if spec.cap and judge.implementation.asks_model:
            if spec.cap.cost and judge.price is None:
                yield f"{key}.price: {_UNPRICED}"
            if spec.cap.flops and not judge.params and not judge.active_params and not _countable(judge):
                yield f"{key}.params: is missing; cap.flops needs the number of parameters of every model"
    gold = spec.task.answer_kind
    members = spec.judge.behind(spec.judge.first)
    asked = all(
        judges[name].implementation.asks_model
        for name in members
        if name in judges and not judges[name].implementation.votes
    )
    for key, way in spec.verifications.items():
        if gold is None and way not in ("none", "judge"):
            yield f"{key}: {way!r} needs gold answers, and task {spec.task.name!r} has none; allowed: none, judge"
        elif way == "vote" and gold in ("tests", "instructions"):
            yield f"{key}: vote compares answers, but task {spec.task.name!r} is graded by {gold}; choose another way"
        if way == "judge" and not asked:
            yield (
                f"{key}: judge uses no gold answers, so the first judge must be a model or a vote of models, for"
                " example judge: {model: gpt-4o-mini, engine: openai}"
            )
        if way == "answer+steps" and not spec.verifiers_of(way):
            yield f"{key}: answer+steps needs a judge with method: steps"
    if "samples" in spec.judge.model_fields_set and set(judges) <= set(spec.verifiers):
        ways = " and ".join(sorted({way for way in spec.verifications.values() if spec.verifiers_of(way)}))
        yield f"judge.samples: verification: {ways} judges every sample that it verifies; leave judge.samples out"


def _budget_rules(spec: StudySpec) -> Iterator[str]:
    """Yield mistakes between the keys that set the budgets and the keys that say how they are matched."""
    if not spec.matching.by_length and spec.match_rule == "measured":
        yield f"match_rule: match: {spec.match} counts solutions, not tokens; leave match_rule out"
    if spec.matching.prompts == "count_prefill" and spec.count_prefill and not spec.measured:
        yield (
            "count_prefill: the nominal rule counts no prompts; give match_rule: measured and a pilot:,"
            " or every model's tokens_per_solution and tokens_per_prompt"
        )
    asked = [*spec.models.values(), *spec.judge.models.values()]
    currencies = {model.price.currency for model in asked if model.price}
    if len(currencies) > 1 and (spec.matching.needs == "price" or (spec.cap and spec.cap.cost)):
        yield f"models: prices are in {' and '.join(sorted(currencies))}; give all in one currency"
    if spec.allocation == "adaptive":
        if spec.pilot is None:
            yield "pilot: is missing; allocation: adaptive needs one, for example pilot: {samples: 4}"
        if spec.task.answer_kind is None:
            yield f"allocation: adaptive needs gold answers, and task {spec.task.name!r} has none; allowed: uniform"
        for name, source in spec.sources.items():
            if source.samples or any(share < 1 for share in (source.take or {}).values()):
                yield f"sources.{name}: allocation: adaptive needs all samples of a model; give take: {{<model>: 1}}"
