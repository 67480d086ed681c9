"""What may be spent, and the books on what was.

`budgets` are the limits, `ledgers` the accounts (`shared_ledger`: in Redis), `pacing` the price of
money over a period, `affording` what a request can still pay.
"""

from langchain_llm_router.budgets.budgets import (
    Budget,
    BudgetExceededError,
    Budgets,
    Held,
    bounded,
    prompt_bound,
    worst_cost_usd,
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
