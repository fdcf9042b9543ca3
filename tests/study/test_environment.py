"""Texts of a study's YAML are loaded unchanged; only environment variables are expanded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from dagster.components.testing import create_defs_folder_sandbox
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import own_project

from cos_assets import study
from cos_assets.component import Study
from cos_assets.study import environment

Load = Callable[[str], study.StudySpec]


def attributes(text: str) -> dict[str, Any]:
    """A study with a text in every kind of position: a field, a list, a prompt, an engine option."""
    return {
        "name": "texts",
        "description": text,
        "task": {"name": "jsonl", "path": "a.jsonl", "template": f"{text}{{question}}{text}", "between": f"{text}\n"},
        "models": {
            "wc": {"model": "a", "params": 1, "engine": "openai", "engine_options": {"extra_body": {"user": text}}},
            "se": {"model": "b", "params": 2},
        },
        "budgets": {"low": {"se": 1}},
        "sampling": {"stop": [f"{text}\n"]},
    }


@pytest.fixture(scope="module")
def load() -> Iterator[Load]:
    """Write a study with a text into a defs.yaml, and load it like Dagster."""
    with create_defs_folder_sandbox() as sandbox:
        folder = sandbox.scaffold_component(component_cls=Study, defs_path="texts")

        def loaded(text: str) -> study.StudySpec:
            contents = {"type": "cos_assets.Study", "attributes": attributes(text)}
            (folder / "defs.yaml").write_text(yaml.safe_dump(contents), encoding="utf-8")
            with sandbox.build_component_tree() as tree:
                component = tree.load_component(folder)
            assert isinstance(component, Study) and component.spec is not None
            return component.spec

        yield loaded


def assert_arrives(spec: study.StudySpec, text: str) -> None:
    body: Any = spec.models["wc"].engine_options["extra_body"]
    assert spec.description == body["user"] == text
    assert spec.sampling.stop == (f"{text}\n",)
    assert (spec.task.template, spec.task.between) == (f"{text}{{question}}{text}", f"{text}\n")  # type: ignore[attr-defined]


WRITTEN = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(WRITTEN)
@example("\n\n")
@example("Question: \nAnswer:\n")
@example("1234567")
@example("1e10")
@example("None")
@example("[1, 2]")
@example("'quoted'")
@example("{# no comment #}")
@example(r"\boxed{{#1}}")
@example("{{ 7 * 7 }}")
@example("{% raw %}{{ x }}{% endraw %}")
def test_texts_are_loaded_byte_for_byte(load: Load, text: str) -> None:
    assert_arrives(load(text), text)


def test_templates_in_a_text_are_not_executed(load: Load, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    text = f"{{{{ cycler.__init__.__globals__.os.popen('touch {touched}').read() }}}}"
    assert_arrives(load(text), text)
    assert not touched.exists()


@pytest.mark.parametrize(
    ("written", "expanded"),
    [
        ("{{ env('COS_A') }}", "value"),
        ('{{ env("COS_A") }}', "value"),
        ("{{env('COS_A')}}/x/{{ env('COS_B', 'd e') }}", "value/x/d e"),
        ("{{ env('COS_A', 'default') }}", "value"),
        ("{{ env('COS_B', 'b') }}", "b"),
        ("{{ env('COS_NUMBER') }}", "007"),
        ("{{ env('COS_TEMPLATE') }}", "{{ env('COS_A') }}"),
        ("{{ env(COS_A) }}", None),
        ("{{ env('COS_A') | upper }}", None),
        ("{ env('COS_A') }", None),
    ],
)
def test_both_forms_of_a_variable_are_expanded(
    monkeypatch: pytest.MonkeyPatch, written: str, expanded: str | None
) -> None:
    values = {"COS_A": "value", "COS_NUMBER": "007", "COS_TEMPLATE": "{{ env('COS_A') }}"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    found, as_written = environment.expand({"a": [{"b": written}], "c": 3})
    assert found == {"a": [{"b": written if expanded is None else expanded}], "c": 3}
    assert as_written(found) == {"a": [{"b": written}], "c": 3}


def test_expanded_values_are_shown_as_written_in_the_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COS_A", "/home/someone")
    monkeypatch.setenv("COS_FEW", "3")
    texts = {"path": "{{ env('COS_A') }}/data", "few": "{{ env('COS_FEW') }}"}
    _, as_written = environment.expand(texts)
    shown = as_written({"file": "/home/someone/data/train.jsonl", "count": 3, "few": "3", "text": "13 of 30"})
    assert shown == {
        "file": "{{ env('COS_A') }}/data/train.jsonl",
        "count": 3,
        "few": "{{ env('COS_FEW') }}",
        "text": "13 of 30",
    }


def test_every_missing_variable_is_named() -> None:
    with pytest.raises(environment.MissingVariable) as caught:
        environment.expand({"a": "{{ env('COS_NOT_SET') }}", "b": [{"c": "{{ env('COS_NOR_THIS') }}"}]})
    assert str(caught.value).splitlines() == [
        "a: the environment variable COS_NOT_SET is not set",
        "b.0.c: the environment variable COS_NOR_THIS is not set",
    ]


def test_a_missing_variable_does_not_affect_other_studies(tmp_path: Path) -> None:
    paths = {"good": "a.jsonl", "needs": "{{ env('COS_NOT_SET') }}/a.jsonl"}
    given = [attributes("text") | {"name": n, "task": {"name": "jsonl", "path": path}} for n, path in paths.items()]
    own_project.write(tmp_path, *given)
    needs, good = (own_project.cos(tmp_path, "plan", name) for name in ("needs", "good"))
    line = "defs.yaml: needs: task.path: the environment variable COS_NOT_SET is not set"
    assert needs.returncode != 0 and needs.stderr.splitlines()[-1].endswith(line)
    assert "Traceback" not in needs.stderr
    assert good.returncode != 0 and "a.jsonl" in good.stderr, "it is loaded, and only its data file is missing"


def test_an_empty_value_is_not_replaced_elsewhere() -> None:
    _, as_written = environment.expand({"a": "{{ env('COS_NOT_SET', '') }}"})
    assert as_written({"a": "", "b": "text"}) == {"a": "", "b": "text"}


def test_no_file_contains_the_value_of_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, materialize: Callable[[dict[str, Any]], Path]
) -> None:
    place = tmp_path / "a-secret-place"
    place.mkdir()
    rows = [{"question": f"{n} + 1?", "answer": str(n + 1), "split": "test", "text": f"#### {n + 1}"} for n in range(4)]
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    monkeypatch.setenv("COS_PLACE", str(place))
    monkeypatch.setenv("COS_SECRET", "s3cr3t-<token>")
    made = {"engine": "imported", "path": "{{ env('COS_PLACE') }}/rows.jsonl", "params": 1e6}
    made["columns"] = {"question": "question", "completion": "text"}
    root = materialize(
        {
            "name": "secretive",
            "description": "Asked with {{ env('COS_SECRET') }}.",
            "task": {
                "name": "jsonl",
                "grade": "number",
                "path": "{{ env('COS_PLACE') }}/rows.jsonl",
                "columns": {"question": "question", "answer": "answer", "split": "split"},
            },
            "models": {"wc": made, "se": made},
            "budgets": {"one": {"se": 1}},
            "sampling": {"split": "test"},
        }
    )
    page = (root / "secretive" / "report" / "report.html").read_text(encoding="utf-8")
    assert "Asked with {{ env(&#39;COS_SECRET&#39;) }}." in page
    holding = []
    for file in sorted(one for one in root.rglob("*") if one.is_file()):
        held = file.read_bytes()
        if file.suffix == ".parquet":
            held += repr(pl.read_parquet(file, hive_partitioning=False).to_dicts()).encode()
        if any(secret in held for secret in (b"a-secret-place", b"s3cr3t")):
            holding.append(str(file.relative_to(root)))
    assert not holding
