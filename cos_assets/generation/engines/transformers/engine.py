"""Engine transformers: any causal language model of the hub, in this process on a CPU or a GPU, without extra packages.

The engine decodes in batches. Prompts are padded on the left, each prompt is processed once, and its cache is copied
for its samples. Finished rows are dropped, and new ones take their places. For small models on a CPU this is faster
than vLLM and starts at once. For large models on a GPU use vLLM.

A sample depends only on (seed, prompt, sample index). It has its own random generator, with one number per token. Only
rounding could differ: on one CPU thread in float32 a row of a matrix product has the same bits in every batch of 16 or
more rows. Batches there never have fewer rows, and the padding of a prompt does not depend on other prompts, so all
rows of a batch begin together. A sample then has the same text whatever else is bought with it. With more threads, a
GPU or bfloat16 this is not guaranteed.

    engine_options:
      dtype: float32             # float32 on a CPU, bfloat16 on a GPU; also float16, or auto (as stored)
      device: cuda:0             # cpu, cuda or cuda:<n>; default the GPU if there is one
      batch_size: 384            # maximum rows at once; default 384, on a GPU 1024, fewer if memory is short
      pad_to_multiple_of: 8      # of padded prompt lengths; with 1, only prompts of equal length share a batch
"""

from __future__ import annotations

import inspect
import re
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from cos_assets.generation import adapters, compute
from cos_assets.generation.completions import refused, share, stopped_at, text_of
from cos_assets.generation.engines import Descriptor
from cos_assets.generation.engines.transformers.attention import use_grouped_attention
from cos_assets.generation.engines.transformers.decoding import Batch, Job, ReasoningLimit, independent
from cos_assets.generation.prompts import opens_reasoning, prompt_ids, tags
from cos_assets.generation.tokens import decode
from cos_assets.generation.types import Chat, Completion, FinishReason, Model, Request, Sampling
from cos_assets.generation.weights import load_network

_DTYPES = ("float32", "bfloat16", "float16", "auto")
_OPTIONS = ("dtype", "device", "batch_size", "pad_to_multiple_of")
_PAD_TO = 8
_MOST_ROWS = {"cpu": 384, "cuda": 1024}  # more rows are not faster on a CPU
_CPU_CACHE_BYTES = 4 << 30
_GPU_CACHE_SHARE = 0.6  # share of the memory that is free after the model is loaded
_PROMPT_TOKENS = 1 << 16  # maximum processed at once, which bounds the memory of long prompts
_CHECK_EVERY = 4  # steps between checks for finished rows
_COPY_SHARE = 1 / 8  # share of the rows that have to finish or wait before the cache is copied without or with them
_FLUSH_SECONDS = 10.0  # maximum interval at which finished samples are yielded


class TransformersEngine:
    """An engine for one model, which is loaded with the first request.

    Parameters
    ----------
    model : Model
        A folder or hub id of a causal language model with a key-value cache, or of a LoRA adapter. The module's
        docstring lists its `engine_options`.

    Raises
    ------
    ValueError
        If an engine option is wrong; with the first request, if the weights are incomplete or keep no cache.
    """

    name = "transformers"

    def __init__(self, model: Model) -> None:
        _check(model.engine_options)
        self._model = model
        self._network: Any = None
        self._tokenizer: Any = None
        self._context: int | None = None
        self._ends: list[int] = []
        self._inside = False  # whether completions start inside the reasoning
        self._limit: ReasoningLimit | None = None
        self._base: tuple[Any, ...] = ()
        self._adapter = False
        self._usual_rows = 0
        self._cache_tokens = 0.0  # that fit into the memory for the cache

    def stream(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[Completion]]:
        """Yield completions as they finish, short prompts first (see `Engine.stream`).

        A prompt that has no tokens or is too long gives error completions. `cached_tokens` is 0 for the first sample of
        a prompt in a batch, and all prompt tokens for the others, for which the cache is copied.
        """
        if not requests:
            return
        self.load()
        jobs, done = self._jobs(requests, sampling)
        if done:
            yield done
        batch = Batch(self._network, sampling, self._limit)
        waiting = deque(sorted(jobs, key=lambda job: len(job.prompt)))
        self._usual_rows = _MOST_ROWS[self._network.device.type]
        self._cache_tokens = _cache_bytes(self._network.device) / _token_bytes(self._network)
        done, since = [], time.perf_counter()
        while waiting or batch.jobs:
            admitted = self._admit(waiting, batch)
            batch.advance(_CHECK_EVERY - admitted)  # admitting samples draws a token
            for row, ids, reason in self._ended(batch, sampling.stop):
                done.append(self._completion(batch.jobs[row], ids, reason, bool(batch.shared[row]), sampling.stop))
                batch.live[row] = False
            if not batch.joins or (~batch.live).sum() >= _COPY_SHARE * len(batch.jobs):
                batch.keep_live()
            if done and (time.perf_counter() - since > _FLUSH_SECONDS or not batch.jobs):
                yield share(done, since)
                done, since = [], time.perf_counter()

    def close(self) -> None:
        """Free the memory. The next request loads the model again."""
        if self._network is None:
            return
        import gc

        import torch

        self._network = self._tokenizer = None
        if torch.cuda.is_available():
            gc.collect()  # takes half a second; on a CPU the next collection suffices
            torch.cuda.empty_cache()

    def serve(self, model: Model) -> bool:
        """Switch to another model without loading its base again. Returns False if it has another base or options."""
        same = self._base == adapters.base_of(model.source, model.revision)
        if self._network is None or not same or model.engine_options != self._model.engine_options:
            return False
        adapter = adapters.find(model.source)
        if adapter and adapter.has_tokenizer:
            return False
        if self._adapter:
            self._network.delete_adapter("default")
        if adapter:
            self._network.load_adapter(str(adapter.folder))
        self._adapter = adapter is not None
        self._ask_as(model)
        return True

    def _ask_as(self, model: Model) -> None:
        self._model = model
        self._inside = opens_reasoning(self._tokenizer, model.chat)
        self._limit = _limit(self._tokenizer, model.chat, self._inside)

    def load(self) -> None:
        """Load the model unless it is loaded.

        Raises
        ------
        ValueError
            If the weights are incomplete, or keep no cache.
        """
        if self._network is not None:
            return
        import torch
        from transformers import AutoTokenizer

        from cos_assets.progress import no_progress_bars

        options = self._model.engine_options
        device = options.get("device") or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = options.get("dtype") or (compute.dtype(compute.size(self._model)) if device == "cpu" else "bfloat16")
        source = self._model.source
        self._base = adapters.base_of(source, self._model.revision)
        revision = None if Path(source).is_dir() else self._model.revision
        words, words_revision = source, revision
        if adapter := adapters.find(source):
            source, revision = adapter.base, adapter.revision
            words, words_revision = adapter.tokenizer, adapter.tokenizer_revision
        with no_progress_bars():
            tokenizer = AutoTokenizer.from_pretrained(words, revision=words_revision, trust_remote_code=False)
            network = load_network(
                source,
                revision=revision,
                dtype=dtype if dtype == "auto" else getattr(torch, dtype),
                device_map=None if device == "cpu" else device,
            ).eval()
            if adapter:
                network.load_adapter(str(adapter.folder))
            self._adapter = adapter is not None
        if "past_key_values" not in inspect.signature(network.forward).parameters:
            raise ValueError(
                f"model: {source!r} ({type(network).__name__}) has no key-value cache, which engine: transformers"
                " needs; choose engine: vllm"
            )
        stated = network.generation_config.eos_token_id
        ends = {*(stated if isinstance(stated, list) else [stated]), tokenizer.eos_token_id}
        self._ends = sorted(end for end in ends if end is not None)
        self._context = getattr(network.config.get_text_config(), "max_position_embeddings", None)
        if not independent(network):
            use_grouped_attention(network)
        self._network, self._tokenizer = network, tokenizer
        self._ask_as(self._model)

    def _jobs(self, requests: Sequence[Request], sampling: Sampling) -> tuple[list[Job], list[Completion]]:
        """Return the samples to draw, and error completions for prompts that are empty or too long."""
        jobs: list[Job] = []
        failed: list[Completion] = []
        for request in requests:
            ids = prompt_ids(self._tokenizer, request.prompt, self._model.chat)
            room = sampling.max_tokens if self._context is None else min(sampling.max_tokens, self._context - len(ids))
            if ids and room > 0:
                jobs += [Job(request, index, ids, room) for index in request.indices]
                continue
            reason = "the prompt has no tokens"
            if ids:
                reason = (
                    f"the prompt has {len(ids)} tokens; the model's maximum context length is {self._context},"
                    " prompt and completion together"
                )
            failed += [refused(request, index, len(ids), reason) for index in request.indices]
        return jobs, failed

    def _admit(self, waiting: deque[Job], batch: Batch) -> bool:
        """Move waiting samples to the batch: when it has room, or, if it cannot join samples, when it is empty.

        Returns whether there were any.
        """
        admitted = False
        while waiting and (batch.joins or not batch.jobs):
            chunk, padded = self._next(waiting, batch)
            if len(chunk) < min(_COPY_SHARE * len(batch.jobs), len(waiting)):
                break
            batch.admit(chunk, padded)
            admitted = True
            for _ in chunk:
                waiting.popleft()
        return admitted

    def _next(self, waiting: deque[Job], batch: Batch) -> tuple[list[Job], int]:
        """Return the samples that fit into the batch, short prompts first, and the length to pad their prompts to.

        If a sample must not depend on the others, neither may the padding of its prompt: each length has its batches.
        """
        multiple = self._model.engine_options.get("pad_to_multiple_of", _PAD_TO if independent(self._network) else None)

        def padded(job: Job) -> int:
            if multiple is None:
                return 0
            # Pad always (or, with 1, never), because attention with and without a mask rounds differently.
            return len(job.prompt) if multiple == 1 else -(-(len(job.prompt) + 1) // multiple) * multiple

        width, tokens = padded(waiting[0]), 0
        chunk: list[Job] = []
        prompts: set[str] = set()
        for job in waiting:
            tokens = max(tokens, (width or len(job.prompt)) + job.room)
            prompts.add(job.request.prompt)
            over = len(prompts) * (width or len(job.prompt)) > _PROMPT_TOKENS and chunk
            if padded(job) != width or over or len(batch.jobs) + len(chunk) >= self._most_rows(tokens):
                break
            chunk.append(job)
        if chunk and not batch.joins:  # batches of about equal size
            alike = sum(1 for _ in takewhile(lambda job: padded(job) == width, waiting))
            chunk = chunk[: -(-alike // -(-alike // len(chunk)))]
        return chunk, width or max((len(job.prompt) for job in chunk), default=0)

    def _most_rows(self, tokens: int) -> int:
        """Return the maximum number of rows of `tokens` tokens: `batch_size`, or what fits the memory for the cache."""
        most = self._model.engine_options.get("batch_size")
        return most or max(1, min(self._usual_rows, int(self._cache_tokens / tokens)))

    def _ended(self, batch: Batch, stop: Sequence[str]) -> list[tuple[int, list[int], FinishReason]]:
        """Return (row, tokens, finish reason) for each row that has finished since the last call."""
        columns = batch.before[:, None] + np.arange((batch.counts - batch.before).max())
        recent = np.take_along_axis(batch.tokens, np.minimum(columns, batch.tokens.shape[1] - 1), 1)
        at_end = np.isin(recent, self._ends) & (columns < batch.counts[:, None])
        finish = np.where(at_end.any(1), batch.before + at_end.argmax(1) + 1, batch.room + 1)
        over = np.minimum(finish, batch.room) <= batch.counts
        ended: list[tuple[int, list[int], FinishReason]] = []
        for row in np.flatnonzero(batch.live & (over | self._seen(batch, stop))):
            ids = batch.tokens[row, : min(finish[row], batch.counts[row])].tolist()
            end = self._stop_at(ids, stop)
            if over[row] or end is not None:
                by_itself = end is not None or finish[row] <= len(ids)
                ended.append((int(row), ids[:end], "stop" if by_itself else "length"))
        batch.before = batch.counts
        return ended

    def _seen(self, batch: Batch, stop: Sequence[str]) -> np.ndarray:
        """Return a mask of the rows that may contain a new stop string, from the text of their last tokens."""
        seen = np.zeros(len(batch.jobs), bool)
        longest = max((len(s.encode()) for s in stop), default=0)  # a token has at least one byte
        for row in np.flatnonzero(batch.live) if stop else ():
            ids = batch.tokens[row, max(0, batch.before[row] - longest) : batch.counts[row]].tolist()
            text = decode(self._tokenizer, ids)
            seen[row] = any(s in text for s in stop)
        return seen

    def _stop_at(self, ids: list[int], stop: Sequence[str]) -> int | None:
        """Return the number of tokens up to the first stop string, or None if the text contains none."""

        def stopped(count: int) -> bool:
            text = decode(self._tokenizer, ids[:count])
            return stopped_at(text, stop, self._inside) < len(text)

        if not stop or not stopped(len(ids)):
            return None
        return bisect_left(range(len(ids)), True, key=stopped)

    def _completion(
        self, job: Job, ids: list[int], reason: FinishReason, cached: bool, stop: Sequence[str]
    ) -> Completion:
        ended = ids[:-1] if ids[-1] in self._ends else ids
        text = text_of(self._tokenizer, ended, stop, self._model.chat, self._inside)
        return Completion(
            problem_id=job.request.problem_id,
            prompt=job.request.prompt,
            index=job.index,
            text=text.reply,
            finish_reason=reason,
            prompt_tokens=len(job.prompt),
            completion_tokens=len(ids),
            cached_tokens=len(job.prompt) if cached else 0,
            seconds=0.0,
            reasoning=text.reasoning,
            reasoning_tokens=text.reasoning_tokens,
        )


class _Descriptor(Descriptor):
    def open(self, model: Model) -> TransformersEngine:
        return TransformersEngine(model)


ENGINE = _Descriptor()


def _check(options: Mapping[str, Any]) -> None:
    def refuse(name: str, allowed: str) -> ValueError:
        return ValueError(f"engine_options.{name}: {options[name]!r} is not allowed; expected {allowed}")

    for name in options:
        if name not in _OPTIONS:
            raise ValueError(f"engine_options.{name}: unknown key; allowed: {', '.join(_OPTIONS)}")
    for name in ("batch_size", "pad_to_multiple_of"):
        if name in options and not (type(options[name]) is int and options[name] >= 1):
            raise refuse(name, "a whole number of 1 or more")
    if options.get("dtype") not in (None, *_DTYPES):
        raise refuse("dtype", f"one of {', '.join(_DTYPES)}")
    device = options.get("device")
    if device is not None and not (isinstance(device, str) and re.fullmatch(r"cpu|cuda(:\d+)?", device)):
        raise refuse("device", "cpu, cuda or cuda:<n>")


def _limit(tokenizer: Any, chat: Chat | None, inside: bool) -> ReasoningLimit | None:
    """Return the maximum of reasoning tokens that a model is asked to keep; None if there is none."""
    if chat is None or chat.reasoning.budget is None:
        return None
    opening, closing = (tokenizer(tag, add_special_tokens=False)["input_ids"] for tag in tags(tokenizer, chat))
    return ReasoningLimit(chat.reasoning.budget, [] if inside else opening, closing)


def _token_bytes(network: Any) -> int:
    """Return the bytes that the cache of a network takes per token."""
    config = network.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * size * network.dtype.itemsize


def _cache_bytes(device: Any) -> float:
    if device.type == "cpu":
        return _CPU_CACHE_BYTES
    import torch

    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return _GPU_CACHE_SHARE * (torch.cuda.mem_get_info(device)[0] + unused)
