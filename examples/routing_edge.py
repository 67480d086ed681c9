"""A policy as the function of `add_conditional_edges`, in a LangGraph graph of your own.

Offline it replays recorded answers of real models. With your own keys, change the line marked
below: everything else stays.
"""

from langgraph.graph import END, START, MessagesState, StateGraph

from langchain_llm_router import routing_edge
from langchain_llm_router.data import ZeroEval, split_indices
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.policies import Utility

NAMES = ("gpt-4o-mini", "claude-3.5-sonnet")
recorded = ZeroEval.load()
train, test = split_indices(len(recorded.outcomes), [0.5, 0.5])
outcomes = recorded.outcomes.select(NAMES).take(train)

# With real keys: pool = [Candidate(name, "provider:model") for name in NAMES].
pool = recorded.candidates(NAMES, known=outcomes)


def ask(candidate):
    """A node of your own; what it does with the candidate is your matter."""
    return lambda state: {"messages": [candidate.model.invoke(state["messages"])]}


def main() -> None:
    estimator = NearestNeighbors(n_neighbors=50).fit(outcomes)
    # One dollar is worth 4 right answers.
    edge = routing_edge(Utility(cost=4), pool, estimator=estimator)
    graph = StateGraph(MessagesState)
    for candidate in pool:
        graph.add_node(candidate.name, ask(candidate))
        graph.add_edge(candidate.name, END)
    graph.add_conditional_edges(START, edge)
    compiled = graph.compile()
    print(compiled.get_graph().draw_mermaid(with_styles=False))
    asked = []
    for row in test[:40]:
        question = recorded.outcomes.queries[row]
        asked += [name for step in compiled.stream({"messages": [question]}) for name in step]
    print({name: asked.count(name) for name in NAMES})


if __name__ == "__main__":
    main()
