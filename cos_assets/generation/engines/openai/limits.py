"""Engine openai: size limits of replies, because a server or proxy may send without end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

MOST_BYTES = 64 << 20
"""Limit of a reply. Thousands of choices with the longest texts take less."""
MOST_BYTES_OF_FILES = 4 << 30
"""Limit of a batch's result file."""


class TooLarge(Exception):
    """The reply exceeds the limit, or is compressed, so that its size is unknown before decompression."""


def http_client() -> Any:
    """Return openai's default HTTP client with size limits, which requests uncompressed replies."""
    import httpx2
    from openai import DefaultAsyncHttpxClient

    class Bounded(httpx2.AsyncByteStream):
        def __init__(self, stream: Any, most: int) -> None:
            self.stream, self.most = stream, most

        async def __aiter__(self) -> AsyncIterator[bytes]:
            seen = 0
            async for chunk in self.stream:
                seen += len(chunk)
                if seen > self.most:
                    raise TooLarge(f"a reply of more than {self.most >> 20} MiB")
                yield chunk

        async def aclose(self) -> None:
            await self.stream.aclose()

    async def bound(response: Any) -> None:
        packing = response.headers.get("content-encoding", "identity")
        if packing != "identity":
            raise TooLarge(f"a reply compressed as {packing}, which was not requested")
        of_file = response.request.url.path.endswith("/content")
        response.stream = Bounded(response.stream, MOST_BYTES_OF_FILES if of_file else MOST_BYTES)

    return DefaultAsyncHttpxClient(headers={"accept-encoding": "identity"}, event_hooks={"response": [bound]})
