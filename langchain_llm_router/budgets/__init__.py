"""What may be spent, and the accounts of what was.

`budgets` are the limits, `ledgers` the accounts (`shared_ledger`: in Redis), `pacing` sets λ over a
period, `affording` drops the arms that a request cannot pay.
"""

from typing import TYPE_CHECKING

from langchain_llm_router.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_llm_router.budgets.budgets import (
        Budget,
        Budgets,
        Held,
        bounded,
        prompt_bound,
        worst_cost_usd,
    )
    from langchain_llm_router.errors import BudgetExceededError
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            ".budgets": "Budget Budgets Held bounded prompt_bound worst_cost_usd",
            "langchain_llm_router.errors": "BudgetExceededError",
        },
    )

__all__ = [
    "Budget",
    "BudgetExceededError",
    "Budgets",
    "Held",
    "bounded",
    "prompt_bound",
    "worst_cost_usd",
]
