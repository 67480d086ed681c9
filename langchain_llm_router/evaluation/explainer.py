"""Explain a decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.data.embeddings import LexicalEmbeddings, embed
from langchain_llm_router.estimators import QualityEstimator
from langchain_llm_router.evaluation.explanation import (
    ArmTerms,
    Explanation,
    Neighbor,
    Outlook,
    StepTaken,
)
from langchain_llm_router.evaluation.flips import knob_of, spans
from langchain_llm_router.history.retraced import without_verdict
from langchain_llm_router.loop.arms import begin, build_arms
from langchain_llm_router.loop.loop import Loop, next_decision, observe
from langchain_llm_router.policies import Policy
from langchain_llm_router.router.chat import ChatLLMRouter
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.types import Attempt, Candidate, Decision, Situation
from langchain_llm_router.types.options import RoutingOptions

__all__ = ["explain", "recorded_attempts"]

_N_SAMPLES = 8


def explain(
    router: ChatLLMRouter | SavedRouter,
    query: str,
    *,
    attempts: Sequence[Attempt] = (),
    training: Outcomes | None = None,
    n_neighbors: int = 5,
    options: RoutingOptions | Mapping[str, object] | str | None = None,
) -> Explanation:
    """Say why a router does what it does with a query; no candidate is asked.

    Args:
        router: A router, live or saved.
        query: The question.
        attempts: What the candidates answered and their verifier said, e.g. the `attempts` of a
            decision record, or `recorded_attempts`; without them a cascade is explained up to its
            first answer, with what each score of it would lead to.
        training: The data it was fitted on: the queries most like this one are shown; for a saved
            router, only rows that it has seen.
        n_neighbors: How many of these queries.
        options: The request's routing options, as under `configurable["llm_router"]`.

    Raises:
        NoCandidateError: If no candidate may be asked.
    """
    policy = router.parts.policy if isinstance(router, ChatLLMRouter) else router.policy
    situation = _first_situation(router, query, RoutingOptions.parse(options))
    walked = _walk(policy, situation, attempts)
    weighed = [pair for pair in walked if len(pair[1].scores) > 0] or walked
    knows = training
    if training is not None and isinstance(router, SavedRouter):
        knows = training.take(np.flatnonzero(router.knows(training.queries)))
    return Explanation(
        query=query,
        steps=tuple(
            StepTaken(decision, knob_of(policy, seen), spans(policy, seen))
            for seen, decision in walked
        ),
        arms=_terms(policy, *weighed[-1]),
        neighbors=() if knows is None else _nearest(router.estimator, query, knows, n_neighbors),
        outlook=() if attempts else _outlook(policy, *walked[-1]),
        answered=len(attempts) > 0,
    )


def recorded_attempts(
    outcomes: Outcomes, row: int, evaluations: SelfEvaluations | None = None
) -> list[Attempt]:
    """One row of recorded tables as attempts, one per candidate."""
    attempts = []
    for j, name in enumerate(outcomes.candidates):
        cost = None if outcomes.cost_usd is None else outcomes.cost_usd[row, j]
        attempt = Attempt(candidate=name, cost_usd=_known(cost))
        if evaluations is not None:
            k = list(evaluations.candidates).index(name)
            spent = None if evaluations.cost_usd is None else evaluations.cost_usd[row, k]
            attempt["verified"] = True
            attempt["confidence"] = _known(evaluations.confidence[row, k])
            attempt["verification_cost_usd"] = _known(spent)
        attempts.append(attempt)
    return attempts


def _known(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)


def _first_situation(
    router: ChatLLMRouter | SavedRouter, query: str, options: RoutingOptions
) -> Situation:
    if isinstance(router, ChatLLMRouter):
        return router.situation(query, {"configurable": {"llm_router": options}})
    pool = [
        Candidate(name, expected_cost_usd=router.expected_cost_usd.get(name))
        for name in router.candidates
    ]
    predicted = router.predict([query])
    quality = None if predicted is None else predicted[0].tolist()
    return begin(query, build_arms(pool, quality, query), options)


def _walk(
    policy: Policy, situation: Situation, attempts: Sequence[Attempt]
) -> list[tuple[Situation, Decision]]:
    """Every decision with the situation it was taken in, as far as the attempts go."""
    known = {attempt["candidate"]: attempt for attempt in attempts}
    walked: list[tuple[Situation, Decision]] = []
    loop = Loop(policy, situation)
    while True:
        seen = loop.situation
        decision = loop.next()
        if decision is None:
            break
        walked.append((seen, decision))
        attempt = known.get(decision.candidate)
        if decision.action == "accept" or attempt is None:
            break
        loop.saw(attempt if decision.action == "verify" else without_verdict(attempt))
    return walked


def _outlook(policy: Policy, situation: Situation, decision: Decision) -> tuple[Outlook, ...]:
    """What each score of the first answer would lead to; empty where it is not verified."""
    if not policy.verifies or decision.action != "ask" or decision.final:
        return ()
    asked = observe(situation, Attempt(candidate=decision.candidate, cost_usd=0.0))
    following = next_decision(policy, asked)
    if following is None or following.action != "verify":
        return ()
    found = []
    for score in (None, *(k / _N_SAMPLES for k in range(_N_SAMPLES + 1))):
        read = Attempt(candidate=decision.candidate, cost_usd=0.0, verified=True, confidence=score)
        read["verification_cost_usd"] = 0.0
        then = next_decision(policy, observe(asked, read))
        if then is not None:
            found.append(Outlook(score, then.action, then.candidate, then.confidence))
    return tuple(found)


def _terms(policy: Policy, situation: Situation, decision: Decision) -> tuple[ArmTerms, ...]:
    """The terms of each arm's utility, with what was known at the decision."""
    found, settled = [], policy.with_options(situation.options)
    for arm in situation.arms:
        scores = decision.scores.get(arm.candidate, {})
        quality = scores.get("p_good", scores.get("quality", arm.quality))
        cost = scores.get("cost_usd", arm.cost_usd)
        found.append(
            ArmTerms(
                candidate=arm.candidate,
                quality=quality,
                cost_usd=cost,
                latency_s=arm.ttft_s,
                terms=settled.utility_terms(replace(arm, quality=quality, cost_usd=cost)),
                chosen=arm.candidate == decision.candidate,
            )
        )
    return tuple(found)


def _nearest(
    estimator: QualityEstimator | None, query: str, training: Outcomes, n: int
) -> tuple[Neighbor, ...]:
    """The nearest training queries, in the estimator's own embedding if it has one."""
    if len(training) == 0:
        return ()
    own = getattr(estimator, "embeddings_", None)
    embeddings = own if own is not None else LexicalEmbeddings().fit(training.queries)
    vectors = embed(embeddings, [query, *training.queries])
    cosine = vectors[1:] @ vectors[0]
    order = np.argsort(-cosine, kind="stable")[:n]
    names = training.candidates
    return tuple(
        Neighbor(
            training.queries[i],
            float(cosine[i]),
            {name: float(q) for name, q in zip(names, training.quality[i], strict=True)},
        )
        for i in order
    )
