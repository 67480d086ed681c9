"""`BradleyTerry` against RouteLLM's own fit, on real battles: the same win rates, how much faster?

    python tests/benchmarks/bradley_terry.py --json
    python tests/benchmarks/bradley_terry.py --json --quick

Battles: AlpacaEval's 103,771 judged preferences (less the anchors against themselves), ten tiers,
MiniLM vectors of the 805 instructions. Queries: MMLU questions, never stored. RouteLLM fits, per
query, scikit-learn's LogisticRegression without penalty on a design matrix of +ln 10 and -ln 10
with every battle twice and a tie as one win and one loss; here on the same tiers and weights,
with the battles inside a tier dropped. All in one process, one thread, the fits interleaved.
Then the parts of a decision over 65,000 stored queries of width 384 are timed one by one.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
from langchain_core.embeddings import Embeddings
from sklearn.linear_model import LogisticRegression

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from langchain_llm_router.data import Battles  # noqa: E402
from langchain_llm_router.estimators import BradleyTerry, ratings  # noqa: E402
from langchain_llm_router.estimators import bradley_terry as module  # noqa: E402

N_TIERS, GAMMA = 10, 10.0
N_LARGE, WIDTH = 65_000, 384


class Rows(Embeddings):
    """Vectors by number: measurements start after the embedding."""

    def __init__(self, vectors):
        self.vectors = vectors

    def embed_documents(self, texts):
        return self.vectors[[int(text) for text in texts]].tolist()

    def embed_query(self, text):
        return self.embed_documents([text])[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--quick", action="store_true", help="few queries, under a minute")
    args = parser.parse_args()
    n_queries = 5 if args.quick else 30
    figures = {
        "alpaca_eval": against_routellm(n_queries),
        "large": parts_of_a_decision(50 if args.quick else 200, n_fits=2 if args.quick else 10),
        "machine": {"cpus": os.cpu_count(), "load_1min": round(os.getloadavg()[0], 1)},
    }
    report(figures)
    if args.json:
        print(json.dumps(figures))


def load_battles():
    """AlpacaEval as battles whose texts are numbers of vectors, and the vectors."""
    import pandas as pd

    from tests.support.minilm import MiniLM
    from tests.support.shared_data import shared_data_folder

    data = shared_data_folder()
    if data is None or not MiniLM.is_installed():
        sys.exit("This benchmark needs ../shared/data and the packages of tests/support/minilm.py.")
    table = pd.read_parquet(data / "alpaca_eval/preferences.parquet")
    texts = pd.read_parquet(data / "alpaca_eval/instructions.parquet")
    asked = pd.read_parquet(data / "routellm/mmlu.parquet", columns=["prompt"])["prompt"]
    asked = asked.sample(100, random_state=0).tolist()
    vectors = np.asarray(MiniLM().embed_array([*texts.instruction, *asked]), np.float32)
    for side in ("model_a", "model_b"):
        table[side] = table[side].astype(str)
    table = table[table.model_a != table.model_b]
    number = {name: i for i, name in enumerate(texts.instruction_id)}
    score = np.select([table.p_b > 0.5, table.p_b < 0.5], [0.0, 1.0], 0.5)
    queries = [str(number[i]) for i in table.instruction_id]
    battles = Battles(queries, list(table.model_a), list(table.model_b), score)
    return battles, vectors, len(texts)


def routellm_strengths(a, b, score, weights, n):
    """RouteLLM's fit (`compute_elo_mle_with_tie`), in natural-log units."""
    x = np.zeros((len(a), n))
    x[np.arange(len(a)), a] = np.log(10)
    x[np.arange(len(a)), b] = -np.log(10)
    first, second = score == 1.0, (score == 1.0) | (score == 0.5)
    # `penalty=None` of the original is spelled `C=inf` since scikit-learn 1.8.
    model = LogisticRegression(fit_intercept=False, C=np.inf, tol=1e-8, max_iter=1000)
    model.fit(np.vstack([x, x]), np.r_[first, second], sample_weight=np.r_[weights, weights])
    return model.coef_[0] * np.log(10)


def clock():
    """Seconds on the wall and of the processor: on a busy machine the second is the steadier."""
    return np.array([time.perf_counter(), time.process_time()])


def win_rates(strengths):
    return 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))


def against_routellm(n_queries):
    battles, vectors, n_stored = load_battles()
    estimator = BradleyTerry(Rows(vectors), gamma=GAMMA, n_tiers=N_TIERS).fit(battles)
    tier_of = dict(zip(estimator.candidates_, estimator.tier_, strict=True))
    a = np.array([tier_of[name] for name in battles.candidate_a])
    b = np.array([tier_of[name] for name in battles.candidate_b])
    score, row = np.asarray(battles.score_a), np.array([int(q) for q in battles.queries])
    across = a != b
    gaps, defects, ours_s, theirs_s = [], [], [], []
    for i in progress(range(n_queries), "queries"):
        query = n_stored + i
        started = clock()
        ours = estimator.predict_strengths([str(query)])[0]
        ours_s.append(clock() - started)
        cosine = vectors[row] @ vectors[query]
        weights = GAMMA ** (1 + cosine / cosine.max())
        used = (a[across], b[across], score[across], weights[across], N_TIERS)
        started = clock()
        theirs = routellm_strengths(*used)[estimator.tier_]
        theirs_s.append(clock() - started)
        gaps.append(np.abs(win_rates(ours) - win_rates(theirs)).max())
        if i < 3:
            published = routellm_strengths(a, b, score, weights, N_TIERS)[estimator.tier_]
            defects.append(np.abs(win_rates(ours) - win_rates(published)).max())
    return {
        "n_battles": len(battles),
        "n_candidates": len(estimator.candidates_),
        "n_same_tier_battles": int((~across).sum()),
        "n_queries": n_queries,
        "max_win_rate_difference": float(max(gaps)),
        "max_win_rate_difference_if_same_tier_battles_are_kept": float(max(defects)),
        **median_ms("decision", ours_s),
        **median_ms("routellm_fit", theirs_s),
        "times_faster": interval_of_ratio(theirs_s, ours_s, 0),
        "times_faster_cpu": interval_of_ratio(theirs_s, ours_s, 1),
    }


def parts_of_a_decision(n_decisions, n_fits):
    """65,000 stored queries with a battle each; vectors random, since only time is asked for."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((N_LARGE + 100, WIDTH), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    a, b = rng.integers(64, size=(2, N_LARGE))
    names = np.array([f"model {i}" for i in range(64)])
    score = rng.choice([0.0, 0.5, 1.0], size=N_LARGE, p=[0.35, 0.3, 0.35])
    texts = [str(i) for i in range(N_LARGE)]
    battles = Battles(texts, names[a], names[b], score)
    estimator = BradleyTerry(Rows(vectors), gamma=GAMMA, n_tiers=N_TIERS).fit(battles)
    seconds = {"cosine": [], "weights": [], "wins": [], "fit": [], "whole": []}
    for i in progress(range(n_decisions), "decisions"):
        query = vectors[N_LARGE + i % 100][None]
        marks = [clock()]
        cosine = estimator.memory_.cosines(query)
        marks.append(clock())
        weights = module._weights(cosine, GAMMA)
        marks.append(clock())
        tables = (weights @ estimator.wins_).reshape(1, N_TIERS, N_TIERS)
        marks.append(clock())
        ratings.mean_win_rates(ratings.fit_win_tables(tables)[:, estimator.tier_])
        marks.append(clock())
        for name, spent in zip(seconds, np.diff(marks, axis=0), strict=False):
            seconds[name].append(spent)
        started = clock()
        estimator._predict_vectors(query, [""])
        seconds["whole"].append(clock() - started)
    tier_of = dict(zip(estimator.candidates_, estimator.tier_, strict=True))
    tiers = np.array([tier_of[name] for name in names])
    fits, used = [], tiers[a] != tiers[b]
    for _ in progress(range(n_fits), "fits"):
        started = clock()
        parts = (tiers[a][used], tiers[b][used], score[used], weights[0][used])
        routellm_strengths(*parts, N_TIERS)
        fits.append(clock() - started)
    figures = {"n_stored": N_LARGE, "width": WIDTH}
    for name, values in seconds.items():
        figures |= median_ms(name, values)
    figures |= median_ms("routellm_fit", fits)
    for kind in ("ms", "cpu_ms"):
        parts = [figures[f"{name}_{kind}"] for name in ("cosine", "weights", "wins", "fit")]
        figures[f"cosine_share_{'cpu' if kind == 'cpu_ms' else 'wall'}"] = round(
            parts[0] / sum(parts), 3
        )
        theirs = parts[0] + figures[f"routellm_fit_{kind}"]
        figures[f"times_faster_with_cosines_{kind}"] = round(theirs / figures[f"whole_{kind}"], 1)
    return figures


def progress(items, what):
    from rich.console import Console
    from rich.progress import track

    return track(items, description=what, console=Console(stderr=True))


def median_ms(name, seconds):
    wall, cpu = np.median(np.array(seconds), axis=0) * 1e3
    return {f"{name}_ms": round(float(wall), 3), f"{name}_cpu_ms": round(float(cpu), 3)}


def interval_of_ratio(slow, fast, column):
    """Ratio of medians with a 95 % bootstrap interval over paired queries."""
    slow, fast = np.array(slow)[:, column], np.array(fast)[:, column]
    drawn = np.random.default_rng(0).integers(len(slow), size=(2000, len(slow)))
    ratios = np.median(slow[drawn], axis=1) / np.median(fast[drawn], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    ends = {"value": np.median(slow) / np.median(fast), "low": low, "high": high}
    return {name: round(float(value), 1) for name, value in ends.items()}


def report(figures):
    real, large = figures["alpaca_eval"], figures["large"]
    faster, cpu = real["times_faster"], real["times_faster_cpu"]
    print(
        f"{real['n_battles']:,} battles of {real['n_candidates']} models: largest difference of a "
        f"win rate {real['max_win_rate_difference']:.1e} over {real['n_queries']} queries;\n"
        f"  {real['decision_ms']:.2f} ms against {real['routellm_fit_ms']:.0f} ms, "
        f"{faster['value']:.0f} [{faster['low']:.0f}, {faster['high']:.0f}] times faster "
        f"({cpu['value']:.0f} [{cpu['low']:.0f}, {cpu['high']:.0f}] in processor time)"
    )
    print(f"{large['n_stored']:,} stored x {large['width']}, milliseconds of the processor (wall):")
    for part in ("cosine", "weights", "wins", "fit", "whole", "routellm_fit"):
        print(f"  {part:12s} {large[f'{part}_cpu_ms']:8.2f} ({large[f'{part}_ms']:.2f})")
    print(f"  the cosines are {large['cosine_share_cpu']:.0%} of the parts")


if __name__ == "__main__":
    main()
