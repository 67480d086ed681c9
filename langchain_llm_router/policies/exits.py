"""The end of a request without an answer that is good enough, as one action among others."""

from __future__ import annotations

from typing import NamedTuple

from langchain_llm_router.types.decisions import Ending

__all__ = ["Exit", "ExitTerms"]


class Exit(NamedTuple):
    """The end of a request, as a policy compares it with its other actions.

    Attributes:
        worth: What it is worth, its price included, on the scale on which keeping an answer is
            worth P(good); above 0.
        lambda_: λ in quality per USD.
        possible: Whether it is possible in this situation; if not, then in later ones.
    """

    worth: float
    lambda_: float = 0.0
    possible: bool = True


class ExitTerms(NamedTuple):
    """How a request ends for which no answer is good enough; `Unsure` explains the fields."""

    do: Ending
    value: float
    cost_usd: float
    latency_s: float | None
    message: str
