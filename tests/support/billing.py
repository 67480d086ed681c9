"""A provider that bills by rules of its own, whatever it reports and however a call ends."""

import asyncio
import math
import random
import threading
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableLambda

from langchain_llm_router import Price
from tests.support.fakes import ProviderError

LONGEST = 60
"""The most tokens of an answer."""

# How a call ends, and whether the provider bills it.
BILLED = {
    "answer": True,
    "500": True,
    "504": True,
    "timeout": True,
    "cut": True,
    "429": False,
    "401": False,
    "400": False,
    "refused": False,
    "500 unbilled": False,
}
ENDS = ["answer"] * 8 + list(BILLED)
REPORTS = ("inside", "outside", "outside, no total", "none", "zero", "nan", "negative", "repeated")


class Bill:
    """What one provider has charged, over all threads."""

    def __init__(self) -> None:
        self.usd, self.calls = 0.0, 0
        self._lock = threading.Lock()

    def add(self, usd: float) -> None:
        with self._lock:
            self.usd += usd
            self.calls += 1


class BillingModel(BaseChatModel):
    """Bills every call at its price, and reports as its script of random numbers says."""

    seed: int
    price: Price
    bill: Any
    image_tokens: int = 1_000
    waits_s: float = 0.0
    ends: list[str] = ENDS
    rng: Any = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rng = random.Random(self.seed)

    @property
    def _llm_type(self) -> str:
        return "billing"

    def _spend(self, messages: list[BaseMessage]) -> tuple[int, int, int, int]:
        """Tokens in, of these read from the cache and written to it; tokens out."""
        text = images = 0
        for message in messages:
            blocks = message.content if isinstance(message.content, list) else [message.content]
            for block in blocks:
                if isinstance(block, str):
                    text += len(block.encode())
                elif block["type"] == "text":
                    text += len(block["text"].encode())
                else:
                    images += 1
        n_in = max(1, int(text * self.rng.uniform(0.1, 1.0))) + images * self.image_tokens
        read = self.rng.randint(0, n_in) if self.rng.random() < 0.5 else 0
        write = self.rng.randint(0, n_in - read) if self.rng.random() < 0.3 else 0
        return n_in, read, write, self.rng.randint(1, LONGEST)

    def _charge(self, n_in: int, read: int, write: int, n_out: int) -> None:
        p = self.price
        rates = [p.cache_read_usd_per_mtok, p.cache_write_usd_per_mtok]
        hit, miss = (p.input_usd_per_mtok if rate is None else rate for rate in rates)
        usd = (n_in - read - write) * p.input_usd_per_mtok + read * hit + write * miss
        self.bill.add(p.request_usd + (usd + n_out * p.output_usd_per_mtok) / 1e6)

    def _call(self, messages: list[BaseMessage]) -> tuple[AIMessage, str, str]:
        end = self.rng.choice(self.ends)
        spent = self._spend(messages)
        if BILLED[end]:
            self._charge(*spent)
        if end.startswith(("4", "5")):
            raise ProviderError(int(end[:3]), end)
        if end == "refused":
            raise ConnectionRefusedError(end)
        if end == "timeout":
            raise TimeoutError(end)
        report = self.rng.choice(REPORTS)
        message = AIMessage("word " * self.rng.randint(1, 4))
        message.usage_metadata = self._report(report, *spent)
        return message, report, end

    def _report(self, report: str, n_in: int, read: int, write: int, n_out: int) -> Any:
        if report == "none":
            return None
        inside = report in ("inside", "repeated")
        counted = n_in if inside else n_in - read - write
        if report == "outside, no total" and read + write <= counted:
            counted = n_in  # Nothing would tell it from cached tokens that are inside.
        usage: dict[str, Any] = {
            "input_tokens": counted,
            "output_tokens": n_out,
            "total_tokens": n_in + n_out if report == "outside" else counted + n_out,
            "input_token_details": {"cache_read": read, "cache_creation": write},
        }
        wrong = {"zero": 0, "nan": math.nan, "negative": -n_in}
        if report in wrong:
            usage |= dict.fromkeys(("input_tokens", "output_tokens"), wrong[report])
        return usage

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        message, _, end = self._call(messages)
        if end == "cut":
            raise ConnectionResetError(end)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        result = self._generate(messages)
        await asyncio.sleep(self.waits_s)
        return result

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        message, report, end = self._call(messages)
        words = str(message.content).split()
        usage = message.usage_metadata
        for i, word in enumerate(words):
            so_far = None
            if report == "repeated" and usage is not None:
                # All of the prompt in each chunk, and the answer so far.
                n_out = max(1, usage["output_tokens"] * i // len(words))
                so_far = {**usage, "output_tokens": min(n_out, usage["output_tokens"])}
                so_far["total_tokens"] = so_far["input_tokens"] + so_far["output_tokens"]
            chunk = AIMessageChunk(word, usage_metadata=so_far)
            yield ChatGenerationChunk(message=chunk)
            if end == "cut":
                raise ConnectionResetError(end)
        last = AIMessageChunk("", chunk_position="last")
        last.usage_metadata = usage
        yield ChatGenerationChunk(message=last)

    async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
        for chunk in self._stream(messages):
            yield chunk
            await asyncio.sleep(self.waits_s)

    def with_structured_output(self, schema, *, include_raw=False, **kwargs):
        def judge(messages: Any) -> dict[str, Any]:
            raw = self.invoke(messages)
            verdict = self.rng.choice(["Correct", "Incorrect"])
            parsed = schema(rationale="because", verdict=verdict)
            return {"raw": raw, "parsed": parsed, "parsing_error": None}

        return RunnableLambda(judge)
