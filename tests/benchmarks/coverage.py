"""Do 95 % intervals hold 95 %? Coverage and width on simulated data whose truth is known.

    OMP_NUM_THREADS=1 python tests/benchmarks/coverage.py --json [--quick] [--readme]

Two candidates answer questions whose difficulty is drawn: either both find the same questions hard
("alike"), or strong is good where weak is poor ("complementary"). A router ranks the questions by
a score whose correlation with the expected gain is 0, 0.3 or 0.8. Logs are of policies that draw,
with weights of up to 2.5, 10, 20 and 50; another policy is estimated from them, with predictions
that are half as far from the mean as the truth. Every setting has its own seed. Beside the
intervals of the package stand those of the percentile bootstrap (1,000 resamples, expanded for few
rows).
"""

import argparse
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from langchain_llm_router.data import Outcomes
from langchain_llm_router.evaluation import (
    Interval,
    Resampling,
    Sweep,
    aiq,
    aiq_interval,
    apgr_interval,
    auc,
    bootstrap,
    cost_quality_area,
    cost_quality_area_interval,
    cost_saved_interval,
    cpt_interval,
    doubly_robust,
    inverse_propensity,
    quality_above_mix_interval,
    region_ibc_lift,
    region_ibc_lift_interval,
    self_normalized,
)

BEGIN, END = "<!-- coverage:begin -->", "<!-- coverage:end -->"
KINDS = {
    "alike, gap 30 points": (False, 0.30),
    "alike, gap 10 points": (False, 0.10),
    "alike, gap 1 point": (False, 0.01),
    "complementary, gap 10 points": (True, 0.10),
    "complementary, gap 5 points": (True, 0.05),
}
CORRELATIONS = (0.0, 0.3, 0.8)
LOGS = {
    "60/40, weights to 2.5": ((0.6, 0.4), 0.5),
    "90/10, differs on 30 %, weights to 10": ((0.9, 0.1), 0.3),
    "90/10, differs on 70 %, weights to 10": ((0.9, 0.1), 0.7),
    "90/5/5, differs on 60 %, weights to 20": ((0.9, 0.05, 0.05), 0.6),
    "96/2/2, differs on 30 %, weights to 50": ((0.96, 0.02, 0.02), 0.3),
}
WITH_CPT = ("alike, gap 10 points", 0.3)
N_RESAMPLES, MANY = 1000, 1_000_000


def coverage(ends: np.ndarray, truth: float) -> dict[str, float]:
    """Return how often intervals held the truth, their median width, and how many had no bounds."""
    low, high = np.asarray(ends, dtype=np.float64).T
    width = high - low
    found = {
        "held": ((low <= truth) & (truth <= high)).mean(),
        "width": np.median(width),
        "unbounded": np.isinf(width).mean(),
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def generator(*setting) -> np.random.Generator:
    """Return a generator whose seed is that of the setting."""
    return np.random.default_rng(zlib.crc32(repr(setting).encode()))


class Pair:
    """Two candidates and a router."""

    def __init__(self, kind: str, correlation: float) -> None:
        self.complementary, self.gap = KINDS[kind]
        self.correlation, self.scale = correlation, (0.0, 1.0)
        gain = np.subtract(*self.chances(np.random.default_rng(0).standard_normal(MANY))[::-1])
        self.scale = float(gain.mean()), float(gain.std())

    def chances(self, difficulty):
        """Return P(weak is right) and P(strong is right)."""
        if self.complementary:
            lead = norm.ppf(0.5 + self.gap / 2) * np.sqrt(2)
            return norm.cdf(-difficulty - lead), norm.cdf(difficulty + lead)
        lead = np.sqrt(1.25) * norm.ppf(0.5 + self.gap)
        return norm.cdf(-difficulty / 0.5), norm.cdf((lead - difficulty) / 0.5)

    def draw(self, rng, n, *, expected=False):
        """Return win rates and both qualities, or expected ones."""
        weak, strong = self.chances(rng.standard_normal(n))
        known = (strong - weak - self.scale[0]) / self.scale[1]
        rate = self.correlation * known
        rate = rate + np.sqrt(1 - self.correlation**2) * rng.standard_normal(n)
        if expected:
            return rate, weak, strong
        return rate, (rng.random(n) < weak) * 1.0, (rng.random(n) < strong) * 1.0

    def truths(self, recovered: float) -> tuple[float, float]:
        """Return the APGR and the CPT."""
        rate, weak, strong = self.draw(np.random.default_rng(1), MANY, expected=True)
        gained = np.cumsum((strong - weak)[np.argsort(-rate)])
        share = (np.argmax(gained >= recovered * gained[-1]) + 1) / len(gained)
        return float(gained.mean() / gained[-1]), float(share)


def drawn_weights(n: int) -> np.ndarray:
    """Return how often each row was drawn in each resample."""
    return np.concatenate(list(Resampling(N_RESAMPLES).weights(n)))


def percentiles(draws: np.ndarray, n: int) -> np.ndarray:
    """Return the expanded percentile interval of each column of draws."""
    tail = norm.cdf(np.sqrt(n / (n - 1)) * student.ppf(0.025, n - 1))
    return np.nanquantile(draws, [tail, 1 - tail], axis=0).T


def shares_of_a_gap(times: int) -> Iterator[dict]:
    """The APGR of every pair and router, and the CPT of some."""
    pairs = {(kind, at): Pair(kind, at) for kind in KINDS for at in CORRELATIONS}
    truths = {key: pair.truths(0.5) for key, pair in pairs.items()}
    for n in (50, 200, 800):
        weights = drawn_weights(n)
        later = weights * (n - weights.cumsum(axis=1) + weights / 2) / n**2
        for kind in KINDS:
            for correlation in CORRELATIONS:
                pair, rng = pairs[kind, correlation], generator(n, kind, correlation)
                truth, share = truths[kind, correlation]
                ends, gains, of_cpt = [], [], []
                n_cpt = times if (kind, correlation) == WITH_CPT and n < 800 else 0
                for i in range(times):
                    rows = pair.draw(rng, n)
                    ends.append(pair_of(apgr_interval(*rows)))
                    gains.append((rows[2] - rows[1])[np.argsort(-rows[0])])
                    if i < n_cpt:
                        of_cpt.append(pair_of(cpt_interval(*rows, 0.5)))
                below = weights @ np.array(gains).T / n
                below[np.abs(below) < 1e-12] = np.nan
                draws = later @ np.array(gains).T / below
                row = {"what": "APGR", "data": kind, "router": correlation, "rows": n}
                yield row | {"interval": coverage(ends, truth),
                             "bootstrap": coverage(percentiles(draws, n), truth)}  # fmt: skip
                if of_cpt:
                    yield row | {"what": "CPT(50 %)",
                                 "interval": coverage(of_cpt, share)}  # fmt: skip


def pair_of(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


def draw_log(rng, n: int, log: str):
    """Return weights, rewards, predictions for the logged and the new action, and the new truth."""
    shares, differs = LOGS[log]
    k, x = len(shares), rng.random(n)
    other = 1 if k == 2 else 1 + (rng.random(n) < 0.5)
    new = np.where(x < differs, other, 0)
    arm = (rng.random(n)[:, None] > np.cumsum(shares)[:-1]).sum(axis=1)

    def quality(asked):
        return np.clip(0.35 + 0.5 * x + 0.18 * (asked - (k - 1) / 2) * (1 - x), 0.02, 0.98)

    weight = np.where(arm == new, 1 / np.array(shares)[arm], 0.0)
    reward = (rng.random(n) < quality(arm)) * 1.0
    return weight, reward, 0.25 + 0.5 * quality(arm), 0.25 + 0.5 * quality(new), quality(new)


def logged(times: int) -> Iterator[dict]:
    """The three off-policy estimates from every log."""
    truths = {log: float(draw_log(np.random.default_rng(1), MANY, log)[-1].mean()) for log in LOGS}
    for n in (50, 150, 500, 1500):
        weights = drawn_weights(n)
        for log in LOGS:
            rng, largest = generator(n, log), 1 / min(LOGS[log][0])
            truth = truths[log]
            ends = {"IPS": [], "SNIPS": [], "DR": []}
            w, wr, values = [], [], []
            for _ in range(times):
                weight, reward, done, new, _ = draw_log(rng, n, log)
                ips = inverse_propensity(weight, reward, max_weight=largest)
                ends["IPS"].append(pair_of(ips))
                ends["SNIPS"].append(pair_of(self_normalized(weight, reward)))
                dr = doubly_robust(weight, reward, done, new, max_weight=largest)
                ends["DR"].append(pair_of(dr))
                w.append(weight)
                wr.append(weight * reward)
                values.append(new + weight * (reward - done))
            w, wr, values = (weights @ np.array(rows).T / n for rows in (w, wr, values))
            draws = {"IPS": wr, "SNIPS": wr / np.where(w > 0, w, np.nan), "DR": values}
            for name, found in ends.items():
                yield {"what": name, "data": log, "rows": n,
                       "interval": coverage(found, truth),
                       "bootstrap": coverage(percentiles(draws[name], n), truth)}  # fmt: skip


class Spending(NamedTuple):
    """What one setting of a router reached and spent."""

    quality: np.ndarray
    cost_usd: np.ndarray


def priced(rng, pair: Pair, n: int, *, expected=False) -> tuple[Sweep, Outcomes]:
    """Return a router at nine thresholds, and the candidates, of which strong costs tenfold."""
    rate, weak, strong = pair.draw(rng, n, expected=expected)
    cost = np.exp(rng.normal(0, 0.5, (n, 2))) * [1.0, 10.0]
    sent = rate >= norm.ppf(np.linspace(0.08, 0.92, 9))[:, None]
    sweep = Sweep(np.arange(9.0), np.where(sent, strong, weak), np.where(sent, *cost.T[::-1]))
    return sweep, Outcomes([""] * n, ("weak", "strong"), np.column_stack([weak, strong]), cost)


def with_costs(times: int) -> Iterator[dict]:
    """Metrics of cost and quality, of a weak router with a gap of 10 points."""
    pair, how = Pair("alike, gap 10 points", 0.5), Resampling(200)
    big, single = priced(np.random.default_rng(1), pair, MANY, expected=True)
    points, alone = big.points, (single.mean_cost_usd, single.quality.mean(axis=0))
    span, middle = (float(alone[0].min()), float(alone[0].max())), 4
    slope = np.diff(alone[1])[0] / np.diff(alone[0])[0]
    quality, cost = points[1][middle], points[0][middle]
    truths = {
        "AIQ": aiq(np.append(points[0], alone[0][0]), np.append(points[1], alone[1][0]), span),
        "ΔIBC": region_ibc_lift(*points, *alone),
        "area under the curve": cost_quality_area(*points, *alone),
        "cost saved": 1 - cost / (alone[0][0] + (quality - alone[1][0]) / slope),
        "quality above a random mix": quality - alone[1][0] - slope * (cost - alone[0][0]),
    }
    figures: dict[str, Callable] = {
        "AIQ": aiq_interval,
        "ΔIBC": region_ibc_lift_interval,
        "area under the curve": cost_quality_area_interval,
        "cost saved": cost_saved_interval,
        "quality above a random mix": quality_above_mix_interval,
    }
    for n in (50, 200):
        rng, ends = generator(n, "costs"), {name: [] for name in figures}
        for _ in range(times):
            sweep, outcomes = priced(rng, pair, n)
            one = Spending(sweep.quality[middle], sweep.cost_usd[middle])
            for name, figure in figures.items():
                done = one if name in ("cost saved", "quality above a random mix") else sweep
                ends[name].append(pair_of(figure(done, outcomes, resampling=how)))
        for name, found in ends.items():
            yield {"what": name, "data": "alike, gap 10 points", "router": 0.5, "rows": n,
                   "interval": coverage(found, truths[name])}  # fmt: skip


def areas_under_roc(times: int) -> Iterator[dict]:
    """The AUC of a score one standard deviation apart, on as many good as poor rows."""
    truth = float(norm.cdf(1 / np.sqrt(2)))
    for n in (50, 200):
        rng, label, ends = generator(n, "auc"), np.arange(n) % 2 == 0, []
        for _ in range(times):
            score = rng.standard_normal(n) + label

            def area(rows, score=score, label=label):
                some = label[rows]
                return auc(score[rows], some) if 0 < some.sum() < len(some) else np.nan

            ends.append(pair_of(bootstrap(area, n, n_resamples=300)))
        yield {"what": "AUC", "data": "normal scores", "rows": n,
               "interval": coverage(ends, truth)}  # fmt: skip


PARTS = {
    "shares of a gap": shares_of_a_gap,
    "off-policy": logged,
    "costs": with_costs,
    "AUC": areas_under_roc,
}


def markdown(rows: list[dict]) -> str:
    """The tables for people: of each metric the range of coverage over settings, and the worst."""
    heads = "rows | settings | held | bootstrap held | lowest on | median width, bootstrap's"
    lines = [f"| | {heads} |", "|" + " --- |" * 7]
    for what, n in dict.fromkeys((row["what"], row["rows"]) for row in rows):
        some = [row for row in rows if (row["what"], row["rows"]) == (what, n)]
        worst = min(some, key=lambda row: row["interval"]["held"])
        name = worst["data"] + (f", router {worst['router']}" if "router" in worst else "")
        sides = [side for side in ("interval", "bootstrap") if side in some[0]]
        widths = [np.median([row[side]["width"] for row in some]) for side in sides]
        wide = ", ".join("unbounded" if np.isinf(it) else f"{it:.3f}" for it in widths)
        held = [reach(some, side) for side in ("interval", "bootstrap")]
        cells = [what, f"{n:,}", str(len(some)), *held, name, wide]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def reach(rows: list[dict], side: str) -> str:
    held = [row[side]["held"] for row in rows if side in row]
    if len(held) == 0:
        return ""
    low, high = f"{min(held):.3f}", f"{max(held):.3f}"
    return low if low == high else f"{low} to {high}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--quick", action="store_true", help="20 data sets each, no evidence")
    parser.add_argument("--readme", action="store_true", help="rewrite its block in README.md")
    parser.add_argument("--times", type=int, default=2000, help="data sets per setting")
    parser.add_argument("--only", choices=list(PARTS), nargs="+", default=list(PARTS))
    args = parser.parse_args()
    times = 20 if args.quick else args.times
    rows = []
    for name in args.only:
        rows += tqdm(PARTS[name](times), desc=name, file=sys.stderr)
    text = markdown(rows)
    print(text)
    if args.readme:
        path = Path(__file__).parent / "README.md"
        head, rest = path.read_text(encoding="utf-8").split(BEGIN, 1)
        path.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")
    if args.json:
        print(json.dumps({"times": times, "cpu_s": round(time.process_time(), 1), "rows": rows}))


if __name__ == "__main__":
    main()
