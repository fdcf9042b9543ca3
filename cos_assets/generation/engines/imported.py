"""Engine imported: solutions from files, returned as if they were sampled now.

    engine: imported
    path: runs/*.jsonl.gz                # one file or a glob: JSONL, JSON, CSV, TSV or Parquet, .gz or .tar.gz
    columns:
      question: question                 # or problem_id: ...; matches a row to its problem
      completion: choices.0.message      # dots lead into nested objects and lists; a list holds several samples
      messages: messages                 # instead of completion, traces of several turns, with tools
      reasoning: choices.0.reasoning     # the rest is optional
      finish_reason: ...
      prompt_tokens: ...
      completion_tokens: ...             # all that were generated, the reasoning among them
      reasoning_tokens: ...
      sample_index: ...                  # without it, a problem's rows are its samples 0, 1, ... in file order
    where: {filter: strict-match}        # use only rows with these values
    tokenizer: ...                       # hub id or folder, to count completion tokens if the file has no counts

A completion is a text, a message, or a list of messages, of which the last assistant message counts. Null is a failed
sample. Reasoning is read from its own column, from the message, or from the text, where tags mark it.

A question matches all problems that have it, and `questions` may hold other texts of a problem. Ids are compared
regardless of case and leading zeros; the last part of an id suffices if it is unique (11 for mbpp/011).

The engine calls no model. It ignores sampling parameters, and yields nothing for an index that the file lacks. The
prompt of the solutions is unknown, so prompt tokens are read from the file or stay unknown.
"""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cos_assets.generation.completions import storable
from cos_assets.generation.engines import Descriptor
from cos_assets.generation.replies import ending, flat, reasonings_in, replies_in, turns_in
from cos_assets.generation.types import Chat, Completion, FinishReason, Model, Request, Sampling
from cos_assets.grading.reasoning import split
from cos_assets.readers import dig, rows, steps

_MATCH = ("problem_id", "question")
_COUNTS = ("prompt_tokens", "completion_tokens", "reasoning_tokens")
_OPTIONAL = ("reasoning", "finish_reason", *_COUNTS, "sample_index")
_CHUNK = 4096


class _Sample(NamedTuple):
    text: str
    reasoning: str | None
    messages: str | None
    finish_reason: FinishReason
    error: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    reasoning_tokens: int | None


class ImportedEngine:
    r"""Serves requests from files.

    Parameters
    ----------
    options : mapping
        The `engine_options` that the module's docstring lists, and `questions`: each problem id of the study with its
        question, or with a list of the question and other texts that identify the problem. Without `questions`, the ids
        in the file are used unchanged.

    Attributes
    ----------
    unmatched : int
        The number of rows whose problem is not in the study.

    Raises
    ------
    ValueError
        If an option or a row is wrong (the message names the file, the line and the column), or if no row matches.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "solutions.jsonl")
    ...     _ = file.write_text('{"q": "2 + 3?", "text": "5"}\n{"q": "other", "text": "6"}\n')
    ...     columns = {"question": "q", "completion": "text"}
    ...     engine = ImportedEngine({"path": file, "columns": columns, "questions": {"p": "2 + 3?"}})
    >>> [sample] = next(engine.stream([Request("p", "2 + 3?", (0, 1))], Sampling()))
    >>> sample.index, sample.text, engine.unmatched
    (0, '5', 1)
    """

    name = "imported"

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._columns = _columns(options)
        self._where: Mapping[str, Any] = options.get("where") or {}
        self._problems = _problems(options, "question" in self._columns)
        self._tokenizer_id: str | None = options.get("tokenizer")
        self._tokenizer: Any = None
        self.unmatched = 0
        self._samples: dict[str, dict[int, _Sample]] = {}
        self._present: set[str] = set()
        self._missing: dict[str, ValueError] = {}
        for file in _files(options):
            for where, row in rows(file):
                if all(str(self._value(row, "where", path, where)) == str(v) for path, v in self._where.items()):
                    self._take(where, row)
        for role, missing in self._missing.items():
            if role not in self._present:
                raise missing
        if not self._samples:
            chosen = f" with {dict(self._where)}" if self._where else ""
            raise ValueError(
                f"{options['path']}: none of {self.unmatched} rows{chosen} matches a problem of this study by column"
                f" {self._match_column!r}; check columns: and the problem set"
            )

    def stream(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[Completion]]:
        """Yield the completions that the files hold (see `Engine.stream`); nothing for an index that they lack."""
        done: list[Completion] = []
        for request in requests:
            held = self._samples.get(request.problem_id, {})
            done.extend(self._completion(request, i, held[i]) for i in request.indices if i in held)
            if len(done) >= _CHUNK:
                yield done
                done = []
        if done:
            yield done

    def close(self) -> None:
        """Free the memory. The engine cannot be used again."""
        self._samples.clear()

    @property
    def _text_column(self) -> str:
        return self._columns.get("completion") or self._columns["messages"]

    @property
    def _match_column(self) -> str:
        return self._columns.get("problem_id") or self._columns["question"]

    def _take(self, where: str, row: Mapping[str, Any]) -> None:
        values = {role: self._value(row, role, path, where) for role, path in self._columns.items()}
        problems = self._match(values, where)
        if not problems:
            self.unmatched += 1
            return
        held = self._samples.setdefault(problems[0], {})
        self._samples.update(dict.fromkeys(problems, held))  # problems with the same question share samples
        trace = None
        if "messages" in self._columns:
            trace = turns_in(values["messages"], f"{where}: column {self._columns['messages']!r}")
            values["completion"] = trace[-1] if trace else None
        replies = replies_in(values["completion"])
        several = len(replies) if isinstance(replies, list) else None
        thoughts = reasonings_in(values["completion"])
        for offset, text in enumerate(replies if isinstance(replies, list) else [replies]):
            if not isinstance(text, str | None):
                at = f"{where}: column {self._text_column!r}"
                raise ValueError(f"{at}: {repr(text)[:60]} is not text; expected text, a message, or a list of these")
            one = {role: _part(values.get(role), offset, several, f"{where}: {role}") for role in _OPTIONAL}
            index = _count(one["sample_index"]) if "sample_index" in self._columns else len(held)
            if index in held and len(problems) > 1:  # already stored for another problem with this question
                continue
            if index is None or index in held:
                raise ValueError(
                    f"{where}: sample_index {one['sample_index']!r} of {problems[0]!r} is not allowed;"
                    " expected whole numbers from 0, each once"
                )
            for role in _COUNTS:
                if _count(one[role]) is None and not _is_gap(one[role]):
                    raise ValueError(f"{where}: {role} {one[role]!r} is not allowed; expected a whole number or null")
            finish, error = self._ending(text, one["finish_reason"])
            beside = one["reasoning"] or (thoughts[offset] if isinstance(thoughts, list) else thoughts)
            if not isinstance(beside, str | None):
                raise ValueError(f"{where}: reasoning {repr(beside)[:60]} is not text; expected text or null")
            within, reply = split(text or "")
            thought = beside or within
            counts = (_count(one[role]) for role in _COUNTS)
            thought = None if thought is None else storable(thought)
            several_turns = json.dumps(trace, ensure_ascii=False) if trace and len(trace) > 1 else None
            held[index] = _Sample(storable(reply), thought, several_turns, finish, error, *counts)

    def _value(self, row: Mapping[str, Any], role: str, path: str, where: str) -> Any:
        """Return a row's value at a path.

        A value that is missing below the first step is None. If all rows lack it, the constructor raises the error.
        """
        try:
            value = dig(row, path, role, where)
        except ValueError as missing:
            if role in _MATCH or steps(path)[0] not in row:
                raise
            self._missing.setdefault(role, missing)
            return None
        self._present.add(role)
        return value

    def _match(self, values: Mapping[str, Any], where: str) -> tuple[str, ...]:
        """Return the ids of the problems that a row belongs to."""
        if "question" in self._columns:
            if not isinstance(values["question"], str):
                at = f"{where}: column {self._match_column!r}"
                raise ValueError(f"{at}: {values['question']!r} is not text; expected text")
            return self._problems.get(_key(values["question"]), ()) if self._problems else ()
        exact, key = str(values["problem_id"]), _id(values["problem_id"])
        if self._problems is None:
            return (exact,)
        return self._problems.get(exact) or self._problems.get(key, ())

    def _ending(self, text: str | None, reason: Any) -> tuple[FinishReason, str | None]:
        finish, note = ending(reason, True) if "finish_reason" in self._columns else ("stop", None)
        if text is None and finish == "stop":
            return "error", f"no text in column {self._text_column!r}"
        return finish, note

    def _completion(self, request: Request, index: int, sample: _Sample) -> Completion:
        tokens = sample.completion_tokens
        if tokens is None and self._tokenizer_id is not None and sample.finish_reason != "error":
            tokens = self._tokens(sample)
        return Completion(
            problem_id=request.problem_id,
            prompt=request.prompt,
            index=index,
            text=sample.text,
            finish_reason=sample.finish_reason,
            prompt_tokens=sample.prompt_tokens,
            completion_tokens=tokens,
            cached_tokens=None,
            seconds=0.0,
            error=sample.error,
            reasoning=sample.reasoning,
            reasoning_tokens=sample.reasoning_tokens,
            messages=sample.messages,
        )

    def _tokens(self, sample: _Sample) -> int:
        """Count the tokens of a solution. The EOS token counts unless the solution was truncated."""
        from cos_assets.generation.prompts import assistant_ids

        if self._tokenizer is None:
            from transformers import AutoTokenizer

            self._tokenizer = AutoTokenizer.from_pretrained(self._tokenizer_id, trust_remote_code=False)
        written = assistant_ids(self._tokenizer, None)
        return len(written(sample.reasoning, sample.text, sample.finish_reason != "length"))


class _Descriptor(Descriptor):
    local = gpu = False
    recorded = True
    origin = "imported"

    def fingerprint(self, model_id: str, chat: Chat | None, options: Mapping[str, Any]) -> str:
        return f"imported-{fingerprint(options)[:16]}"

    def open(self, model: Model) -> ImportedEngine:
        """Open the engine. `model.engine_options` are the options of `ImportedEngine`."""
        return ImportedEngine(model.engine_options)


ENGINE = _Descriptor()


def fingerprint(options: Mapping[str, Any]) -> str:
    r"""Return the SHA-256 of what the samples depend on: file contents, columns, row filter and tokenizer.

    File names do not count.

    Raises
    ------
    ValueError
        If `path` or `columns` is wrong, or if there is no such file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "solutions.jsonl")
    ...     _ = file.write_text('{"id": "p", "text": "5"}\n')
    ...     fingerprint({"path": file, "columns": {"problem_id": "id", "completion": "text"}})[:16]
    'f5297284cfe9b2e3'
    """
    settings = [_columns(options), options.get("tokenizer")]
    if where := options.get("where"):
        settings.append(where)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for file in _files(options):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _columns(options: Mapping[str, Any]) -> dict[str, str]:
    columns = options.get("columns")
    allowed = (*_MATCH, "completion", "messages", *_OPTIONAL)
    if not isinstance(columns, Mapping):
        raise ValueError(f"columns: {columns!r} is not allowed; expected a mapping with {', '.join(allowed)}")
    for role, path in columns.items():
        if role not in allowed:
            raise ValueError(f"columns.{role}: unknown key; allowed: {', '.join(allowed)}")
        if not isinstance(path, str) or not path:
            raise ValueError(
                f"columns.{role}: {path!r} is not allowed; expected a column name, with dots for nested objects and"
                " lists"
            )
    if ("completion" in columns) == ("messages" in columns):
        raise ValueError("columns.completion: is missing; name the column that holds the solutions, or messages:")
    if sum(role in columns for role in _MATCH) != 1:
        raise ValueError("columns: give exactly one of question: and problem_id:, which assigns a row to its problem")
    return dict(columns)


def _problems(options: Mapping[str, Any], by_question: bool) -> dict[str, tuple[str, ...]] | None:
    """Map the match keys of rows (a question with normalized white space, or an id) to problem ids.

    Returns None if there are no `questions`, so that the file's ids are used unchanged.
    """
    questions = options.get("questions")
    if questions is None:
        if by_question:
            raise ValueError("questions: is missing; rows that are matched by question need {problem_id: question}")
        return None
    found: dict[str, tuple[str, ...]] = {}
    others: dict[str, set[str]] = {}
    for problem_id, texts in questions.items():
        if by_question:
            name, *more = map(_key, [texts] if isinstance(texts, str) else texts)
        else:
            name, more = problem_id, [_id(problem_id), _id(problem_id).rpartition("/")[2]]
        found[name] = (*found.get(name, ()), problem_id)
        for other in more:
            others.setdefault(other, set()).add(problem_id)
    return {name: tuple(ids) for name, ids in others.items() if len(ids) == 1} | found


def _files(options: Mapping[str, Any]) -> list[Path]:
    path = options.get("path")
    if not isinstance(path, str | Path):
        raise ValueError(f"path: {path!r} is not allowed; expected a file or a glob")
    if Path(path).is_file():
        return [Path(path)]
    found = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
    files = [Path(f) for f in found if Path(f).is_file()]
    if not files:
        raise ValueError(
            f"path: {str(path)!r} is not a file and matches no file; expected JSONL, JSON, CSV, TSV or Parquet"
            " (a glob is allowed)"
        )
    return files


def _part(value: Any, offset: int, several: int | None, where: str) -> Any:
    """Return the value for one of a row's samples. If a row has a list of solutions, its other values are lists."""
    if several is None or value is None or (several == 1 and not isinstance(value, list)):
        return value
    parts = flat(value) if isinstance(value, list) else []
    if len(parts) != several:
        raise ValueError(f"{where}: {str(value)[:60]!r} is not allowed; expected a list of {several}, one per solution")
    return parts[offset]


def _key(question: str) -> str:
    return " ".join(question.split())


def _id(value: Any) -> str:
    """Normalize an id for comparison: ignore case, leading zeros, and the fraction of a whole number."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    parts = str(value).casefold().split("/")
    return "/".join(part.lstrip("0") or "0" if part.isdecimal() else part for part in parts)


def _is_gap(value: Any) -> bool:
    return value is None or value != value or (isinstance(value, str) and not value.strip())  # NaN differs from itself


def _count(value: Any) -> int | None:
    """Convert a value to a whole number of 0 or more; text and floats are allowed. None if it is not one."""
    try:
        number = float("nan" if isinstance(value, bool) else value)
    except (TypeError, ValueError):
        return None
    return int(number) if number >= 0 and number.is_integer() else None
