"""The money of one request: reserved before it is spent, settled however the request ends.

A request that runs as a whole keeps one reservation until its end. A request whose stages run in
nodes of a graph keeps none between two nodes, because the graph may pause there for hours or never
resume: each operation reserves its own worst case.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from langchain_llm_router.budgets.budgets import Budgets, Held, ReserveOperation
from langchain_llm_router.loop.charges import charged_usd
from langchain_llm_router.types import Situation
from langchain_llm_router.types.operations import Operation

__all__ = ["EarlierRuns", "Spending"]


@dataclass(frozen=True)
class EarlierRuns:
    """Earlier runs of a step that is about to run."""

    n_unfinished: int
    """Number of runs that began and did not end; each may have been billed."""

    n_uncharged: int = 0
    """How many of them have a worst case that is not in this ledger's accounts."""


@dataclass
class Spending:
    """The reservation of one request, and how much of it is spent.

    Args:
        budgets: The budgets that the request draws on.
        config: The config of the request's run.
        in_nodes: Whether each stage runs in a graph node of its own.
    """

    budgets: Budgets
    config: Mapping[str, Any]
    in_nodes: bool = False

    pending: Operation | None = None
    """The operation whose outcome is not known yet, so that its worst case counts."""

    _held: Held | None = None
    _before_usd: float = 0.0
    """Amount that had been charged when the reservation was made."""

    def reserve_request(
        self, situation: Situation, earlier: Situation | None
    ) -> Generator[Operation, Any, Situation]:
        """Reserve the worst case of the whole request, and add the amount to the situation.

        Args:
            situation: The new situation, with the worst case of every arm.
            earlier: The situation that it replaces; None at the start of a request.
        """
        held: Held = yield ReserveOperation(self.budgets, situation, self.config)
        if self.in_nodes:
            self.budgets.settle(held, 0.0)
        else:
            self._held = held
        charged = 0.0 if earlier is None else charged_usd(earlier)
        return replace(situation, granted_usd=held.granted_usd + charged)

    def reserve_operation(
        self,
        operation: Operation,
        situation: Situation,
        candidate: str,
        earlier_runs: EarlierRuns | None,
    ) -> Generator[Operation, Any, None]:
        """Reserve the worst case of a single operation of a node.

        Args:
            operation: The operation that runs next.
            situation: The situation in which it runs.
            candidate: The candidate that the operation calls or whose answer it verifies.
            earlier_runs: Earlier runs of this step; None if there are none.

        Raises:
            BudgetExceededError: If the budgets do not cover the operation.
        """
        self._before_usd, worst = charged_usd(situation), operation.worst_usd
        if earlier_runs is not None and worst is not None:
            n_charged = earlier_runs.n_unfinished - earlier_runs.n_uncharged
            self._before_usd += n_charged * worst
            worst *= 1 + earlier_runs.n_uncharged
        arm = replace(situation.arm(candidate), worst_cost_usd=worst)
        alone = replace(situation, arms=(arm,), attempts=())
        self._held = yield ReserveOperation(self.budgets, alone, self.config)

    def settle(self, situation: Situation | None) -> None:
        """Settle what was spent since the reservation; a pending call counts as its worst case."""
        held, self._held = self._held, None
        if held is None:
            return
        charged = 0.0 if situation is None else charged_usd(situation)
        if self.pending is not None:
            charged += self.pending.worst_usd or 0.0
        self.budgets.settle(held, charged - self._before_usd)
