"""The main job on real labelled data: fit, calibrate, answer unseen questions, count the savings.

ZeroEval's recorded answers stand for the models, so that no key and no network is needed; what
routes them is the real `ChatLLMRouter` and a real compiled LangGraph cascade.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig

from langchain_llm_router.data import Outcomes, SelfEvaluations, split_indices
from langchain_llm_router.data.zeroeval import ZeroEval
from langchain_llm_router.estimators.neighbors import NearestNeighbors
from langchain_llm_router.evaluation import Replay, best_single, oracle, replay
from langchain_llm_router.evaluation.metrics import Hull, random_mix_hull
from langchain_llm_router.policies.confidence import ConfidenceThreshold
from langchain_llm_router.policies.observation import KernelDensity
from langchain_llm_router.policies.one_shot import Utility
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.router import create_cascade
from langchain_llm_router.router.chat import ChatLLMRouter, route_of
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.arrays import Floats
from langchain_llm_router.types.progress import Watch, track
from langchain_llm_router.verification import Agreement, same_answer

__all__ = ["Demo", "FittedCascade", "FittedRoute", "Strategy"]

POOL = ("gemini-1.5-flash", "deepseek-v2.5", "gpt-4o-mini", "llama-3.1-70b", "claude-3.5-sonnet")
DRAFTER, STRONG = "gpt-4o-mini", "claude-3.5-sonnet"
PEERS = ("gemini-1.5-flash", "deepseek-v2.5", "llama-3.1-70b")
LAMBDAS = tuple(np.geomspace(1e3, 0.3, 40))

_P = TypeVar("_P", bound=Policy)


@dataclass(frozen=True)
class FittedRoute:
    """The one-shot route: a k-NN estimator and a calibrated λ."""

    router: ChatLLMRouter
    estimator: NearestNeighbors
    policy: Utility
    expected_cost_usd: Floats


@dataclass(frozen=True)
class FittedCascade:
    """The cascade: a draft, peers to agree with, and a calibrated threshold."""

    peers: tuple[str, ...]
    policy: ConfidenceThreshold
    evaluations: SelfEvaluations


@dataclass(frozen=True)
class Strategy:
    """One line of the table: quality and cost of every test row.

    Attributes:
        name: What it is called.
        quality: Quality per row, of shape (n_rows,).
        cost_usd: Cost per row, same shape.
        shares: Calls per query and model; None where it makes no sense.
        routed: Whether savings are to be counted.
    """

    name: str
    quality: Floats
    cost_usd: Floats
    shares: dict[str, float] | None = None
    routed: bool = False


class Demo(CheckedArguments):
    """Splits the table and takes every step of the demo.

    Args:
        seed: Another seed, another split.

    Attributes:
        table: The recorded answers.
        train: Rows to fit on (a quarter).
        validation: Rows to calibrate on (a quarter).
        test: Rows that nothing has seen (half).
    """

    def __init__(self, seed: int = 0) -> None:
        self.table = ZeroEval.load()
        self.outcomes = self.table.outcomes.select(POOL)
        parts = split_indices(len(self.outcomes), (0.25, 0.25, 0.5), seed=seed)
        self.train, self.validation, self.test = parts

    @property
    def unseen(self) -> Outcomes:
        """The test rows, every model of the pool."""
        return self.outcomes.take(self.test)

    def fit_route(self) -> FittedRoute:
        """Fit k-NN on the training rows, then find the λ that keeps quality at the least cost."""
        known = self.outcomes.take(self.train)
        estimator = NearestNeighbors().fit(known)
        cost = known.mean_cost_usd
        assert cost is not None
        held = self.outcomes.take(self.validation)
        predicted = estimator.predict(held.queries)

        def tried() -> Iterable[tuple[Utility, Replay]]:
            for lambda_ in LAMBDAS:
                policy = Utility(cost=float(lambda_))
                yield policy, replay(policy, predicted, held, expected_cost_usd=cost)

        policy = _cheapest_as_good(tried(), held)
        candidates = self.table.candidates(POOL, known=known)
        router = ChatLLMRouter(candidates=candidates, estimator=estimator, policy=policy)
        return FittedRoute(router, estimator, policy, cost)

    def fit_cascade(self) -> FittedCascade:
        """Choose peers and threshold that keep quality at the least cost."""
        columns = self.outcomes.select((DRAFTER, STRONG))
        held = columns.take(self.validation)
        settings: dict[ConfidenceThreshold, tuple[tuple[str, ...], SelfEvaluations]] = {}

        def tried() -> Iterable[tuple[ConfidenceThreshold, Replay]]:
            for n in range(1, len(PEERS) + 1):
                for peers in combinations(PEERS, n):
                    said = self.table.agreement(
                        DRAFTER, peers, columns.candidates, same=same_answer
                    )
                    seen = said.take(self.train).confidence[:, 0]
                    model = KernelDensity().fit(seen, columns.quality[self.train, 0] == 1)
                    levels = {model.p_good(i / n) for i in range(n + 1)}
                    for threshold in sorted(levels):
                        policy = ConfidenceThreshold(model, threshold=threshold)
                        settings[policy] = (peers, said)
                        yield (
                            policy,
                            replay(policy, None, held, evaluations=said.take(self.validation)),
                        )

        policy = _cheapest_as_good(tried(), held)
        peers, said = settings[policy]
        return FittedCascade(peers, policy, said)

    def answer_with_route(
        self, route: FittedRoute, watch: Watch | None = None
    ) -> list[dict[str, Any]]:
        """Answer the test questions through the chat model; the decision records."""
        questions = track(self._questions(), "answering through ChatLLMRouter", watch)
        return [_record(route.router.invoke(question)) for question in questions]

    def answer_with_cascade(
        self, cascade: FittedCascade, watch: Watch | None = None
    ) -> list[dict[str, Any]]:
        """Answer the test questions through the compiled LangGraph cascade."""
        known = self.table.outcomes.take(self.train)
        graph = create_cascade(
            self.table.candidates((DRAFTER, STRONG), known=known),
            policy=cascade.policy,
            verifier=Agreement(self.table.candidates(cascade.peers)),
        ).compile()
        # The peers answer from a table: a thread for each would only wait for the next.
        config = RunnableConfig(max_concurrency=1)
        records = []
        what = "answering through the LangGraph cascade"
        for question in track(self._questions(), what, watch):
            state = graph.invoke({"messages": [HumanMessage(question)]}, config)
            records.append(_record(state["messages"][-1]))
        return records

    def cascade_router(self) -> ChatLLMRouter:
        """The calibrated cascade as a chat model."""
        cascade = self.fit_cascade()
        return ChatLLMRouter(
            candidates=self.table.candidates((DRAFTER, STRONG)),
            policy=cascade.policy,
            verifier=Agreement(self.table.candidates(cascade.peers)),
        )

    def _questions(self) -> list[str]:
        return list(self.unseen.queries)

    def live(
        self, name: str, records: Sequence[dict[str, Any]], peers: Sequence[str] = ()
    ) -> Strategy:
        """A strategy from the records of live answers."""
        unseen = self.unseen
        columns = list(POOL)
        accepted = [columns.index(record["candidate"]) for record in records]
        calls = dict.fromkeys(POOL, 0.0)
        for record in records:
            for attempt in record["attempts"]:
                calls[attempt["candidate"]] += 1 / len(records)
                if attempt.get("verified"):
                    for peer in peers:
                        calls[peer] += 1 / len(records)
        return Strategy(
            name,
            unseen.quality[np.arange(len(records)), accepted],
            np.array([record["cost_usd"] for record in records]),
            calls,
            routed=True,
        )

    def baselines(self) -> list[Strategy]:
        """Every model alone, and the oracle."""
        unseen = self.unseen
        assert unseen.cost_usd is not None
        rows, chosen = np.arange(len(unseen)), oracle(unseen)
        alone = [
            Strategy(name, unseen.quality[:, j], unseen.cost_usd[:, j], {name: 1.0})
            for j, name in enumerate(POOL)
        ]
        shares = np.bincount(chosen, minlength=len(POOL)) / len(unseen)
        perfect = Strategy(
            "oracle",
            unseen.quality[rows, chosen],
            unseen.cost_usd[rows, chosen],
            {name: float(share) for name, share in zip(POOL, shares, strict=True)},
        )
        return [*alone, perfect]

    def hull(self) -> Hull:
        """What randomly mixing single models reaches on the test rows."""
        unseen = self.unseen
        assert unseen.mean_cost_usd is not None
        return random_mix_hull(unseen.mean_cost_usd, unseen.quality.mean(axis=0))

    def best(self) -> Strategy:
        """The best single model on the test rows: what routing has to match."""
        return self.baselines()[best_single(self.unseen)]


def _record(message: AIMessage) -> dict[str, Any]:
    record = route_of(message)
    assert record is not None
    return record


def _cheapest_as_good(tried: Iterable[tuple[_P, Replay]], held: Outcomes) -> _P:
    """The cheapest setting that is at least as good as the best single model on held-out rows."""
    bar = float(held.quality.mean(axis=0).max())
    results = list(tried)
    good = [(done.cost_usd.mean(), i) for i, (_, done) in enumerate(results)
            if done.mean_quality >= bar]  # fmt: skip
    if not good:
        # Nothing reaches the bar: keep the best quality, and let the table say so.
        return max(results, key=lambda result: result[1].mean_quality)[0]
    return results[min(good)[1]][0]
