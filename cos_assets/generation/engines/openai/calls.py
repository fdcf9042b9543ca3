"""Calls of an API other than requests for text: files, batches, finetunings. Passing errors are tried again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from cos_assets.generation.engines.openai.online import backoff
from cos_assets.generation.engines.openai.replies import Malformed, passing, retry_after

TRIES = 8  # attempts per call; about a minute including waits


async def call(ask: Callable[[], Awaitable[Any]], tries: int = TRIES) -> Any:
    """Return the server's reply, and repeat calls that fail for a reason that may pass.

    Raises the last error after `tries` attempts, and Malformed for a reply that is not JSON.
    """
    from openai import APIResponseValidationError, APIStatusError
    from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

    async def once() -> Any:
        try:
            reply = await ask()
        except (ValueError, APIResponseValidationError) as error:
            raise Malformed(f"a reply that is not JSON: {error}") from None
        if isinstance(reply, str):
            raise Malformed("a reply that is not JSON")
        return reply

    def wait(state: RetryCallState) -> float:
        error = state.outcome and state.outcome.exception()
        asked = retry_after(error) if isinstance(error, APIStatusError) else None
        return max(backoff(state.attempt_number), asked or 0.0)

    stop = stop_after_attempt(tries)
    return await AsyncRetrying(retry=retry_if_exception(passing), wait=wait, stop=stop, reraise=True)(once)


async def listed(pages: Any) -> list[Any]:
    """Return all items of a paginated list. Raises Malformed for a reply that is no list, such as a page of HTML."""
    try:
        return [item async for item in pages]
    except AttributeError:
        raise Malformed("a reply that is not a list") from None
