"""How well do learned routers route? A table of README.md beside this file, on real labels.

    python tests/benchmarks/routing_quality.py                 # everything: an hour of a core
    python tests/benchmarks/routing_quality.py --quick --json  # one split, small tests, < 60 s
    python tests/benchmarks/routing_quality.py --readme        # also rewrites its block there

Text features only: no estimator sees a subject or data set label, except the row "group mean",
which sees nothing else. No hyper-parameter is set on test rows: they are defaults, or chosen by
leave-one-out or stacking inside `fit`. Rows with the same prompt are on one side of every split.
Intervals are 95 % bootstrap intervals over prompts.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from langchain_core.embeddings import Embeddings
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from langchain_llm_router.data import Outcomes  # noqa: E402
from langchain_llm_router.data.benchmarks import (  # noqa: E402
    load_gsm8k,
    load_mmlu,
    load_mt_bench,
    load_routerbench,
    load_zeroeval,
    without_overlap,
)
from langchain_llm_router.data.embeddings import LexicalEmbeddings  # noqa: E402
from langchain_llm_router.estimators import (  # noqa: E402
    BradleyTerry,
    Clusters,
    Ensemble,
    Linear,
    MatrixFactorization,
    NearestNeighbors,
    QualityEstimator,
    fold_indices,
)
from langchain_llm_router.evaluation import (  # noqa: E402
    Interval,
    Resampling,
    Sweep,
    aiq_interval,
    apgr_interval,
    oracle,
    single_sweep,
    tiny_gap_warning,
    utility_sweep,
)
from langchain_llm_router.types.arrays import label_indices  # noqa: E402
from tests.support.minilm import MiniLM  # noqa: E402
from tests.support.shared_data import shared_data_folder  # noqa: E402

BEGIN, END = "<!-- routing-quality:begin -->", "<!-- routing-quality:end -->"
GROUP_MEAN = "group mean (sees the label)"
FINE_TUNED = "EncoderClassifier, MiniLM fine-tuned"
TARGETS = {"mmlu_1500": 0.66, "gsm8k_published": 0.67, "gsm8k_regraded": 0.61, "mmlu_5fold": 0.69,
           "routerbench": 0.86}  # fmt: skip


class Known(Embeddings):
    """MiniLM vectors that were looked up beforehand."""

    model = MiniLM.model

    def __init__(self, texts):
        self.row_of = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        self.vectors = MiniLM(progress=progress("embedding")).embed_array(list(self.row_of))

    def embed_documents(self, texts):
        return self.vectors[[self.row_of[text] for text in texts]]

    def embed_query(self, text):
        return self.embed_documents([text])[0].tolist()


@dataclass
class Table:
    """One table of the report: a figure per router."""

    key: str
    title: str
    metric: str
    rows: dict[str, dict] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def progress(what: str):
    return lambda steps: tqdm(steps, desc=what, file=sys.stderr, mininterval=5)


def routers(
    train: Outcomes, known: Known | None, *, all_kinds: bool
) -> dict[str, QualityEstimator]:
    """Fresh estimators with their defaults."""
    # A narrow lexical embedding where rows are many: ridge costs the cube of the width.
    width = 4096 if len(train) <= 4000 else 1024
    lexical = LexicalEmbeddings(width).fit(train.queries)
    found: dict[str, QualityEstimator] = {
        "NearestNeighbors(50), lexical": NearestNeighbors(embeddings=lexical, temperature=None),
        "Linear, lexical": Linear(embeddings=lexical),
    }
    if known is None:
        return found
    found["NearestNeighbors, MiniLM"] = NearestNeighbors(embeddings=known)
    found["Clusters, MiniLM"] = Clusters(embeddings=known)
    if all_kinds:
        found["BradleyTerry γ=10, MiniLM"] = BradleyTerry(embeddings=known)
        found["BradleyTerry leave-one-out, MiniLM"] = BradleyTerry(
            embeddings=known, gamma="loo", top_k="loo"
        )
        found["MatrixFactorization, MiniLM"] = MatrixFactorization(embeddings=known, n_epochs=30)
    found["Linear, MiniLM"] = Linear(embeddings=known)
    found["Ensemble of both Linear, NearestNeighbors"] = Ensemble(
        [
            Linear(embeddings=lexical),
            Linear(embeddings=known),
            NearestNeighbors(embeddings=known),
        ],
        n_folds=3,
    )
    return found


def group_mean(train: Outcomes, test: Outcomes, values: np.ndarray | None = None) -> np.ndarray:
    """Each test row gets the mean of its group's training rows, shrunk by ten average rows."""
    values = np.asarray(train.quality) if values is None else values
    groups, mean = np.array(train.groups), values.mean(axis=0)
    table = {
        name: (values[groups == name].sum(axis=0) + 10 * mean) / ((groups == name).sum() + 10)
        for name in set(train.groups)
    }
    return np.array([table.get(name, mean) for name in test.groups])


def random_split(outcomes: Outcomes, n: int, seed: int) -> tuple[Outcomes, Outcomes]:
    """About `n` random rows to learn from, the rest to test on; equal prompts stay together."""
    prompts = label_indices(outcomes.queries)
    rank = np.random.default_rng(seed).permutation(prompts.max() + 1)[prompts]
    limit = np.sort(rank)[n - 1]
    return outcomes.take(rank <= limit), outcomes.take(rank > limit)


def timed(name: str, estimator: QualityEstimator, train: Outcomes, test: Outcomes) -> np.ndarray:
    """Predictions for `test`, with the processor time on stderr."""
    start = time.process_time()
    estimator.fit(train)
    middle = time.process_time()
    quality = estimator.predict(test.queries)
    spent = f"fit {middle - start:.1f} s, predict {time.process_time() - middle:.1f} s"
    tqdm.write(f"{name}: {len(train)} + {len(test)} rows, {spent}", file=sys.stderr)
    return quality


def fine_tuned(train: Outcomes, test: Outcomes, seed: int, keep: Path | None) -> np.ndarray:
    """Win rates of MiniLM as encoder.py fine-tunes it, as qualities that have them.

    Eight minutes of a core a seed; `keep` holds checkpoints and what was predicted before.
    """
    import encoder  # and with it torch

    training = replace(
        encoder.TRAINING,
        seed=seed,
        progress=True,
        checkpoint_every=10,
        checkpoint_folder=None if keep is None else keep / "encoder",
    )
    rate, _ = encoder.predictions("fine-tuned, quality", train, test, training)
    return np.column_stack([1 - rate, rate])


def win_rate(quality: np.ndarray) -> np.ndarray:
    return (1 + quality[:, 1] - quality[:, 0]) / 2


def resampling(outcomes: Outcomes, quick: bool) -> Resampling:
    return Resampling(100 if quick else 1000, clusters=outcomes.queries)


def show(interval: Interval) -> dict:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def pair_figures(table: Table, outcomes: Outcomes, quality: np.ndarray, quick: bool) -> dict:
    """APGR, and within groups where there are any; a tiny gap is noted under the table."""
    how = resampling(outcomes, quick)
    warning = tiny_gap_warning(*outcomes.quality.T, resampling=how)
    if warning is not None and warning not in table.notes:
        table.notes.append(warning)
    rate = win_rate(quality)
    found = {"apgr": show(apgr_interval(rate, *outcomes.quality.T, resampling=how))}
    if outcomes.groups is not None:
        inside = apgr_interval(rate, *outcomes.quality.T, groups=outcomes.groups, resampling=how)
        found["within"] = show(inside)
    return found


def average(figures: list[dict]) -> dict:
    """Mean over seeds of values and of interval ends (test rows overlap: not narrower)."""
    keys = figures[0].keys()
    mean = {
        key: {end: float(np.mean([f[key][end] for f in figures])) for end in figures[0][key]}
        for key in keys
    }
    for key in keys:
        mean[key]["sd_over_seeds"] = float(np.std([f[key]["value"] for f in figures]))
    return mean


def mmlu_1500(known, args) -> Table:
    outcomes = load_mmlu(args.data / "routellm/mmlu.parquet")
    seeds = range(1 if args.quick else 5)
    title = f"MMLU, 1,500 training labels, tested on the rest, mean of {len(seeds)} seed(s)"
    table, seen = Table("mmlu_1500", title, "apgr"), {}
    for seed in progress("MMLU 1,500")(seeds):
        train, test = random_split(outcomes, 1500, seed)
        if args.quick:
            test = test.take(np.random.default_rng(seed).permutation(len(test))[:2000])
        predicted = {GROUP_MEAN: group_mean(train, test)}
        for name, estimator in routers(train, known, all_kinds=True).items():
            predicted[name] = timed(name, estimator, train, test)
        if known is not None:
            predicted[FINE_TUNED] = fine_tuned(train, test, seed, args.keep)
        for name, quality in predicted.items():
            seen.setdefault(name, []).append(pair_figures(table, test, quality, args.quick))
    for name, figures in seen.items():
        table.rows[name] = average(figures) | {"n_seeds": len(figures)}
    return table


def cross_validated(outcomes: Outcomes, n_folds: int, known, *, all_kinds: bool, what: str) -> dict:
    """Out-of-fold predictions of every router."""
    found: dict[str, np.ndarray] = {}
    folds = fold_indices(len(outcomes), n_folds, groups=outcomes.queries)
    for fold in progress(what)(folds):
        rest = np.setdiff1d(np.arange(len(outcomes)), fold)
        train, test = outcomes.take(rest), outcomes.take(fold)
        predicted = {}
        if outcomes.groups is not None:
            predicted[GROUP_MEAN] = group_mean(train, test)
        for name, estimator in routers(train, known, all_kinds=all_kinds).items():
            predicted[name] = timed(name, estimator, train, test)
        for name, quality in predicted.items():
            found.setdefault(name, np.empty(outcomes.quality.shape))[fold] = quality
    return found


def gsm8k(labels: str) -> Callable:
    def run(known, args) -> Table:
        outcomes = load_gsm8k(args.data / "routellm/gsm8k.parquet", labels=labels)
        n_folds = 3 if args.quick else 10
        title = f"GSM8K, {labels} labels, {n_folds}-fold"
        table = Table(f"gsm8k_{labels}", title, "apgr")
        predicted = cross_validated(
            outcomes, n_folds, known, all_kinds=True, what=f"GSM8K {labels}"
        )
        for name, quality in predicted.items():
            table.rows[name] = pair_figures(table, outcomes, quality, args.quick)
        return table

    return run


def mmlu_folds(known, args) -> Table:
    outcomes = load_mmlu(args.data / "routellm/mmlu.parquet")
    table = Table("mmlu_5fold", "MMLU, 5-fold", "apgr")
    predicted = cross_validated(outcomes, 5, known, all_kinds=False, what="MMLU 5-fold")
    for name, quality in predicted.items():
        table.rows[name] = pair_figures(table, outcomes, quality, args.quick)
    return table


def priced(load: Callable, key: str, title: str, pair: tuple[str, str]) -> Callable:
    """A table of many candidates with costs, judged by AIQ."""

    def run(known, args) -> Table:
        outcomes = load(args.data)
        n_folds = 3 if args.quick else 5
        table = Table(key, f"{title}, {n_folds}-fold", "aiq")
        quality = cross_validated(outcomes, n_folds, known, all_kinds=False, what=title)
        cost = expected_cost(outcomes, n_folds)
        how = resampling(outcomes, args.quick)
        sweeps = {
            name: utility_sweep(guess, outcomes, expected_cost_usd=cost)
            for name, guess in quality.items()
        }
        singles, knn = single_sweep(outcomes), sweeps["NearestNeighbors(50), lexical"]
        best = oracle(outcomes)
        rows = np.arange(len(outcomes))
        perfect = Sweep(
            np.zeros(1), outcomes.quality[None, rows, best], outcomes.cost_usd[None, rows, best]
        )
        alone = {"hull of single models": singles, "oracle": perfect}
        for name, sweep in {**alone, **sweeps}.items():
            figures = {"aiq": show(aiq_interval(sweep, outcomes, resampling=how))}
            if name in sweeps:
                figures["over_hull"] = difference(sweep, singles, outcomes, how)
                figures["over_knn"] = difference(sweep, knn, outcomes, how)
                two = outcomes.select(pair)
                columns = [outcomes.candidates.index(one) for one in pair]
                both = pair_figures(table, two, quality[name][:, columns], args.quick)
                figures["pair_apgr"], figures["within"] = both["apgr"], both["within"]
            table.rows[name] = figures
        table.notes.append(f"APGR columns: {pair[1]} against {pair[0]}.")
        return table

    return run


def difference(sweep, other, outcomes, how) -> dict:
    return show(aiq_interval(sweep, outcomes, baseline=other, resampling=how))


def expected_cost(outcomes: Outcomes, n_folds: int) -> np.ndarray:
    """Cost per query and candidate, by `Linear` out of fold; the same for every router."""
    top = outcomes.cost_usd.max(axis=0)
    scaled = Outcomes(outcomes.queries, outcomes.candidates, outcomes.cost_usd / top)
    guess = np.empty(scaled.quality.shape)
    for fold in fold_indices(len(outcomes), n_folds, groups=outcomes.queries):
        train = scaled.take(np.setdiff1d(np.arange(len(outcomes)), fold))
        guess[fold] = Linear().fit(train).predict([outcomes.queries[i] for i in fold])
    return np.maximum(guess, 1e-6) * top


def transfer(known, args) -> Table:
    """Trained on one benchmark, tested on another with the same two candidates."""
    table = Table("transfer", "Trained on MMLU (and GSM8K), tested on another benchmark", "apgr")
    mmlu = load_mmlu(args.data / "routellm/mmlu.parquet")
    gsm = load_gsm8k(args.data / "routellm/gsm8k.parquet", labels="regraded")
    bench = load_mt_bench(args.data / "routellm/mt_bench.parquet")
    both = Outcomes(
        [*mmlu.queries, *gsm.queries], mmlu.candidates, np.vstack([mmlu.quality, gsm.quality])
    )
    for name, train, test in (("MMLU → GSM8K", mmlu, gsm), ("both → MT-Bench", both, bench)):
        clean = without_overlap(train, test.queries)
        some = clean.take(np.random.default_rng(0).permutation(len(clean))[:4000])
        quality = Linear(embeddings=known).fit(some).predict(test.queries)
        table.rows[f"Linear, {'lexical' if known is None else 'MiniLM'}: {name}"] = pair_figures(
            table, test, quality, args.quick
        )
    return table


TABLES: dict[str, Callable] = {
    "mmlu_1500": mmlu_1500,
    "gsm8k_published": gsm8k("published"),
    "gsm8k_regraded": gsm8k("regraded"),
    "mmlu_5fold": mmlu_folds,
    "routerbench": priced(
        lambda data: load_routerbench(data / "routerbench"),
        "routerbench",
        "RouterBench, 11 models",
        ("mixtral-8x7b-chat", "gpt-4-1106-preview"),
    ),
    "zeroeval": priced(
        lambda data: load_zeroeval(data / "zeroeval"),
        "zeroeval",
        "ZeroEval, 24 models",
        ("Meta-Llama-3.1-8B-Instruct", "gpt-4o-2024-08-06"),
    ),
    "transfer": transfer,
}
QUICK = ("mmlu_1500", "gsm8k_published", "gsm8k_regraded", "routerbench")

# Its rows are different tests, not rivals: the README shows them all and not the best.
NO_RIVALS = ("transfer",)
NOT_ROUTERS = ("oracle", "hull of single models", GROUP_MEAN)
HEADS = {
    "apgr": "APGR",
    "aiq": "AIQ",
    "over_hull": "over the single models' hull",
    "over_knn": "over kNN-50",
    "pair_apgr": "APGR of the pair",
    "within": "APGR within groups",
}


def markdown(tables: list[Table], provenance: str) -> str:
    """The tables as GitHub reads them, best figure of each in bold."""
    lines = [provenance, ""]
    for table in tables:
        columns = [key for key in HEADS if any(key in row for row in table.rows.values())]
        real = {n: r for n, r in table.rows.items() if n not in NOT_ROUTERS}
        best = max(real, key=lambda name: real[name][table.metric]["value"])
        lines += [f"**{table.title}.**{verdict(table, real[best])}", ""]
        lines += ["| router | " + " | ".join(HEADS[key] for key in columns) + " |"]
        lines += ["| --- |" + " --- |" * len(columns)]
        for name, row in table.rows.items():
            cells = [cell(row.get(key), signed=key.startswith("over")) for key in columns]
            cells = [f"**{text}**" if name == best and text else text for text in cells]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines += ["", *table.notes, ""]
    return "\n".join(lines).strip() + "\n"


def summary(tables: list[Table], provenance: str) -> str:
    """One line a table, for the README: the best router beside the one that knows only the task."""
    lines = [
        "| table | best router on the text alone | the same within groups | task identity alone |",
        "| --- | --- | --- | --- |",
    ]
    for table in tables:
        real = {n: r for n, r in table.rows.items() if n not in NOT_ROUTERS}
        best = max(real, key=lambda name: real[name][table.metric]["value"])
        task = table.rows.get(GROUP_MEAN, {})
        for name in real if table.key in NO_RIVALS else [best]:
            found = real[name]
            lines.append(
                f"| {table.title}. {HEADS[table.metric]}.{verdict(table, found)} "
                f"| {name}: {cell(found[table.metric], signed=False)} "
                f"| {cell(found.get('within'), signed=False)} "
                f"| {cell(task.get(table.metric), signed=False)} |"
            )
    return "\n".join([*lines, "", provenance]) + "\n"


def verdict(table: Table, best: dict) -> str:
    target = TARGETS.get(table.key)
    if target is None:
        return ""
    value = best[table.metric]["value"]
    return f" Aim {target:.2f}: {'reached' if value >= target else 'missed'} ({value:.3f})."


def cell(figure: dict | None, *, signed: bool) -> str:
    if figure is None:
        return ""
    form = "+.3f" if signed else ".3f"
    return f"{figure['value']:{form}} [{figure['low']:{form}}, {figure['high']:{form}}]"


def provenance(args) -> str:
    flag = " --quick" if args.quick else ""
    if args.only:
        flag += f" --only {' '.join(args.only)}"
    return (
        f"Made by `python tests/benchmarks/routing_quality.py{flag}`, seeds from 0 on; in brackets "
        "95 % intervals over prompts. A group is MMLU's subject or the data set; a "
        "router whose APGR within groups is near 0.5 only tells groups apart."
    )


def rewrite_readme(text: str) -> None:
    path = Path(__file__).parent / "README.md"
    old = path.read_text(encoding="utf-8")
    if BEGIN not in old or END not in old:
        msg = f"README.md lacks the markers {BEGIN} and {END}."
        raise SystemExit(msg)
    head, rest = old.split(BEGIN, 1)
    tail = rest.split(END, 1)[1]
    path.write_text(f"{head}{BEGIN}\n{text}{END}{tail}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--quick", action="store_true", help="one split, no encoder, < 60 s")
    parser.add_argument("--readme", action="store_true", help="rewrite its block in README.md")
    parser.add_argument("--only", nargs="+", choices=list(TABLES), help="some of the tables")
    parser.add_argument("--lexical", action="store_true", help="no encoder")
    parser.add_argument("--keep", type=Path, help="folder to keep finished tables in, to resume")
    parser.add_argument("--data", type=Path, default=shared_data_folder())
    args = parser.parse_args()
    if args.data is None:
        raise SystemExit("The real tables are not at ../shared/data: give --data.")
    names = args.only or (QUICK if args.quick else list(TABLES))
    known = None
    if not (args.quick or args.lexical):
        if not MiniLM.is_installed() or find_spec("torch") is None:
            raise SystemExit(
                "MiniLM or torch is not installed (see tests/support/minilm.py): try --lexical."
            )
        known = Known(all_texts(args.data))
    tables = [kept(name, known, args) for name in names]
    said = provenance(args)
    print(markdown(tables, said))
    if args.readme:
        rewrite_readme(summary(tables, said))
    if args.json:
        print(json.dumps({"tables": {t.key: t.rows for t in tables}, "targets": TARGETS}))


def kept(name: str, known, args) -> Table:
    """A table computed now, or by an earlier run that kept it."""
    path = None if args.keep is None else args.keep / f"{name}.json"
    if path is not None and path.is_file():
        return Table(**json.loads(path.read_text(encoding="utf-8")))
    table = TABLES[name](known, args)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(vars(table)), encoding="utf-8")
    return table


def all_texts(data: Path) -> list[str]:
    return [
        *load_mmlu(data / "routellm/mmlu.parquet").queries,
        *load_gsm8k(data / "routellm/gsm8k.parquet").queries,
        *load_mt_bench(data / "routellm/mt_bench.parquet").queries,
        *load_routerbench(data / "routerbench").queries,
        *load_zeroeval(data / "zeroeval").queries,
    ]


if __name__ == "__main__":
    main()
