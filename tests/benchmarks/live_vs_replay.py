"""Does a live cascade do what its offline replay promised? On real local models.

Policies are fitted on the recorded table and replayed on the part of it that taught them nothing,
which gives intervals for what n new questions will score and cost. Seconds are another matter: the
table was recorded on a machine under varying load. So a fresh sample of questions is timed first,
on the same servers under the same load, and the interval of the latency comes from replaying on
these. Then the same router answers questions that are in neither, live, through `ChatLLMRouter`.
Timing and answering ask one question at a time.

usage: python tests/benchmarks/live_vs_replay.py [--json] [--quick] [--n 200] [--fresh 60]
       [--keep FILE] [--port P]

Needs the local servers (`tests/support/local_models/serve.sh`); without them it judges the answers
that `--keep` holds, or says so and ends. What was timed is kept beside it, in FILE.timed.jsonl.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from rich.console import Console
from rich.progress import Progress

from langchain_llm_router import ChatLLMRouter, route_of
from langchain_llm_router.collect import (
    Collected,
    ExactMatch,
    Limits,
    Question,
    TerminalWatcher,
    collect,
    load_journal,
)
from langchain_llm_router.data import LocalModels, Outcomes, SelfEvaluations, split_indices
from langchain_llm_router.evaluation import Replay, replay
from langchain_llm_router.policies import ConfidenceThreshold
from langchain_llm_router.policies.observation import KernelDensity
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.types import Candidate
from langchain_llm_router.verification import AnswerLogprob
from tests.support.local_models.bench import FIRST_PORT, PREAMBLE, alive, candidates
from tests.support.local_models.record import make_questions, make_sums

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


def replayed(router: SavedRouter, outcomes: Outcomes, evaluations: SelfEvaluations) -> Replay:
    """What the router would have done on recorded rows."""
    chosen = evaluations.select(CHAIN)
    return replay(router.policy, None, outcomes.select(CHAIN), evaluations=chosen)


def timed(pool: list[Candidate], questions: list[Question], folder: Path, name: str) -> Collected:
    """Time every model on fresh questions, one model and one question at a time."""
    journals = [folder / f"{name}-{candidate.name}.jsonl" for candidate in pool]
    for candidate, journal in zip(pool, journals, strict=True):
        with TerminalWatcher(yes=True, without_prices=True) as watcher:
            collect(
                questions,
                [candidate],
                journal=journal,
                grader="exact",
                preamble=PREAMBLE,
                limits=Limits(concurrency=1),
                watcher=watcher,
            )
    return load_journal(*journals)


def kind(group: str) -> str:
    """Sums are answered in another time than multiple choice questions, which are all alike."""
    return "sums" if group == "sums" else "choice"


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


def unseen(data: LocalModels, n: int, n_fresh: int) -> tuple[list[Question], list[Question]]:
    """Questions that were not recorded: n to answer live and others to time, half of them sums."""
    known, groups = set(data.outcomes.queries), set(data.outcomes.groups)
    choices, sums = (
        [q for q in pool if q.query not in known and q.group in groups]
        for pool in (make_questions(), make_sums(1200))
    )
    for_live = min(n // 2, len(choices) * n // (n + n_fresh))
    live = [*choices[:for_live], *sums[: n - for_live]]
    left = choices[for_live:][: n_fresh // 2]
    fresh = [*left, *sums[n - for_live :][: n_fresh - len(left)]]
    return [live[i] for i in np.random.default_rng(0).permutation(len(live))], fresh


def answer_live(router: ChatLLMRouter, questions: list[Question], keep: Path | None) -> list[dict]:
    """Ask the live router, one question at a time, and note what each answer was worth.

    With `keep`, rows are appended to that file, and those that are in it are not asked again.
    """
    rows = []
    if keep is not None and keep.exists():
        rows = [json.loads(line) for line in keep.read_text(encoding="utf-8").splitlines()]
    ids = {question.id for question in questions}
    rows = [row for row in rows if row["id"] in ids]
    done = {row["id"] for row in rows}
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("live", total=len(questions), completed=len(rows))
        for question in questions:
            if question.id in done:
                continue
            rows.append(_ask(router, question))
            if keep is not None:
                with keep.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
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


def by_group(
    escalated: np.ndarray, groups: np.ndarray, rows: list[dict], questions: list[Question]
) -> dict[str, dict]:
    """How often answers went up, as replayed and as it was live: where the two part, if they do."""
    group_of = {question.id: question.group for question in questions}
    found = {}
    for group in sorted(set(group_of.values())):
        live = [row["escalated"] for row in rows if group_of[row["id"]] == group]
        recorded = escalated[groups == group]
        found[group] = {
            "replayed": float(recorded.mean()) if len(recorded) else None,
            "live": float(np.mean(live)) if live else None,
            "n_replayed": len(recorded),
            "n_live": len(live),
        }
    return found


def count(labels: list[str]) -> dict[str, int]:
    return {label: labels.count(label) for label in sorted(set(labels))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="20 questions, 10 to time")
    parser.add_argument("--keep", type=Path, default=None, help="answers so far, to go on from")
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--fresh", type=int, default=60, help="questions to time first")
    parser.add_argument("--port", type=int, default=FIRST_PORT, help="of the first of the models")
    given = parser.parse_args()
    answering = alive(given.port, CHAIN)
    if not answering and not (given.keep is not None and given.keep.exists()):
        sys.exit("No local server answers: start them with tests/support/local_models/serve.sh.")
    data = LocalModels.load()
    n, n_fresh = (20, 10) if given.quick else (given.n, given.fresh)
    questions, fresh = unseen(data, n, n_fresh)
    teach, hold = split_indices(len(data.outcomes), (0.5, 0.5), groups=data.outcomes.queries)
    router = fit(data, teach)
    pool = {candidate.name: candidate for candidate in candidates(given.port)}
    with tempfile.TemporaryDirectory() as temporary:
        keep = given.keep
        folder = Path(temporary) if keep is None else keep.parent
        name = "timed" if keep is None else f"{keep.stem}.timed"
        if answering:
            sample = timed([pool[name] for name in CHAIN], fresh, folder, name)
        else:
            sample = load_journal(*(folder / f"{name}-{model}.jsonl" for model in CHAIN))
    if not answering:
        lines = given.keep.read_text(encoding="utf-8").splitlines()
        answered = {json.loads(line)["id"] for line in lines}
        questions = [question for question in questions if question.id in answered]
    done = replayed(router, data.outcomes.take(hold), data.evaluations[VERIFIER].take(hold))
    groups = np.array(data.outcomes.groups)[hold]
    mix = count([question.group for question in questions])
    escalated = (done.asked.sum(axis=1) > 1).astype(float)
    promised = {
        "quality": predicted(done.quality, groups, mix),
        "cost_usd": predicted(done.cost_usd, groups, mix),
        "escalated": predicted(escalated, groups, mix),
    }
    kinds = count([kind(question.group) for question in questions])
    now = replayed(router, sample.outcomes, sample.evaluations[VERIFIER])
    promised["latency_s"] = predicted(
        (sample.latency_s * now.asked).sum(axis=1),
        np.array([kind(group) for group in sample.outcomes.groups]),
        kinds,
    )
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
        "escalated_by_group": by_group(escalated, groups, rows, questions),
        "rows_taught": len(teach),
        "rows_replayed": len(hold),
        "rows_timed": len(sample.ids),
        "escalated_while_timed": float((now.asked.sum(axis=1) > 1).mean()),
    }
    print(json.dumps(figures, indent=None if given.json else 2))


if __name__ == "__main__":
    main()
