"""Train three quality estimators on recorded outcomes, compare them on unseen questions, save one.

The data are recorded answers of real models. For your own, put queries, names and qualities into
`Outcomes(queries, candidates, quality, cost_usd)`, or let `llm-router collect` ask and judge.
"""

import tempfile

import numpy as np

from langchain_llm_router.data import ZeroEval, split_indices
from langchain_llm_router.estimators import BradleyTerry, Constant, NearestNeighbors
from langchain_llm_router.evaluation import replay
from langchain_llm_router.policies import Utility

NAMES = ("gemini-1.5-flash", "gpt-4o-mini", "llama-3.1-70b", "deepseek-v2.5", "claude-3.5-sonnet")
LAMBDA = 20.0

# With your own data: outcomes = Outcomes.load("my_outcomes.parquet")
outcomes = ZeroEval.load().outcomes.select(NAMES)


def main() -> None:
    train, test = (outcomes.take(rows) for rows in split_indices(len(outcomes), [0.5, 0.2], seed=0))
    estimators = {
        "Constant (knows only the means)": Constant(),
        "NearestNeighbors": NearestNeighbors(n_neighbors=40),
        "BradleyTerry (RouteLLM)": BradleyTerry(),
    }
    for name, estimator in estimators.items():
        estimator.fit(train)
        predicted = estimator.predict(test.queries)
        done = replay(Utility(cost=LAMBDA), predicted, test, expected_cost_usd=train.mean_cost_usd)
        cost = 1000 * (done.mean_cost_usd or 0.0)
        print(f"{name:33s} quality {done.mean_quality:.3f} at {cost:.3f} USD per 1000 questions")

    with tempfile.TemporaryDirectory() as folder:
        best = estimators["NearestNeighbors"]
        best.save(folder)
        again = NearestNeighbors.load(folder)
        same = np.allclose(again.predict(test.queries[:5]), best.predict(test.queries[:5]))
        print(f"saved, loaded, predicts the same: {same}")


if __name__ == "__main__":
    main()
