"""Builds `langchain_llm_router/data/openhands_index.json.gz` from the OpenHands Index.

Usage: python -m tests.support.builders.openhands_index ../shared/data/openhands_index
"""

import gzip
import json
import sys
from pathlib import Path

import pandas as pd

from tests.support.paths import PACKAGE

BENCHMARKS = ("swe-bench", "swt-bench", "gaia")
TARGET = PACKAGE / "data" / "openhands_index.json.gz"


def runs_of(scores: pd.DataFrame) -> dict:
    """The tasks, their repositories, and the models that were judged on all of them."""
    resolved = scores.pivot(index="instance_id", columns="model", values="resolved")
    # A cost of zero was not recorded: such runs resolved tasks, too.
    priced = scores.assign(cost_usd=scores.cost_usd.where(scores.cost_usd > 0))
    cost = priced.pivot(index="instance_id", columns="model", values="cost_usd")
    judged = resolved.columns[resolved.notna().all()]
    models = cost[judged].mean().sort_values(kind="stable").index
    tasks = resolved.index.tolist()
    repositories = [task.rsplit("-", 1)[0].replace("__", "/") for task in tasks]
    return {
        "task": tasks,
        "group": repositories if all("__" in task for task in tasks) else None,
        "models": {
            model: {
                "resolved": "".join(str(int(right)) for right in resolved[model]),
                # In ten-thousandths of a dollar.
                "cost": [None if pd.isna(usd) else round(1e4 * usd) for usd in cost[model]],
            }
            for model in models
        },
    }


def main(source: Path) -> None:
    scores = pd.read_parquet(source / "scores.parquet")
    scores = scores[scores.agent == "OpenHands"]
    prices = pd.read_csv(source / "runs.csv")
    prices = prices[prices.agent == "OpenHands"].drop_duplicates("model").set_index("model")
    table = {
        "source": "github.com/OpenHands/openhands-index-results, commit "
        "3015ac612e7196f428e6e8a3948965d32d9a3331",
        "license": "MIT",
        "benchmarks": {name: runs_of(scores[scores.benchmark == name]) for name in BENCHMARKS},
    }
    names = {model for it in table["benchmarks"].values() for model in it["models"]}
    table["usd_per_mtok"] = {
        model: [float(prices.input_price[model]), float(prices.output_price[model])]
        for model in sorted(names)
    }
    text = json.dumps(table, separators=(",", ":"))
    TARGET.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
