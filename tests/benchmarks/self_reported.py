"""A confidence in the same call: what it tells of right and wrong, and what it gains in cascades.

Data: thematic generalization v1 (810 questions, 71 models of 2024 and 2025, github.com/lechmazur/
generalization). Each model scores eight options from 0 to 10 in the call in which it answers; its
confidence is the margin between the best and the second, as in `SelfReported(options=...)`. The
table has no licence: only numbers derived from it are shown. Read from `shared/data` beside the
checkout; without it the script says so and ends.

Fixed before looking: models with at least 800 readable answers, an unreadable one is wrong and the
least sure, and a tie at the top counts in part (for AUROC it is not right); all pairs whose strong
model is right on at least 10 points more of the questions, and among them those whose strong
model's list price of output is at least three times the weak one's (prices are known for some,
numbers of tokens for none). The 30 or 50 % least sure answers of the weak model are escalated: the
threshold is chosen on one half of the questions and used on the other, both ways, in ten splits
(seeds 0 to 9); questions at the threshold are escalated with the probability that meets the share.
The gain is the accuracy minus that of a random mix of the same two models with the same share.
Intervals: 95 %, bootstrap over questions, thresholds fixed.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from langchain_llm_router.evaluation import auc  # noqa: E402
from tests.support.shared_data import shared_data_folder  # noqa: E402

TABLE = "thematic_generalization/scores.parquet"
SHARES = (0.3, 0.5)
GAP = 0.10
MOST_UNREADABLE = 10
PRICE_RATIO = 3.0

# List prices of output in 2025, in USD per million tokens.
OUTPUT_USD = {
    "mistral-small-2501": 0.30,
    "gemini_20_flash": 0.40,
    "grok-3-mini-beta": 0.50,
    "gpt-4o_mini": 0.60,
    "gpt-5-mini-medium": 2.00,
    "o3-mini": 4.40,
    "o4-mini": 4.40,
    "gpt-4o": 10.0,
    "gpt-5-medium": 10.0,
    "gemini-2_5-pro-preview-06-05": 10.0,
    "sonnet-20241022": 15.0,
    "claude-3-7-sonnet-20250219": 15.0,
    "claude-sonnet-4-20250514-0": 15.0,
    "claude-sonnet-4-20250514-16K": 15.0,
    "grok-4-0709": 15.0,
    "o1-2024-12-17": 60.0,
    "claude-opus-4-20250514-0K": 75.0,
    "claude-opus-4-20250514-16K": 75.0,
    "claude-opus-4-1-20250805-0K": 75.0,
    "claude-opus-4-1-20250805-16K": 75.0,
    "gpt-4.5-preview-2025-02-27": 150.0,
}


def load(path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, right answers and margins, of shape (n_models, n_questions)."""
    table = parquet.read_table(path, columns=["item", "model", "correct", "margin"])
    columns = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    items, at = np.unique(columns["item"], return_inverse=True)
    names, row = np.unique(columns["model"].astype(str), return_inverse=True)
    right = np.full((len(names), len(items)), np.nan)
    margin = np.full((len(names), len(items)), np.nan)
    right[row, at], margin[row, at] = columns["correct"], columns["margin"]
    kept = np.isnan(right).sum(axis=1) <= MOST_UNREADABLE
    right, margin = np.nan_to_num(right[kept]), np.nan_to_num(margin[kept], nan=-1.0)
    return names[kept].tolist(), right, margin


def escalation(margin: np.ndarray, share: float, *, n_splits: int) -> np.ndarray:
    """P(a question is escalated) by a threshold from questions without it, mean over the splits."""
    n = len(margin)
    total = np.zeros(n)
    for seed in range(n_splits):
        order = np.random.default_rng(seed).permutation(n)
        for chosen, used in (
            (order[: n // 2], order[n // 2 :]),
            (order[n // 2 :], order[: n // 2]),
        ):
            threshold = np.quantile(margin[chosen], share, method="inverted_cdf")
            below = np.mean(margin[chosen] < threshold)
            tied = np.mean(margin[chosen] == threshold)
            p = (share - below) / tied
            total[used] += (margin[used] < threshold) + p * (margin[used] == threshold)
    return total / n_splits


def gains(weights: np.ndarray, p: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """Gain over a random mix, of shape (n_draws, n_pairs), for weights of questions."""
    return weights @ (p * difference).T - (weights @ p.T) * (weights @ difference.T)


def interval(draws: np.ndarray) -> list[float]:
    """A 95 % interval."""
    return [round(float(bound), 4) for bound in np.quantile(draws, (0.025, 0.975))]


def measure(*, n_draws: int, n_splits: int) -> dict:
    """AUROC per model, and the gains of all pairs."""
    folder = shared_data_folder()
    if folder is None or not (folder / TABLE).exists():
        return {
            "skipped": f"the table {TABLE} is not in a folder `shared/data` beside the checkout"
        }
    names, right, margin = load(folder / TABLE)
    n = right.shape[1]
    rng = np.random.default_rng(0)
    picks = rng.integers(0, n, (n_draws, n))
    weights = np.stack([np.bincount(pick, minlength=n) for pick in picks]) / n
    models = {}
    for name, r, m in zip(names, right, margin, strict=True):
        draws = [auc(m[pick], r[pick] == 1) for pick in picks[: n_draws // 4]]
        value = round(auc(m, r == 1), 4)
        models[name] = {"accuracy": round(r.mean(), 4), "auroc": value, "ci": interval(draws)}
    accuracy = right.mean(axis=1)
    pairs = [(w, s) for w in range(len(names)) for s in range(len(names))
             if accuracy[s] - accuracy[w] >= GAP]  # fmt: skip
    difference = np.stack([right[s] - right[w] for w, s in pairs])
    priced = np.array([
        PRICE_RATIO * OUTPUT_USD.get(names[w], np.inf) <= OUTPUT_USD.get(names[s], -np.inf)
        for w, s in pairs
    ])  # fmt: skip
    found: dict = {"models": models, "pairs": {}}
    for share in tqdm(SHARES, desc="escalated", file=sys.stderr):
        by_weak = {w: escalation(margin[w], share, n_splits=n_splits) for w, _ in pairs}
        p = np.stack([by_weak[w] for w, _ in pairs])
        gain = gains(np.full((1, n), 1 / n), p, difference)[0]
        draws = gains(weights, p, difference)
        low = np.quantile(draws, 0.025, axis=0)
        for kind, which in (("all", np.ones(len(pairs), bool)), ("priced", priced)):
            found["pairs"][f"{kind} {share:.0%}"] = {
                "n": int(which.sum()),
                "share": round(float(p[which].mean()), 4),
                "gain": round(float(gain[which].mean()), 4),
                "ci": interval(draws[:, which].mean(axis=1)),
                "p10": round(float(np.quantile(gain[which], 0.1)), 4),
                "worst": round(float(gain[which].min()), 4),
                "positive": round(float((gain[which] > 0).mean()), 4),
                "proven": round(float((low[which] > 0).mean()), 4),
                # Of the distance to the strong model that a random mix leaves.
                "of_gap": round(float((gain[which] / difference[which].mean(axis=1)).mean()), 4),
            }
    return found


def markdown(found: dict) -> str:
    """The tables of the models and of the pairs."""
    lines = ["| model | accuracy | AUROC of its own margin |", "| --- | --- | --- |"]
    ordered = sorted(found["models"].items(), key=lambda item: -item[1]["auroc"])
    lines += [f"| {name} | {m['accuracy']:.1%} | {m['auroc']:.3f} ({m['ci'][0]:.3f} to "
              f"{m['ci'][1]:.3f}) |" for name, m in ordered]  # fmt: skip
    lines += [
        "",
        "| pairs, share escalated | pairs | gain over a random mix, points | 10th percentile | "
        "worst | above 0 | proven |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, at in found["pairs"].items():
        low, high = (100 * bound for bound in at["ci"])
        lines.append(
            f"| {name} | {at['n']} | {100 * at['gain']:+.1f} ({low:+.1f} to {high:+.1f}) | "
            f"{100 * at['p10']:+.1f} | {100 * at['worst']:+.1f} | {at['positive']:.0%} | "
            f"{at['proven']:.0%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the tables, and with `--json` one object on the last line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one object on the last line")
    parser.add_argument("--quick", action="store_true", help="one split, 40 draws")
    given = parser.parse_args()
    draws, splits = (40, 1) if given.quick else (2000, 10)
    found = measure(n_draws=draws, n_splits=splits)
    print(found["skipped"] if "skipped" in found else markdown(found))
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
