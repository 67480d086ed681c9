"""How cheaply is the best single model's accuracy reached on held-out ZeroEval questions?

Per split: 60 % of the questions train, 40 % report. On the training rows every policy at every knob
is judged by cross-validation; selected is the cheapest (policy, knob) whose accuracy there is not
below the best single model's by more than one standard error of the difference (without any, that
model itself), and fitted again on all of them. The dataset-mean router knows which data set a
question is from and asks the candidate with the best mean quality - λ·cost there; its λ is selected
likewise.
"""

import sys

import numpy as np
from cascade_tables import Table, pareto, predict
from tqdm import tqdm

from langchain_llm_router.data import split_indices
from langchain_llm_router.evaluation import Resampling, replay, weighted_bootstrap
from langchain_llm_router.policies import CascadeRouting, FrugalCascade, Pomdp


def dataset_mean_rows(fit: Table, table: Table, knobs) -> list[tuple]:
    """Per λ: quality and cost of every row."""
    groups = np.array(fit.outcomes.groups)
    chosen = {}
    for group in np.unique(groups):
        quality = fit.outcomes.quality[groups == group].mean(axis=0)
        cost = fit.outcomes.cost_usd[groups == group].mean(axis=0)
        chosen[group] = [int((quality - x * cost).argmax()) for x in knobs]
    columns = np.array([chosen[group] for group in table.outcomes.groups])
    rows = np.arange(len(table.outcomes))
    return [
        (table.outcomes.quality[rows, column], table.outcomes.cost_usd[rows, column])
        for column in columns.T
    ]


def cascade_rows(fit: Table, table: Table, knobs, *, quick: bool) -> dict[str, list[tuple]]:
    """Per method and knob: quality and cost of every row of a table."""
    costs = fit.outcomes.mean_cost_usd
    inside, guess = predict(fit, table)
    best = fit.outcomes.best_candidate
    cheap = [name for name, cost in zip(fit.outcomes.candidates, costs, strict=True)
             if cost < costs.max() / 5][-1]  # fmt: skip
    pair = fit.select((cheap, best))
    two = Pomdp(n_samples=fit.n_samples).fit(pair.outcomes, pair.evaluations)
    whole = Pomdp(n_samples=fit.n_samples).fit(fit.outcomes, fit.evaluations)
    aware = Pomdp(n_samples=fit.n_samples).fit(fit.outcomes, fit.evaluations, predicted=inside)
    policies = {
        "POMDP of a pair": [two.with_lambda(x) for x in knobs],
        "POMDP": [whole.with_lambda(x) for x in knobs],
        "POMDP, query-aware": [aware.with_lambda(x) for x in knobs],
        "FrugalGPT": [
            FrugalCascade(max_length=2 if quick else 3, n_grid=5).fit(
                fit.outcomes, fit.evaluations, max_cost_usd=float(share * costs.max())
            )
            for share in np.linspace(0.2, 0.7, 3 if quick else 6)
        ],
    }
    found = {}
    for name, family in policies.items():
        done = [
            replay(policy, guess, table.outcomes, evaluations=table.evaluations,
                   expected_cost_usd=costs)
            for policy in family
        ]  # fmt: skip
        found[name] = [(each.quality, each.cost_usd) for each in done]
    routing = CascadeRouting(max_depth=2).fit(fit.outcomes, fit.evaluations, predicted=inside)
    quality, cost = routing.rehearse(
        knobs, table.outcomes, table.evaluations, predicted=guess, expected_cost_usd=costs
    )
    found["cascade routing"] = list(zip(quality, cost, strict=True))
    found["best cascade"] = [row for rows in found.values() for row in rows]
    found["dataset-mean router"] = dataset_mean_rows(fit, table, knobs)
    return found


def select(options: list[tuple], single: tuple) -> int | None:
    """The cheapest option that is no worse than the single model by more than a standard error."""
    gains = [quality - single[0] for quality, _ in options]
    good = [i for i, gain in enumerate(gains) if gain.mean() >= -gain.std() / len(gain) ** 0.5]
    best = min(good, key=lambda i: options[i][1].mean(), default=None)
    if best is None or options[best][1].mean() >= single[1].mean():
        return None
    return best


def one_split(table: Table, seed: int, *, quick: bool) -> dict:
    """Every method's held-out rows: quality and cost, next to the best single model's."""
    parts = split_indices(len(table.outcomes), [0.6, 0.4], seed=seed)
    train, test = (table.take(rows) for rows in parts)
    names = pareto(train.outcomes)
    train, test = train.select(names), test.select(names)
    best = int(train.outcomes.quality.mean(axis=0).argmax())
    knobs = np.geomspace(0.02, 0.5, 4 if quick else 10) / train.outcomes.mean_cost_usd.max()
    folds = split_indices(
        len(train.outcomes), [0.5, 0.5] if quick else [1 / 3] * 3, seed=seed + 100
    )
    judged: dict[str, list[list]] = {}
    for fold in folds:
        rest = train.take(np.setdiff1d(np.arange(len(train.outcomes)), fold))
        for name, rows in cascade_rows(rest, train.take(fold), knobs, quick=quick).items():
            judged.setdefault(name, []).append(rows)
    order = np.concatenate(folds)
    single = train.outcomes.quality[order, best], train.outcomes.cost_usd[order, best]
    reported = cascade_rows(train, test, knobs, quick=quick)
    alone = test.outcomes.quality[:, best], test.outcomes.cost_usd[:, best]
    methods = {}
    for name, options in reported.items():
        joined = [
            tuple(np.concatenate([part[i][k] for part in judged[name]]) for k in (0, 1))
            for i in range(len(options))
        ]
        chosen = select(joined, single)
        methods[name] = alone if chosen is None else options[chosen]
    return {"groups": np.array(test.outcomes.groups), "single": alone, "methods": methods,
            "best": names[best]}  # fmt: skip


def best_single_target(table: Table, *, quick: bool, resampling: Resampling) -> dict:
    """Cost share and accuracy difference to the best single model, pooled and per data set."""
    seeds = range(1 if quick else 5)
    splits = [
        one_split(table, seed, quick=quick) for seed in tqdm(seeds, desc="target", file=sys.stderr)
    ]
    first = splits[0]
    report: dict = {"best_single": first["best"], "n_splits": len(splits)}
    for name in first["methods"]:
        report[name] = {}
        for group in ("pooled", *np.unique(first["groups"])):
            shares, gains = [], []
            for split in splits:
                rows = slice(None) if group == "pooled" else split["groups"] == group
                (q, c), (q0, c0) = split["methods"][name], split["single"]
                shares.append(c[rows].mean() / c0[rows].mean())
                gains.append(q[rows].mean() - q0[rows].mean())
            rows = slice(None) if group == "pooled" else first["groups"] == group
            (q, c), (q0, c0) = first["methods"][name], first["single"]
            report[name][str(group)] = {
                "first_split_cost_share": _ratio(c[rows], c0[rows], resampling),
                "first_split_accuracy_gain": _gain(q[rows] - q0[rows], resampling),
                "mean_cost_share": round(float(np.mean(shares)), 3),
                "cost_share_of_95_percent_of_splits": _middle(shares),
                "mean_accuracy_gain": round(float(np.mean(gains)), 4),
                "accuracy_gain_of_95_percent_of_splits": _middle(gains),
            }
    return report


def _middle(values: list[float]) -> list[float]:
    return np.quantile(values, [0.025, 0.975]).round(4).tolist()


def _ratio(cost, base, resampling: Resampling) -> list[float]:
    found = weighted_bootstrap(lambda w: (w @ cost) / (w @ base), len(cost), resampling)
    return [round(x, 3) for x in (found.value, found.low, found.high)]


def _gain(difference, resampling: Resampling) -> list[float]:
    found = weighted_bootstrap(
        lambda w: (w @ difference) / w.sum(axis=1), len(difference), resampling
    )
    return [round(x, 4) for x in (found.value, found.low, found.high)]
