"""How many of eight verdicts does it take? `SelfEvaluator(adaptive=True)` on recorded verdicts.

    python tests/benchmarks/adaptive_k.py --json
    python tests/benchmarks/adaptive_k.py --json --quick

Data: the eight self-evaluations of three local models that ship with the package; and votes of
repeated samples (GSM8K and date understanding; llama-2-13b and gpt-3.5-turbo, 17 runs of 20 to 40
samples a question): a verdict there is whether a sample gives the majority's answer, whose
correctness is known, and eight of a question's samples are drawn in random order. Half of the
questions fit an observation model and what verdicts to expect; on the other half the adaptive
verifier and all eight lead to a next step of `ConfidenceThreshold`, for both observation models and
three thresholds. Settings that decide alike on every score are left out: they need no verdict.
"""

import argparse
import json
import os
import sys
from functools import lru_cache
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
import pyarrow.parquet as parquet
from langchain_core.messages import AIMessage, HumanMessage
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from langchain_llm_router.data import LocalModels  # noqa: E402
from langchain_llm_router.loop.arms import begin  # noqa: E402
from langchain_llm_router.loop.loop import Loop, observe  # noqa: E402
from langchain_llm_router.policies import ConfidenceThreshold  # noqa: E402
from langchain_llm_router.policies.observation import BetaBinomial, KernelDensity  # noqa: E402
from langchain_llm_router.types import Arm, Attempt, Candidate  # noqa: E402
from langchain_llm_router.verification import (  # noqa: E402
    Case,
    Evaluation,
    Reply,
    SelfEvaluator,
    Verdict,
)
from tests.support.shared_data import shared_data_folder  # noqa: E402

K, THRESHOLDS, RISKS = 8, (0.5, 0.7, 0.85), (0.0, 0.01, 0.02, 0.05)
MODELS = {"kde": KernelDensity, "beta-binomial": lambda: BetaBinomial(K)}
SITUATION = observe(
    begin("q", (Arm("weak", cost_usd=0.001), Arm("strong", cost_usd=0.1))),
    Attempt(candidate="weak", cost_usd=0.001),
)


def self_evaluations():
    """Eight self-evaluations per answer, and whether it was right, per model."""
    data = LocalModels.load()
    verdicts = data.evaluations["self_k8"].verdicts
    runs = {}
    for j, name in enumerate(data.outcomes.candidates):
        read = ~np.isnan(verdicts[:, j]).any(axis=1)
        runs[name] = (verdicts[read, j] > 0.5, data.outcomes.quality[read, j] > 0.5)
    return runs


def votes(folder):
    """Eight verdicts in random order per question, and whether the answer was right, per run."""
    rows = parquet.read_table(folder / "cascade_votes" / "votes.parquet").to_pylist()
    runs, rng = {}, np.random.default_rng(0)
    for row in rows:
        if row["n_samples"] < 20:
            continue
        agree = round(row["agreement"] * row["n_samples"])
        votes = np.arange(row["n_samples"]) < agree
        name = f"{row['dataset']} {row['model']} {row['run']}"
        seen, right = runs.setdefault(name, ([], []))
        seen.append(rng.choice(votes, K, replace=False))
        right.append(bool(row["majority_correct"]))
    return {name: (np.array(seen), np.array(right)) for name, (seen, right) in runs.items()}


def verdicts_used(verifier, next_step, said):
    """Drive the verifier on these verdicts; how many it took, and what the router does then."""
    replies = [
        Reply(AIMessage(word), Verdict(rationale="", verdict=word))
        for word in ("Correct" if verdict else "Incorrect" for verdict in said)
    ]
    case = Case([HumanMessage("q")], AIMessage("a"), Candidate("weak"), next_step)
    steps, taken = verifier.evaluate(case), 0
    try:
        calls = next(steps)
        while True:
            taken += len(calls)
            calls = steps.send(replies[taken - len(calls) : taken])
    except StopIteration as stop:
        return taken, next_step(stop.value)


def measure(runs):
    """Verdicts taken and steps that agree, over all runs, models and thresholds, per risk."""
    totals = {risk: np.zeros(3) for risk in RISKS}
    settings = 0
    for seen, right in tqdm(runs.values(), file=sys.stderr):
        train = np.arange(len(seen)) % 2 == 0
        scores = seen[train].mean(axis=1)
        sequences, times = np.unique(seen[~train], axis=0, return_counts=True)
        for make in MODELS.values():
            model = make().fit(scores, right[train])
            for threshold in THRESHOLDS:
                policy = ConfidenceThreshold(model, threshold=threshold)
                next_step = lru_cache(maxsize=None)(Loop(policy, SITUATION).step_after)
                if len({next_step(Evaluation(c / K)) for c in range(K + 1)}) == 1:
                    continue
                settings += 1
                for risk in RISKS:
                    verifier = SelfEvaluator(K, adaptive=True, risk=risk).expecting(scores)
                    for said, count in zip(sequences, times, strict=True):
                        used, step = verdicts_used(verifier, next_step, said)
                        same = step == next_step(Evaluation(float(said.mean())))
                        totals[risk] += count * np.array([1, used / K, same])
    return settings, totals


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--quick", action="store_true", help="four of the runs")
    args = parser.parse_args()
    folder = shared_data_folder()
    figures = every_source(folder, quick=args.quick)
    for name, figure in figures.items():
        for risk, got in figure["by_risk"].items():
            print(f"{name}, risk {risk}: {got['verdicts_used']:.1%} of the verdicts, "
                  f"{got['same_step']:.2%} of the same steps")  # fmt: skip
    if folder is None:
        print("The recorded votes are not at ../shared/data (or $LLM_ROUTER_SHARED_DATA).")
    if args.json:
        print(json.dumps(figures))


def every_source(folder, *, quick):
    """The figures of the shipped self-evaluations and, where they are at hand, of the votes."""
    sources = {"self-evaluations of local models": self_evaluations()}
    if folder is not None:
        runs = votes(folder)
        sources["votes of samples"] = dict(list(runs.items())[::4]) if quick else runs
    return {name: report(runs) for name, runs in sources.items()}


def report(runs):
    """The figures of one source, in all and per risk."""
    settings, totals = measure(runs)
    by_risk = {
        str(risk): {
            "verdicts_used": round(total[1] / total[0], 4),
            "same_step": round(total[2] / total[0], 4),
        }
        for risk, total in totals.items()
    }
    return {"runs": len(runs), "settings": settings, "by_risk": by_risk}


if __name__ == "__main__":
    main()
