"""The explanation of a router's decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from langchain_core.messages import BaseMessage, HumanMessage

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.data.embeddings import embed
from langchain_llm_router.estimators.memory_based import MemoryBasedEstimator
from langchain_llm_router.evaluation.answer_beliefs import answer_belief
from langchain_llm_router.evaluation.explanation import (
    ArmTerms,
    Explanation,
    Neighbor,
    Outlook,
    StepTaken,
)
from langchain_llm_router.evaluation.flips import describe_flip, knob_of, spans
from langchain_llm_router.history.retraced import without_verdict
from langchain_llm_router.loop.answer_numbers import number_group
from langchain_llm_router.loop.arms import begin, build_arms
from langchain_llm_router.loop.loop import Loop, next_decision, observe
from langchain_llm_router.loop.record import verdict_lines
from langchain_llm_router.policies import Policy
from langchain_llm_router.router.chat import ChatLLMRouter
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.router.sensitivity import Confinement, SensitivityOperation
from langchain_llm_router.types import Attempt, Candidate, Decision, Situation
from langchain_llm_router.types.options import RoutingOptions
from langchain_llm_router.verification.verifier import standard_error

__all__ = ["explain", "recorded_attempts"]

_N_SAMPLES = 8
_EMBEDDED_AT_ONCE = 2048


def explain(
    router: ChatLLMRouter | SavedRouter,
    query: str | Sequence[BaseMessage],
    *,
    attempts: Sequence[Attempt] = (),
    training: Outcomes | None = None,
    n_neighbors: int = 5,
    options: RoutingOptions | Mapping[str, object] | str | None = None,
) -> Explanation:
    """Explain a router's decisions on a query, without calling any candidate.

    Args:
        router: A live or saved router.
        query: The query. For a live router it may be a conversation, e.g. one in a tool loop.
        attempts: Results of candidates and verifiers, e.g. the `attempts` of a decision record or
            `recorded_attempts`. Without them, a cascade is explained up to its first answer, with
            the decision after each possible score.
        training: Training data, whose most similar queries are shown if the decision is made from
            predictions of an estimator that looks them up. For a saved router, only rows that it
            was fitted on are used.
        n_neighbors: Number of similar queries.
        options: Routing options of the request, as under `configurable["llm_router"]`.

    Raises:
        NoCandidateError: If no candidate may be asked.
        TypeError: If a saved router is given a conversation.
    """
    policy = router.parts.policy if isinstance(router, ChatLLMRouter) else router.policy
    situation = _first_situation(router, query, RoutingOptions.parse(options))
    text = situation.query
    decisions = _replay_decisions(policy, situation, attempts)
    scored = [pair for pair in decisions if len(pair[1].scores) > 0] or decisions
    if training is not None and isinstance(router, SavedRouter):
        training = training.take(np.flatnonzero(router.knows(training.queries)))
    estimator = router.estimator
    nearest: tuple[Neighbor, ...] = ()
    predicts = len(scored[-1][1].scores) > 0
    if training is not None and predicts and isinstance(estimator, MemoryBasedEstimator):
        nearest = _nearest(estimator, text, training, n_neighbors)
    return Explanation(
        query=text,
        steps=tuple(
            _with_verdicts(_step_taken(policy, before, decision), attempts)
            for before, decision in decisions
        ),
        arms=_terms(policy, *scored[-1]),
        neighbors=nearest,
        outlook=_outlook(policy, *decisions[0]),
        answered=len(attempts) > 0,
        score=_first_score(decisions),
        gaussians=_gaussians(decisions[-1][0].attempts),
        answers=answer_belief(*scored[-1]),
        sensitive=situation.sensitive,
    )


def _step_taken(policy: Policy, situation: Situation, decision: Decision) -> StepTaken:
    """Add the choices at other settings, and to the decision the nearest, unless it names one."""
    step = StepTaken(decision, knob_of(policy, situation), spans(policy, situation))
    if decision.flip is not None or step.knob is None or len(step.flips) == 0:
        return step
    now = [
        s for s in step.spans if s.low <= step.knob.value <= (np.inf if s.high is None else s.high)
    ]
    if (decision.action, decision.candidate) not in [span.choice for span in now]:
        # It was decided without the policy, e.g. because the answer was final.
        return step
    return replace(step, decision=replace(decision, flip=describe_flip(step.knob, step.flips[0])))


def _with_verdicts(step: StepTaken, attempts: Sequence[Attempt]) -> StepTaken:
    """Add the verdicts with their rationales to a verification."""
    decision = step.decision
    for attempt in attempts if decision.action == "verify" else ():
        if attempt["candidate"] == decision.candidate and attempt.get("rationales"):
            return replace(step, verdicts=tuple(verdict_lines(attempt)))
    return step


def recorded_attempts(
    outcomes: Outcomes, row: int, evaluations: SelfEvaluations | None = None
) -> list[Attempt]:
    """Convert one row of recorded tables to attempts, one per candidate."""
    attempts = []
    for j, name in enumerate(outcomes.candidates):
        cost = None if outcomes.cost_usd is None else outcomes.cost_usd[row, j]
        attempt = Attempt(candidate=name, cost_usd=_none_if_nan(cost))
        tokens = None if outcomes.output_tokens is None else outcomes.output_tokens[row, j]
        if (n_tokens := _none_if_nan(tokens)) is not None:
            attempt["output_tokens"] = round(n_tokens)
        if evaluations is not None:
            k = list(evaluations.candidates).index(name)
            spent = None if evaluations.cost_usd is None else evaluations.cost_usd[row, k]
            attempt["verified"] = True
            attempt["confidence"] = _none_if_nan(evaluations.confidence[row, k])
            if evaluations.verdicts is not None:
                verdicts = [
                    None if np.isnan(it) else bool(it) for it in evaluations.verdicts[row, k]
                ]
                attempt["standard_error"] = standard_error(attempt["confidence"], verdicts)
            attempt["verification_cost_usd"] = _none_if_nan(spent)
            if evaluations.answer_groups is not None:
                group = int(evaluations.answer_groups[row, k])
                attempt["answer_group"] = None if group < 0 else group
        attempts.append(attempt)
    return attempts


def _none_if_nan(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)


def _first_situation(
    router: ChatLLMRouter | SavedRouter,
    query: str | Sequence[BaseMessage],
    options: RoutingOptions,
) -> Situation:
    if isinstance(router, ChatLLMRouter):
        return router.situation(query, {"configurable": {"llm_router": options}})
    if not isinstance(query, str):
        msg = (
            "`query` must be a text for a saved router, which reads no conversations: load it with "
            f"`ChatLLMRouter.load`, got {type(query).__name__}."
        )
        raise TypeError(msg)
    pool = [
        Candidate(name, expected_cost_usd=router.expected_cost_usd.get(name))
        for name in router.candidates
    ]
    found, closed, leaves_out = None, {}, None
    if router.sensitive is not None:
        found = SensitivityOperation(router.sensitive, [HumanMessage(query)], {}, {}).perform()
        # The judges that it may name are not part of a saved router.
        named = [name for name in router.sensitive.candidates if name in router.candidates]
        confinement = Confinement(replace(router.sensitive, candidates=named), pool, None)
        closed = confinement.closed(found)
        leaves_out = None if found is None else confinement.leaves_out(router.estimator)
    predicted = router.predict([query]) if leaves_out is None else None
    quality = None if predicted is None else predicted[0].tolist()
    situation = begin(query, build_arms(pool, quality, query), options, closed=closed)
    return replace(situation, sensitive=found)


def _replay_decisions(
    policy: Policy, situation: Situation, attempts: Sequence[Attempt]
) -> list[tuple[Situation, Decision]]:
    """Return each situation and its decision, up to the first one without a recorded attempt."""
    attempt_of = {attempt["candidate"]: attempt for attempt in attempts}
    groups = {name: attempt.get("answer_group") for name, attempt in attempt_of.items()}
    decisions: list[tuple[Situation, Decision]] = []
    loop = Loop(policy, situation)
    while True:
        before = loop.situation
        decision = loop.next()
        if decision is None:
            break
        decisions.append((before, decision))
        attempt = attempt_of.get(decision.candidate)
        if decision.ends or attempt is None:
            break
        if decision.action != "verify":
            attempt = without_verdict(attempt)
        elif attempt.get("answer_group") is not None:
            # The attempts may be recorded in another order.
            group = number_group(groups, loop.situation.attempts, decision.candidate)
            attempt = {**attempt, "answer_group": group}
        loop.saw(attempt)
    return decisions


def _first_score(decisions: Sequence[tuple[Situation, Decision]]) -> float | None:
    """Return the observed score of the first answer, if it was verified."""
    attempts = decisions[-1][0].attempts
    return None if len(attempts) == 0 else attempts[0].get("confidence")


def _gaussians(attempts: Sequence[Attempt]) -> dict[str, tuple[float, float | None]]:
    """Return score and standard error of each answer that has a score, by its candidate."""
    scored = {attempt["candidate"]: attempt for attempt in attempts}
    return {
        name: (score, attempt.get("standard_error"))
        for name, attempt in scored.items()
        if (score := attempt.get("confidence")) is not None
    }


def _outlook(policy: Policy, situation: Situation, decision: Decision) -> tuple[Outlook, ...]:
    """Find the decision after each score of the first answer; empty if it is not verified."""
    if not policy.verifies or decision.action != "ask" or decision.final:
        return ()
    if answer_belief(situation, decision) is not None:
        # Such a policy looks at groups of answers in place of a score.
        return ()
    asked = observe(situation, Attempt(candidate=decision.candidate, cost_usd=0.0))
    following = next_decision(policy, asked)
    if following is None or following.action != "verify":
        return ()
    outlook = []
    for score in (None, *(k / _N_SAMPLES for k in range(_N_SAMPLES + 1))):
        scored = Attempt(
            candidate=decision.candidate, cost_usd=0.0, verified=True, confidence=score
        )
        scored["verification_cost_usd"] = 0.0
        then = next_decision(policy, observe(asked, scored))
        if then is not None:
            p_good = then.confidence
            if type(policy).p_good is Policy.p_good:
                # Such a policy compares raw scores, which are no probabilities.
                p_good = None if p_good == score else p_good
            elif p_good is None:
                p_good = policy.p_good(situation, scored)
            outlook.append(Outlook(score, then.action, then.candidate, p_good))
    return tuple(outlook)


def _terms(policy: Policy, situation: Situation, decision: Decision) -> tuple[ArmTerms, ...]:
    """Compute the terms of each arm's utility, with the values at the decision."""
    arms, configured = [], policy.with_options(situation.options)
    for arm in situation.arms:
        scores = decision.scores.get(arm.candidate, {})
        quality = scores.get("p_good", scores.get("quality", arm.quality))
        cost = scores.get("cost_usd", arm.cost_usd)
        arms.append(
            ArmTerms(
                candidate=arm.candidate,
                quality=quality,
                cost_usd=cost,
                latency_s=arm.ttft_s,
                terms=configured.utility_terms(replace(arm, quality=quality, cost_usd=cost)),
                chosen=arm.candidate == decision.candidate,
                tokens_per_s=arm.tokens_per_s,
            )
        )
    return tuple(arms)


def _nearest(
    estimator: MemoryBasedEstimator, query: str, training: Outcomes, n: int
) -> tuple[Neighbor, ...]:
    """Find the nearest training queries in the estimator's embedding."""
    if len(training) == 0:
        return ()
    own = embed(estimator.embeddings_, [query])[0]
    # Some after others, because all vectors of many questions would be large.
    starts = range(0, len(training), _EMBEDDED_AT_ONCE)
    parts = [training.queries[start : start + _EMBEDDED_AT_ONCE] for start in starts]
    cosine = np.concatenate([embed(estimator.embeddings_, part) @ own for part in parts])
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
