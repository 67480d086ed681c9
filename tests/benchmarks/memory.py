"""A million stored queries: how long a decision takes, what is found, how much memory it needs.

    python tests/benchmarks/memory.py --json            # 10,000 to 1,000,000; builds some minutes
    python tests/benchmarks/memory.py --json --quick    # 10,000 and 31,623

Data: every distinct question in the real tables (MMLU, GSM8K, RouterBench, AlpacaEval)
as MiniLM vectors (384 numbers). 1,000 of them, never stored, are the queries. The
others are stored, and grown to the size wanted: a stored question is moved a random part of the way
to one of its ten nearest, and by half the difference of another random pair of neighbours. The
local intrinsic dimension around the real queries is reported for both, because it is what makes
search hard. Every estimator is loaded in a fresh process, where time and memory are measured.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from langchain_core.embeddings import Embeddings

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from langchain_llm_router.data import Outcomes  # noqa: E402
from langchain_llm_router.estimators import (  # noqa: E402
    ApproximateMemory,
    BradleyTerry,
    ExactMemory,
    NearestNeighbors,
)
from langchain_llm_router.policies import Threshold  # noqa: E402
from langchain_llm_router.types import Arm, Situation  # noqa: E402

N_QUERIES, K, WIDTH = 1000, 50, 384
CANDIDATES = ("weak", "strong")
TEXTS = {
    "routellm/mmlu.parquet": "prompt",
    "routellm/gsm8k.parquet": "prompt",
    "routerbench/queries.parquet": "question",
    "alpaca_eval/instructions.parquet": "instruction",
}


class Lookup(Embeddings):
    """Vectors by number, so that a measurement starts after the embedding."""

    model = "lookup"

    def __init__(self, **tables):
        self.tables = tables

    def embed_documents(self, texts):
        names = [text.split() for text in texts]
        return [self.tables[name][int(row)].tolist() for name, row in names]

    def embed_query(self, text):
        return self.embed_documents([text])[0]


class Built(ApproximateMemory):
    """A configuration whose fit is done: one graph serves both estimators."""

    def __init__(self, built):
        super().__init__()
        self.built = built

    def refitted(self, vectors, texts):
        return self.built


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--quick", action="store_true", help="small sizes, under a minute")
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of stored queries")
    parser.add_argument("--folder", type=Path, help="keep artifacts here and reuse them")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure is not None:
        print(json.dumps(measure(args.measure)))
        return
    sizes = args.sizes or (
        [10_000, 31_623] if args.quick else [10_000, 31_623, 100_000, 316_228, 1_000_000]
    )
    with tempfile.TemporaryDirectory() as temporary:
        figures = run(sizes, args.folder or Path(temporary))
    report(figures)
    if args.json:
        print(json.dumps(figures))


def run(sizes, folder):
    from rich.console import Console
    from rich.progress import Progress

    real = real_vectors()
    queries, seeds = real[:N_QUERIES], real[N_QUERIES:]
    figures = {
        "data": f"{len(seeds)} real MiniLM vectors, grown; {N_QUERIES} held-out real queries",
        "local_intrinsic_dimension_real": local_dimension(seeds, queries),
        "machine": {"cpus": os.cpu_count(), "load_1min": os.getloadavg()[0]},
        "sizes": [],
    }
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("sizes", total=sum(sizes))
        for size in sizes:
            figures["sizes"].append(one_size(size, seeds, queries, folder / str(size)))
            progress.advance(task, size)
    return figures


def real_vectors():
    """Distinct real questions as unit vectors, in a fixed random order."""
    import pandas as pd

    from tests.support.minilm import MiniLM
    from tests.support.shared_data import shared_data_folder

    data = shared_data_folder()
    if data is None or not MiniLM.is_installed():
        sys.exit("This benchmark needs ../shared/data and the packages of tests/support/minilm.py.")
    texts = set()
    for name, column in TEXTS.items():
        texts |= set(pd.read_parquet(data / name, columns=[column])[column])
    texts = sorted(texts)
    vectors = np.unique(np.asarray(MiniLM(n_threads=1).embed_array(texts), np.float32), axis=0)
    return vectors[np.random.default_rng(0).permutation(len(vectors))]


def local_dimension(stored, queries):
    """Median maximum-likelihood intrinsic dimension over the K nearest (Levina and Bickel)."""
    cosine = -np.sort(-(queries @ stored.T), axis=1)[:, :K]
    distance = np.sqrt(np.maximum(2 - 2 * cosine, 1e-9))
    ratios = np.log(distance[:, :-1] / distance[:, -1:]).mean(axis=1)
    return float(np.median(-1 / ratios))


def grow(seeds, size):
    """The seeds and points between and beside them, `size` in all."""
    rng = np.random.default_rng(1)
    grown = np.empty((size, WIDTH), np.float32)
    grown[: len(seeds)] = seeds[:size]
    near = np.empty((len(seeds), 10), np.intp)
    for start in range(0, len(seeds), 1000):
        cosine = seeds[start : start + 1000] @ seeds.T
        cosine[np.arange(len(cosine)), np.arange(start, start + len(cosine))] = -1
        near[start : start + 1000] = np.argpartition(-cosine, 10, axis=1)[:, :10]
    for start in range(len(seeds), size, 50_000):
        n = min(50_000, size - start)
        i, a = rng.integers(len(seeds), size=(2, n))
        j, b = near[i, rng.integers(10, size=n)], near[a, rng.integers(10, size=n)]
        way = rng.random((n, 1), dtype=np.float32)
        moved = seeds[i] + way * (seeds[j] - seeds[i]) + (seeds[a] - seeds[b]) / 2
        grown[start : start + n] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return grown


def one_size(size, seeds, queries, folder):
    """Build unless an earlier run left its artifacts here, then measure in fresh processes."""
    noted = folder / "built.json"
    if not noted.exists():
        built = build(size, seeds, queries, folder)
        noted.write_text(json.dumps(built))
    figures = json.loads(noted.read_text())
    for name in ("knn", "bt"):
        done = subprocess.run(
            [sys.executable, __file__, "--measure", str(folder / name)],
            capture_output=True, text=True, check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        figures[name] = json.loads(done.stdout.splitlines()[-1])
    return figures


def build(size, seeds, queries, folder):
    stored = grow(seeds, size)
    texts = [f"stored {i}" for i in range(size)]
    truth, exact_p50_ms = search_exactly(stored, queries)
    started = time.perf_counter()
    built = ApproximateMemory().fit(stored, texts)
    build_s = time.perf_counter() - started
    outcomes = Outcomes(texts, CANDIDATES, np.random.default_rng(2).integers(2, size=(size, 2)))
    embeddings, memory = Lookup(stored=stored), Built(built)
    NearestNeighbors(embeddings, n_neighbors=K, memory=memory).fit(outcomes).save(folder / "knn")
    BradleyTerry(embeddings, top_k=K, memory=memory).fit(outcomes).save(folder / "bt")
    np.savez(folder / "queries.npz", queries=queries, truth=truth)
    return {
        "n_stored": size,
        "build_s": round(build_s, 1),
        "exact_p50_ms": exact_p50_ms,
        "local_intrinsic_dimension": local_dimension(stored, queries[:200]),
    }


def search_exactly(stored, queries):
    """The true neighbours, and the median time of a search one by one."""
    exact = ExactMemory().fit(stored, [""] * len(stored))
    truth, _ = exact.search(queries, [""] * len(queries), K)
    return truth, p50_ms([timed(lambda q=q: exact.search(q[None], [""], K)) for q in queries[:50]])[
        0
    ]


def measure(folder):
    """In a fresh process: load, decide on every query, look at the process's memory."""
    with np.load(folder.parent / "queries.npz") as file:
        queries, truth = file["queries"], file["truth"]
    embeddings = Lookup(query=queries)
    kind = NearestNeighbors if folder.name == "knn" else BradleyTerry
    before_mb = resident_mb()
    started = time.perf_counter()
    estimator = kind.load(folder, embeddings=embeddings)
    load_s = time.perf_counter() - started
    policy = Threshold(0.5)

    def decide(text):
        quality = estimator.predict([text])[0]
        arms = tuple(Arm(n, quality=float(q)) for n, q in zip(CANDIDATES, quality, strict=True))
        return policy.decide(Situation(text, arms))

    texts = [f"query {i}" for i in range(len(queries))]
    first_ms = timed(lambda: decide(texts[0])) * 1e3
    cpu = time.process_time()
    seconds = [timed(lambda text=text: decide(text)) for text in texts]
    cpu = time.process_time() - cpu
    rows, _ = estimator.memory_.search(queries, texts, K)
    hits = np.array([len(set(a) & set(b)) / K for a, b in zip(rows, truth, strict=True)])
    drawn = np.random.default_rng(0).integers(len(hits), size=(1000, len(hits)))
    low, high = np.quantile(hits[drawn].mean(axis=1), [0.025, 0.975])
    middle, interval = p50_ms(seconds)
    return {
        "p50_ms": middle,
        "p50_ms_interval": interval,
        "p95_ms": round(float(np.quantile(seconds, 0.95)) * 1e3, 3),
        "mean_cpu_ms": round(cpu / len(texts) * 1e3, 3),
        "first_ms": round(first_ms, 2),
        "recall_at_50": round(float(hits.mean()), 4),
        "recall_at_50_interval": [round(float(low), 4), round(float(high), 4)],
        "resident_mb": resident_mb(),
        "resident_before_load_mb": before_mb,
        "peak_resident_mb": resident_mb("VmHWM"),
        "load_s": round(load_s, 2),
        "folder_mb": round(sum(p.stat().st_size for p in folder.iterdir()) / 1e6),
    }


def timed(call):
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def p50_ms(seconds):
    """Median in milliseconds, and its bootstrap interval."""
    values = np.array(seconds) * 1e3
    drawn = np.random.default_rng(0).integers(len(values), size=(1000, len(values)))
    low, high = np.quantile(np.median(values[drawn], axis=1), [0.025, 0.975])
    return round(float(np.median(values)), 3), [round(float(low), 3), round(float(high), 3)]


def resident_mb(field="VmRSS"):
    """What the kernel counts as resident, mapped files included."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return round(int(line.split()[1]) * 1024 / 1e6)
    return None


def report(figures):
    real = figures["local_intrinsic_dimension_real"]
    print(f"{figures['data']}; local intrinsic dimension of the real ones {real:.1f}")
    print(
        f"{'stored':>9}  kNN p50 ms  BT p50 ms  exact p50 ms  recall@50             RSS MB  build s"
    )
    for row in figures["sizes"]:
        knn, bt = row["knn"], row["bt"]
        low, high = knn["recall_at_50_interval"]
        print(
            f"{row['n_stored']:9,d}  {knn['p50_ms']:10.2f}  {bt['p50_ms']:9.2f}"
            f"  {row['exact_p50_ms']:12.2f}  {knn['recall_at_50']:.3f} [{low:.3f}, {high:.3f}]"
            f"  {max(knn['resident_mb'], bt['resident_mb']):6,d}  {row['build_s']:7.0f}"
        )


if __name__ == "__main__":
    main()
