"""Does a live cascade do what its offline replay promised? On real local models.

Policies are fitted on the recorded table and replayed on the part of it that taught them nothing,
which gives intervals for what n new questions will score, cost and take. Then the same router
answers questions that were never recorded, live, through `ChatLLMRouter`.

usage: python tests/benchmarks/live_vs_replay.py [--json] [--quick] [--n 200] [--keep FILE]

Needs the local servers (`tests/local_models/serve.sh`); without them it judges the answers that
`--keep` holds, or says so and ends.
"""

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from rich.console import Console
from rich.progress import Progress

from langchain_llm_router import ChatLLMRouter, route_of
from langchain_llm_router.collect import ExactMatch, Question
from langchain_llm_router.data import split_indices
from langchain_llm_router.datasets import LocalModels
from langchain_llm_router.evaluation import Replay, replay
from langchain_llm_router.observation import KernelDensity
from langchain_llm_router.policies import ConfidenceThreshold
from langchain_llm_router.saved_router import SavedRouter
from langchain_llm_router.verification import AnswerLogprob
from tests.local_models.bench import FIRST_PORT, PREAMBLE, alive, candidates
from tests.local_models.record import make_questions, make_sums

VERIFIER = "answer_logprob"
CHAIN = ("qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
ESCALATED = 0.6


def fit(data: LocalModels, teach: np.ndarray) -> SavedRouter:
    """A cascade whose threshold lets about 60 % of the teaching rows go up."""
    outcomes = data.outcomes.take(teach).select(CHAIN)
    j = list(data.outcomes.candidates).index(CHAIN[0])
    scores = data.evaluations[VERIFIER].confidence[teach, j]
    model = KernelDensity().fit(scores, outcomes.quality[:, 0] >= 0.5)
    p_good = [model.p_good(None if np.isnan(s) else float(s)) for s in scores]
    threshold = float(np.quantile(p_good, ESCALATED))
    policy = ConfidenceThreshold({CHAIN[0]: model}, threshold=threshold)
    costs = dict(zip(CHAIN, outcomes.mean_cost_usd.tolist(), strict=True))
    return SavedRouter(CHAIN, policy, None, VERIFIER, costs)


def replayed(data: LocalModels, router: SavedRouter, rows: np.ndarray) -> tuple[Replay, np.ndarray]:
    """What the router would have done on recorded rows, and the seconds its answers took."""
    columns = [list(data.outcomes.candidates).index(name) for name in CHAIN]
    evaluations = data.evaluations[VERIFIER].take(rows)
    evaluations = type(evaluations)(
        CHAIN, evaluations.confidence[:, columns], evaluations.cost_usd[:, columns]
    )
    done = replay(
        router.policy, None, data.outcomes.take(rows).select(CHAIN), evaluations=evaluations
    )
    latency_s = (data.latency_s[rows][:, columns] * done.asked).sum(axis=1)
    return done, latency_s


def predicted(values: np.ndarray, groups: np.ndarray, mix: dict[str, int], seed: int = 0) -> list:
    """Interval of the mean over new questions of the same mix: rows redrawn within each group."""
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(4000):
        # Both the recorded sample and the new one vary: redraw the first, then draw the second.
        total = 0.0
        for group, n in mix.items():
            known = values[groups == group]
            known = rng.choice(known, len(known))
            total += rng.choice(known, n).sum()
        draws.append(total / sum(mix.values()))
    low, high = np.percentile(draws, [2.5, 97.5])
    return [float(low), float(np.mean(draws)), float(high)]


def unseen(data: LocalModels, n: int) -> list[Question]:
    """Questions that were not recorded, in equal shares from both kinds, in random order."""
    known, groups = set(data.outcomes.queries), set(data.outcomes.groups)
    pools = [
        [q for q in pool if q.query not in known and q.group in groups]
        for pool in (make_questions(), make_sums(1200))
    ]
    half = min(n // 2, len(pools[0]))
    chosen = [*pools[0][:half], *pools[1][: n - half]]
    return [chosen[i] for i in np.random.default_rng(0).permutation(len(chosen))]


def answer_live(router: ChatLLMRouter, questions: list[Question], keep: Path | None) -> list[dict]:
    """Ask the live router, two questions at a time, and note what each answer was worth.

    With `keep`, rows are appended to that file, and those that are in it are not asked again.
    """
    rows = []
    if keep is not None and keep.exists():
        rows = [json.loads(line) for line in keep.read_text(encoding="utf-8").splitlines()]
    done = {row["id"] for row in rows}
    left = [question for question in questions if question.id not in done]
    with ThreadPoolExecutor(2) as threads, Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("live", total=len(questions), completed=len(rows))
        for row in threads.map(lambda question: _ask(router, question), left):
            rows.append(row)
            if keep is not None:
                with keep.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
            bar.advance(task)
    return rows


def _ask(router: ChatLLMRouter, question: Question) -> dict:
    answer = router.invoke([*PREAMBLE, ("human", question.query)])
    record = route_of(answer)
    return {
        "id": question.id,
        "quality": float(ExactMatch().matches(str(answer.text), question.reference)),
        "cost_usd": record["cost_usd"],
        "latency_s": sum(attempt["latency_s"] for attempt in record["attempts"]),
        "escalated": float(len(record["attempts"]) > 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="20 questions")
    parser.add_argument("--keep", type=Path, default=None, help="answers so far, to go on from")
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--port", type=int, default=FIRST_PORT)
    given = parser.parse_args()
    kept = given.keep is not None and given.keep.exists()
    if not alive(given.port) and not kept:
        sys.exit("The local servers do not answer: start them with tests/local_models/serve.sh.")
    data = LocalModels.load()
    teach, hold = split_indices(len(data.outcomes), (0.5, 0.5), groups=data.outcomes.queries)
    router = fit(data, teach)
    done, latency_s = replayed(data, router, hold)
    questions = unseen(data, 20 if given.quick else given.n)
    if not alive(given.port):
        lines = given.keep.read_text(encoding="utf-8").splitlines()
        answered = {json.loads(line)["id"] for line in lines}
        questions = [question for question in questions if question.id in answered]
    groups = np.array(data.outcomes.groups)[hold]
    mix = {g: sum(q.group == g for q in questions) for g in sorted(set(groups))}
    escalated = (done.asked.sum(axis=1) > 1).astype(float)
    promised = {
        name: predicted(values, groups, mix)
        for name, values in (
            ("quality", done.quality),
            ("cost_usd", done.cost_usd),
            ("escalated", escalated),
            ("latency_s", latency_s),
        )
    }
    pool = {candidate.name: candidate for candidate in candidates(given.port)}
    live = ChatLLMRouter(
        candidates=router.pool(pool), policy=router.policy, verifier=AnswerLogprob()
    )
    rows = answer_live(live, questions, given.keep)
    seen = {name: float(np.mean([row[name] for row in rows])) for name in promised}
    figures = {
        "questions": len(questions),
        "mix": mix,
        "threshold": router.policy.threshold,
        "predicted": promised,
        "live": seen,
        "within": {k: bool(v[0] <= seen[k] <= v[2]) for k, v in promised.items()},
        "rows_taught": len(teach),
        "rows_replayed": len(hold),
    }
    print(json.dumps(figures, indent=None if given.json else 2))


if __name__ == "__main__":
    main()
