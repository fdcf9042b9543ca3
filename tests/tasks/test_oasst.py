"""OpenAssistant: the prompts for sampling from every form of export, and the best reply."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cos_assets import tasks
from cos_assets.tasks.oasst import Oasst


def message(message_id: str, text: str = "", parent: str | None = None, **fields: Any) -> dict[str, Any]:
    role = "assistant" if parent else "prompter"
    common = {"message_id": message_id, "parent_id": parent, "text": text or f"text of {message_id}", "role": role}
    return {**common, "lang": "en", "synthetic": False, "deleted": False, "review_result": True, **fields}


REPLIES = [
    message("r1", parent="p1"),
    message("r2", parent="p1", rank=1),
    message("r3", parent="p1", rank=0, synthetic=True),
    message("r4", parent="p1", rank=0, deleted=True),
    message("r5", parent="p1", rank=0, lang="de"),
    message("r6", parent="p1", rank=2),
]
FIRST = [
    message("p1", " What is it? "),
    message("p2", review_result=None),
    message("p3", lang="de"),
    message("p4", synthetic=True),
    message("p5", deleted=True),
    message("p6", review_result=False),
    message("p7", "what  is IT?"),
    message("p8", " "),
]
DEEPER = message("d1", parent="r2", role="prompter")


def write(folder: Path, rows: list[dict[str, Any]], name: str = "2023-04-12_oasst_all.trees.jsonl.gz") -> str:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return str(folder)


def trees() -> list[dict[str, Any]]:
    replies = [{**reply, "replies": [DEEPER] if reply["message_id"] == "r2" else []} for reply in REPLIES]
    prompts = [{**prompt, "replies": replies if prompt["message_id"] == "p1" else []} for prompt in FIRST]
    for reply in replies:
        del reply["parent_id"]  # some exports omit the parent id of nested messages
    return [{"message_tree_id": p["message_id"], "tree_state": "ready_for_export", "prompt": p} for p in prompts]


@pytest.mark.parametrize("form", ["trees", "roots with replies", "messages"])
def test_only_first_english_prompts_by_people_are_taken(tmp_path: Path, form: str) -> None:
    nested = trees()
    rows = {
        "trees": nested,
        "roots with replies": [t["prompt"] for t in nested],
        "messages": [DEEPER, *REPLIES, *FIRST],
    }
    problems = Oasst(path=write(tmp_path, rows[form]), validation=0, check_rows=False).load()
    assert problems.schema == tasks.PROBLEMS
    assert problems.select("problem_id", "question", "solution").rows() == [
        ("oasst/p1", "What is it?", "text of r2"),
        ("oasst/p2", "text of p2", None),
    ]
    assert problems["answer"].null_count() == 2, "there is no answer to verify"
    assert problems["truth"].to_list() == ['{"message_id": "r2", "rank": 1}', None]
    assert Oasst().answer_kind is None


@pytest.fixture(scope="module")
def public(public_data: Path) -> pl.DataFrame:
    return Oasst(path=str(public_data / "oasst" / "en_100_tree.jsonl"), validation=20).load()


def test_the_public_sample_is_loaded(public_data: Path, public: pl.DataFrame) -> None:
    """100 trees, of which 5 start with a synthetic prompt; all are used, because there are fewer than 5,000."""
    assert dict(public.group_by("split").len().iter_rows()) == {"train": 75, "validation": 20}
    assert public["problem_id"].n_unique() == public["question"].n_unique() == 95
    assert public["solution"].null_count() == 0
    same = Oasst(path=str(public_data / "oasst" / "en_100_message.jsonl"), validation=20).load()
    assert same.equals(public)
    assert tasks.in_several_splits(public).is_empty()


def test_the_requested_number_of_prompts_is_drawn(public_data: Path, public: pl.DataFrame) -> None:
    path = str(public_data / "oasst" / "en_100_tree.jsonl")
    few, more, other = (
        Oasst(path=path, validation=20, train=n, seed=s).load().filter(pl.col("split") == "train")["problem_id"]
        for n, s in ((10, 0), (30, 0), (10, 1))
    )
    assert (len(few), len(more)) == (10, 30)
    assert set(few) < set(more) < set(public.filter(pl.col("split") == "train")["problem_id"])
    assert set(few) != set(other)


def test_the_full_export_takes_precedence(tmp_path: Path) -> None:
    write(tmp_path, FIRST[1:2], "2023-04-12_oasst_ready.messages.jsonl")
    task = Oasst(path=str(tmp_path), validation=0, check_rows=False)
    assert task.load()["problem_id"].to_list() == ["oasst/p2"]
    write(tmp_path, trees()[:1])
    assert task.load()["problem_id"].to_list() == ["oasst/p1"]
    assert task.provenance()["export_file"].endswith("_all.trees.jsonl.gz")


def test_messages_of_both_splits_are_loaded_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        asked.append(kwargs)
        return [*REPLIES, FIRST[0]] if kwargs["split"] == "train" else FIRST[1:2]

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    assert len(Oasst(validation=0, check_rows=False, revision="abc").load()) == 2
    assert asked == [{"split": split, "revision": "abc"} for split in ("train", "validation")]
    with pytest.raises(ValueError, match="OpenAssistant/oasst1: oasst train has 7 rows; 84437 were published"):
        Oasst(validation=0).load()


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{"text": "no id"}], {}, "line 1: 'message_id' is None; expected a string"),
        ([{**FIRST[0], "role": None}], {}, "line 1: 'role' is None; expected a string"),
        ([{**FIRST[0], "text": 3}], {}, "line 1: 'text' is 3; expected a string"),
        ([{**REPLIES[0], "text": None}, FIRST[0]], {}, "line 1: 'text' is None; expected a string"),
        ([{**FIRST[0], "replies": ["x"]}], {}, r"line 1: 'replies' is \['x'\]; expected a list of messages"),
        ([FIRST[0], FIRST[0]], {}, "line 2: message_id 'p1' is a duplicate; the first one is at .*line 1"),
        ([FIRST[0]], {"validation": 1}, "validation: 1 is not allowed; there are 1 English prompts to split"),
        ([FIRST[2]], {}, "validation: 0 is not allowed; there are 0 English prompts to split"),
        ([FIRST[0]], {"check_rows": True}, "oasst_all.trees has 1 rows; 66497 were published"),
        ([], {}, "has no rows"),
    ],
)
def test_invalid_files_are_refused_with_the_reason(
    tmp_path: Path, rows: list[Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        Oasst(path=write(tmp_path, rows), **{"validation": 0, "check_rows": False, **options}).load()
    assert "\n" not in str(error.value)


def test_a_folder_without_an_export_is_refused_with_the_expected_names(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"contains no export; expected one of 2023-04-12_oasst_all.trees, .* as .jsonl.gz"
    ):
        Oasst(path=str(tmp_path)).load()
