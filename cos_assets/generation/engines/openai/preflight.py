"""Engine openai: checks of the servers before the first paid request."""

from __future__ import annotations

import json
from typing import Any

from cos_assets.generation.engines.openai.api import Api
from cos_assets.generation.engines.openai.replies import message_of

_SECONDS = 30.0
_NAMED = 8  # maximum number of models named in a message


def preflight(api: Api) -> None:
    """Check the servers; see the method `preflight` of the engine's descriptor."""
    lost = []
    for url in api.options.urls:
        try:
            _look_at(api, url)
        except ConnectionError as error:
            lost.append(str(error))
    if len(lost) == len(api.options.urls):
        raise ConnectionError(
            f"engine: openai: no server answers: {'; '.join(lost)}; check that it runs, and engine_options.base_url"
        )


def _look_at(api: Api, url: str) -> None:
    from openai import APIConnectionError, APIStatusError, OpenAI, Timeout

    seconds = min(_SECONDS, api.options.timeout)
    timeout = Timeout(seconds, connect=min(5.0, seconds))
    with OpenAI(api_key=api.secret or "none", base_url=url, timeout=timeout, max_retries=2) as client:
        try:
            _models(api, url, client)
            if api.options.batch:
                _batches(url, client)
        except APIConnectionError as error:
            raise ConnectionError(f"{url}: {api.clean(message_of(error))}") from None
        except APIStatusError as error:
            said = api.clean(message_of(error))
            if error.status_code == 403 and "scope" in said:  # the key may send requests, but not list models
                return
            if error.status_code in (401, 402, 403) or error.code == "insufficient_quota":
                raise ValueError(api.refusal(url, error)) from None
            if error.status_code >= 500:
                raise ConnectionError(f"{url}: {said}") from None
            if error.status_code not in (408, 409, 429):  # these mean that the server is busy
                raise _dialect(url, said) from None


def _models(api: Api, url: str, client: Any) -> None:
    from openai import APIStatusError

    try:
        reply = client.models.with_raw_response.list().http_response
    except APIStatusError as error:
        if error.status_code in (404, 405, 501):  # it serves models, but does not list them
            return
        raise
    names = _names(reply.text)
    if names is None:
        raise _dialect(url, f"{reply.headers.get('content-type')}: {api.clean(reply.text[:60])!r}")
    model = api.model.model_id
    if model in names or any("*" in name for name in names):  # a proxy that forwards any model name
        return
    try:
        if client.models.retrieve(model).id:  # some servers list only some of their models
            return
    except (APIStatusError, ValueError, AttributeError):
        pass
    more = f" and {len(names) - _NAMED} others" if len(names) > _NAMED else ""
    served = f"it serves {', '.join(sorted(names)[:_NAMED])}{more}" if names else "it serves no model now"
    raise ValueError(f"model: {model!r} is not served by {url}; {served}")


def _names(text: str) -> list[str] | None:
    """Return the model names in a reply, or None if it is not a list of models. Some servers send a bare list."""
    try:
        said = json.loads(text)
    except ValueError:
        return None
    if isinstance(said, dict) and "data" in said:
        said = said["data"] or []
    if not isinstance(said, list) or not all(isinstance(one, dict) and isinstance(one.get("id"), str) for one in said):
        return None
    return [one["id"] for one in said]


def _batches(url: str, client: Any) -> None:
    from openai import APIStatusError

    try:
        client.batches.list(limit=1)
    except APIStatusError as error:
        if error.status_code in (404, 405, 501):
            raise ValueError(
                f"engine_options.batch: {url} has no Batch API (HTTP {error.status_code}); leave it out"
            ) from None
        raise


def _dialect(url: str, said: str) -> ValueError:
    return ValueError(
        f"engine_options.base_url: {url}/models is not a list of models, but {said};"
        " expected the URL of an OpenAI-compatible API, which usually ends in /v1"
    )
