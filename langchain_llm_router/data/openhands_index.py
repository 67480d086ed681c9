"""Recorded runs of coding and research agents with models of 2026, with dollars per task.

Source: github.com/OpenHands/openhands-index-results (MIT), one run of the OpenHands agent per model
and task. Costs are the evaluation's own accounting, with prompt caching.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from langchain_llm_router.data import Outcomes
from langchain_llm_router.data.row_files import read_shipped
from langchain_llm_router.types import Price

__all__ = ["OpenHandsIndex"]

_UNITS_PER_USD = 10_000


@dataclass(frozen=True, eq=False)
class OpenHandsIndex:
    """The recorded runs of the OpenHands Index.

    Attributes:
        outcomes: By benchmark ("swe-bench", "swt-bench", "gaia"), whether each task was resolved
            (0 or 1) and its cost in USD, NaN where unknown, from the cheapest model to the dearest;
            models that were not judged on every task are left out. Queries are the ids of the
            tasks, and groups of the coding tasks are their repositories.
        prices: List prices by model.

    Example:
        >>> runs = OpenHandsIndex.load().outcomes["swe-bench"]
        >>> runs.select(["DeepSeek-V4-Pro", "claude-opus-4-8"]).quality.mean(axis=0).round(3)
        array([0.732, 0.838])
    """

    outcomes: Mapping[str, Outcomes]
    prices: Mapping[str, Price]

    @classmethod
    def load(cls) -> OpenHandsIndex:
        """Read the table that is part of the package."""
        table = read_shipped("openhands_index")
        outcomes = {}
        for name, benchmark in table["benchmarks"].items():
            runs, tasks = benchmark["models"], benchmark["task"]
            cost = np.array([run["cost"] for run in runs.values()], dtype=np.float64)
            quality = [[int(digit) for digit in run["resolved"]] for run in runs.values()]
            outcomes[name] = Outcomes(
                tasks,
                list(runs),
                np.transpose(quality),
                cost.T / _UNITS_PER_USD,
                benchmark["group"],
            )
        prices = {name: Price(*usd) for name, usd in table["usd_per_mtok"].items()}
        return cls(outcomes, prices)
