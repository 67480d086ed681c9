"""The demo on real labelled data: fit, calibrate, answer held-out questions, compute the savings.

ZeroEval's recorded answers replace the models, so that no key and no network is needed. They are
routed by an ordinary `ChatLLMRouter` and by an ordinary compiled LangGraph cascade.
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
from langchain_llm_router.evaluation import (
    Goal,
    Replay,
    Verdict,
    best_single,
    decide_verdict,
    oracle,
    replay,
    trial_of,
)
from langchain_llm_router.evaluation.metrics import Hull, random_mix_hull
from langchain_llm_router.evaluation.sweeps import Sweep, cheapest_good_enough
from langchain_llm_router.policies.answer_pool import AnswerPool
from langchain_llm_router.policies.confidence import ConfidenceThreshold
from langchain_llm_router.policies.observation import KernelDensity
from langchain_llm_router.policies.one_shot import Utility
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.router import create_cascade
from langchain_llm_router.router.chat import ChatLLMRouter, route_of
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.arrays import Floats
from langchain_llm_router.types.progress import Watch, track
from langchain_llm_router.verification import Agreement, AnswerGroups, same_answer

__all__ = [
    "DRAFTER",
    "POOL",
    "STRONG",
    "TARGET",
    "Demo",
    "FittedCascade",
    "FittedPool",
    "FittedRoute",
    "Strategy",
]

POOL = ("gemini-1.5-flash", "deepseek-v2.5", "gpt-4o-mini", "llama-3.1-70b", "claude-3.5-sonnet")
DRAFTER, STRONG = "gpt-4o-mini", "claude-3.5-sonnet"
TARGET = "quality >= best - 1 point"
_PEERS = ("gemini-1.5-flash", "deepseek-v2.5", "llama-3.1-70b")
_LAMBDAS = tuple(np.geomspace(1e3, 0.3, 40))

_TOLD = ("quality", "cost_usd")

_P = TypeVar("_P", bound=Policy)


@dataclass(frozen=True)
class FittedRoute:
    """The fitted one-shot route: a k-NN estimator and a calibrated λ."""

    router: ChatLLMRouter
    estimator: NearestNeighbors
    policy: Utility
    expected_cost_usd: Floats


@dataclass(frozen=True)
class FittedCascade:
    """The fitted cascade: the peers whose agreement is measured, and a calibrated threshold."""

    peers: tuple[str, ...]
    policy: ConfidenceThreshold
    evaluations: SelfEvaluations


@dataclass(frozen=True)
class FittedPool:
    """The fitted pool of answers, and which of the recorded answers are equal."""

    policy: AnswerPool
    evaluations: SelfEvaluations


@dataclass(frozen=True)
class Strategy:
    """A strategy in the table: its quality and cost on every test row.

    Attributes:
        name: Name of the strategy.
        quality: Quality per row, of shape (n_rows,).
        cost_usd: Cost per row in USD, same shape.
        shares: Calls per query, by model; None if not applicable.
        routed: Whether it is a router, which is judged.
    """

    name: str
    quality: Floats
    cost_usd: Floats
    shares: dict[str, float] | None = None
    routed: bool = False


class Demo(CheckedArguments):
    """The demo's data, split into three parts, and its steps.

    Args:
        seed: Seed of the random split.

    Attributes:
        table: The recorded answers.
        train: Row indices to fit on (a quarter).
        validation: Row indices to calibrate on (a quarter).
        test: Row indices that are held out (half).
    """

    def __init__(self, seed: int = 0) -> None:
        self.table = ZeroEval.load()
        self.outcomes = self.table.outcomes.select(POOL)
        parts = split_indices(len(self.outcomes), (0.25, 0.25, 0.5), seed=seed)
        self.train, self.validation, self.test = parts

    @property
    def unseen(self) -> Outcomes:
        """The test rows, with every model of the pool."""
        return self.outcomes.take(self.test)

    def fit_route(self) -> FittedRoute:
        """Fit k-NN on the training rows, then find the λ that keeps quality at the least cost."""
        training = self.outcomes.take(self.train)
        estimator = NearestNeighbors().fit(training)
        cost = training.mean_cost_usd
        assert cost is not None
        validation = self.outcomes.take(self.validation)
        predicted = estimator.predict(validation.queries)

        def replays() -> Iterable[tuple[Utility, Replay]]:
            for lambda_ in _LAMBDAS:
                policy = Utility(cost=float(lambda_))
                yield policy, replay(policy, predicted, validation, expected_cost_usd=cost)

        policy = _cheapest_policy(replays(), validation)
        candidates = self.table.candidates(POOL, known=training)
        router = ChatLLMRouter(candidates=candidates, estimator=estimator, policy=policy)
        return FittedRoute(router, estimator, policy, cost)

    def fit_cascade(self) -> FittedCascade:
        """Choose the peers and the threshold that keep quality at the least cost."""
        columns = self.outcomes.select((DRAFTER, STRONG))
        validation = columns.take(self.validation)
        settings: dict[ConfidenceThreshold, tuple[tuple[str, ...], SelfEvaluations]] = {}

        def replays() -> Iterable[tuple[ConfidenceThreshold, Replay]]:
            for n in range(1, len(_PEERS) + 1):
                for peers in combinations(_PEERS, n):
                    agreement = self.table.agreement(
                        DRAFTER, peers, columns.candidates, same=same_answer
                    )
                    scores = agreement.take(self.train).confidence[:, 0]
                    model = KernelDensity().fit(scores, columns.quality[self.train, 0] == 1)
                    levels = {model.p_good(i / n) for i in range(n + 1)}
                    evaluations = agreement.take(self.validation)
                    for threshold in sorted(levels):
                        policy = ConfidenceThreshold(model, threshold=threshold)
                        settings[policy] = (peers, agreement)
                        yield policy, replay(policy, None, validation, evaluations=evaluations)

        policy = _cheapest_policy(replays(), validation)
        peers, agreement = settings[policy]
        return FittedCascade(peers, policy, agreement)

    def fit_pool(self) -> FittedPool:
        """Fit the pool on the training rows, then find the λ that keeps quality at least cost."""
        groups = self.table.answer_groups(POOL, same=same_answer)
        policy = AnswerPool().fit(self.outcomes.take(self.train), groups.take(self.train))
        validation = self.outcomes.take(self.validation)
        tried = policy.rehearse(_LAMBDAS, validation, groups.take(self.validation))
        chosen = cheapest_good_enough(*tried, validation.quality[:, best_single(validation)])
        return FittedPool(policy.with_knob(float(_LAMBDAS[chosen])), groups)

    def answer_with_pool(
        self, pool: FittedPool, watch: Watch | None = None
    ) -> list[dict[str, Any]]:
        """Answer the test questions with the chat model, and return the decision records."""
        router = ChatLLMRouter(
            candidates=self.table.candidates(POOL, known=self.outcomes.take(self.train)),
            policy=pool.policy,
            verifier=AnswerGroups(),
        )
        questions = track(self._questions(), "pooling answers through ChatLLMRouter", watch)
        return [_record(router.invoke(question)) for question in questions]

    def pool_sweep(self, pool: FittedPool) -> Sweep:
        """Replay the pool on the test rows at every λ."""
        tried = pool.policy.rehearse(_LAMBDAS, self.unseen, pool.evaluations.take(self.test))
        return Sweep(np.array(_LAMBDAS), *tried)

    def answer_with_route(
        self, route: FittedRoute, watch: Watch | None = None
    ) -> list[dict[str, Any]]:
        """Answer the test questions with the chat model, and return the decision records."""
        questions = track(self._questions(), "answering through ChatLLMRouter", watch)
        return [_record(route.router.invoke(question)) for question in questions]

    def answer_with_cascade(
        self, cascade: FittedCascade, watch: Watch | None = None
    ) -> list[dict[str, Any]]:
        """Answer the test questions with the LangGraph cascade, and return the records."""
        training = self.table.outcomes.take(self.train)
        graph = create_cascade(
            self.table.candidates((DRAFTER, STRONG), known=training),
            policy=cascade.policy,
            verifier=Agreement(self.table.candidates(cascade.peers)),
        ).compile()
        # The peers only look answers up in a table, so more threads would not be faster.
        config = RunnableConfig(max_concurrency=1)
        records = []
        what = "answering through the LangGraph cascade"
        for question in track(self._questions(), what, watch):
            state = graph.invoke({"messages": [HumanMessage(question)]}, config)
            records.append(_record(state["messages"][-1]))
        return records

    def cascade_router(self) -> ChatLLMRouter:
        """Make a chat model of the calibrated cascade."""
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
        """Make a strategy of the decision records of live answers.

        Args:
            name: Name of the strategy.
            records: One decision record per test row.
            peers: Models that are also called in each verification.
        """
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
        """Return a strategy for every single model, and last the oracle."""
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
        """Return the cost and quality of random mixes of single models on the test rows."""
        unseen = self.unseen
        assert unseen.mean_cost_usd is not None
        return random_mix_hull(unseen.mean_cost_usd, unseen.quality.mean(axis=0))

    def verdict(self, strategy: Strategy) -> Verdict:
        """Decide whether a router keeps the demo's target on the test rows, which chose nothing."""
        return decide_verdict(trial_of(strategy, self.unseen), Goal.of(TARGET))

    def best(self) -> Strategy:
        """Return the best single model on the test rows, which routing has to match."""
        return self.baselines()[best_single(self.unseen)]


def _record(message: AIMessage) -> dict[str, Any]:
    record = route_of(message)
    assert record is not None
    return record


def _cheapest_policy(replays: Iterable[tuple[_P, Replay]], validation: Outcomes) -> _P:
    """Return the cheapest policy that is not measurably worse than the best single model."""
    policies, done = zip(*replays, strict=True)
    quality, cost = (np.array([getattr(it, name) for it in done]) for name in _TOLD)
    single = validation.quality[:, best_single(validation)]
    chosen: _P = policies[cheapest_good_enough(quality, cost, single)]
    return chosen
