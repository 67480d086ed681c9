"""Seams of the graph: your own node in place of one, your own function around another.

Offline it replays recorded answers of real models. With your own keys, change the line marked
below: everything else stays.
"""

from langchain_llm_router import Agreement, create_cascade, route_of
from langchain_llm_router.data import ZeroEval
from langchain_llm_router.policies import ConfidenceThreshold

recorded = ZeroEval.load()

# With real keys: pool = [Candidate(name, "provider:model") for ...], cheap, strong, and a peer.
pool = recorded.candidates(("gpt-4o-mini", "claude-3.5-sonnet", "gemini-1.5-flash"))
calls: list[str] = []


def trust_plain_numbers(state) -> float:
    """Replace `self_evaluate`: a confidence in [0, 1] for the last draft."""
    draft = state["trace"][-1]["message"]
    return 1.0 if draft.text.isdecimal() else 0.0


def count_calls(state, config, node):
    """Stand around a candidate's node: call it yourself, and return what it gave."""
    update = node.invoke(state, config)
    calls.append(update["trace"][-1]["attempt"]["candidate"])
    return update


def main() -> None:
    cheap, strong, peer = pool
    graph = create_cascade(
        [cheap, strong],
        policy=ConfidenceThreshold(threshold=0.7),
        verifier=Agreement(peers=[peer]),
        nodes={"self_evaluate": trust_plain_numbers, "claude-3.5-sonnet": count_calls},
    ).compile()
    for question in recorded.outcomes.queries[::70][:40]:
        answer = graph.invoke({"messages": [("human", question)]})["messages"][-1]
    print(route_of(answer)["nodes"])
    print(f"escalated {len(calls)} of 40")


if __name__ == "__main__":
    main()
