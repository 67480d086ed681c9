"""Shards of a run, each with a part of the questions and of the limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_llm_router.collect.collector import Limits
from langchain_llm_router.collect.journal import Record
from langchain_llm_router.collect.questions import Question
from langchain_llm_router.collect.quote import Workload, make_quote

__all__ = ["Shard", "split_into_shards"]


@dataclass(frozen=True)
class Shard:
    """A part of the questions, with its part of the limits."""

    name: str
    questions: Sequence[Question]
    limits: Limits

    def select(self, record: Record) -> Record:
        """Return the part of the record that concerns the shard's questions."""
        return record.part({question.id for question in self.questions})


def split_into_shards(work: Workload, record: Record, limits: Limits, n_shards: int) -> list[Shard]:
    """Split the pending questions and the limits into shards.

    Concurrency is divided evenly, the remaining budget in proportion to each shard's calls.

    Raises:
        ValueError: If there are more shards than a model's concurrency.
    """
    models = {**make_quote(work, record).models, **dict.fromkeys(_concurrency_by_name(limits))}
    slowest = min(models, key=limits.concurrency_of)
    max_shards = limits.concurrency_of(slowest)
    if not 1 <= n_shards <= max_shards:
        msg = (
            f"`n_shards` must be 1 to {max_shards} because the concurrency of {slowest!r} is "
            f"{max_shards}, got {n_shards!r}: change it, or raise `limits.concurrency`."
        )
        raise ValueError(msg)
    pending = [question for question in work.questions if not work.is_done(question, record)]
    n = min(n_shards, len(pending))
    shards = [
        Shard(f"{i + 1} of {n}", pending[i::n], _divide(limits, i, n, models)) for i in range(n)
    ]
    if limits.budget_usd is None:
        return shards
    remaining_usd = max(0.0, limits.budget_usd - record.spent_usd)
    parts = [shard.select(record) for shard in shards]
    calls = [
        make_quote(replace(work, questions=shard.questions), part).calls
        for shard, part in zip(shards, parts, strict=True)
    ]
    # A shard's spending starts with the earlier cost of its questions.
    budgets = [
        part.spent_usd + remaining_usd * n_calls / max(1, sum(calls))
        for part, n_calls in zip(parts, calls, strict=True)
    ]
    return [
        replace(shard, limits=replace(shard.limits, budget_usd=budget))
        for shard, budget in zip(shards, budgets, strict=True)
    ]


def _concurrency_by_name(limits: Limits) -> Mapping[str, Any]:
    return limits.concurrency if isinstance(limits.concurrency, Mapping) else {}


def _divide(limits: Limits, i: int, n: int, models: Iterable[str]) -> Limits:
    """Return the limits with the ith of n parts of the concurrency."""

    def part(total: int) -> int:
        return total // n + (i < total % n)

    if isinstance(limits.concurrency, Mapping):
        parts = {name: part(limits.concurrency_of(name)) for name in models}
        return replace(limits, concurrency=parts)
    return replace(limits, concurrency=part(limits.concurrency))
