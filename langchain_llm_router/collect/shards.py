"""Split a run into concurrent shards, each with its questions and its part of the limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_llm_router.collect.collector import Limits
from langchain_llm_router.collect.journal import Record
from langchain_llm_router.collect.questions import Question
from langchain_llm_router.collect.quote import Workload, make_quote

__all__ = ["Shard", "deal"]


@dataclass(frozen=True)
class Shard:
    """A part of the questions, and the part of the limits that they are asked under."""

    name: str
    questions: Sequence[Question]
    limits: Limits

    def known(self, record: Record) -> Record:
        """What the journal holds of its questions."""
        return record.part({question.id for question in self.questions})


def deal(work: Workload, record: Record, limits: Limits, n_shards: int) -> list[Shard]:
    """Split the questions that are not done yet, and the limits, so that the parts add up.

    Concurrency is divided evenly; the remaining budget in proportion to each shard's calls.

    Raises:
        ValueError: If a model would have fewer calls in flight than there are shards.
    """
    models = {**make_quote(work, record).models, **dict.fromkeys(_mapped(limits))}
    scarce = min(models, key=limits.concurrency_of)
    most = limits.concurrency_of(scarce)
    if not 1 <= n_shards <= most:
        msg = (
            f"1 to {most} shards can share the {most} calls in flight to {scarce!r}, "
            f"got {n_shards!r}: give another number of shards, or more concurrency."
        )
        raise ValueError(msg)
    asked = [question for question in work.questions if not work.is_done(question, record)]
    n = min(n_shards, len(asked))
    shards = [
        Shard(f"{i + 1} of {n}", asked[i::n], _divided(limits, i, n, models)) for i in range(n)
    ]
    if limits.budget_usd is None:
        return shards
    left = max(0.0, limits.budget_usd - record.spent_usd)
    known = [shard.known(record) for shard in shards]
    calls = [
        make_quote(replace(work, questions=shard.questions), part).calls
        for shard, part in zip(shards, known, strict=True)
    ]
    # A shard's spending starts at what its own questions have already cost.
    budgets = [
        part.spent_usd + left * n_calls / max(1, sum(calls))
        for part, n_calls in zip(known, calls, strict=True)
    ]
    return [
        replace(shard, limits=replace(shard.limits, budget_usd=budget))
        for shard, budget in zip(shards, budgets, strict=True)
    ]


def _mapped(limits: Limits) -> Mapping[str, Any]:
    return limits.concurrency if isinstance(limits.concurrency, Mapping) else {}


def _divided(limits: Limits, i: int, n: int, models: Iterable[str]) -> Limits:
    """The ith of n parts of the concurrency."""

    def part(whole: int) -> int:
        return whole // n + (i < whole % n)

    if isinstance(limits.concurrency, Mapping):
        parts = {name: part(limits.concurrency_of(name)) for name in models}
        return replace(limits, concurrency=parts)
    return replace(limits, concurrency=part(limits.concurrency))
