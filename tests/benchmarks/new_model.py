"""What is a new model worth from a few answers, beside a full refit? mmlu_pro and ZeroEval.

    python tests/benchmarks/new_model.py --json      # half an hour of a core
    python tests/benchmarks/new_model.py --quick     # one seed, the five models that ship

Each model (of ZeroEval's 24 every third) is left out in turn: an estimator is fitted to the others,
and the model is added with `add_candidate` from its answers to k = 20, 50 or 100 random training
questions, costs included. Beside it on held-out questions: the router without the model; the model
at its mean quality in those k answers, the same for every question; and a refit with all its
labels. Lexical embeddings only. ZeroEval is judged by AIQ over one range of costs for all four,
from the second-cheapest model to the dearest. mmlu_pro has no costs: there the figures are the mean
quality of the model with the highest prediction, and the APGR against the known model whose
accuracy on training rows is nearest but at least 5 points away. Seeds of the splits and of the
answers are 11 to 13, fixed before the first look; the two constants of `AddedCandidates` were set
on other splits of the same tables. Parentheses: standard errors over left-out models, each averaged
over seeds.
"""

import argparse
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from langchain_llm_router.data import Outcomes, split_indices
from langchain_llm_router.data.benchmarks import load_zeroeval
from langchain_llm_router.data.zeroeval import ZeroEval
from langchain_llm_router.estimators import (
    Linear,
    NearestNeighbors,
    QualityEstimator,
)
from langchain_llm_router.evaluation import (
    aiq,
    apgr,
    utility_sweep,
    win_rate_curve,
)
from tests.support.shared_data import shared_data_folder

SEEDS = (11, 12, 13)
ANSWERS = (20, 50, 100)
LEAST_GAP = 0.05
MMLU_PRO_MODELS = (
    "Phi-3-mini-4k-instruct",
    "Mixtral-8x7B-Instruct-v0.1",
    "Meta-Llama-3_1-8B-Instruct",
    "Qwen1.5-72B-Chat",
    "jamba-1.5-large",
    "Meta-Llama-3_1-70B-Instruct",
    "gemini-1.5-flash-002",
    "gemini-1.5-pro-002",
)
ESTIMATORS: Mapping[str, Callable[[], QualityEstimator]] = {
    "NearestNeighbors": NearestNeighbors,
    "Linear": Linear,
}


@dataclass(frozen=True)
class Case:
    """One model left out of one split."""

    new: str
    train: Outcomes
    test: Outcomes
    rows: np.ndarray
    """Training rows in random order: the first k are those that the new model answered."""

    @property
    def others(self) -> list[str]:
        return [name for name in self.train.candidates if name != self.new]

    def predictions(
        self, make: Callable[[], QualityEstimator], refitted: np.ndarray
    ) -> Iterator[tuple[str, int, np.ndarray]]:
        """Yield a way, its number of answers, and predictions, of the new model in the last column.

        Args:
            make: Makes the estimator that is fitted to the others.
            refitted: Predictions of the estimator that was fitted to all candidates.
        """
        column = list(self.train.candidates).index(self.new)
        others = np.delete(refitted, column, axis=1)
        yield "refit", len(self.train), np.column_stack([others, refitted[:, column]])
        fitted = make().fit(self.train.select(self.others))
        known = fitted.predict(self.test.queries)
        yield "without", 0, known
        for k in ANSWERS:
            answered = self.train.take(self.rows[:k])
            mean = answered.select([self.new]).quality.mean()
            yield f"mean, k={k}", k, np.column_stack([known, np.full(len(known), mean)])
            added = fitted.add_candidate(self.new, answered)
            guess = np.clip(known @ added.mix_[0] + added.offset_[0], 0, 1)
            yield f"added, k={k}", k, np.column_stack([known, guess])


def mmlu_pro(folder: Path) -> Outcomes:
    """Ten-option questions that every model of the pool answered."""
    import pyarrow.parquet

    read = pyarrow.parquet.read_table
    questions = read(folder / "questions.parquet").to_pandas().set_index("question_id")
    scores = read(folder / "scores.parquet").to_pandas()
    table = scores.pivot_table(index="question_id", columns="model", values="correct")
    table = table[list(MMLU_PRO_MODELS)].dropna()
    asked = questions.loc[table.index]
    texts = [f"{q}\n{o}" for q, o in zip(asked["question"], asked["options"], strict=True)]
    subjects = asked["category"].tolist()
    return Outcomes(texts, MMLU_PRO_MODELS, table.to_numpy(float), groups=subjects)


@dataclass(frozen=True)
class Table:
    """One table, the models that are left out in turn, and the estimators."""

    title: str
    data: Outcomes
    n_train: int
    left_out: Sequence[str]
    kinds: Sequence[str]


def tables(*, quick: bool) -> Iterator[Table]:
    """Yield the tables; `Linear`, which takes ten times as long, on the smallest alone."""
    shipped = ZeroEval.load().outcomes
    title = "ZeroEval, the 5 models that ship"
    yield Table(title, shipped, 1_420, shipped.candidates, tuple(ESTIMATORS))
    folder = shared_data_folder()
    if folder is None or quick:
        return
    full = load_zeroeval(folder / "zeroeval")
    third = full.candidates[::3]
    yield Table("ZeroEval, 24 models", full, 1_420, third, ("NearestNeighbors",))
    many = mmlu_pro(folder / "mmlu_pro")
    yield Table("mmlu_pro, 8 models", many, 4_000, many.candidates, ("NearestNeighbors",))


def cases(table: Table, seed: int) -> Iterator[Case]:
    """Leave out each model once."""
    data = table.data
    share = table.n_train / len(data)
    train, rest = split_indices(len(data), [share, 1 - share], seed=seed, groups=data.queries)
    test = data.take(np.random.default_rng(seed).permutation(rest)[:4_000])
    for j, new in enumerate(table.left_out):
        rows = np.random.default_rng([seed, j]).permutation(len(train))
        yield Case(new, data.take(train), test, rows)


def figures(case: Case, k: int, quality: np.ndarray) -> dict[str, float]:
    """Judge predictions for the known models, and for the new one if there is a column of it."""
    has_new = quality.shape[1] > len(case.others)
    test = case.test.select([*case.others, case.new] if has_new else case.others)
    found = {}
    if has_new:
        guess, truth = quality[:, -1], test.quality[:, -1]
        found["brier"] = float(np.mean((guess - truth) ** 2))
        found["bias"] = float(abs(guess.mean() - truth.mean()))
        found.update(pair_apgr(case, quality))
    if test.cost_usd is not None:
        found["aiq"] = pool_aiq(case, k, quality, test)
    else:
        best = quality.argmax(axis=1)
        found["top"] = float(test.quality[np.arange(len(test)), best].mean())
    return found


def pair_apgr(case: Case, quality: np.ndarray) -> dict[str, float]:
    """APGR against the known model that is next in accuracy; none if all are far or equal."""
    level = case.train.select([*case.others, case.new]).quality.mean(axis=0)
    gap = np.abs(level[:-1] - level[-1])
    if not (gap >= LEAST_GAP).any():
        return {}
    j = int(np.where(gap >= LEAST_GAP, gap, np.inf).argmin())
    truth = case.test.select([case.others[j], case.new]).quality
    lead = quality[:, -1] - quality[:, j]
    if level[j] < level[-1]:
        return {"apgr": apgr(win_rate_curve((1 + lead) / 2, truth[:, 0], truth[:, 1]))}
    return {"apgr": apgr(win_rate_curve((1 - lead) / 2, truth[:, 1], truth[:, 0]))}


def pool_aiq(case: Case, k: int, quality: np.ndarray, test: Outcomes) -> float:
    """AIQ of `Utility` over λ, with costs as they were known when the model was added."""
    expected = case.train.select(test.candidates).mean_cost_usd
    if 0 < k < len(case.train):
        expected[-1] = case.train.take(case.rows[:k]).select([case.new]).mean_cost_usd[0]
    sweep = utility_sweep(quality, test, expected_cost_usd=expected)
    # The cheapest point of a sweep is the model that was expected to be the cheapest.
    costs = np.sort(case.test.cost_usd.mean(axis=0))
    cost, found = sweep.cost_usd.mean(axis=1), sweep.quality.mean(axis=1)
    return aiq(cost, found, (max(float(costs[1]), float(cost.min())), float(costs[-1])))


def measure(table: Table, seeds: Sequence[int]) -> dict:
    """Mean and standard error over left-out models, by estimator, way and number of answers."""
    report = {}
    for kind in table.kinds:
        make = ESTIMATORS[kind]
        seen: dict = defaultdict(lambda: defaultdict(list))
        for seed in seeds:
            each = list(cases(table, seed))
            refitted = make().fit(each[0].train).predict(each[0].test.queries)
            for case in tqdm(each, desc=f"{table.title}, {kind}, seed {seed}", file=sys.stderr):
                for way, k, quality in case.predictions(make, refitted):
                    for name, value in figures(case, k, quality).items():
                        seen[way, name][case.new].append(value)
        report[kind] = summary(seen)
    return report


def summary(seen: Mapping) -> dict:
    """Average over seeds, then over models."""
    found: dict = {}
    for (way, name), by_model in seen.items():
        means = np.array([np.mean(values) for values in by_model.values()])
        error = float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else None
        found.setdefault(way, {})[name] = {"mean": float(means.mean()), "se": error}
    return found


def markdown(report: Mapping) -> str:
    """One table per data set and estimator."""
    lines = []
    for title, kinds in report.items():
        for kind, ways in kinds.items():
            names = [n for n in ("aiq", "top", "apgr", "brier", "bias") if n in ways["refit"]]
            lines += [f"**{title}, {kind}**", "", "| | " + " | ".join(names) + " |"]
            lines += ["| --- |" + " --- |" * len(names)]
            for way in sorted(ways, key=order_of):
                cells = [cell(ways[way].get(name)) for name in names]
                lines.append(f"| {way} | " + " | ".join(cells) + " |")
            lines.append("")
    return "\n".join(lines)


def order_of(way: str) -> tuple[bool, int, str]:
    """Sort by the number of answers, the refit last."""
    name, _, k = way.partition(", k=")
    return way == "refit", int(k or 0), name


def cell(figure: Mapping | None) -> str:
    if figure is None:
        return ""
    error = "" if figure["se"] is None else f" ({figure['se']:.4f})"
    return f"{figure['mean']:.4f}{error}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--quick", action="store_true", help="one seed, the models that ship")
    args = parser.parse_args()
    seeds = SEEDS[:1] if args.quick else SEEDS
    report = {}
    for table in tables(quick=args.quick):
        report[table.title] = measure(table, seeds)
        print(markdown({table.title: report[table.title]}), flush=True)
    if args.json:
        print(json.dumps({"seeds": list(seeds), "answers": list(ANSWERS), "tables": report}))


if __name__ == "__main__":
    main()
