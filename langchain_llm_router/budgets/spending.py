"""One request's money: set aside before it is spent, booked however the request ends.

A request that runs as a whole holds what it was granted until its end. One whose stages run in
nodes of a graph holds nothing between two nodes, as the graph may pause there for hours, or never
resume: each operation sets its own worst case aside.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from langchain_llm_router.budgets.budgets import Budgets, Held, Reserving
from langchain_llm_router.loop.charges import charged_usd
from langchain_llm_router.types import Situation
from langchain_llm_router.types.operations import Operation

__all__ = ["Begun", "Spending"]


@dataclass(frozen=True)
class Begun:
    """What is known of earlier runs of a step that is about to run."""

    n_earlier: int
    """How many began and did not end; each may have been billed."""

    n_unbooked: int = 0
    """How many of them have worst cases that are not in this ledger's accounts."""


@dataclass
class Spending:
    """What is set aside for one request, and how much of it is spent.

    Args:
    budgets: The budgets that it spends from.
    config: Of the request's run.
    in_nodes: Whether each stage runs in a graph node of its own.
    """

    budgets: Budgets
    config: Mapping[str, Any]
    in_nodes: bool = False

    under_way: Operation | None = None
    """The operation whose outcome is not known yet, so that its worst case counts."""

    _held: Held | None = None
    _before_usd: float = 0.0
    """What had been charged when the money was set aside."""

    def grant(
        self, situation: Situation, earlier: Situation | None
    ) -> Generator[Operation, Any, Situation]:
        """Set money aside for the whole request, and say in the situation how much.

        Args:
            situation: Newly made, with every arm's worst case.
            earlier: What was seen before, if the situation is made again.
        """
        held: Held = yield Reserving(self.budgets, situation, self.config)
        if self.in_nodes:
            self.budgets.settle(held, 0.0)
        else:
            self._held = held
        charged = 0.0 if earlier is None else charged_usd(earlier)
        return replace(situation, granted_usd=held.granted_usd + charged)

    def set_aside(
        self, operation: Operation, situation: Situation, candidate: str, begun: Begun | None
    ) -> Generator[Operation, Any, None]:
        """Set aside what a single operation of a node can cost at most.

        Args:
            operation: The one that will run next.
            situation: The situation in which it runs.
            candidate: The candidate whose worst case counts.
            begun: What is known of earlier runs; None: there are none.

        Raises:
            BudgetExceededError: If there is not enough for it.
        """
        self._before_usd, worst = charged_usd(situation), operation.worst_usd
        if begun is not None and worst is not None:
            self._before_usd += (begun.n_earlier - begun.n_unbooked) * worst
            worst *= 1 + begun.n_unbooked
        arm = replace(situation.arm(candidate), worst_cost_usd=worst)
        alone = replace(situation, arms=(arm,), attempts=())
        self._held = yield Reserving(self.budgets, alone, self.config)

    def settle(self, situation: Situation | None) -> None:
        """Book what was spent since money was set aside; for a call under way, the worst case."""
        held, self._held = self._held, None
        if held is None:
            return
        charged = 0.0 if situation is None else charged_usd(situation)
        if self.under_way is not None:
            charged += self.under_way.worst_usd or 0.0
        self.budgets.settle(held, charged - self._before_usd)
