"""Builds `langchain_llm_router/data/zeroeval.json.gz` from ZeroEval's recorded runs.

Usage: python -m tests.support.builders.zeroeval ../shared/data/zeroeval
"""

import gzip
import json
import sys
from pathlib import Path

import pandas as pd

from tests.support.paths import PACKAGE

# o1 models are left out: their recorded cost lacks the hidden reasoning tokens.
MODELS = {
    "gemini-1.5-flash": "gemini-1.5-flash",
    "deepseek-v2.5": "deepseek-v2.5-0908",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "llama-3.1-70b": "Meta-Llama-3.1-70B-Instruct",
    "claude-3.5-sonnet": "claude-3-5-sonnet-20241022",
}
TARGET = PACKAGE / "data" / "zeroeval.json.gz"


def main(source: Path) -> None:
    queries = pd.read_parquet(source / "queries.parquet")
    scores = pd.read_parquet(source / "scores.parquet")
    prices = pd.read_csv(source / "models.csv").set_index("model")
    table = {
        "source": "github.com/WildEval/ZeroEval, commit 8c1485edf12c6efb5f69135a562927c5ad484059",
        "license": "Apache-2.0",
        "models": {},
        "question": queries.question.tolist(),
        "group": queries.dataset.tolist(),
        "prompt_tokens": queries.prompt_tokens.tolist(),
    }
    for name, model in MODELS.items():
        rows = scores[scores.model == model].set_index("id").loc[queries.id]
        table["models"][name] = {
            "model": model,
            "input_usd_per_mtok": float(prices.input_usd_per_mtok[model]),
            "output_usd_per_mtok": float(prices.output_usd_per_mtok[model]),
            "answer": rows.answer.where(rows.parsed, "").tolist(),
            "correct": rows.correct.astype(int).tolist(),
            "output_tokens": rows.output_tokens.tolist(),
        }
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":"))
    TARGET.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
