"""Budgets, the ledgers that account for spending, and pacing.

`budgets`: limits and reservations. `bounds`: worst cases. `prompt_bounds`: the most tokens of a
prompt. `token_bounds`: worst cases in tokens. `periods`: days, weeks and months of a time zone.
`ledgers`: accounts of one process. `redis_ledger`: accounts that processes
share. `pacer`: λ over a period. `spending`: the reservations of a single request.
"""

from typing import TYPE_CHECKING

from langchain_llm_router.types.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_llm_router.budgets.bounds import bounded, prompt_bound, worst_cost_usd
    from langchain_llm_router.budgets.budgets import Budget, Budgets, Held
    from langchain_llm_router.budgets.ledgers import Account, InProcessLedger, Ledger
    from langchain_llm_router.budgets.pacer import Pacer
    from langchain_llm_router.budgets.redis_ledger import RedisLedger
    from langchain_llm_router.types.errors import BudgetExceededError, LedgerError
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            ".bounds": "bounded prompt_bound worst_cost_usd",
            ".budgets": "Budget Budgets Held",
            "langchain_llm_router.types.errors": "BudgetExceededError LedgerError",
            ".ledgers": "Account InProcessLedger Ledger",
            ".redis_ledger": "RedisLedger",
            ".pacer": "Pacer",
        },
    )

__all__ = [
    "Account",
    "Budget",
    "BudgetExceededError",
    "Budgets",
    "Held",
    "InProcessLedger",
    "Ledger",
    "LedgerError",
    "Pacer",
    "RedisLedger",
    "bounded",
    "prompt_bound",
    "worst_cost_usd",
]
