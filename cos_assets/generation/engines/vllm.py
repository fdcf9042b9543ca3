"""Engine vllm: vLLM in this process, on a GPU or a CPU.

Each sample is a separate vLLM request whose seed depends only on (seed, prompt, sample index), so that a sample does
not depend on which others are bought with it. The prompt is still processed once, because vLLM caches prefixes. On a
GPU the same seed gives the same samples only if vLLM's arithmetic does not depend on the batch (see
VLLM_BATCH_INVARIANT).

Samples are submitted from one queue and returned as they finish, without waiting for the slowest one of a batch. The
model is loaded with the first request, which takes 20 to 30 s.

A LoRA adapter (a folder with adapter_config.json) is served on its base model.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from cos_assets.generation import adapters, compute
from cos_assets.generation.completions import refused, sample_seed, share, text_of
from cos_assets.generation.engines import Descriptor
from cos_assets.generation.prompts import opens_reasoning, prompt_ids, tags
from cos_assets.generation.types import Completion, FinishReason, Model, Request, Sampling

_MISSING = (
    "engine: vllm needs the package vllm, which is not installed here;"
    " install it with `make gpu` (CUDA) or `pip install --no-deps -r requirements/dev.txt` (CPU)"
)
# Read by vLLM when it is imported. Variables set by the user take precedence.
_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine core in this process: no spawn, hence no __main__ guard
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # vLLM runs in-process and must not pin the threads of other code
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}
# A CPU has no memory of its own to reserve a share of, and no captured graphs. Chunked prefill would lose the
# per-request seeds ("CPU Generator does not use offset").
_CPU_OPTIONS: dict[str, Any] = {
    "enforce_eager": True,
    "enable_chunked_prefill": False,
    "kv_cache_memory_bytes": 2 << 30,
}
_QUEUE = 4  # requests submitted to vLLM, in multiples of what it runs at once, so that it is never idle
_FLUSH_SECONDS = 10.0  # maximum interval at which finished samples are yielded
_FINISH: dict[str | None, FinishReason] = {"stop": "stop", "length": "length"}


class VllmEngine:
    """A vLLM engine for one model, which is loaded with the first request.

    `stream` serves a list of requests. A caller with a queue of its own (engine ray) calls `load` once, then `submit`
    while there is `room`, and `step` while the engine is `busy`.

    Parameters
    ----------
    model : Model
        A folder or hub id, also of a LoRA adapter. Its `engine_options` are vLLM's own engine arguments.
    """

    name = "vllm"

    def __init__(self, model: Model) -> None:
        self._model = model
        self._budget = model.chat.reasoning.budget if model.chat else None
        self._engine: Any = None
        self._tokenizer: Any = None
        self._inside = False  # whether completions start inside the reasoning
        self._adapter: Any = None
        self._adapters = self._rank = 0
        self._limits = False  # whether reasoning can have a budget
        self._base: tuple[Any, ...] = ()
        self._serial = 0
        self._running: dict[str, tuple[Request, int, Sampling]] = {}
        self._prompt: tuple[str, list[int]] = "", []

    def stream(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[Completion]]:
        """Yield completions in the order in which they finish (see `Engine.stream`).

        A prompt that vLLM refuses gives error completions. If the caller stops early, unfinished samples are aborted.

        Raises
        ------
        ModuleNotFoundError
            If vLLM is not installed.
        ValueError
            If vLLM refuses an engine option, or the adapter's rank.
        """
        if not requests:
            return
        self.load()
        waiting = deque((request, index) for request in requests for index in request.indices)
        flush = self.capacity // _QUEUE
        done: list[Completion] = []
        since = time.perf_counter()
        try:
            while waiting or self.busy:
                while waiting and self.room > 0:
                    if refusal := self.submit(*waiting.popleft(), sampling):
                        done.append(refusal)
                done += self.step()
                if len(done) >= flush or (done and time.perf_counter() - since > _FLUSH_SECONDS):
                    yield share(done, since)
                    done, since = [], time.perf_counter()
            if done:
                yield share(done, since)
        finally:
            if self._running:  # the caller stopped early: the next call must not receive these requests
                self._engine.abort_request(list(self._running))
                self._running.clear()

    @property
    def capacity(self) -> int:
        """Number of samples to keep submitted, so that vLLM is never idle."""
        return _QUEUE * self._engine.vllm_config.scheduler_config.max_num_seqs

    @property
    def room(self) -> int:
        """Number of samples that can be submitted now."""
        return self.capacity - len(self._running)

    @property
    def busy(self) -> bool:
        """Whether submitted samples are unfinished."""
        return bool(self._running)

    def submit(self, request: Request, index: int, sampling: Sampling) -> Completion | None:
        """Add one sample to vLLM's queue.

        Submit the indices of a prompt consecutively, because the tokens of the last prompt are cached.

        Returns
        -------
        Completion or None
            An error completion if vLLM refuses the prompt, else None: `step` returns the completion.
        """
        from vllm import TokensPrompt
        from vllm.exceptions import VLLMClientError

        if request.prompt != self._prompt[0] or not self._prompt[1]:
            self._prompt = request.prompt, self._tokens(request.prompt)
        tokens = self._prompt[1]
        name = str(self._serial)
        self._serial += 1
        parameters = _parameters(request.prompt, index, sampling, self._budget)
        try:
            self._engine.add_request(
                name, TokensPrompt(prompt_token_ids=tokens), parameters, lora_request=self._adapter
            )
        except (ValueError, VLLMClientError) as error:  # affects this prompt only, mostly because it is too long
            return refused(request, index, len(tokens), str(error))
        self._running[name] = request, index, sampling
        return None

    def step(self) -> list[Completion]:
        """Run one vLLM step and return the finished samples. Their `seconds` are 0; see `completions.share`."""
        if not self._running:
            return []
        ended = [output for output in self._engine.step() if output.finished]
        return [self._completion(*self._running.pop(output.request_id), output) for output in ended]

    def close(self) -> None:
        """Free the memory. A process can open several engines in succession, but not two at once."""
        if self._engine is None:
            return
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self._engine.engine_core.shutdown()
        self._engine = self._tokenizer = self._adapter = None
        self._running.clear()
        self._prompt = "", []
        cleanup_dist_env_and_memory()

    def load(self) -> None:
        """Load the model unless it is loaded.

        Raises
        ------
        ModuleNotFoundError
            If vLLM is not installed.
        ValueError
            If vLLM refuses an engine option, or the adapter's rank.
        """
        if self._engine is not None:
            return
        for key, value in _ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        import torch

        try:
            from vllm import EngineArgs, LLMEngine
            from vllm.platforms import current_platform
        except ModuleNotFoundError as error:
            if error.name != "vllm":
                raise
            raise ModuleNotFoundError(_MISSING, name="vllm") from None
        options: dict[str, Any] = {"seed": 0, "disable_log_stats": True, "enable_prefix_caching": True}
        if current_platform.is_cpu():
            options |= {"dtype": compute.dtype(compute.size(self._model)), **_CPU_OPTIONS}
        adapter = adapters.find(self._model.source)
        self._base = adapters.base_of(self._model.source, self._model.revision)
        options |= _weights(self._model, adapter)
        if self._budget and not {"reasoning_parser", "reasoning_config"} & self._model.engine_options.keys():
            options["reasoning_config"] = _reasoning_config(self._model, options)
        options |= self._model.engine_options
        set_num_threads = torch.set_num_threads
        try:
            self._engine = LLMEngine.from_engine_args(_arguments(EngineArgs, options))
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ValueError(f"engine_options: vLLM rejects them: {reason}") from None
        finally:  # on a CPU vLLM replaces it by a no-op for the whole process
            torch.set_num_threads = set_num_threads
        self._tokenizer = self._engine.get_tokenizer()
        self._rank, self._limits = options.get("max_lora_rank", 0), self._budget is not None
        self._ask_as(self._model, adapter)

    def serve(self, model: Model) -> bool:
        """Switch to another model without loading its base again.

        Returns False if it has another base, other options, or needs what the engine was not loaded with (adapters, or
        a budget of reasoning tokens).
        """
        same = self._base == adapters.base_of(model.source, model.revision)
        if self._engine is None or not same or model.engine_options != self._model.engine_options:
            return False
        adapter = adapters.find(model.source)
        if adapter and (adapter.has_tokenizer or adapter.rank > self._rank):
            return False
        if model.chat and model.chat.reasoning.budget and not self._limits:
            return False
        self._ask_as(model, adapter)
        return True

    def _ask_as(self, model: Model, adapter: adapters.Adapter | None) -> None:
        from vllm.lora.request import LoRARequest

        self._model, self._prompt = model, ("", [])
        self._budget = model.chat.reasoning.budget if model.chat else None
        self._inside = opens_reasoning(self._tokenizer, model.chat)
        self._adapters += 1  # vLLM identifies an adapter by its number
        number = self._adapters
        self._adapter = LoRARequest(f"adapter-{number}", number, str(adapter.folder)) if adapter else None

    def _tokens(self, prompt: str) -> list[int]:
        return prompt_ids(self._tokenizer, prompt, self._model.chat)

    def _completion(self, request: Request, index: int, sampling: Sampling, output: Any) -> Completion:
        (sample,) = output.outputs
        finish = _FINISH.get(sample.finish_reason, "error")
        text = text_of(self._tokenizer, sample.token_ids, sampling.stop, self._model.chat, self._inside)
        return Completion(
            problem_id=request.problem_id,
            prompt=request.prompt,
            index=index,
            text=text.reply,
            finish_reason=finish,
            prompt_tokens=len(output.prompt_token_ids),
            completion_tokens=len(sample.token_ids),
            cached_tokens=output.num_cached_tokens,
            seconds=0.0,
            error=f"vLLM ended the request: {sample.finish_reason}" if finish == "error" else None,
            reasoning=text.reasoning,
            reasoning_tokens=text.reasoning_tokens,
        )


class _Descriptor(Descriptor):
    def open(self, model: Model) -> VllmEngine:
        from importlib.util import find_spec

        if find_spec("vllm") is None:
            raise ModuleNotFoundError(_MISSING, name="vllm")
        return VllmEngine(model)


ENGINE = _Descriptor()


def _arguments(kind: Any, options: Mapping[str, Any]) -> Any:
    try:
        return kind(**options)
    except TypeError as error:
        raise ValueError(f"engine_options: {error}; allowed are vLLM's engine arguments") from None


def _weights(model: Model, adapter: adapters.Adapter | None) -> dict[str, Any]:
    """Return the engine arguments for model, tokenizer, revision and adapter."""
    if adapter is not None:
        return {
            "model": adapter.base,
            "revision": adapter.revision,
            "tokenizer": adapter.tokenizer,
            "tokenizer_revision": adapter.tokenizer_revision,
            "enable_lora": True,
            "max_loras": 1,
            "max_lora_rank": _rank(adapter),
        }
    if model.revision is None or Path(model.model_id).is_dir():
        return {"model": model.model_id}
    return {"model": model.model_id, "revision": model.revision, "tokenizer_revision": model.revision}


def _reasoning_config(model: Model, options: Mapping[str, Any]) -> dict[str, str]:
    """Return vLLM's settings for a budget of reasoning tokens: the tags of the chat template."""
    from transformers import AutoTokenizer

    name, revision = options.get("tokenizer", options["model"]), options.get("tokenizer_revision")
    opening, closing = tags(AutoTokenizer.from_pretrained(name, revision=revision), model.chat)
    return {"reasoning_start_str": opening, "reasoning_end_str": closing}


def _rank(adapter: adapters.Adapter) -> int:
    """Return the smallest maximum rank supported by vLLM that is at least the adapter's rank."""
    from vllm.config.lora import MaxLoRARanks

    ranks = get_args(MaxLoRARanks)
    known = [rank for rank in ranks if rank >= adapter.rank]
    if not known:
        raise ValueError(
            f"model: {str(adapter.folder)!r} has rank {adapter.rank}, and vLLM serves at most {max(ranks)};"
            " merge the adapter"
        )
    return known[0]


def _parameters(prompt: str, index: int, sampling: Sampling, budget: int | None) -> Any:
    """Convert our sampling parameters to vLLM's, for one sample. `budget` is the maximum of reasoning tokens."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    greedy = sampling.temperature == 0
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=1.0 if greedy else sampling.top_p,
        top_k=0 if greedy or sampling.top_k is None else sampling.top_k,
        min_p=0.0 if greedy else sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        thinking_token_budget=budget,
        seed=None if greedy else sample_seed(sampling.seed, prompt, index),
        max_tokens=sampling.max_tokens,
        stop=list(sampling.stop),
        detokenize=bool(sampling.stop),  # vLLM needs the text only to find stop strings
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
