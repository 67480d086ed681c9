"""A person approves the expensive call: the cascade stops before it escalates.

Offline it replays recorded answers of real models. With your own keys, change the line marked
below. Here the first escalation is declined and the next approved, without waiting for anybody.
"""

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from langchain_llm_router import Agreement, create_cascade, route_of
from langchain_llm_router.data import ZeroEval
from langchain_llm_router.policies import ConfidenceThreshold

recorded = ZeroEval.load()

# With real keys: pool = [Candidate(name, "provider:model") for ...], cheap, strong, and a peer.
pool = recorded.candidates(("gpt-4o-mini", "claude-3.5-sonnet", "gemini-1.5-flash"))


def main() -> None:
    cheap, strong, peer = pool
    graph = create_cascade(
        [cheap, strong],
        policy=ConfidenceThreshold(threshold=0.7),
        verifier=Agreement(peers=[peer]),
        approve=lambda proposal: (proposal["expected_cost_usd"] or 0) > 0.0001,
    ).compile(checkpointer=InMemorySaver())

    approvals = iter([False, True])
    for thread, question in enumerate(recorded.outcomes.queries[:40]):
        config = {"configurable": {"thread_id": str(thread)}}
        state = graph.invoke({"messages": [("human", question)]}, config)
        if "__interrupt__" not in state:
            continue
        proposal = state["__interrupt__"][0].value
        print(f"draft: {proposal['draft'][-50:]!r}")
        print(f"       {proposal['reason']}; asking {proposal['candidate']} "
              f"costs about {proposal['expected_cost_usd']:.4f} USD")  # fmt: skip
        approved = next(approvals)
        answer = graph.invoke(Command(resume=approved), config)["messages"][-1]
        print(f"approved: {approved}  ->  answered by {route_of(answer)['candidate']}")
        if approved:
            break


if __name__ == "__main__":
    main()
