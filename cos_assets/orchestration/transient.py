"""Transient network faults, after which the same work can be retried unchanged."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterator

WAITS = (5.0, 30.0, 120.0)
"""Seconds before the second, third and fourth attempt."""
_CODES = {
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETRESET,
    errno.ENETUNREACH,
    errno.ETIMEDOUT,
}
# Exceptions of libraries that wrap system errors. A library that raised is loaded, so only loaded modules are searched.
_WRAPPED = {
    "httpx": ("TransportError",),
    "httpx2": ("TransportError",),  # of huggingface-hub and openai
    "requests.exceptions": ("ChunkedEncodingError", "ConnectionError", "Timeout"),
    "urllib3.exceptions": ("HTTPError",),
}


def is_fault(error: BaseException) -> bool:
    """Return whether an error, or an error it was raised from, is a network fault.

    A plain ConnectionError does not count: engines raise it when their own retries are used up.
    """
    kinds = tuple(
        getattr(sys.modules[module], name)
        for module, names in _WRAPPED.items()
        if module in sys.modules
        for name in names
    )
    return any(
        isinstance(each, (socket.gaierror, *kinds)) or (isinstance(each, OSError) and each.errno in _CODES)
        for each in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
