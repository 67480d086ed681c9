"""The one place for fakes: they behave like the real thing instead of being told to."""

import asyncio
import json
import re
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    ToolMessage,
)
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableLambda
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field

from langchain_llm_router.data import Outcomes, SelfEvaluations


class TableEmbeddings(Embeddings):
    """Text → vector by a dict; what is not in it gets the fallback."""

    def __init__(self, table: dict[str, list[float]], fallback: list[float] | None = None) -> None:
        self.table, self.fallback = table, fallback

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        vector = self.table.get(text, self.fallback)
        if vector is None:
            raise KeyError(text)
        return list(vector)


def make_outcomes(
    n: int = 60, candidates: Sequence[str] = ("small", "medium", "large"), seed: int = 0
) -> Outcomes:
    """Outcomes in which wording tells difficulty: "easy" queries suit all, "hard" ones the last."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n) < 0.5
    queries = [
        f"{'prove hard theorem' if h else 'add easy numbers'} {i}" for i, h in enumerate(hard)
    ]
    k = len(candidates)
    p = np.where(hard[:, None], np.linspace(0.1, 0.9, k), np.linspace(0.9, 0.95, k))
    quality = (rng.random((n, k)) < p).astype(float)
    cost = np.tile(np.geomspace(1e-4, 1e-2, k), (n, 1))
    return Outcomes(queries, candidates, quality, cost, ["hard" if h else "easy" for h in hard])


class ScriptedModel(BaseChatModel):
    """Answers in order and remembers what it was asked; an exception in the script is raised.

    The last entry is repeated, so one answer is enough for a model that always says the same.
    """

    script: list[Any]
    model: str = "scripted"
    temperature: float | None = None
    seen: list[list[BaseMessage]] = Field(default_factory=list)

    def __init__(self, *script: str | AIMessage | Exception, **kwargs: Any) -> None:
        super().__init__(**{"script": list(script), **kwargs})

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model}

    def _next(self, messages: list[BaseMessage]) -> AIMessage:
        entry = self.script[min(len(self.seen), len(self.script) - 1)]
        self.seen.append(list(messages))
        if isinstance(entry, Exception):
            raise entry
        if isinstance(entry, AIMessage):
            return entry
        spent, given = len(str(messages[-1].text).split()), len(entry.split())
        return AIMessage(
            entry,
            usage_metadata=UsageMetadata(
                input_tokens=spent, output_tokens=given, total_tokens=spent + given
            ),
            response_metadata={"model_name": self.model},
        )

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        return ChatResult(generations=[ChatGeneration(message=self._next(messages))])

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        return self._generate(messages)

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        message = self._next(messages)
        words = re.findall(r"\S+\s*", str(message.content))
        for word in words:
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))
        yield ChatGenerationChunk(
            message=AIMessageChunk(
                content="",
                usage_metadata=message.usage_metadata,
                response_metadata=message.response_metadata,
                chunk_position="last",
            )
        )


class JudgeModel(ScriptedModel):
    """A scripted model whose structured output is a verdict per entry: "yes", "no" or garbage."""

    verdicts: list[str] = Field(default_factory=lambda: ["yes"])
    judged: list[list[BaseMessage]] = Field(default_factory=list)

    def with_structured_output(self, schema, *, include_raw=False, **kwargs):
        def judge(messages: Any) -> dict[str, Any]:
            said = self.verdicts[len(self.judged) % len(self.verdicts)]
            self.judged.append(messages)
            usage = UsageMetadata(input_tokens=100, output_tokens=10, total_tokens=110)
            raw = AIMessage(said, usage_metadata=usage)
            if said not in ("yes", "no"):
                return {"raw": raw, "parsed": None, "parsing_error": ValueError(said)}
            verdict = "Correct" if said == "yes" else "Incorrect"
            parsed = schema(rationale="because", verdict=verdict)
            return {"raw": raw, "parsed": parsed, "parsing_error": None}

        return RunnableLambda(judge)


class StatingModel(ScriptedModel):
    """A chat model whose structured output states a probability for each question it is asked.

    It believes in everything about what is easy, and else in the large candidate alone; of what it
    does not know it states nothing.
    """

    script: list[Any] = Field(default_factory=lambda: ["never asked for text"])
    asked: list[str] = Field(default_factory=list)

    def with_structured_output(self, schema, *, include_raw=False, **kwargs):
        def state(messages: Any) -> dict[str, Any]:
            self.asked.append(messages[-1].text)
            given = json.loads(messages[-1].text)
            usage = UsageMetadata(input_tokens=100, output_tokens=10, total_tokens=110)
            stated = [
                {"name": name, "probability": 0.8 if "large" in text else 0.3}
                if "easy" not in given["state"]
                else {"name": name, "probability": 0.9}
                for name, text in given["questions"].items()
                if "unknown" not in given["state"]
            ]
            parsed = schema.model_validate({"answers": stated})
            return {
                "raw": AIMessage("", usage_metadata=usage),
                "parsed": parsed,
                "parsing_error": None,
            }

        return RunnableLambda(state)


def make_evaluations(outcomes: Outcomes, seed: int = 0) -> SelfEvaluations:
    """A verifier of eight samples that is right more often than not, and sometimes silent."""
    rng = np.random.default_rng(seed)
    scores = rng.binomial(8, 0.25 + 0.5 * outcomes.quality) / 8
    scores = np.where(rng.random(scores.shape) < 0.05, np.nan, scores)
    return SelfEvaluations(outcomes.candidates, scores, 0.1 * np.asarray(outcomes.cost_usd))


class CapableModel(BaseChatModel):
    """A provider's chat model in miniature: tools, structured output, usage, streaming, overrides.

    It calls the first tool (or the chosen one) with arguments made up from the tool's schema, and
    answers in words once a tool has answered. It is not named like a real model on purpose.
    """

    model: str = "tiny-one"
    provider: str = "fake"
    reply: str = "Hello there, this is {model} speaking."
    verdict: str = "Correct"
    temperature: float | None = None
    n_tool_calls: int = 1
    calls: list[tuple[list[BaseMessage], dict[str, Any]]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "capable"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, "temperature": self.temperature}

    def _get_ls_params(self, stop=None, **kwargs):
        params = super()._get_ls_params(stop=stop, **kwargs)
        return {**params, "ls_provider": self.provider}

    def bind_tools(self, tools, *, tool_choice=None, **kwargs):
        tools = [convert_to_openai_tool(tool) for tool in tools]
        return self.bind(tools=tools, tool_choice=tool_choice, **kwargs)

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        message = self._answer(messages, stop=stop, **kwargs)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        return self._generate(messages, stop=stop, **kwargs)

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        message = self._answer(messages, stop=stop, **kwargs)
        for i, call in enumerate(message.tool_calls):
            for name, args, id_ in (
                (call["name"], "", call["id"]),
                (None, json.dumps(call["args"]), None),
            ):
                part = {
                    "name": name,
                    "args": args,
                    "id": id_,
                    "index": i,
                    "type": "tool_call_chunk",
                }
                yield ChatGenerationChunk(message=AIMessageChunk("", tool_call_chunks=[part]))
        for word in re.findall(r"\S+\s*", str(message.content)):
            yield ChatGenerationChunk(message=AIMessageChunk(word))
        last = AIMessageChunk(
            "",
            usage_metadata=message.usage_metadata,
            response_metadata=message.response_metadata,
            chunk_position="last",
        )
        yield ChatGenerationChunk(message=last)

    async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
        for chunk in self._stream(messages, stop=stop, **kwargs):
            yield chunk

    def _answer(self, messages: list[BaseMessage], **kwargs: Any) -> AIMessage:
        self.calls.append((list(messages), kwargs))
        model = kwargs.get("model", self.model)
        tools = [] if isinstance(messages[-1], ToolMessage) else kwargs.get("tools") or []
        calls = self._tool_calls(messages, tools, kwargs.get("tool_choice"))
        text = "" if calls else self.reply.format(model=model)
        spent = sum(len(str(m.text).split()) for m in messages) + 1
        given = len(text.split()) + 5 * len(calls) + 1
        return AIMessage(
            text,
            tool_calls=calls,
            usage_metadata=UsageMetadata(
                input_tokens=spent, output_tokens=given, total_tokens=spent + given
            ),
            response_metadata={"model_name": model, "model_provider": self.provider},
        )

    def _tool_calls(self, messages, tools, choice):
        if not tools:
            return []
        functions = [tool["function"] for tool in tools]
        chosen = [f for f in functions if f["name"] == choice] or functions[:1]
        text = " ".join(str(m.text) for m in messages if isinstance(m, HumanMessage))
        number = len(self.calls)
        return [
            {
                "name": f["name"],
                # Arguments are an object, whatever the schema says of itself.
                "args": self._value("", {**f.get("parameters", {}), "type": "object"}, text),
                "id": f"call_{number}_{i}",
                "type": "tool_call",
            }
            for f in chosen
            for i in range(self.n_tool_calls)
        ]

    def _value(self, name: str, schema: dict[str, Any], text: str) -> Any:
        """Something that fits a JSON schema, taken from the text where it can be."""
        options = [s for s in schema.get("anyOf", []) if s.get("type") != "null"]
        schema = options[0] if options else schema
        if "enum" in schema:
            return self.verdict if self.verdict in schema["enum"] else schema["enum"][0]
        numbers, quoted = re.findall(r"-?\d+", text), re.findall(r"'([^']+)'", text)
        match schema.get("type"):
            case "object":
                fields = schema.get("properties", {})
                return {key: self._value(key, item, text) for key, item in fields.items()}
            case "integer" | "number":
                return int(numbers[0]) if numbers else 1
            case "boolean":
                return True
            case "array":
                return []
        return quoted[0] if quoted else f"a {name}"


class ProviderError(Exception):
    """An HTTP failure as providers' clients raise it: with a response that has headers."""

    def __init__(self, status: int, message: str = "no", **headers: str) -> None:
        super().__init__(message)
        self.status_code = status
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.response = type("Response", (), {"status_code": status, "headers": named})()


class TimedModel(ScriptedModel):
    """A scripted model that takes its time; "cut:" answers break off after their first word.

    Each call takes the next of `delays` seconds (the last is repeated) before its first token.
    """

    delays: list[float] = Field(default_factory=lambda: [0.0])
    started: list[float] = Field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0

    def _delay(self) -> float:
        self.started.append(time.monotonic())
        return self.delays[min(len(self.started), len(self.delays)) - 1]

    def _enter(self) -> float:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        return self._delay()

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        time.sleep(self._enter())
        self.under_way -= 1
        return super()._generate(messages)

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        try:
            await asyncio.sleep(self._enter())
        finally:
            self.under_way -= 1
        return ScriptedModel._generate(self, messages)

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        time.sleep(self._enter())
        self.under_way -= 1
        yield from self._pieces(messages)

    async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
        try:
            await asyncio.sleep(self._enter())
        finally:
            self.under_way -= 1
        for chunk in self._pieces(messages):
            yield chunk

    def _pieces(self, messages):
        for i, chunk in enumerate(ScriptedModel._stream(self, messages)):
            if i == 2 and str(self.script[0]).startswith("cut:"):
                msg = "the line went dead"
                raise ConnectionResetError(msg)
            yield chunk


class SamplingModel(ScriptedModel):
    """A scripted model that gives as many samples as `n` asks for, the next entries in order."""

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        generations = [
            ChatGeneration(message=self._next(messages)) for _ in range(kwargs.get("n", 1))
        ]
        return ChatResult(generations=generations)

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        return self._generate(messages, **kwargs)


class GradingModel(ScriptedModel):
    """A judge: a mapping in the script becomes structured output, a text cannot be parsed."""

    grades: list[Any] = Field(default_factory=list)
    prompts: list[str] = Field(default_factory=list)

    def with_structured_output(self, schema, *, include_raw=False, **kwargs):
        def grade(messages: Any) -> dict[str, Any]:
            said = self.grades[min(len(self.prompts), len(self.grades) - 1)]
            self.prompts.append(str(messages[-1].text))
            if isinstance(said, Exception):
                raise said
            if isinstance(said, str):
                failure = ValueError(f"not JSON: {said}")
                return {"raw": AIMessage(said), "parsed": None, "parsing_error": failure}
            parsed = schema(rationale="because", **said)
            return {"raw": AIMessage(str(said)), "parsed": parsed, "parsing_error": None}

        return RunnableLambda(grade)
