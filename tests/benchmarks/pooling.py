"""How much cheaper pooled answers are than the best single model, on recorded answers.

    OMP_NUM_THREADS=1 python tests/benchmarks/pooling.py --json [--quick | --letters-contest]

* ZeroEval, half splits with seeds 0 to 9 in both directions. On the training half everything is
  chosen: the pool by `choose_pool` among 24 models, the classes, the belief from the prompt, and λ.
  The rule for λ, fixed beforehand: of `N_LAMBDAS` values the cheapest whose cross-validated
  accuracy is not below that of the training half's best model by more than half of the difference's
  standard error. The data sets' labels are not used. Intervals redraw the questions.
* The same for the POMDP and FrugalGPT on a pair with the agreement of three cheap models, and for
  the plain rule "two cheap models agree, else the strong one".
* Without any label: `AnswerPool.from_prices`, alone and after seeing answers without labels.
* A data set that was never seen (CRUX).
* The six cheapest models, where "until two agree" loses ten points.
* Multiple choice (RouterBench), where pooling does not pay; with `--letters-contest` alone, what
  `fit_router` chooses there by itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pooling_tables import Answers, routerbench_letters, zeroeval

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.estimators import Linear, out_of_fold
from langchain_llm_router.evaluation import cheapest_good_enough, replay
from langchain_llm_router.evaluation.metrics import random_mix_hull
from langchain_llm_router.policies import AnswerPool, FrugalCascade, Pomdp, choose_pool
from langchain_llm_router.training import fit_router
from langchain_llm_router.types import Arm, Attempt, Situation
from tests.support.shared_data import shared_data_folder

SEEDS = range(10)
N_LAMBDAS = 24
N_INNER = 5
N_BOOTSTRAP = 1000

FLASH, DEEPSEEK, MINI = "gemini-1.5-flash", "deepseek-v2.5-0908", "gpt-4o-mini-2024-07-18"
SONNET, GPT_4O = "claude-3-5-sonnet-20241022", "gpt-4o-2024-08-06"
PANEL = (FLASH, DEEPSEEK, MINI)
POOL = (*PANEL, GPT_4O, SONNET)
"""The pool where no label chooses one."""

PAIR = (MINI, SONNET)


@dataclass
class Half:
    """The results of one method on one test half.

    Attributes:
        rows: Indices of the test questions.
        quality: Correctness at each λ, of shape (n_lambdas, n_rows).
        cost: Cost in USD, same shape.
        chosen: Index of the λ that the training half chose.
        alone: Correctness of the training half's best model.
        alone_cost: Its cost.
    """

    rows: np.ndarray
    quality: np.ndarray
    cost: np.ndarray
    chosen: int
    alone: np.ndarray
    alone_cost: np.ndarray

    @property
    def share(self) -> float:
        """Share of the best single model's cost."""
        return float(self.cost[self.chosen].mean() / self.alone_cost.mean())

    @property
    def gain(self) -> float:
        """Accuracy above the best single model's."""
        return float(self.quality[self.chosen].mean() - self.alone.mean())


@dataclass
class Method:
    """The results of one method on all test halves, and what they say together."""

    name: str
    halves: list[Half] = field(default_factory=list)

    def summary(self, n: int, groups: Sequence[str]) -> dict[str, Any]:
        """Return the means over the halves, with intervals over redrawn questions."""
        weights = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), N_BOOTSTRAP)
        shares = np.array([half.share for half in self.halves])
        gains = 100 * np.array([half.gain for half in self.halves])
        drawn = np.array([self._redrawn(w) for w in weights])
        found = {
            "method": self.name,
            "n_halves": len(self.halves),
            "share": shares.mean(),
            "share_interval": np.quantile(drawn[:, 0], [0.025, 0.975]).tolist(),
            "gain_points": gains.mean(),
            "gain_interval": (100 * np.quantile(drawn[:, 1], [0.025, 0.975])).tolist(),
            "worst_gain_points": float(np.quantile(gains, 0.1)),
            "share_range": [shares.min(), shares.max()],
            "gain_range": [gains.min(), gains.max()],
            "parity": self.parity(n),
        }
        sets = np.array(groups)
        found["data_sets"] = {
            name: self._of(sets == name) for name in dict.fromkeys(groups) if len(set(groups)) > 1
        }
        return found

    def _redrawn(self, weight: np.ndarray) -> tuple[float, float]:
        shares, gains = [], []
        for half in self.halves:
            w = weight[half.rows]
            quality, cost = half.quality[half.chosen], half.cost[half.chosen]
            shares.append((cost @ w) / (half.alone_cost @ w))
            gains.append(((quality - half.alone) @ w) / w.sum())
        return float(np.mean(shares)), float(np.mean(gains))

    def _of(self, kept: np.ndarray) -> dict[str, float]:
        shares, gains = [], []
        for half in self.halves:
            own = kept[half.rows]
            cost, alone = half.cost[half.chosen][own], half.alone_cost[own]
            shares.append(cost.mean() / alone.mean())
            gains.append((half.quality[half.chosen][own] - half.alone[own]).mean())
        return {"share": float(np.mean(shares)), "gain_points": 100 * float(np.mean(gains))}

    def parity(self, n: int) -> dict[str, Any]:
        """Return the share of the cost at which the test curve is 1 point below, equal, and above.

        The curve is that of all halves together; λ between two values mixes them at random.
        """
        quality, cost = self._pooled(n)
        singles = self._singles(n)
        points = _shares(quality, cost, np.ones(n), *singles)
        weights = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), 300)
        drawn = [_shares(quality, cost, w, *singles)[1] for w in weights]
        never = np.where(np.isnan(drawn), np.inf, drawn)
        low, high = np.quantile(never, [0.025, 0.975], method="inverted_cdf")
        mean, spent = quality.mean(axis=1), cost.mean(axis=1)
        alone, alone_cost = (values.mean() for values in singles)
        below = spent <= alone_cost
        return {
            "minus_1": _known(points[0]),
            "equal": _known(points[1]),
            "equal_interval": [_known(low), _known(high)],
            "plus_1": _known(points[2]),
            "most_points": 100 * float((mean[below] - alone).max()),
        }

    def _pooled(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        shape = (len(self.halves[0].quality), n)
        quality, cost, times = np.zeros(shape), np.zeros(shape), np.zeros(n)
        for half in self.halves:
            quality[:, half.rows] += half.quality
            cost[:, half.rows] += half.cost
            times[half.rows] += 1
        return quality / times, cost / times

    def _singles(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        quality, cost, times = np.zeros(n), np.zeros(n), np.zeros(n)
        for half in self.halves:
            quality[half.rows] += half.alone
            cost[half.rows] += half.alone_cost
            times[half.rows] += 1
        return quality / times, cost / times


def _known(share: float) -> float | None:
    """Return a share, or None if the curve does not reach it."""
    return float(share) if np.isfinite(share) else None


def _shares(
    quality: np.ndarray, cost: np.ndarray, w: np.ndarray, alone: np.ndarray, alone_cost: np.ndarray
) -> list[float]:
    """Return the least share of the single model's cost at -1, 0 and +1 points; NaN if none."""
    total = w.sum()
    hull_cost, hull_quality = random_mix_hull(cost @ w / total, quality @ w / total)
    found = []
    for points in (-0.01, 0.0, 0.01):
        goal = alone @ w / total + points
        if goal > hull_quality[-1]:
            found.append(np.nan)
        else:
            found.append(float(np.interp(goal, hull_quality, hull_cost) / (alone_cost @ w / total)))
    return found


def halves(n: int, seeds: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield training and test rows: every seed in both directions."""
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(n)
        first, second = order[: n // 2], order[n // 2 :]
        yield first, second
        yield second, first


def grid(cost: np.ndarray) -> np.ndarray:
    """Return values of λ: the dearest model must bring from 1/60 of a point's worth to five."""
    return np.geomspace(1 / 60, 5, N_LAMBDAS) / cost.max()


def best_of(outcomes) -> int:
    """Return the column of the best model."""
    return int(outcomes.quality.mean(axis=0).argmax())


Fitted = Callable[[Answers, np.ndarray | None], tuple[np.ndarray, np.ndarray]]
"""From answers and predictions to quality and cost at every λ."""


def one_half(
    data: Answers, train: np.ndarray, test: np.ndarray, method: Any, *, predict: bool
) -> Half:
    """Choose and fit everything on the training rows, and try it on the test rows."""
    known, fresh = data.take(train), data.take(test)
    names = method.pool(known)
    own = known.outcomes.select(names)
    inside = outside = None
    if predict:
        # What the pool reads is filled in; the other models are not asked, nor predicted.
        columns = [list(data.outcomes.candidates).index(name) for name in names]
        inside = np.full(known.groups.shape, 0.5)
        inside[:, columns] = out_of_fold(Linear(), own)
        outside = np.full(fresh.groups.shape, 0.5)
        outside[:, columns] = Linear().fit(own).predict(fresh.outcomes.queries)
    best = best_of(known.outcomes)
    alone = data.outcomes.quality[:, best]
    lambdas = grid(own.mean_cost_usd)
    quality = np.zeros((len(lambdas), len(train)))
    cost = np.zeros_like(quality)
    for fold in np.array_split(np.random.default_rng(1).permutation(len(train)), N_INNER):
        rest = np.setdiff1d(np.arange(len(train)), fold)
        guess = None if inside is None else inside[rest]
        fitted = method.fit(known.take(rest), names, guess, lambdas)
        held = None if inside is None else inside[fold]
        quality[:, fold], cost[:, fold] = fitted(known.take(fold), held)
    chosen = cheapest_good_enough(quality, cost, alone[train])
    tried = method.fit(known, names, inside, lambdas)(fresh, outside)
    return Half(test, *tried, chosen, alone[test], data.outcomes.cost_usd[test, best])


class Pooled:
    """The pool of answers; the choice of the pool is the plain rule on training rows."""

    def __init__(self, *, lengths: bool = True, names: Sequence[str] | None = None) -> None:
        self.weight = 0.5 if lengths else 0.0
        self.names = names

    def pool(self, known: Answers) -> tuple[str, ...]:
        """Return the names of the pool."""
        return choose_pool(known.outcomes) if self.names is None else tuple(self.names)

    def fit(
        self,
        known: Answers,
        names: Sequence[str],
        predicted: np.ndarray | None,
        lambdas: np.ndarray,
    ) -> Fitted:
        """Fit the pool."""
        policy = AnswerPool(0.0, length_weight=self.weight)
        policy.fit(known.outcomes, known.evaluations, predicted, pool=names)
        return lambda data, guess: policy.rehearse(lambdas, data.outcomes, data.evaluations, guess)


class PairWithAgreement:
    """A pair whose cheap model is verified by three other cheap models."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def pool(self, known: Answers) -> tuple[str, ...]:
        """Return the pair with its panel."""
        return (*PANEL, "Meta-Llama-3.1-70B-Instruct", SONNET)

    def table(self, data: Answers) -> tuple[Any, SelfEvaluations]:
        """Return the pair's outcomes, and the share of the peers that agree with its draft."""
        names = list(data.outcomes.candidates)
        column, peers = names.index(MINI), [names.index(FLASH), names.index(DEEPSEEK)]
        peers.append(names.index("Meta-Llama-3.1-70B-Instruct"))
        draft = data.groups[:, [column]]
        score = np.where(draft[:, 0] < 0, 0.0, (data.groups[:, peers] == draft).mean(axis=1))
        cost = data.outcomes.cost_usd[:, peers].sum(axis=1)
        unknown = np.full(len(score), np.nan)
        return data.outcomes.select(PAIR), SelfEvaluations(
            PAIR, np.stack([score, unknown], axis=1), np.stack([cost, 0 * cost], axis=1)
        )

    def fit(
        self,
        known: Answers,
        names: Sequence[str],
        predicted: np.ndarray | None,
        lambdas: np.ndarray,
    ) -> Fitted:
        """Fit the cascade at every λ."""
        outcomes, scores = self.table(known)
        if self.kind == "POMDP":
            solved = Pomdp(0.0, likelihood="kde").fit(outcomes, scores)
            policies = [solved.with_knob(float(x)) for x in lambdas]
        else:
            top = outcomes.mean_cost_usd.sum() + float(scores.cost_usd[:, 0].mean())
            least = float(outcomes.mean_cost_usd.min()) * 1.01
            budgets = np.geomspace(least, top, len(lambdas))
            policies = [
                FrugalCascade(n_grid=20).fit(outcomes, scores, max_cost_usd=float(budget))
                for budget in budgets
            ]

        def tried(data: Answers, guess: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
            table, evaluations = self.table(data)
            done = [replay(policy, None, table, evaluations=evaluations) for policy in policies]
            return np.array([it.quality for it in done]), np.array([it.cost_usd for it in done])

        return tried


class TwoAgree:
    """Two cheap models are asked; if they differ, the strong one answers. There is no λ."""

    def pool(self, known: Answers) -> tuple[str, ...]:
        """Return the three models."""
        return DEEPSEEK, MINI, SONNET

    def fit(
        self,
        known: Answers,
        names: Sequence[str],
        predicted: np.ndarray | None,
        lambdas: np.ndarray,
    ) -> Fitted:
        """Return the rule."""

        def tried(data: Answers, guess: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
            data = data.select(names)
            agree = (data.groups[:, 0] >= 0) & (data.groups[:, 0] == data.groups[:, 1])
            quality, cost = data.outcomes.quality, data.outcomes.cost_usd
            right = np.where(agree, quality[:, 0], quality[:, 2])
            spent = cost[:, 0] + cost[:, 1] + np.where(agree, 0.0, cost[:, 2])
            return right[None], spent[None]

        return tried


def no_label_curve(data: Answers, lambdas: np.ndarray, seen: SelfEvaluations | None = None) -> Half:
    """Try the pool that knows nothing but prices, and answers without labels if given."""
    costs = data.outcomes.mean_cost_usd
    names = data.outcomes.candidates
    policy = AnswerPool.from_prices(dict(zip(names, costs.tolist(), strict=True)))
    if seen is not None:
        policy = policy.learn(seen)
    quality, cost = policy.rehearse(lambdas, data.outcomes, data.evaluations)
    strong = best_of(data.outcomes)
    default = int(np.abs(np.log(lambdas / policy.lambda_)).argmin())
    rows = np.arange(len(data))
    alone = data.outcomes.quality[:, strong], data.outcomes.cost_usd[:, strong]
    return Half(rows, quality, cost, default, *alone)


def no_label(data: Answers) -> dict[str, Any]:
    """Return what can be saved without any label, over all questions."""
    own = data.select(POOL)
    lambdas = grid(own.outcomes.mean_cost_usd)
    found = {}
    for name, seen in (("prices", None), ("prices and 1,420 unlabelled answers", slice(1420))):
        rows = np.random.default_rng(0).permutation(len(own))
        known = None if seen is None else own.take(rows[seen]).evaluations
        half = no_label_curve(own, lambdas, known)
        parity = Method(name, [half]).parity(len(own))
        default = {"share": half.share, "gain_points": 100 * half.gain}
        found[name] = {"parity": parity, "default_lambda": default}
    return found


def transfer(data: Answers) -> dict[str, Any]:
    """Fit on GSM8K and MATH, and try CRUX, with and without CRUX's unlabelled answers."""
    sets = np.array(data.outcomes.groups)
    train, test = np.flatnonzero(sets != "crux"), np.flatnonzero(sets == "crux")
    known, fresh = data.take(train), data.take(test)
    names = choose_pool(known.outcomes)
    best = best_of(known.outcomes)
    alone = data.outcomes.quality[test, best], data.outcomes.cost_usd[test, best]
    lambdas = grid(known.outcomes.select(names).mean_cost_usd)
    found = {}
    for name, more in (("without", None), ("with its unlabelled answers", fresh.evaluations)):
        policy = AnswerPool(0.0).fit(known.outcomes, known.evaluations, unlabelled=more, pool=names)
        quality, cost = policy.rehearse(lambdas, fresh.outcomes, fresh.evaluations)
        half = Half(np.arange(len(test)), quality, cost, 0, *alone)
        found[name] = Method(name, [half]).parity(len(test))
    own = fresh.select(names)
    alone_known = no_label_curve(own, lambdas, own.evaluations)
    found["its unlabelled answers alone"] = Method("", [alone_known]).parity(len(test))
    return found


def trap(data: Answers) -> dict[str, Any]:
    """Ask the five cheapest models and the best one, without a label, and until two agree."""
    order = np.argsort(data.outcomes.mean_cost_usd)
    names = [data.outcomes.candidates[j] for j in order]
    best = data.outcomes.candidates[best_of(data.outcomes)]
    own = data.select([*names[:5], best])
    half = no_label_curve(own, grid(own.outcomes.mean_cost_usd))
    six = data.select(names[:6])
    score = []
    for right, row, strong in zip(six.outcomes.quality, six.groups, half.alone, strict=True):
        pairs = [k for k in range(1, 6) if row[k] >= 0 and row[k] in row[:k]]
        score.append(right[pairs[0]] if pairs else strong)
    alone = float(half.alone.mean())
    return {
        "until_two_agree_points": 100 * (float(np.mean(score)) - alone),
        "pool_points": 100 * half.gain,
        "pool_share": half.share,
    }


def letters(data: Answers) -> dict[str, Any]:
    """Try pooling on multiple choice, where two wrong answers are often equal."""
    method = Method("letters")
    for train, test in halves(len(data), range(2)):
        pooled = Pooled(names=data.outcomes.candidates)
        method.halves.append(one_half(data, train, test, pooled, predict=True))
    return method.summary(len(data), data.outcomes.groups)


def letters_contest(data: Answers) -> dict[str, Any]:
    """Let `fit_router` choose among routing and pooling on multiple choice."""
    fitted = fit_router(data.outcomes, {"answers": data.evaluations}, even_if_worse=True)
    best = fitted.outcomes.quality.mean(axis=0).argmax()
    alone = fitted.outcomes.quality[:, best], fitted.outcomes.cost_usd[:, best]
    return {
        "winner": fitted.standings[0].name,
        "policy": type(fitted.winner.policy).__name__,
        "share": float(fitted.done.cost_usd.mean() / alone[1].mean()),
        "gain_points": 100 * float((fitted.done.quality - alone[0]).mean()),
        "standings": [
            {
                "contender": it.name,
                "share": it.cost_usd / float(alone[1].mean()),
                "gain_points": 100 * (it.quality - float(alone[0].mean())),
            }
            for it in fitted.standings
        ],
    }


def growth(sizes: Sequence[int]) -> list[dict[str, float]]:
    """Measure the seconds of a fit and of a decision on simulated answers of five models."""
    found = []
    for n in sizes:
        rng = np.random.default_rng(0)
        hard = rng.random((n, 1))
        right = rng.random((n, 5)) < np.linspace(0.9, 0.98, 5) - 0.6 * hard
        groups = np.where(right, 0, 1 + rng.integers(0, 4, (n, 5)))
        cost = np.geomspace(1e-4, 3e-3, 5) * rng.lognormal(0, 0.3, (n, 5))
        names = [f"model-{j}" for j in range(5)]
        outcomes = Outcomes([f"question {i}" for i in range(n)], names, right.astype(float), cost,
                            output_tokens=rng.lognormal(5, 1, (n, 5)))  # fmt: skip
        data = Answers(outcomes, groups)
        guess = np.clip(0.9 - 0.5 * hard + rng.normal(0, 0.1, (n, 5)), 0.01, 0.99)
        begun = time.process_time()
        policy = AnswerPool(100.0).fit(outcomes, data.evaluations, guess)
        found.append({"rows": n, "fit_cpu_s": time.process_time() - begun})
        found[-1]["decision_us"] = _decision_us(policy, names, guess[0])
    return found


def _decision_us(policy: AnswerPool, names: Sequence[str], guess: np.ndarray) -> float:
    """Return the microseconds of one decision, with the table of its λ made before."""
    arms = tuple(Arm(name, quality=float(q)) for name, q in zip(names, guess, strict=True))
    first = Attempt(candidate=names[0], verified=True, answer_group=0, output_tokens=200)
    second = Attempt(candidate=names[1], verified=True, answer_group=1, output_tokens=300)
    seen = [Situation("q", arms, attempts) for attempts in ((), (first,), (first, second))]
    for situation in seen:
        policy.decide(situation)
    times = []
    for _ in range(2000):
        begun = time.perf_counter()
        for situation in seen:
            policy.decide(situation)
        times.append((time.perf_counter() - begun) / len(seen))
    return 1e6 * float(np.median(times))


def methods() -> list[tuple[str, Any, bool]]:
    """Return name, method and whether it reads the prompt."""
    return [
        ("pool: answers, prompt, lengths", Pooled(), True),
        ("pool: answers and lengths", Pooled(), False),
        ("pool: answers only", Pooled(lengths=False), False),
        ("POMDP of a pair, agreement of three", PairWithAgreement("POMDP"), False),
        ("FrugalGPT on the pair", PairWithAgreement("FrugalGPT"), False),
        ("two agree, else the strong one", TwoAgree(), False),
    ]


def table_of(rows: Sequence[dict[str, Any]]) -> str:
    """Return the comparison as Markdown."""
    lines = [
        "| method | share of the cost | accuracy, points | worst tenth "
        "| by data set: share, points | parity of the test curve |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        sets = "; ".join(
            f"{name} {it['share']:.0%}, {it['gain_points']:+.1f}"
            for name, it in row["data_sets"].items()
        )
        low, high = row["share_interval"]
        gain_low, gain_high = row["gain_interval"]
        equal = row["parity"]["equal"]
        parity = "not reached" if equal is None else f"{equal:.0%}"
        lines.append(
            f"| {row['method']} | {row['share']:.1%} ({low:.0%} to {high:.0%}) | "
            f"{row['gain_points']:+.2f} ({gain_low:+.1f} to {gain_high:+.1f}) | "
            f"{row['worst_gain_points']:+.1f} | {sets} | {parity} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the comparison and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print every result as JSON lines")
    parser.add_argument("--quick", action="store_true", help="two seeds instead of ten")
    parser.add_argument(
        "--letters-contest", action="store_true", help="only: does fit_router pool letters?"
    )
    given = parser.parse_args()
    folder = shared_data_folder()
    if folder is None:
        sys.exit("The real tables are not at ../shared/data: set LLM_ROUTER_SHARED_DATA.")
    if given.letters_contest:
        print(json.dumps(letters_contest(routerbench_letters(folder))))
        return
    data = zeroeval(folder)
    seeds = SEEDS[:2] if given.quick else SEEDS
    rows = []
    for name, method, predict in methods():
        made = Method(name)
        for train, test in halves(len(data), seeds):
            made.halves.append(one_half(data, train, test, method, predict=predict))
        rows.append(made.summary(len(data), data.outcomes.groups))
        if given.json:
            print(json.dumps(rows[-1]), flush=True)
    parts = {
        "no_label": no_label(data),
        "transfer_to_crux": transfer(data),
        "trap": trap(data),
        "letters": letters(routerbench_letters(folder)),
        "growth": growth([1_420] if given.quick else [1_420, 10_000, 100_000]),
    }
    print(json.dumps(parts) if given.json else table_of(rows) + "\n" + json.dumps(parts, indent=1))
    first = rows[0]
    last = {
        "share": first["share"],
        "gain_points": first["gain_points"],
        "worst_gain_points": first["worst_gain_points"],
        "parity_share": first["parity"]["equal"],
        "no_label_share": parts["no_label"]["prices"]["parity"]["equal"],
    }
    print(json.dumps(last))


if __name__ == "__main__":
    main()
