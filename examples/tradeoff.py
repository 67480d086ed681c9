"""What does quality cost? Turn the knob λ and see quality and cost of the very same router.

Nothing is asked: recorded outcomes of real models are replayed through the policy that would run.
For your own models, replace the line that loads the outcomes.
"""

import numpy as np

from langchain_llm_router.data import ZeroEval, split_indices
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.evaluation import replay
from langchain_llm_router.policies import Always, Utility

NAMES = ("gemini-1.5-flash", "gpt-4o-mini", "llama-3.1-70b", "deepseek-v2.5", "claude-3.5-sonnet")

# With your own data: outcomes = Outcomes.load("my_outcomes.parquet")
outcomes = ZeroEval.load().outcomes.select(NAMES)


def main() -> None:
    train, test = (outcomes.take(rows) for rows in split_indices(len(outcomes), [0.5, 0.2], seed=0))
    estimator = NearestNeighbors(n_neighbors=40).fit(train)
    predicted = estimator.predict(test.queries)

    print(f"{'':22s} quality  USD per 1000")
    for name in NAMES:
        done = replay(Always(name), None, test)
        print(f"always {name:18s}{done.mean_quality:.3f}  {1000 * done.mean_cost_usd:9.3f}")
    for lambda_ in np.geomspace(3, 1000, 7):
        policy = Utility(cost=float(lambda_))
        done = replay(policy, predicted, test, expected_cost_usd=train.mean_cost_usd)
        bar = "#" * round(40 * done.shares[NAMES[-1]])
        cost = 1000 * done.mean_cost_usd
        print(f"λ = {lambda_:<20.4g}{done.mean_quality:.3f}  {cost:9.3f}   {bar}")
    print(f"(bars: share of questions that went to {NAMES[-1]})")


if __name__ == "__main__":
    main()
