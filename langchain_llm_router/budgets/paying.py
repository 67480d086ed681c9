"""Operations around money: set it aside, do what it is for, settle however that ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from langchain_llm_router.budgets.affording import charged_usd
from langchain_llm_router.budgets.budgets import Budgets, Held
from langchain_llm_router.types import Situation

__all__ = ["Paying", "Reserving", "Spending", "paid_alone", "paid_route"]

Result = TypeVar("Result")


@dataclass
class Spending:
    """What is known of a request's spending while it is under way."""

    seen: Situation | None = None
    under_way: str | None = None
    """Who is being asked at this moment, so that nothing is known of it yet."""

    record: dict[str, float] = field(default_factory=dict)
    """`granted_usd` and `charged_usd`, for the decision record."""


def paid_route(
    budgets: Budgets,
    situation: Situation,
    config: Mapping[str, Any],
    spending: Spending,
    route: Callable[[Situation], Generator[Any, Any, Result]],
) -> Generator[Any, Any, Result]:
    """Route within what the budgets grant, and settle however it ends.

    Args:
        budgets: Whose money.
        situation: Before anybody is asked, with worst cases.
        config: Of the run.
        spending: Kept up to date by `route`.
        route: Routes a situation.
    """
    held: Held = yield Reserving(budgets, situation, config)
    spending.record["granted_usd"] = held.granted_usd
    spending.seen = replace(situation, granted_usd=held.granted_usd)
    try:
        return (yield from route(spending.seen))
    finally:
        charged = charged_usd(spending.seen, spending.under_way)
        spending.record["charged_usd"] = charged
        budgets.settle(held, charged)


@dataclass(frozen=True)
class Reserving:
    """Set money aside for a request."""

    budgets: Budgets
    situation: Situation
    config: Mapping[str, Any]

    def perform(self) -> Held:
        """Reserve in place."""
        return self.budgets.reserve(self.situation, self.config)

    async def aperform(self) -> Held:
        """Reserve in a thread where the ledger may wait for a network."""
        if self.budgets.ledger.blocks:
            return await asyncio.to_thread(self.perform)
        return self.perform()


@dataclass(frozen=True)
class Paying:
    """One operation that is paid for by itself: a node of a graph, whose run may be interrupted.

    Args:
        operation: What is done.
        reserving: For what it can cost at most.
        cost_usd: What it did cost, by its result.
    """

    operation: Any
    reserving: Reserving
    cost_usd: Callable[[Any], float]

    def perform(self) -> Any:
        """Reserve, do it, settle."""
        held = self.reserving.perform()
        cost = held.granted_usd
        try:
            result = self.operation.perform()
            cost = self.cost_usd(result)
        finally:
            self.reserving.budgets.settle(held, cost)
        return result

    async def aperform(self) -> Any:
        """Reserve, do it, settle."""
        held = await self.reserving.aperform()
        cost = held.granted_usd
        try:
            result = await self.operation.aperform()
            cost = self.cost_usd(result)
        finally:
            self.reserving.budgets.settle(held, cost)
        return result


def paid_alone(
    operation: Any,
    budgets: Budgets | None,
    situation: Situation,
    name: str,
    config: Mapping[str, Any],
    *,
    judged: bool = False,
) -> Any:
    """The operation, paid for on its own; the same operation without budgets.

    Args:
        operation: Asks the candidate, or has its answer judged.
        budgets: Whose money.
        situation: With the candidate's worst cases.
        name: Of the candidate.
        config: Of the run.
        judged: Whether this is the judging.
    """
    if budgets is None:
        return operation
    arm = situation.arm(name)
    worst = arm.worst_verification_usd if judged else arm.worst_asking_usd
    alone = replace(situation, arms=(replace(arm, worst_cost_usd=worst),), attempts=())

    def cost_usd(result: Any) -> float:
        if judged:
            cost = result.get("verification_cost_usd")
            unsure = cost is None or result.get("verification_unsure", False)
            return (worst or 0.0) if unsure else float(cost)
        return charged_usd(replace(alone, attempts=(result.attempt,)))

    return Paying(operation, Reserving(budgets, alone, config), cost_usd)
