"""RouterBench with noisy estimates, as Dekoninck et al. test cascade routing (their section 5).

An estimate before running is the truth plus noise σ_before, one after running plus σ_after, both
put through a linear regression; their levels are (0.6, 0.3), (1.6, 0.8) and (2.4, 1.2), with noise
on costs of 2e-4 and 4e-4 USD, and none known at the high level. 5 % of the rows train.

Differences: three of RouterBench's data sets are at hand (ARC, MBPP, Winogrande), regressions are
fitted on training rows alone, one λ for all steps (no hyperopt), and our estimates are combined by
one linear-Gaussian model, which also learns about candidates that were not run.
"""

import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from langchain_llm_router.data import Outcomes, SelfEvaluations, split_indices
from langchain_llm_router.data.benchmarks import load_routerbench
from langchain_llm_router.evaluation import (
    cost_quality_area,
    random_mix_hull,
    utility_sweep,
)
from langchain_llm_router.policies import CascadeRouting

LEVELS = {"low": (0.6, 0.3, 2e-4), "medium": (1.6, 0.8, 4e-4), "high": (2.4, 1.2, np.inf)}
POOLS = {
    3: ("mistral-7b-chat", "mixtral-8x7b-chat", "gpt-4-1106-preview"),
    5: (
        "mistral-7b-chat",
        "mixtral-8x7b-chat",
        "gpt-3.5-turbo-1106",
        "claude-v1",
        "gpt-4-1106-preview",
    ),
}


class Estimates:
    """One draw of noise: what is believed before and after running, and of costs."""

    def __init__(self, outcomes: Outcomes, level: str, seed: int) -> None:
        before, after, cost_noise = LEVELS[level]
        rng = np.random.default_rng(seed)
        shape = outcomes.quality.shape
        # Scores and predictions live in [0, 1]; a common affine map changes no linear estimate.
        low, high = -6 * before, 1 + 6 * before
        noisy = outcomes.quality + before * rng.normal(size=shape)
        said = outcomes.quality + after * rng.normal(size=shape)
        self.predicted = np.clip((noisy - low) / (high - low), 0, 1)
        self.said = np.clip((said - low) / (high - low), 0, 1)
        self.cost_hint = None
        if np.isfinite(cost_noise):
            self.cost_hint = outcomes.cost_usd + cost_noise * rng.normal(size=shape)
        self.outcomes = outcomes

    def expected_cost(self, train: np.ndarray) -> np.ndarray:
        """Costs regressed on their noisy hints, fitted on training rows; the mean without hints."""
        cost = self.outcomes.cost_usd
        mean = cost[train].mean(axis=0)
        if self.cost_hint is None:
            return np.broadcast_to(mean, cost.shape)
        x = self.cost_hint[train] - self.cost_hint[train].mean(axis=0)
        slope = (x * (cost[train] - mean)).sum(axis=0) / (x**2).sum(axis=0)
        linear = mean + slope * (self.cost_hint - self.cost_hint[train].mean(axis=0))
        return np.maximum(linear, 0.1 * mean)


def regressed(train_x, train_y, x):
    """Each column by its own line, as the paper maps noisy values to estimates."""
    center = train_x.mean(axis=0)
    slope = ((train_x - center) * (train_y - train_y.mean(axis=0))).sum(axis=0)
    slope = slope / ((train_x - center) ** 2).sum(axis=0)
    return train_y.mean(axis=0) + slope * (x - center)


def threshold_cascade(believed, quality, cost, train, test, seed, n_trials=2000):
    """The paper's baseline: run in order of cost until an estimate passes that step's threshold.

    Thresholds by random search on training rows, constant ones included, one set per budget.
    """
    rng = np.random.default_rng(seed)
    k = quality.shape[1]
    bars = np.vstack([np.tile(np.linspace(-0.2, 1.2, 60)[:, None], k - 1),
                      rng.uniform(-0.2, 1.2, (n_trials, k - 1))])  # fmt: skip

    def run(rows, chosen):
        stops = np.concatenate(
            [believed[rows, :-1] >= chosen, np.ones((len(rows), 1), bool)], axis=1
        ).argmax(axis=1)
        spent = cost[rows].cumsum(axis=1)[np.arange(len(rows)), stops]
        return quality[rows, stops].mean(), spent.mean()

    tried = np.array([run(train, row) for row in bars])
    points = []
    for budget in np.linspace(tried[:, 1].min(), tried[:, 1].max(), 20):
        allowed = np.flatnonzero(tried[:, 1] <= budget + 1e-12)
        best = allowed[tried[allowed, 0].argmax()]
        points.append(run(test, bars[best]))
    reached, spent = np.array(points).T
    return spent, reached


def areas(outcomes: Outcomes, level: str, seed: int, *, n: int) -> dict[str, float]:
    """Area under quality(cost) of each strategy on the test rows of one split and noise draw."""
    train, test = split_indices(len(outcomes), [0.05, 0.95], seed=seed)
    estimates = Estimates(outcomes, level, seed)
    expected = estimates.expected_cost(train)
    free = np.zeros_like(outcomes.quality)
    evaluations = SelfEvaluations(outcomes.candidates, estimates.said, free)
    learn, judge = outcomes.take(train), outcomes.take(test)
    single = judge.mean_cost_usd, judge.quality.mean(axis=0)
    top = judge.mean_cost_usd.max()
    knobs = np.geomspace(0.002, 0.5 * top / judge.mean_cost_usd.min(), n) / top
    curves = {"linear interpolation": random_mix_hull(*single)}
    guess = regressed(estimates.predicted[train], learn.quality, estimates.predicted)
    routed = utility_sweep(guess[test], judge, expected_cost_usd=expected[test], n_points=2 * n)
    curves["routing"] = routed.points
    believed = regressed(estimates.said[train], learn.quality, estimates.said)
    curves["threshold cascade"] = threshold_cascade(
        believed, outcomes.quality, outcomes.cost_usd, train, test, seed
    )
    for name, chain in (("optimal cascade", True), ("cascade routing", False)):
        # A chain cannot skip: a limit would keep it from the dear candidates at its end.
        depth = None if chain else 5
        policy = CascadeRouting(chain=chain, max_depth=depth, n_draws=64, seed=seed)
        policy.fit(
            learn,
            evaluations.take(train),
            predicted=estimates.predicted[train],
            expected_cost_usd=expected[train],
        )
        reached, spent = policy.rehearse(
            knobs,
            judge,
            evaluations.take(test),
            predicted=estimates.predicted[test],
            expected_cost_usd=expected[test],
        )
        curves[name] = spent.mean(axis=1), reached.mean(axis=1)
    return {name: 100 * cost_quality_area(*curve, *single) for name, curve in curves.items()}


def noisy_routerbench(folder: Path, *, quick: bool) -> dict:
    """Mean and standard deviation over seeds of every strategy's area, per pool and noise level."""
    everything = load_routerbench(folder / "routerbench", text="prompt")
    settings = [(size, level) for size in (3, 5, 11) for level in LEVELS]
    if quick:
        settings = [(3, "low")]
    seeds = range(1 if quick else 3)
    found = {}
    for size, level in tqdm(settings, desc="noise", file=sys.stderr):
        outcomes = everything
        if size in POOLS:
            outcomes = everything.select(POOLS[size])
        draws = [areas(outcomes, level, seed, n=10 if quick else 14) for seed in seeds]
        found[f"{size} models, {level} noise"] = {
            name: [round(float(f([draw[name] for draw in draws])), 2) for f in (np.mean, np.std)]
            for name in draws[0]
        }
    return found
