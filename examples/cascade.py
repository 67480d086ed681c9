"""Draft with a cheap model, keep the draft if other cheap models agree, escalate otherwise.

Offline it replays recorded answers of real models. With your own keys, change the line marked
below: everything else stays.
"""

from langchain_llm_router import Agreement, create_cascade, route_of
from langchain_llm_router.data import ZeroEval
from langchain_llm_router.policies import ConfidenceThreshold

NAMES = ("gpt-4o-mini", "claude-3.5-sonnet")
PEERS = ("gemini-1.5-flash", "deepseek-v2.5")
recorded = ZeroEval.load()

# With real keys: pool = [Candidate(name, "provider:model") for ...], cheap and strong, then peers.
pool = recorded.candidates((*NAMES, *PEERS))


def main() -> None:
    candidates, peers = pool[: len(NAMES)], pool[len(NAMES) :]
    graph = create_cascade(
        candidates, policy=ConfidenceThreshold(threshold=0.7), verifier=Agreement(peers=peers)
    ).compile()
    print(graph.get_graph().draw_mermaid(with_styles=False))

    question = recorded.outcomes.queries[3]
    for event in graph.stream({"messages": [("human", question)]}, stream_mode="custom"):
        detail = event.get("reason") or event.get("text") or event.get("verdicts")
        print(f"{event['event']:9s} {event['candidate']:18s} {str(detail)[:60]}")

    kept = 0
    for question in recorded.outcomes.queries[:40]:
        answer = graph.invoke({"messages": [("human", question)]})["messages"][-1]
        kept += route_of(answer)["candidate"] == NAMES[0]
    print(f"kept {kept} of 40 drafts; the others went to {NAMES[1]}")


if __name__ == "__main__":
    main()
