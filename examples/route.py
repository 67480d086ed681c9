"""Ask the right model for each question: fit on what is known, route what is new.

Offline it replays recorded answers of real models. With your own keys, change the line marked
below: everything else stays.
"""

from langchain_llm_router import Candidate, ChatLLMRouter, route_of
from langchain_llm_router.data import ZeroEval, split_indices
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.policies import Utility

NAMES = ("gpt-4o-mini", "claude-3.5-sonnet")
recorded = ZeroEval.load()

# With real keys: candidates = [Candidate(NAMES[0], "openai:gpt-4o-mini"), Candidate(NAMES[1], ...)]
candidates: list[Candidate] = recorded.candidates(NAMES)


def main() -> None:
    known = recorded.outcomes.select(NAMES)
    train, new = split_indices(len(known), [0.5, 0.5], seed=0)
    estimator = NearestNeighbors(n_neighbors=40).fit(known.take(train))
    router = ChatLLMRouter(
        candidates=candidates,
        estimator=estimator,
        policy=Utility(cost=20.0),  # a dollar is worth 20 points of quality in [0, 1]
    )

    questions = [known.queries[i] for i in new[::30]]
    print(router.route(questions[0]).explain())

    answers = router.batch(questions)
    asked = [route_of(answer)["candidate"] for answer in answers]
    spent = sum(route_of(answer)["cost_usd"] for answer in answers)
    for name in NAMES:
        print(f"{name}: asked {asked.count(name)} of {len(asked)} questions")
    print(f"spent {1000 * spent / len(asked):.2f} USD per thousand questions")

    pinned = router.invoke(questions[0], {"configurable": {"llm_router": {"force": NAMES[0]}}})
    print(f"pinned to {route_of(pinned)['candidate']}")


if __name__ == "__main__":
    main()
