"""Every error in a study's YAML is reported in one line with the key, the value and the allowed values."""

from __future__ import annotations

import sys
import textwrap
from typing import Any

import pytest
import yaml

from cos_assets import study
from cos_assets.study import StudyError, StudySpec
from cos_assets.study.errors import check_duplicates

GOOD = """
    name: demo
    task: {name: arithmetic, train: 40}
    models:
      wc: {checkpoint: {study: tiny, target: wc}}
      se: {checkpoint: {study: tiny, target: se}}
    budgets:
      low: {se: 1}
      high: {se: 10}
    match: flops
    sampling: {temperature: 0.7, top_k: 3, max_tokens: 56}
    sources:
      mix: {take: {se: 0.5, wc: 0.5}}
      gt: {reference_solutions: true}
    targets:
      student: {checkpoint: {study: tiny, target: student}}
      wc: {}
    finetune: {steps: {low: 10, high: 20}}
"""


def attributes(**changes: Any) -> dict[str, Any]:
    """The valid study with replaced keys; `None` removes a key, "a__b" is the key b inside a."""
    given = yaml.safe_load(textwrap.dedent(GOOD))
    for path, value in changes.items():
        *outer, last = path.split("__")
        place = given
        for key in outer:
            place = place.setdefault(key, {})
        if value is None:
            place.pop(last)
        else:
            place[last] = yaml.safe_load(value) if isinstance(value, str) else value
    return given


def mistakes(given: Any) -> list[str]:
    with pytest.raises(StudyError) as caught:
        study.parse(given, "defs/x/defs.yaml")
    lines = str(caught.value).splitlines()
    assert all(line.startswith("defs/x/defs.yaml: ") for line in lines)
    return [line.removeprefix("defs/x/defs.yaml: ") for line in lines]


PRICE = "price: {output: 1, date: 2026-11-01}"
PRICED = f"{{wc: {{model: a, params: 1e9, {PRICE}}}, se: {{model: b, params: 2e9, {PRICE}}}}}"

# The changes of the valid study, and the required parts of the message.
TABLE: list[tuple[dict[str, Any], list[str]]] = [
    # unknown keys, at every level
    ({"budget": "{low: {se: 1}}"}, ["budget: unknown key", "allowed: name", "budgets"]),
    ({"models__wc__modle": "x"}, ["models.wc.modle: unknown key", "allowed: model, checkpoint"]),
    ({"models__wc__checkpoint__arm": "x"}, ["models.wc.checkpoint.arm: unknown key", "source"]),
    (
        {"models__wc__price": "{output: 1, date: '2026-11-01', per: 1}"},
        ["models.wc.price.per: unknown key", "currency"],
    ),
    ({"sampling__temprature": "1"}, ["sampling.temprature: unknown key", "temperature"]),
    ({"sources__mix__share": "1"}, ["sources.mix.share: unknown key", "take"]),
    ({"targets__student__params": "1"}, ["targets.student.params: unknown key", "engine"]),
    ({"finetune__epochs": "3"}, ["finetune.epochs: unknown key", "steps"]),
    (
        {"finetune__lora": "{rank: 3}", "finetune__method": "lora"},
        ["finetune.lora.rank: unknown key", "target_modules"],
    ),
    ({"task__trian": "3"}, ["task.trian: unknown key", "train"]),
    ({"judge": "{modle: x}"}, ["judge.modle: unknown key", "did you mean model?", "samples, controls, judges"]),
    ({"judge": "{judges: {a: {modle: x}}}"}, ["judge.judges.a.modle: unknown key", "did you mean model?"]),
    ({"judge": "{method: llm}"}, ["judge: give either model: (a hub id or a folder) or checkpoint:"]),
    ({"judge": "{params: 3}"}, ["judge: params: allowed only with method: llm"]),
    ({"judge": "{method: vote}"}, ["judge: of: lists the judges that vote"]),
    ({"judge": "{judges: {}}"}, ["judge.judges: {} is not allowed; allowed: at least 1 entry"]),
    ({"judge": "{method: steps, judges: {a: {}}}"}, ["judge: method: not allowed together with judges:"]),
    (
        {"judge": "{model: x, engine: imported}"},
        ["judge: engine: imported only reads stored solutions and cannot judge; allowed: auto, transformers"],
    ),
    (
        {"judge": "{model: x, tokens_per_solution: 3}"},
        ["judge: tokens_per_solution: is a key of samplers, not of judges"],
    ),
    (
        {"judge": "{model: x, engine: openai, engine_options: {api: completions}}"},
        ["judge.engine_options.api: completions"],
    ),
    (
        {"judge": "{judges: {a: {}, b: {of: [a, c]}}}"},
        ["judge.judges.b.of: 'c' is not a judge that can vote; allowed: a"],
    ),
    ({"judge": "{judges: {a: {}, b: {of: [a, a]}}}"}, ["judge.judges.b.of: 'a' is listed twice"]),
    ({"judge": "{model: x}", "cap": "{cost: 5}", "models": PRICED}, ["judge.price: is missing; cap.cost needs"]),
    (
        {"judge": "{model: x, engine: openai}", "cap": "{flops: 5}"},
        ["judge.params: is missing; cap.flops needs the number of parameters"],
    ),
    ({"verification": "judge"}, ["verification: judge uses no gold answers", "for example judge: {model: "]),
    (
        {"verification": "judge", "judge": "{judges: {v: {of: [a, b]}, a: {}, b: {model: x}}}"},
        ["verification: judge uses no gold answers"],
    ),
    ({"verification": "answer+steps", "judge": "{model: x}"}, ["answer+steps needs a judge with method: steps"]),
    ({"sources__mix__verification": "judge"}, ["sources.mix.verification: judge uses no gold answers"]),
    (
        {"sources__mix__verification": "answer+steps", "judge": "{model: x}"},
        ["sources.mix.verification: answer+steps needs a judge with method: steps"],
    ),
    (
        {"sources__mix__verification": "answer+steps", "judge": "{samples: 5}"},
        ["judge.samples: verification: answer+steps judges"],
    ),
    (
        {"sources__gt__verification": "none"},
        ["sources.gt: verification: is not allowed with"],
    ),
    ({"sources__mix__verification": "vibes"}, ["sources.mix.verification: 'vibes' is not allowed", "answer"]),
    (
        {
            "task": "oasst",
            "verification": "none",
            "evaluation": "{benchmarks: [ifeval]}",
            "sources__mix__verification": "vote",
        },
        ["sources.mix.verification: 'vote' needs gold answers", "allowed: none, judge"],
    ),
    ({"verification": "vote", "task": "mbpp"}, ["verification: vote compares answers", "'mbpp' is graded by tests"]),
    (
        {"verification": "answer+judge", "judge": "{model: x, samples: 5}"},
        ["judge.samples: verification: answer+judge judges"],
    ),
    ({"evaluation": "{benchmark: [x]}"}, ["evaluation.benchmark: unknown key", "did you mean benchmarks?", "split"]),
    ({"evaluation": "{benchmarks: [x]}"}, ["evaluation.benchmarks.0: 'x'", "is not a task; allowed: arithmetic"]),
    ({"evaluation": "{maj_at: [1]}"}, ["evaluation: maj_at: allowed only with samples:"]),
    ({"evaluation": "{samples: 4, pass_at: [1, 8]}"}, ["evaluation: pass_at: 8 is more than samples: 4"]),
    ({"evaluation": "{samples: 4, temperature: 0}"}, ["evaluation.temperature: 0 is not allowed", "above 0"]),
    ({"evaluation": "{benchmarks: [3]}"}, ["evaluation.benchmarks.0: 3", "is not a task"]),
    ({"evaluation": "{benchmarks: [gsm8k, {name: gsm8k, limit: {test: 5}}]}"}, ["'gsm8k' is listed twice"]),
    (
        {"evaluation": "{benchmarks: [{name: arithmetic, levels: 3}]}"},
        ["evaluation.benchmarks.0.levels: unknown key", "seed"],
    ),
    ({"targets__student__finetune": "{epochs: 3}"}, ["targets.student.finetune.epochs: unknown key", "steps"]),
    ({"targets__student__finetune": "{batch_size: 0}"}, ["targets.student.finetune.batch_size: 0"]),
    ({"targets__student__finetune": "{steps: {low: 4}}"}, ["targets.student.finetune.steps", "'high'"]),
    (
        {"targets__student__finetune": "{batch_size: 8}", "finetune": None},
        ["targets.student.finetune.steps: is missing"],
    ),
    ({"targets__student__chat": "maybe"}, ["targets.student.chat: 'maybe'", "true or false"]),
    ({"modles": "{}"}, ["modles: unknown key; did you mean models? allowed: name"]),
    # missing
    ({"name": None}, ["name: is missing"]),
    ({"task": None}, ["task: is missing"]),
    ({"models": None}, ["models: is missing"]),
    ({"budgets": None}, ["budgets: is missing"]),
    ({"finetune__steps": None}, ["finetune.steps: is missing"]),
    ({"finetune": None}, ["finetune: is missing; targets: need it"]),
    ({"models__wc": "{}"}, ["models.wc", "give either model:", "checkpoint:"]),
    ({"models__wc": "null"}, ["models.wc: is empty; allowed: a mapping with the keys model, checkpoint"]),
    (
        {"targets__other": "{}"},
        ["targets.other: {} refers to the model 'other', which this study does not have", "wc, se"],
    ),
    # budgets
    ({"budgets__low__se": "0"}, ["budgets.low.se: 0 is not allowed; allowed: a whole number of at least 1"]),
    ({"budgets__low__se": "-3"}, ["budgets.low.se: -3 is not allowed", "1"]),
    ({"budgets__low__se": "many"}, ["budgets.low.se: 'many' is not allowed"]),
    ({"budgets__low__se": "1.5"}, ["budgets.low.se: 1.5 is not allowed"]),
    ({"budgets__low__se": "yes"}, ["budgets.low.se: True: allowed is a whole number"]),
    ({"budgets__low": "[1]"}, ["budgets.low: [1] is not allowed"]),
    ({"budgets__low": "{}"}, ["budgets.low: is empty", "{wc: 1}"]),
    ({"budgets": "{}"}, ["budgets: {} is not allowed"]),
    ({"budgets__low": "{xl: 1}"}, ["budgets.low.xl: 'xl' is not a model of this study", "wc, se"]),
    # names from another mapping
    ({"sources__mix__take": "{xl: 0.5}"}, ["sources.mix.take.xl: 'xl' is not a model of this study", "wc, se"]),
    ({"sources__mix": "{samples: {xl: 1}}"}, ["sources.mix.samples.xl: 'xl' is not a model", "wc, se"]),
    ({"sources__wc": "{take: {wc: 1}}"}, ["sources.wc: 'wc' is already the data arm of the model 'wc'"]),
    ({"sources__base": "{take: {wc: 1}}"}, ["sources.base: 'base' is reserved for the untouched models"]),
    ({"targets__base": "{model: ./x}"}, ["targets.base: 'base'"]),
    ({"targets__all": "{model: ./x}"}, ["targets.all: 'all' is reserved for the mean of all targets"]),
    ({"compare": "[wc, xl]"}, ["compare: 'xl' is not a model of this study", "wc, se"]),
    ({"compare": "[wc, wc]"}, ["compare: 'wc' is listed twice; expected two models"]),
    ({"models__WC": "{checkpoint: {study: tiny, target: wc}}"}, ["cannot distinguish 'WC' from 'wc'"]),
    ({"compare": "[wc]"}, ["compare: ['wc'] is not allowed; allowed: at least 2 entries"]),
    (
        {"targets__Student": "{model: ./x}"},
        ["targets.Student: some file systems cannot distinguish 'Student' from 'student'"],
    ),
    ({"targets__Base": "{model: ./x}"}, ["targets.Base: 'Base'", "base_eval"]),
    ({"sources__BASE": "{take: {wc: 1}}"}, ["sources.BASE: 'BASE' is reserved for the untouched models"]),
    ({"models__base": "{model: ./x}"}, ["models.base: 'base' is reserved for the untouched models"]),
    ({"name": "ledger"}, ["name: 'ledger': is the name of another folder of COS_HOME"]),
    ({"name": "Checkpoints"}, ["name: 'Checkpoints': is the name of another folder of COS_HOME"]),
    ({"finetune__steps": "{low: 10}"}, ["finetune.steps: has no entry for budget 'high'", "low, high"]),
    ({"finetune__steps__huge": "3"}, ["finetune.steps.huge: 'huge' is not a budget of this study", "low, high"]),
    # characters that partition keys cannot hold
    ({"budgets__a|b": "{se: 1}", "finetune__steps": "5"}, ["budgets.a|b", "letters, digits and _"]),
    ({"budgets__a,b": "{se: 1}", "finetune__steps": "5"}, ["budgets.a,b", "letters, digits and _"]),
    ({"budgets__a[0]": "{se: 1}", "finetune__steps": "5"}, ["budgets.a[0]", "letters, digits and _"]),
    ({"sources__a b": "{take: {wc: 1}}"}, ["sources.a b", "letters, digits and _"]),
    ({"targets__a/b": "{model: ./x}"}, ["targets.a/b", "letters, digits and _"]),
    ({"name": "2fast"}, ["name: '2fast': allowed are letters, digits and _, starting with a letter"]),
    # tasks
    ({"task": "arithmetics"}, ["task: ", "'arithmetics' is not a task", "allowed: arithmetic"]),
    ({"task": "{name: arithmetic, train: 0}"}, ["task.train: 0 is not allowed"]),
    ({"task": "3"}, ["task: 3: is not a task", "allowed: arithmetic"]),
    ({"task": "[gsm8k]"}, ["task: is not a task", "allowed: arithmetic"]),
    ({"task": "{train: 3}"}, ["task: is not a task", "allowed: arithmetic"]),
    # sources
    ({"sources__mix__take": "{wc: 0.7, se: 0.7}"}, ["sources.mix", "shares add up to 1.4"]),
    ({"sources__mix__samples": "{wc: 1}"}, ["sources.mix", "exactly one of take:, samples:, reference_solutions"]),
    ({"sources__mix__take__wc": "0"}, ["sources.mix.take.wc: 0 is not allowed"]),
    ({"sources__mix__take": "{}"}, ["sources.mix.take: {} is not allowed; allowed: at least 1 entry"]),
    ({"sources__mix__take": "{se: 2}"}, ["sources.mix.take.se: 2 is not allowed; allowed: a number of at most 1"]),
    ({"sources__mix__problems": "1.5"}, ["sources.mix.problems: 1.5: allowed are a whole number of problems"]),
    ({"sources__mix__problems": "0"}, ["sources.mix.problems: 0: allowed are a whole number of problems"]),
    ({"sources__mix__deduplicate": "minhash"}, ["sources.mix.deduplicate: 'minhash': allowed are true, false, exact"]),
    ({"sources__mix__rows": "0"}, ["sources.mix.rows: 0 is not allowed", "at least 1"]),
    ({"sources__mix__balance": "subject"}, ["sources.mix.balance: 'subject' is not allowed", "level"]),
    ({"sources__mix__keep": "best"}, ["sources.mix.keep: 'best' is not allowed", "one_per_problem"]),
    # models
    ({"models__wc__model": "a/b"}, ["models.wc", "give either model:", "or checkpoint:"]),
    ({"models__wc": "{model: a/b}"}, ["models.wc.params: is missing; match: flops needs"]),
    ({"models__wc": "{model: a/b, params: 0}"}, ["models.wc.params: 0 is not allowed"]),
    ({"models__wc": "{model: '', params: 3}"}, ["models.wc.model: '' is not allowed; allowed: text that is not empty"]),
    ({"models__wc__params": ".inf"}, ["models.wc.params: inf is not allowed; allowed: a finite number"]),
    (
        {"models__wc": "{engine: imported, path: x.jsonl, columns: {completion: c}}", "targets__wc": None},
        ["models.wc.params: is missing; match: flops needs"],
    ),
    ({"models__wc": "{engine: imported, path: x, columns: {a: b}, params: 3}"}, ["targets.wc", "cannot be finetuned"]),
    (
        {"models__wc": "{engine: openai, model: ./served, params: 3, engine_options: {base_url: 'http://a/v1'}}"},
        ["targets.wc.finetune.method: full cannot train a model that is called over HTTP (engine: openai)"],
    ),
    (
        {
            "models__wc": "{engine: openai, model: ./served, engine_options: {base_url: 'http://a/v1'}}",
            "targets__wc": None,
        },
        ["models.wc.params: is missing; match: flops needs"],
    ),
    (
        {
            "models__wc": "{engine: openai, model: a, params: 3, engine_options: {concurency: 3}}",
            "targets__wc": None,
        },
        ["models.wc.engine_options.concurency: ", "allowed: base_url, api_key_env"],
    ),
    (
        {"models__wc": "{engine: openai, model: a, params: 3}", "targets__wc": None},
        ["sampling.top_k: models.wc is served by an API that has no top_k; leave it out", "extra_body: {top_k: null}"],
    ),
    (
        {"models__wc": "{engine: openai, model: a, params: 3, sampling: {top_k: 5}}", "targets__wc": None},
        ["models.wc.sampling.top_k: models.wc is served by an API that has no top_k"],
    ),
    ({"models__wc__system": "Be brief."}, ["models.wc: system: is a part of the chat template, which needs chat"]),
    ({"models__wc__reasoning": "{budget: 9}"}, ["models.wc: reasoning: is a part of the chat template, which needs"]),
    (
        {"models__wc": "{model: ./x, chat: true, chat_template_kwargs: {tokenize: true}}"},
        ["models.wc.chat_template_kwargs: tokenize is set by the engine; leave it out"],
    ),
    ({"models__wc__sampling": "{shots: 3}"}, ["models.wc.sampling: shots: is a key of the model, not of its sampling"]),
    ({"models__wc__sampling": "{split: test}"}, ["models.wc.sampling: split: is the same for all models"]),
    ({"models__wc__sampling": "{seed: 4}"}, ["models.wc.sampling: seed: is the same for all models"]),
    ({"models__wc__sampling": "{temperature: -1}"}, ["models.wc.sampling.temperature: -1", "0"]),
    (
        {"models__wc__sampling": "{typo: 1}"},
        ["models.wc.sampling.typo: ", "allowed: temperature, top_k"],
    ),
    ({"models__wc__shots": "true"}, ["models.wc.shots: ", "whole number"]),
    (
        {"targets__wc": "{chat: true, reasoning: {mode: on}}"},
        ["targets.wc: reasoning: a target without model: is the sampler"],
    ),
    (
        {"models__wc": "{model: ./x, chat: true, reasoning: {mode: off, budget: 9}}"},
        ["models.wc.reasoning: budget: not allowed with mode: off"],
    ),
    (
        {"models__wc": "{model: ./x, chat: true, reasoning: {mode: maybe}}"},
        ["models.wc.reasoning.mode: 'maybe'", "'on', 'off' or 'auto'"],
    ),
    (
        {"models__wc": "{engine: imported, path: x, columns: {a: b}, params: 3, shots: 2}", "targets__wc": None},
        ["models.wc: shots: engine: imported reads solutions that exist; leave it out"],
    ),
    ({"judge": "{model: x, shots: 3}"}, ["judge: shots: is a key of samplers, not of judges"]),
    (
        {"models__wc": "{engine: openai, model: a, params: 3, revision: main}", "targets__wc": None},
        ["models.wc", "engine: openai takes model: (the name that is served), not revision:"],
    ),
    ({"targets__wc": "{model: a/b, engine: openai}"}, ["targets.wc.finetune.method: full cannot train a model"]),
    ({"targets__wc": "{model: a/b, engine: imported}"}, ["targets.wc.engine: 'imported' is not allowed"]),
    ({"models__wc__engine": "sglang"}, ["models.wc.engine: 'sglang' is not allowed", "vllm"]),
    ({"models__wc": "{engine: imported}"}, ["models.wc", "needs path: and columns:"]),
    ({"models__wc__path": "x.jsonl"}, ["models.wc", "path: allowed only with engine: imported"]),
    ({"match": "price"}, ["models.wc.price: is missing", "match: price"]),
    (
        {"match": "gpu_seconds", "models__se__tokens_per_second": "2000"},
        ["models.wc.tokens_per_second: is missing; match: gpu_seconds needs"],
    ),
    (
        {"match": "gpu_seconds", "models__se__tokens_per_second": "2000", "models__wc__tokens_per_second": "0"},
        ["models.wc.tokens_per_second: 0 is not allowed", "above 0"],
    ),
    (
        {"models__se__tokens_per_solution": "200"},
        ["models.wc.tokens_per_solution: is missing; give it for every model"],
    ),
    (
        {"match": "number", "models__se__tokens_per_solution": "200"},
        ["models.se.tokens_per_solution: match: number counts solutions"],
    ),
    ({"match": "money"}, ["match: 'money' is not allowed", "flops"]),
    ({"models__wc__price": "{output: 1, date: today}"}, ["models.wc.price.date: 'today' is not allowed"]),
    ({"models__wc__checkpoint__budget": "low"}, ["models.wc.checkpoint", "give both budget: and source:, or neither"]),
    # environment variables in a form that is not expanded
    (
        {"models__wc": "{model: '{{ env.WC }}', params: 3}"},
        ["models.wc.model: {{ env.WC }} is not expanded; allowed: {{ env('NAME') }} and {{ env('NAME', 'default') }}"],
    ),
    ({"name": "'{{ env.STUDY }}'"}, ["name: {{ env.STUDY }} is not expanded"]),
    # numbers and choices
    ({"sampling__temperature": "-1"}, ["sampling.temperature: -1 is not allowed"]),
    ({"sampling__temperature": ".inf"}, ["sampling.temperature: inf is not allowed"]),
    ({"sampling__stop": "Q"}, ["sampling.stop: 'Q' is not allowed; allowed: a list"]),
    ({"sampling__top_p": "0"}, ["sampling.top_p: 0 is not allowed"]),
    ({"sampling__split": "dev"}, ["sampling.split: 'dev' is not allowed", "'train', 'validation' or 'test'"]),
    ({"sampling__split": "test"}, ["evaluation.split: 'test' is also sampling.split"]),
    ({"sampling__shots": "-1"}, ["sampling.shots: -1 is not allowed"]),
    ({"finetune__learning_rate": "0"}, ["finetune.learning_rate: 0: allowed are a number above 0"]),
    ({"finetune__batch_size": "0"}, ["finetune.batch_size: 0 is not allowed"]),
    ({"finetune__gradient_accumulation": "5"}, ["gradient_accumulation: 5 does not divide batch_size: 32"]),
    ({"verification": "vibes"}, ["verification: 'vibes' is not allowed", "answer"]),
    ({"verification": "answer+steps", "judge": "{samples: 5}"}, ["judge.samples: verification: answer+steps judges"]),
    ({"judge": "{samples: 0}"}, ["judge.samples: 0 is not allowed"]),
    ({"judge": "{controls: -1}"}, ["judge.controls: -1 is not allowed"]),
    ({"judge": "{controls: off}"}, ["judge.controls: ", "allowed is a whole number"]),
    ({"judge": "{judges: {a: {model: x, controls: 5}}}"}, ["judge.judges.a.controls: unknown key"]),
    (
        {"task": "oasst", "evaluation": "{benchmarks: [ifeval]}"},
        ["verification: 'answer' needs gold answers, and task 'oasst' has none; allowed: none, judge"],
    ),
    (
        {
            "task": "oasst",
            "verification": "none",
            "evaluation": "{benchmarks: [ifeval]}",
            "finetune__learning_rate": "[1.0e-6, 1.0e-5]",
        },
        ["finetune.learning_rate: task 'oasst' has no gold answers to select a rate with"],
    ),
    ({"task": "oasst", "verification": "none"}, ["evaluation.benchmarks: 'oasst' has no gold answers"]),
    ({"confidence": "2"}, ["confidence: 2 is not allowed; allowed: a number below 1"]),
    ({"confidence": ".nan"}, ["confidence: nan is not allowed"]),
    ({"seed": "-1"}, ["seed: -1 is not allowed; allowed: a whole number of at least 0"]),
    ({"seed": "on"}, ["seed: True: allowed is a whole number"]),
]


@pytest.mark.parametrize(
    ("changes", "said"), TABLE, ids=lambda value: " ".join(value) if isinstance(value, dict) else ""
)
def test_an_invalid_key_is_reported_in_one_plain_line(changes: dict[str, Any], said: list[str]) -> None:
    if changes.get("match") == "price":
        changes = {**changes, "models__se__price": "{output: 1, date: '2026-11-01'}"}
    lines = mistakes(attributes(**changes))
    assert len(lines) == 1, lines
    for part in said:
        assert part in lines[0]
    for jargon in ("Input should", "instance of", "dictionary", "after validation", "valid tuple"):
        assert jargon not in lines[0]


def test_each_invalid_key_is_reported_in_its_own_line() -> None:
    lines = mistakes(attributes(budgets__low__se="0", sampling__top_p="3", colour="red"))
    assert [line.split(":")[0] for line in lines] == ["budgets.low.se", "sampling.top_p", "colour"]
    between_keys = mistakes(attributes(budgets__low="{xl: 1}", compare="[wc, other]", finetune=None))
    assert [line.split(":")[0] for line in between_keys] == ["budgets.low.xl", "finetune", "compare"]


@pytest.mark.parametrize("given", [None, [], "text", 3])
def test_attributes_that_are_not_a_mapping_are_refused(given: Any) -> None:
    (line,) = mistakes(given)
    assert line.startswith("attributes: expected a mapping with name, task, models and budgets")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "attributes:\n  models:\n    wc: {model: a}\n    wc: {model: b}\n",
            ["x.yaml: line 4: models.wc: duplicate key; the first one is on line 3"],
        ),
        (
            "budgets: {low: {se: 1, se: 10}}",
            ["x.yaml: line 1: budgets.low.se: duplicate key; the first one is on line 1"],
        ),
        ("a: 1\n'a': 2\na: 3\n", [f"x.yaml: line {n}: a: duplicate key; the first one is on line 1" for n in (2, 3)]),
        ("- {b: 1, b: 2}", ["x.yaml: line 1: 0.b: duplicate key; the first one is on line 1"]),
        ("a: [\n", ["x.yaml: line 2: expected the node content, but found '<stream end>'; expected YAML"]),
    ],
)
def test_a_duplicate_key_is_refused_with_its_line(text: str, said: list[str]) -> None:
    with pytest.raises(StudyError) as caught:
        check_duplicates(text, "x.yaml")
    assert str(caught.value).splitlines() == said


@pytest.mark.parametrize(
    "text", ["", "a: {x: 1}\nb: {x: 1}\n", "a: &loop {b: *loop}\n", "a: &x {k: 1}\nb: *x\nc: *x\n"]
)
def test_equal_keys_in_different_mappings_are_accepted(text: str) -> None:
    check_duplicates(text, "x.yaml")
    check_duplicates(textwrap.dedent(GOOD) + "---\n" + textwrap.dedent(GOOD), "x.yaml")


def test_a_template_in_the_engine_options_is_accepted() -> None:
    options = {"chat_template": "{{ messages[0].content }}"}
    spec = study.parse(attributes(models__wc__engine_options=options))
    assert spec.models["wc"].engine_options == options


def test_a_valid_study_is_parsed() -> None:
    spec = study.parse(attributes())
    assert list(spec.arms) == ["wc", "se", "mix", "gt"]
    assert spec.pair == ("wc", "se")
    assert spec.arms["wc"].models == ("wc",)
    assert spec.arms["mix"].models == ("se", "wc")
    assert spec.reference_model("low") == "se"
    assert spec.finetune is not None
    assert spec.finetune.steps_for("high") == 20
    sampling = spec.sampling.parameters(seed=5, stop=("\nQuestion:",))
    assert (sampling.seed, sampling.stop, sampling.top_k) == (5, ("\nQuestion:",), 3)


def test_a_target_overrides_the_settings_of_finetune() -> None:
    given = attributes(targets__student__finetune="{batch_size: 8, steps: 7}", finetune__learning_rate="1.0e-3")
    spec = study.parse(given)
    student, wc = spec.finetuning_of("student"), spec.finetuning_of("wc")
    assert (student.batch_size, student.steps_for("high"), student.learning_rate) == (8, 7, 1e-3)
    assert (wc.batch_size, wc.steps_for("high")) == (32, 20)


def test_benchmarks_are_tasks_and_the_studys_own_is_found_by_name() -> None:
    assert list(study.parse(attributes()).benchmarks) == ["arithmetic"]
    given = attributes(task="{name: arithmetic, seed: 3}", evaluation="{benchmarks: [gsm8k, arithmetic]}")
    spec = study.parse(given)
    assert list(spec.benchmarks) == ["gsm8k", "arithmetic"]
    assert spec.benchmarks["arithmetic"] is spec.task
    assert list(spec.foreign_benchmarks) == ["gsm8k"]
    other = study.parse(attributes(evaluation="{benchmarks: [{name: arithmetic, seed: 4}]}"))
    assert list(other.foreign_benchmarks) == ["arithmetic"]
    # Another benchmark may be scored while the study samples its own test split.
    study.parse(attributes(evaluation="{benchmarks: [gsm8k]}", sampling__split="test"))


def test_the_compared_pair_defaults_to_the_first_and_last_model() -> None:
    three = "{a: {model: ./a}, b: {model: ./b}, c: {model: ./c}}"
    rest: dict[str, Any] = {"budgets": "{low: {c: 1}}", "sources": None, "targets": None, "finetune": None}
    assert study.parse(attributes(models=three, **rest)).pair == ("a", "c")
    assert study.parse(attributes(models=three, **rest, compare="[b, c]")).pair == ("b", "c")
    one = study.parse(attributes(models="{a: {model: ./a}}", **rest | {"budgets": "{low: {a: 1}}"}))
    assert one.pair is None


def test_the_settings_of_the_paper_are_accepted() -> None:
    given = attributes(
        task="{name: gsm8k}",
        models="{wc: {model: google/gemma-2-9b, params: 9.24e+9, engine: vllm},"
        " se: {model: google/gemma-2-27b, params: 27.2e+9, engine: vllm}}",
        targets="{student: {model: google/gemma-7b}, wc: {}, se: {}}",
        sampling="{shots: 8, temperature: 0.7, top_k: 3, max_tokens: 512}",
        finetune="{method: lora, steps: {low: 600, high: 6000}, learning_rate: [1e-7, 5e-7, 1e-6], checkpoints: 10}",
    )
    spec = study.parse(given)
    assert spec.finetune is not None
    assert spec.finetune.learning_rates == (1e-7, 5e-7, 1e-6)


def test_the_json_schema_lists_the_required_keys() -> None:
    schema = StudySpec.model_json_schema()
    assert set(schema["required"]) == {"name", "task", "models", "budgets"}
    assert schema["additionalProperties"] is False


def test_a_study_has_one_judge_or_several() -> None:
    plain = study.parse(attributes())
    assert list(plain.judge.all) == ["steps"] and plain.judge.count is None and plain.verifiers == ()
    model = study.parse(attributes(judge="{model: x}"))
    assert list(model.judge.all) == ["llm"] and model.judge.count == 500 and model.judge.models["llm"].chat
    assert study.parse(attributes(judge="{model: x, samples: null}")).judge.count is None
    assert study.parse(attributes(judge="{model: x, samples: all}")).judge.count is None
    assert study.parse(attributes(judge="{method: steps, samples: 7}")).judge.count == 7
    assert plain.judge.controls == model.judge.controls == 50
    assert study.parse(attributes(judge="{controls: 0}")).judge.controls == 0
    assert study.parse(attributes(judge="{judges: {a: {}}, controls: 9}")).judge.controls == 9
    judges = "{judges: {v: {of: [a, b]}, a: {model: x}, b: {model: y}, s: {}}}"
    several = study.parse(attributes(judge=judges, verification="judge"))
    assert several.judge.first == "v" and several.verifiers == ("a", "b", "v") and several.judge.count == 500
    assert study.parse(attributes(judge=judges, verification="answer+steps")).verifiers == ("s",)


def test_a_source_can_have_its_own_verification() -> None:
    judges = "{judges: {v: {of: [a, b]}, a: {model: x}, b: {model: y}, s: {}}}"
    sources = "{own: {take: {wc: 1}, verification: judge}, same: {take: {wc: 1}}, gt: {reference_solutions: true}}"
    mixed = study.parse(attributes(judge=judges, sources=sources, verification="answer+steps"))
    assert mixed.verifications == {"verification": "answer+steps", "sources.own.verification": "judge"}
    assert mixed.verifiers == ("s", "a", "b", "v")
    assert mixed.verifiers_of("judge") == ("a", "b", "v") and mixed.verifiers_of("answer+steps") == ("s",)


def versions(**changes: Any) -> dict[str, str | None]:
    """The code version of each asset of the valid study."""
    from cos_assets.assets import build_study

    assets = build_study(study.parse(attributes(**changes)))
    specs = [one for asset in assets for one in (asset.specs if hasattr(asset, "specs") else [asset])]
    return {one.key.path[-1]: one.code_version for one in specs}


def test_the_verification_of_a_source_makes_only_affected_assets_stale() -> None:
    plain = versions()
    unverified, by_steps = (versions(sources__mix__verification=way) for way in ("none", "answer+steps"))
    changed = [{name for name in plain if plain[name] != other[name]} for other in (unverified, by_steps)]
    assert changed == [{"sft_set", "report"}, {"sft_set", "report", "judgements"}]


def test_a_new_grader_version_makes_graded_assets_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    before = versions(pilot="{samples: 4}")
    for module in [one for name, one in sys.modules.items() if name.startswith("cos_assets.")]:
        if hasattr(module, "GRADER_VERSION"):
            monkeypatch.setattr(module, "GRADER_VERSION", "another")
    after = versions(pilot="{samples: 4}")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"pilot", "verdicts", "base_eval", "student_eval", "wc_eval"}


@pytest.mark.parametrize(
    ("changes", "warned"),
    [
        ({"task": "math"}, True),
        ({"task": "{name: functional_math, path: /data}"}, True),
        ({"task": "{name: jsonl, path: x.csv, grade: math}"}, True),
        ({"task": "math", "judge": "{samples: 20}"}, True),
        ({"task": "math", "judge": "{method: steps}"}, False),
        ({"task": "math", "judge": "{model: x}"}, False),
        ({"task": "math", "judge": "{judges: {steps: {method: steps}}}"}, False),
        ({"task": "{name: jsonl, path: x.csv, grade: number}"}, False),
        ({}, False),
    ],
)
def test_a_mathematical_study_without_a_judge_gives_a_warning(changes: dict[str, str], warned: bool) -> None:
    warnings = study.parse(attributes(**changes)).warnings
    assert len(warnings) == warned
    assert all("judge: {method: steps}" in line for line in warnings)
