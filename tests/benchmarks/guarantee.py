"""Does the promise hold? `calibrate(confidence=0.95)` against the naive threshold, 500 times.

    python tests/benchmarks/guarantee.py --json
    python tests/benchmarks/guarantee.py --json --quick    # 60 times

Data: ZeroEval, five models on 2,840 questions, recorded correctness and cost. Each time the
questions are split afresh: on a third a k-NN estimator is fitted, the rest is the population. From
it labeled rows are drawn (with replacement, so that they are independent), a setting of λ is
chosen for a target, and the target is looked up on the whole population, where the truth is known
exactly. "Naive" chooses the cheapest setting that meets the target on its labeled rows, as anybody
would. "Promise" is Learn-then-test with confidence 0.95; where it refuses, nothing is broken and
nothing saved. A promise may be broken in 5 % of the resplits, plus the Monte Carlo error of 500.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
from scipy.stats import binomtest
from tqdm import trange

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from langchain_llm_router.data.embeddings import LexicalEmbeddings  # noqa: E402
from langchain_llm_router.data.zeroeval import ZeroEval  # noqa: E402
from langchain_llm_router.evaluation.sweeps import utility_sweep  # noqa: E402
from langchain_llm_router.training import Split, Target, Trials, meet_target  # noqa: E402
from langchain_llm_router.types.errors import CalibrationError  # noqa: E402

TARGETS = (
    "quality >= 0.95 * best",
    "quality >= 0.98 * best",
    "quality >= 0.8",
    "cost_usd <= 0.001",
)
CONFIDENCE, N_NEIGHBORS = 0.95, 50


def resplits(n_times):
    """Trials on a fresh population each time, for an estimator fitted on other rows."""
    outcomes = ZeroEval.load().outcomes
    vectors = LexicalEmbeddings().fit(outcomes.queries).embed_array(outcomes.queries)
    cosine = vectors @ vectors.T
    for seed in trange(n_times, file=sys.stderr):
        order = np.random.default_rng(seed).permutation(len(outcomes))
        fitted, pool = order[: len(order) // 3], order[len(order) // 3 :]
        near = np.argsort(-cosine[np.ix_(pool, fitted)], axis=1)[:, :N_NEIGHBORS]
        predicted = outcomes.quality[fitted][near].mean(axis=1)
        held = outcomes.take(pool)
        expected = outcomes.take(fitted).mean_cost_usd
        sweep = utility_sweep(predicted, held, expected_cost_usd=expected, n_points=40)
        yield seed, Trials.of_sweep(sweep, held)


def truth(population, target, knob):
    """The target's margin over the whole population, and what is saved against the best model."""
    k = int(np.flatnonzero(population.knob == knob)[0])
    best = int(population.single_quality.mean(axis=0).argmax())
    margin = min(m[k].mean() for m in Target.parse(target).margins(population, best))
    saved = 1 - population.cost_usd[k].mean() / population.single_cost_usd[:, best].mean()
    return float(margin), float(saved)


def naive(trials, target):
    return meet_target(trials, target, split=Split(held_out=1 / len(trials), seed=0))


def promise(trials, target):
    return meet_target(trials, target, confidence=CONFIDENCE)


def measure(n_times, n_labels):
    figures = {t: {"naive": [], "promise": []} for t in TARGETS}
    for seed, population in resplits(n_times):
        rng = np.random.default_rng([seed, 1])
        labeled = population.take(rng.integers(0, len(population), n_labels))
        for target in TARGETS:
            for name, choose in (("naive", naive), ("promise", promise)):
                try:
                    found = choose(labeled, target)
                except CalibrationError as error:
                    figures[target][name].append((False, None, error.more_labels))
                    continue
                margin, saved = truth(population, target, found.knob)
                figures[target][name].append((margin < 0, saved, found.more_labels))
    return {
        target: {name: summary(rows) for name, rows in by_name.items()}
        for target, by_name in figures.items()
    }


def summary(rows):
    broken = sum(row[0] for row in rows)
    saved = [row[1] for row in rows if row[1] is not None]
    interval = binomtest(broken, len(rows)).proportion_ci(0.95)
    return {
        "broken": broken / len(rows),
        "broken_interval": [round(interval.low, 4), round(interval.high, 4)],
        "refused": 1 - len(saved) / len(rows),
        "cost_saved_mean": float(np.mean(saved)) if saved else None,
    }


def report(n_times, n_labels=1000):
    """How often each promise was broken or refused, and how often that is allowed."""
    allowed = 0.05 + 2 * (0.05 * 0.95 / n_times) ** 0.5
    targets = measure(n_times, n_labels)
    return {
        "resplits": n_times,
        "labels": n_labels,
        "confidence": CONFIDENCE,
        "broken_allowed": round(allowed, 4),
        "targets": targets,
        "promise_kept": all(t["promise"]["broken"] <= allowed for t in targets.values()),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--quick", action="store_true", help="60 resplits, under a minute")
    parser.add_argument("--labels", type=int, default=1000, help="labeled rows drawn each time")
    args = parser.parse_args()
    figures = report(60 if args.quick else 500, args.labels)
    for target, by_name in figures["targets"].items():
        for name, got in by_name.items():
            saved = got["cost_saved_mean"]
            print(
                f"{target:24s} {name:8s} broken {got['broken']:6.1%}  refused {got['refused']:6.1%}"
                f"  saved {'-' if saved is None else format(saved, '.1%')}"
            )
    if args.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
