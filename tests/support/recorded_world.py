"""Recorded situations: what three candidates would answer, and what was said of their answers.

A `World` holds one row per question, drawn from a seed: how good each candidate is expected to be,
what it answers (or how it fails, or that it refuses), what its tokens were, and what a judge says
of it. Its candidates are chat models that answer from the row, also when they are asked for
verdicts, so that the same row can be routed by every driver and come out the same.
"""

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableLambda

from langchain_llm_router import Candidate, Price
from langchain_llm_router.estimators import QualityEstimator
from langchain_llm_router.policies import Policy
from langchain_llm_router.types import Decision, Situation
from langchain_llm_router.verification import Agreement, AnswerGroups, Call, Evaluation, Verifier
from langchain_llm_router.verification.answer_groups import Sameness

NAMES = ("small", "medium", "large")
# Whole nano-dollars per token: sums in a ledger are then exact, however they are split.
PRICES = {"small": Price(1, 2), "medium": Price(4, 8), "large": Price(10, 20)}
MOST_TOKENS = 60
FAILURES = (ConnectionError("down"), TimeoutError("slow"), ValueError("no such model"))


@dataclass(frozen=True)
class Told:
    """What a candidate has to say to one question."""

    answers: tuple[str, ...]
    """The first is its answer; the others are what it says when it is asked again."""

    failure: Exception | None
    refuses: bool
    tokens: tuple[int, int]
    logprob: float
    verdicts: tuple[str, ...]
    """Of a judge, one after the other: "Correct", "Incorrect", garbage, or "down"."""

    score: float | None
    """Recorded, for the verifier that reads it."""


@dataclass(frozen=True)
class Row:
    """One question and everything that is recorded about it."""

    question: str
    quality: tuple[float, ...]
    told: dict[str, Told]
    options: dict[str, Any]

    @property
    def whole(self) -> bool:
        """Whether nothing fails, so that a table can hold it."""
        told = self.told.values()
        return not self.options and all(
            one.failure is None and not one.refuses and one.score is not None
            and set(one.verdicts) <= {"Correct", "Incorrect"}
            for one in told
        )  # fmt: skip


def make_row(i: int) -> Row:
    """Row `i`; every third one is whole."""
    rng = random.Random(i)
    whole = i % 3 == 0
    options: list[dict[str, Any]] = [
        {"force": "medium"}, {"lambda": 5.0}, {"candidates": ["small", "large"]},
        {"max_cost_usd": 0.004}, {"threshold": 0.4},
    ]  # fmt: skip
    return Row(
        question=f"{'prove hard theorem' if rng.random() < 0.5 else 'add easy numbers'} {i}"
        + " and explain" * rng.randint(0, 5),
        quality=tuple(rng.random() for _ in NAMES),
        told={name: _told(rng, name, whole=whole) for name in NAMES},
        options=rng.choice(options) if not whole and rng.random() < 0.2 else {},
    )


def _told(rng: random.Random, name: str, *, whole: bool) -> Told:
    said = ["Correct", "Incorrect"] if whole else ["Correct", "Incorrect", "garbage", "down"]
    fate = 1.0 if whole else rng.random()
    texts = [rng.choice(["yes", "no", f"{name} says 42."]) for _ in range(3)]
    return Told(
        answers=tuple(texts),
        failure=rng.choice(FAILURES) if fate < 0.2 else None,
        refuses=0.2 <= fate < 0.35,
        tokens=(rng.randint(5, 40), rng.randint(1, MOST_TOKENS)),
        logprob=-rng.random(),
        verdicts=tuple(rng.choices(said, [4, 3, 1, 1][: len(said)], k=4)),
        score=None if not whole and rng.random() < 0.2 else rng.random(),
    )


class World:
    """All rows, and which of them is being asked about."""

    def __init__(self, n_rows: int) -> None:
        self.rows = [make_row(i) for i in range(n_rows)]
        self.by_question = {row.question: row for row in self.rows}
        self.row = self.rows[0]
        self.n_asked: dict[str, int] = {}
        self.n_judged: dict[str, int] = {}

    def begin(self, row: Row) -> None:
        """Turn to a row; every candidate starts with its first answer."""
        self.row, self.n_asked, self.n_judged = row, {}, {}

    def pool(self) -> list[Candidate]:
        """The candidates, from cheap to strong."""
        return [
            Candidate(
                name, WorldModel(world=self, model=name), PRICES[name],
                expected_output_tokens=20, max_output_tokens=MOST_TOKENS,
            )
            for name in NAMES
        ]  # fmt: skip

    def estimator(self) -> "RecordedQuality":
        """Predicts what is recorded."""
        return RecordedQuality({row.question: row.quality for row in self.rows})

    def verifier(self, made: Verifier) -> Verifier:
        """A verifier of the contract's list, with peers that are of this world."""
        if isinstance(made, Agreement):
            models = [WorldModel(world=self, model=name, peer=True) for name in NAMES[:2]]
            peers = [Candidate(f"{m.model} peer", m, PRICES[m.model]) for m in models]
            return replace(made, peers=peers)
        if isinstance(made, AnswerGroups) and made.judge is not None:
            judge = WorldModel(world=self, model=NAMES[0])
            return replace(made, judge=Candidate("judge", judge, PRICES[NAMES[0]]))
        return made


class WorldModel(BaseChatModel):
    """One candidate of a world: answers, fails, refuses and judges as the row says."""

    world: Any
    model: str
    peer: bool = False
    """Whether it is asked only to compare answers: it says the same each time."""

    @property
    def _llm_type(self) -> str:
        return "world"

    @property
    def _told(self) -> Told:
        return self.world.row.told[self.model]

    def _say(self, messages: Sequence[BaseMessage]) -> AIMessage:
        question, _, asked = str(messages[-1].text).partition("\n\n(After your answer")
        if question != self.world.row.question:
            return self._judge()
        told, i = self._told, 2
        if not self.peer:
            i = self.world.n_asked.get(self.model, 0)
            self.world.n_asked[self.model] = i + 1
        if told.failure is not None:
            raise type(told.failure)(*told.failure.args)
        text = told.answers[i % len(told.answers)]
        if asked and told.score is not None:
            sure = round(100 * told.score)
            text += f"\nConfidence: {f'A={sure}, B=0' if 'A=N' in asked else f'{sure}%'}"
        metadata: dict[str, Any] = {"logprobs": {"content": _tokens(text, told.logprob)}}
        if told.refuses:
            metadata["finish_reason"] = "content_filter"
        return _message(text, told.tokens, metadata)

    def _judge(self) -> AIMessage:
        i = self.world.n_judged.get(self.model, 0)
        self.world.n_judged[self.model] = i + 1
        said = self._told.verdicts[i % len(self._told.verdicts)]
        if said == "down":
            msg = "the judge is down"
            raise ConnectionError(msg)
        return _message(said, (30, 2), {"logprobs": {"content": _tokens(said, -0.2)}})

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        return ChatResult(generations=[ChatGeneration(message=self._say(messages))])

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        return self._generate(messages)

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        message = self._say(messages)
        for word in re.findall(r"\S+\s*", str(message.content)):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))
        last = AIMessageChunk(
            content="",
            usage_metadata=message.usage_metadata,
            response_metadata=message.response_metadata,
            chunk_position="last",
        )
        yield ChatGenerationChunk(message=last)

    def with_structured_output(self, schema, *, include_raw=False, **kwargs):
        def judge(messages: Any) -> dict[str, Any]:
            raw = self._judge()
            if raw.content not in ("Correct", "Incorrect"):
                return {"raw": raw, "parsed": None, "parsing_error": ValueError("not JSON")}
            words = {"Correct": "Same", "Incorrect": "Different"}
            verdict = words[raw.content] if schema is Sameness else raw.content
            parsed = schema(rationale="because", verdict=verdict)
            return {"raw": raw, "parsed": parsed, "parsing_error": None}

        return RunnableLambda(judge)


def _message(text: str, tokens: tuple[int, int], metadata: dict[str, Any]) -> AIMessage:
    spent, given = tokens
    usage = UsageMetadata(input_tokens=spent, output_tokens=given, total_tokens=spent + given)
    return AIMessage(text, usage_metadata=usage, response_metadata=metadata)


def _tokens(text: str, logprob: float) -> list[dict[str, Any]]:
    other = {"token": "Incorrect", "logprob": math.log1p(-math.exp(logprob))}
    told = {"token": text, "logprob": logprob}
    return [{**told, "top_logprobs": [told, other] if text == "Correct" else [told]}]


@dataclass(frozen=True)
class RecordedScores(Verifier):
    """Says the score that is recorded, after one call that costs what a verdict costs."""

    world: World

    def evaluate(self, case):
        yield [Call([*case.messages[:0], AIMessage("What do you think of it?")], case.candidate)]
        return Evaluation(self.world.row.told[case.candidate.name].score)


@dataclass(eq=False)
class RecordedQuality(QualityEstimator):
    """Predicts what is recorded, and counts how often it is asked."""

    table: dict[str, Sequence[float]] = field(default_factory=dict)
    n_asked: int = 0

    def __post_init__(self) -> None:
        self.candidates_, self.data_hash_ = NAMES, "recorded"

    def _fit(self, data) -> None:
        raise NotImplementedError

    def _predict(self, queries: Sequence[str]):
        self.n_asked += len(queries)
        return np.array([self.table[query] for query in queries])

    def _arrays(self):
        return {}

    def _restore(self, settings, arrays, embeddings) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class AsksEverybody(Policy):
    """Asks and verifies every candidate: what it leaves behind is a table of scores."""

    verifies = True

    def decide(self, situation: Situation) -> Decision:
        last = situation.attempts[-1] if situation.attempts else None
        if last is not None and last.get("error") is None and not last.get("verified"):
            return Decision("verify", last["candidate"], "AsksEverybody", "how good is it?")
        if situation.open_arms:
            name = situation.open_arms[0].candidate
            return Decision("ask", name, "AsksEverybody", "everybody is asked")
        return Decision("accept", situation.answered[-1]["candidate"], "AsksEverybody", "the last")
