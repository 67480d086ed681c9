"""Clients of the failing servers, and routers over them."""

import asyncio
import json
import statistics
import sys

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI
from tqdm import tqdm

from langchain_llm_router import Candidate, ChatLLMRouter, Price
from langchain_llm_router.budgets import Budget, Budgets
from langchain_llm_router.live import Resilience, Telemetry
from langchain_llm_router.live.live import Live
from langchain_llm_router.policies import Always, RandomMix
from langchain_llm_router.types import Endpoint
from tests.benchmarks.failing.servers import OUTPUT_TOKENS
from tests.support.fakes import ProviderError

PRICE = Price(1.0, 10.0)
DEADLINE_S, TIMEOUT_S, RETRIES = 60.0, 8.0, 2
NAMES = ("a", "b", "c")


class PlainClient(BaseChatModel):
    """A chat model over one plain HTTP connection a call.

    A full client library spends some ten milliseconds of CPU on a call, so that 200 at once would
    measure nothing but the queue for the processor.
    """

    port: int
    max_tokens: int = OUTPUT_TOKENS

    @property
    def _llm_type(self):
        return "plain"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        raise NotImplementedError

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        body = b""
        async for part in self._parts(messages, stream=False):
            body += part
        answer = json.loads(body)
        text = answer["choices"][0]["message"]["content"]
        message = AIMessage(text, usage_metadata=used(answer["usage"]))
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
        async for line in self._parts(messages, stream=True):
            if not line.startswith(b"data: ") or b"[DONE]" in line:
                continue
            event = json.loads(line[6:])
            if event.get("usage"):
                last = AIMessageChunk("", usage_metadata=used(event["usage"]))
                yield ChatGenerationChunk(message=last)
            elif (delta := event["choices"][0]["delta"]).get("content"):
                yield ChatGenerationChunk(message=AIMessageChunk(delta["content"]))

    async def _parts(self, messages, *, stream):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            said = {"messages": [{"role": "user", "content": messages[-1].text}], "stream": stream}
            data = json.dumps(said).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {len(data)}\r\n\r\n"
            writer.write(head.encode() + data)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            status = int(head.split()[1])
            headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            if status != 200:
                raise ProviderError(status, "refused", **headers)
            if "content-length" in headers:
                yield await reader.readexactly(int(headers["content-length"]))
                return
            while (size := int(await reader.readuntil(b"\r\n"), 16)) > 0:
                yield (await reader.readexactly(size + 2)).strip()
        finally:
            writer.close()


def used(usage):
    return UsageMetadata(
        input_tokens=usage["prompt_tokens"],
        output_tokens=usage["completion_tokens"],
        total_tokens=usage["total_tokens"],
    )


def real_clients(servers):
    """OpenAI's client at three endpoints; its own retries are off."""
    return [
        ChatOpenAI(
            model="m", base_url=servers.url(i), api_key="sk-test", max_retries=0,
            timeout=60.0, max_tokens=OUTPUT_TOKENS, stream_usage=True,
        )
        for i in range(3)
    ]  # fmt: skip


def plain_clients(servers):
    return [PlainClient(port=port) for port in servers.ports]


def make_router(
    clients, *, cap_usd=None, telemetry=None, policy=None, spread=False, timeout_s=TIMEOUT_S
):
    """One model at three endpoints; `spread`: three models, each asked a third of the time."""
    live = Live(
        telemetry=telemetry or Telemetry(),
        resilience=Resilience(timeout_s=timeout_s, retries=RETRIES, longest_wait_s=1.0),
        deadline_s=DEADLINE_S,
    )
    budgets = None
    if cap_usd is not None:
        budgets = Budgets([Budget(cap_usd)])
    if spread:
        policy = RandomMix(dict.fromkeys(NAMES, 1 / 3))
        candidates = [
            Candidate(name, client, PRICE, max_output_tokens=OUTPUT_TOKENS)
            for name, client in zip(NAMES, clients, strict=True)
        ]
        return ChatLLMRouter(candidates=candidates, policy=policy, live=live, budgets=budgets)
    return ChatLLMRouter(
        candidates=[
            Candidate(
                "m", price=PRICE, max_output_tokens=OUTPUT_TOKENS,
                endpoints=[Endpoint(n, client) for n, client in zip(NAMES, clients, strict=True)],
            )
        ],
        policy=policy or Always("m"), live=live, budgets=budgets,
    )  # fmt: skip


def quantiles(seconds):
    if len(seconds) < 2:
        return {}
    cut = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50_s": cut[49], "p95_s": cut[94], "p99_s": cut[98], "max_s": max(seconds)}


async def in_parallel(n, concurrent, one, label):
    """Run `one(i)` for all i, so many at a time."""
    numbers, results = iter(range(n)), [None] * n
    with tqdm(total=n, desc=label, file=sys.stderr, mininterval=2) as bar:

        async def worker():
            for i in numbers:
                results[i] = await one(i)
                bar.update()

        await asyncio.gather(*(worker() for _ in range(concurrent)))
    return results
