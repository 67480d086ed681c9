"""The graph built: which nodes there are, and what leads where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langgraph.graph import END, START, StateGraph

from langchain_llm_router.budgets import Budgets
from langchain_llm_router.cascade.approving import APPROVE, Approving
from langchain_llm_router.cascade.calling import AskNode, VerifyNode
from langchain_llm_router.cascade.deciding import VERIFY, Deciding
from langchain_llm_router.cascade.state import CascadeMessages, CascadeState
from langchain_llm_router.cascade.turn import Turn
from langchain_llm_router.endpoints import expand_endpoints
from langchain_llm_router.engine import Engine
from langchain_llm_router.estimators.estimator import QualityEstimator
from langchain_llm_router.history import DecisionLog, Shadow
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.pool import resolve_candidate
from langchain_llm_router.resilience.live import Live
from langchain_llm_router.types import Candidate
from langchain_llm_router.verification import Verifier

__all__ = ["create_cascade"]

_PREDICT, _DECIDE = "predict", "decide"


def create_cascade(  # noqa: PLR0913 - the parts of a router, by keyword
    candidates: Sequence[Candidate | BaseChatModel | str],
    *,
    policy: Policy,
    verifier: Verifier | None = None,
    estimator: QualityEstimator | None = None,
    tools: Sequence[Any] = (),
    approve: bool | Callable[[dict[str, Any]], bool] = False,
    sticky: bool | Literal["escalate"] = False,
    live: Live | None = None,
    budgets: Budgets | None = None,
    log: DecisionLog | None = None,
    shadow: Shadow | None = None,
    exceptions_to_handle: tuple[type[Exception], ...] = (Exception,),
) -> StateGraph[CascadeState, None, CascadeMessages, CascadeMessages]:
    """Build the cascade; compile it with your own checkpointer, or add it to a larger graph.

    Args:
        candidates: From cheap to strong; each becomes a node of its own name.
        policy: Whom to ask, whether to verify, when to accept.
        verifier: Judges answers for policies that verify.
        estimator: Predicts each candidate's quality.
        tools: Bound to whoever is asked.
        approve: Interrupt before a draft is escalated (needs a checkpointer): for all, or where a
            function of the proposal says so. Resume with True, or with False to keep the draft.
        sticky: Stay with the candidate that gave the conversation's last answer; `"escalate"`:
            choose anew each time, but never below the strongest that has answered.
        live: Measures every call, leaves failing and slow endpoints, limits and repeats calls.
        budgets: Hard limits on what may be spent; every node pays for itself.
        log: Gets one line per request, however it ends.
        shadow: A second router that decides beside this one and answers nothing.
        exceptions_to_handle: Failures of a candidate that are observations for the policy.

    Returns:
        An uncompiled `StateGraph`, messages in and messages out.

    Raises:
        ValueError: If candidates, policy, verifier and estimator do not fit together.
    """
    engine = Engine(
        candidates=tuple(resolve_candidate(given) for given in expand_endpoints(candidates)),
        policy=policy,
        estimator=estimator,
        verifier=verifier,
        live=live,
        budgets=budgets,
        log=log,
        shadow=shadow,
        handled=exceptions_to_handle,
        sticky=sticky,
    )
    taken = sorted(set(engine.names) & {_PREDICT, _DECIDE, VERIFY, APPROVE, START, END})
    if taken:
        msg = f"Candidates cannot be named {taken}: the graph has nodes of those names."
        raise ValueError(msg)
    turn = Turn(engine, tuple(tools))
    deciding = Deciding(turn)
    approving = Approving(turn, deciding, approve=approve)
    graph = StateGraph(CascadeState, input_schema=CascadeMessages, output_schema=CascadeMessages)
    graph.add_node(_PREDICT, turn.node(deciding.predict, deciding.apredict))
    graph.add_node(_DECIDE, turn.node(deciding.decide, deciding.adecide))
    graph.add_edge(START, _PREDICT)
    graph.add_edge(_PREDICT, _DECIDE)
    targets = [*engine.names, END]
    for name in engine.names:
        ask = AskNode(turn, name)
        graph.add_node(name, turn.node(ask.ask, ask.aask))
        graph.add_edge(name, _DECIDE)
    if policy.verifies:
        verify = VerifyNode(turn)
        graph.add_node(VERIFY, turn.node(verify.verify, verify.averify))
        graph.add_edge(VERIFY, _DECIDE)
        targets.append(VERIFY)
    if approve is not False:
        graph.add_node(APPROVE, approving.approve)
        graph.add_conditional_edges(APPROVE, deciding.edge, [*engine.names, END])
        targets.append(APPROVE)
    graph.add_conditional_edges(_DECIDE, approving.edge_or_approval, targets)
    return graph
