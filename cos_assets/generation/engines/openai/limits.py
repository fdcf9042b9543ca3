"""Engine openai: how much of a reply is read. A server, or what answers in its name, may send without end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

MOST_BYTES = 64 << 20
"""Of a reply; thousands of choices of the longest texts take less."""
MOST_BYTES_OF_FILES = 4 << 30
"""Of a batch's results."""


class TooLarge(Exception):
    """The reply is larger than allowed, or is compressed, so that its size is unknown until it is unpacked."""


def http_client() -> Any:
    """openai's default client, which refuses what is larger and asks for replies that are not packed."""
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
            raise TooLarge(f"a reply packed as {packing}, which was not asked for")
        of_file = response.request.url.path.endswith("/content")
        response.stream = Bounded(response.stream, MOST_BYTES_OF_FILES if of_file else MOST_BYTES)

    return DefaultAsyncHttpxClient(headers={"accept-encoding": "identity"}, event_hooks={"response": [bound]})
