"""What may an earlier answer be worth? `Pomdp(recall=True)` against `Pomdp` and cascade routing.

    OMP_NUM_THREADS=1 python tests/benchmarks/recall.py --json [--quick]

Three or four candidates, each good at some topics, with costs of 0.1 to 1, an estimator whose
predictions of P(right) have an error of 0.05 or 0.15, and a verifier of eight votes that is right
78 % of the time. Fitted on 1,000 simulated queries, tested on 1,500 others, five times (seeds 300
to 304 and 400 to 404). Utility is quality - λ·cost; differences have 95 % intervals over queries.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.evaluation import mean_interval, replay
from langchain_llm_router.policies import CascadeRouting, Pomdp

LAMBDAS = (0.1, 0.3, 1.0)
COSTS = {3: (0.1, 0.25, 0.5), 4: (0.1, 0.25, 0.5, 1.0)}
METHODS = {
    "Pomdp(recall=True)": lambda: Pomdp(recall=True),
    "Pomdp()": Pomdp,
    "CascadeRouting()": CascadeRouting,
}


def draw(seed: int, n: int, k: int, error: float):
    """Return outcomes, the verifier's scores, and predictions."""
    rng = np.random.default_rng(seed)
    skill = np.array([0.2, 0.6, 1.1, 1.6])[:k]
    topic, hard = rng.normal(size=(n, k)), rng.normal(size=(n, 1))
    chance = 1 / (1 + np.exp(-(skill + 0.9 * topic - 1.3 * hard)))
    quality = (rng.random((n, k)) < chance) * 1.0
    predicted = np.clip(chance + rng.normal(0, error, chance.shape), 0.01, 0.99)
    said = rng.binomial(8, 0.22 + 0.56 * quality) / 8
    names = tuple("abcd"[:k])
    outcomes = Outcomes([str(i) for i in range(n)], names, quality, np.tile(COSTS[k], (n, 1)))
    return outcomes, SelfEvaluations(names, said, np.full((n, k), 0.02)), predicted


def utilities(k: int, error: float, seeds) -> dict[tuple[str, float], np.ndarray]:
    """Return the utility of every test query, by method and λ."""
    found: dict[tuple[str, float], list] = {}
    for seed in seeds:
        outcomes, said, predicted = draw(300 + seed, 1000, k, error)
        test, scores, guess = draw(400 + seed, 1500, k, error)
        for name, make in METHODS.items():
            policy = make().fit(outcomes, said, predicted=predicted)
            for lambda_ in LAMBDAS:
                done = replay(policy.with_lambda(lambda_), guess, test, evaluations=scores)
                found.setdefault((name, lambda_), []).append(done.quality - lambda_ * done.cost_usd)
    return {key: np.concatenate(parts) for key, parts in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--quick", action="store_true", help="one seed, no evidence")
    args = parser.parse_args()
    seeds, rows, first = range(1 if args.quick else 5), [], next(iter(METHODS))
    for k in tqdm(COSTS, file=sys.stderr):
        for error in (0.05, 0.15):
            found = utilities(k, error, seeds)
            for (name, lambda_), values in found.items():
                gain = mean_interval(found[first, lambda_] - values)
                print(f"{k} candidates, error {error}, λ {lambda_}: {name} {values.mean():.4f}"
                      + ("" if name == first else f", {first} higher by {gain:+.4f}"))  # fmt: skip
                rows.append({"candidates": k, "error": error, "lambda": lambda_, "method": name,
                             "utility": values.mean(), "below_recall": gain.as_list()})  # fmt: skip
    if args.json:
        print(json.dumps({"cpu_s": round(time.process_time(), 1), "rows": rows}))


if __name__ == "__main__":
    main()
