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
from langchain_llm_router.loop.charges import charged_usd, in_tokens
from langchain_llm_router.types import Decision, Situation
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
    _pending_tokens: tuple[float | None, float | None] = (0.0, None)
    """Worst cases in tokens of the pending operation and of one call of it."""

    _operation: Operation | None = None
    _assumed_usd: float = 0.0
    """What earlier runs of the operation are taken to have been charged, within `_before`."""

    _before: tuple[float, float] = (0.0, 0.0)
    """USD and tokens that had been charged when the reservation was made."""

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
        usd, tokens = self._charged(earlier)
        return replace(
            situation,
            granted_usd=None if held.granted_usd is None else held.granted_usd + usd,
            granted_tokens=None if held.granted_tokens is None else held.granted_tokens + tokens,
        )

    def reserve_operation(
        self,
        operation: Operation,
        situation: Situation,
        step: Decision,
        earlier_runs: EarlierRuns | None,
    ) -> Generator[Operation, Any, None]:
        """Reserve the worst case of a single operation of a node.

        Args:
            operation: The operation that runs next.
            situation: The situation in which it runs.
            step: The step that the operation carries out.
            earlier_runs: Earlier runs of this step; None if there are none.

        Raises:
            BudgetExceededError: If the budgets do not cover the operation.
        """
        worst = [operation.worst_usd, _worst_tokens(situation, step)]
        self._before = self._charged(situation)
        if earlier_runs is not None:
            n_charged = earlier_runs.n_unfinished - earlier_runs.n_uncharged
            usd, tokens = (n_charged * (amount or 0.0) for amount in worst)
            self._before = (self._before[0] + usd, self._before[1] + tokens)
            self._assumed_usd = usd
            n_runs = 1 + earlier_runs.n_uncharged
            worst = [None if amount is None else n_runs * amount for amount in worst]
        arm = replace(
            situation.arm(step.candidate),
            worst_cost_usd=worst[0],
            worst_asking_tokens=worst[1],
            worst_verification_tokens=0.0,
        )
        alone = replace(situation, arms=(arm,), attempts=())
        self._held = yield ReserveOperation(self.budgets, alone, self.config)

    def begin(self, operation: Operation, situation: Situation, step: Decision) -> None:
        """Note the operation that runs now, whose worst case counts until its outcome is known."""
        self.pending = self._operation = operation
        one_call = situation.arm(step.candidate).worst_call_tokens
        self._pending_tokens = _worst_tokens(situation, step), one_call

    def settle(self, situation: Situation | None) -> None:
        """Settle what was spent since the reservation.

        A pending operation counts with what its calls may have cost: nothing if none was sent.
        """
        held, self._held = self._held, None
        if held is None:
            return
        usd, tokens = self._charged(situation)
        if self.pending is not None:
            usd += self.pending.unfinished_usd or 0.0
            tokens += self._unfinished_tokens(self.pending)
        earlier = None if self._operation is None else self._operation.earlier_usd
        if earlier is not None:
            usd += self._assumed_usd - (earlier if self._assumed_usd > 0 else 0.0)
        self.budgets.settle(held, usd - self._before[0], tokens - self._before[1])

    def _unfinished_tokens(self, pending: Operation) -> float:
        worst, one = self._pending_tokens
        if worst is None or one is None or pending.n_unsure is None:
            return worst or 0.0
        return min(worst, pending.n_unsure * one)

    def _charged(self, situation: Situation | None) -> tuple[float, float]:
        if situation is None:
            return 0.0, 0.0
        tokens = charged_usd(in_tokens(situation)) if self.budgets.in_tokens else 0.0
        return charged_usd(situation), tokens


def _worst_tokens(situation: Situation, step: Decision) -> float | None:
    arm = situation.arm(step.candidate)
    return arm.worst_asking_tokens if step.action == "ask" else arm.worst_verification_tokens
