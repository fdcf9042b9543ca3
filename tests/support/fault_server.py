"""An OpenAI-compatible server that fails in every way that servers fail in, and counts what it has delivered.

    python fault_server.py faults|calm

What it answers is a function of the prompt and the sample index (which the seed tells); how it fails is one of the
prompt, the seed and how often that was asked. It prints its port, and runs until its input ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections import Counter
from typing import Any

from aiohttp import web

from cos_assets.generation.completions import sample_seed

SEED = 3  # the buyer's `sampling.seed`
SAMPLES = 16  # indices that a seed may stand for
HANG = 30.0  # longer than a buyer waits
BURST, EVERY = 30, 900  # so many 429 in a row, each so many requests
FAULTS = {  # in percent of all tries of a request but the fifth and later ones
    "500": 3.0,
    "503": 1.0,
    "hang": 0.2,
    "cut": 2.0,
    "half": 1.5,
    "no json": 1.5,
    "html": 0.5,
    "no choices": 1.5,
    "twice": 4.0,
    "reordered": 4.0,
}


def draw(*what: Any) -> float:
    """In [0, 1), from `what` alone."""
    return int.from_bytes(hashlib.sha256(json.dumps(what).encode()).digest()[:6]) / 2**48


def text(prompt: str, index: int) -> str:
    words = 3 + int(20 * draw("words", prompt, index))
    return " ".join(f"w{int(1e6 * draw(word, prompt, index))}" for word in range(words))


def finish(prompt: str, index: int) -> str:
    return "length" if draw("finish", prompt, index) < 0.1 else "stop"


def cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


class Server:
    def __init__(self, faults: bool) -> None:
        self.faults = faults
        self.indices: dict[str, dict[int, int]] = {}
        self.tries: Counter[tuple[str, int]] = Counter()
        self.arrived: list[tuple[str, int, int]] = []  # prompt, first index, how many
        self.delivered: list[int] = []  # places in `arrived`
        self.told: Counter[str] = Counter()

    async def post(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self.answer(request)
        except ConnectionError:  # the buyer was killed
            return web.Response()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        prompt, seed, n = body["prompt"], body["seed"], body.get("n", 1)
        if prompt not in self.indices:
            self.indices[prompt] = {sample_seed(SEED, prompt, index) % 2**31: index for index in range(SAMPLES)}
        first = self.indices[prompt][seed]
        self.tries[prompt, seed] += 1
        place = len(self.arrived)
        self.arrived.append((prompt, first, n))
        fault = self.fault(prompt, seed, place)
        self.told[fault] += 1
        match fault:
            case "429 later":
                return web.json_response({"error": {"message": "slow down"}}, status=429, headers={"retry-after": "1"})
            case "429" | "500" | "503":
                return web.json_response({"error": {"message": "oops"}}, status=int(fault))
            case "hang":
                await asyncio.sleep(HANG)
                fault = "cut"
            case "no json":
                return web.Response(body=b'{"choices": [{"te', content_type="application/json")
            case "html":
                return web.Response(text="<html>it works!</html>", content_type="text/html")
        if fault == "cut":
            cut(request)
            return web.Response()
        reply = json.dumps(self.reply(prompt, first, n, fault)).encode()
        response = web.StreamResponse(headers={"content-type": "application/json", "content-length": str(len(reply))})
        await response.prepare(request)
        if fault == "half":
            await response.write(reply[: len(reply) // 2])
            cut(request)
            return response
        await response.write(reply)
        await response.write_eof()
        if fault != "no choices":
            self.delivered.append(place)
        return response

    def fault(self, prompt: str, seed: int, place: int) -> str:
        if not self.faults:
            return ""
        if place % EVERY >= EVERY - BURST:
            return "429 later" if (place // EVERY) % 2 else "429"
        tries = self.tries[prompt, seed]
        if tries >= 5:
            return ""
        drawn = 100 * draw("fault", prompt, seed, tries)
        for name, percent in FAULTS.items():
            drawn -= percent
            if drawn < 0:
                return name
        return ""

    def reply(self, prompt: str, first: int, n: int, fault: str) -> dict[str, Any]:
        texts = [text(prompt, first + at) for at in range(n)]
        choices = [
            {"index": at, "text": said, "finish_reason": finish(prompt, first + at)} for at, said in enumerate(texts)
        ]
        if fault == "no choices":
            choices = []
        elif fault == "twice":
            choices = [*choices[n // 2 :], *choices]
        elif fault == "reordered":
            choices.reverse()
        usage = {
            "prompt_tokens": 100,
            "completion_tokens": sum(len(said.split()) for said in texts),
            "prompt_tokens_details": {"cached_tokens": 64},
        }
        return {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": choices, "usage": usage}

    async def count(self, request: web.Request) -> web.Response:
        return web.json_response(len(self.arrived))

    async def log(self, request: web.Request) -> web.Response:
        return web.json_response({"arrived": self.arrived, "delivered": self.delivered, "told": self.told})


async def main(faults: bool) -> None:
    server = Server(faults)
    app = web.Application()
    app.router.add_post("/v1/completions", server.post)
    app.router.add_get("/count", server.count)
    app.router.add_get("/log", server.log)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await asyncio.wait_for(runner.cleanup(), 5)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] == "faults"))
