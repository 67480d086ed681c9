"""An estimator and a policy of one's own, 30 lines each, used like those that come with the house.

An estimator implements four small methods, a policy one, and a `knob` if it is to be calibrated and
drawn as a curve; the base classes bring the rest. A line each in `tests/test_contracts.py` puts
them through everything that the others promise.
"""

from dataclasses import dataclass

import numpy as np

from langchain_llm_router import ChatLLMRouter
from langchain_llm_router.data import ZeroEval, split_indices
from langchain_llm_router.estimators import QualityEstimator
from langchain_llm_router.evaluation import replay
from langchain_llm_router.policies import Knob, OneShot
from langchain_llm_router.types import Decision, Situation

# With your own data: outcomes = Outcomes.load("my_outcomes.parquet")
outcomes = ZeroEval.load().outcomes.select(("gpt-4o-mini", "claude-3.5-sonnet"))


@dataclass(eq=False)
class ByLength(QualityEstimator):
    """Predicts each candidate's mean quality on training queries of about this length."""

    n_bins: int = 8

    def _fit(self, data) -> None:
        lengths = [len(query) for query in data.queries]
        self.edges_ = np.quantile(lengths, np.linspace(0, 1, self.n_bins + 1)[1:-1])
        bins = np.digitize(lengths, self.edges_)
        rows = [bins == b if b in bins else bins >= 0 for b in range(self.n_bins)]
        self.mean_ = np.array([data.quality[row].mean(axis=0) for row in rows])

    def _predict(self, queries):
        return self.mean_[np.digitize([len(query) for query in queries], self.edges_)]

    def _arrays(self):
        return {"edges": self.edges_, "mean": self.mean_}

    def _restore(self, settings, arrays, embeddings) -> None:
        self.edges_, self.mean_ = arrays["edges"], arrays["mean"]


@dataclass(frozen=True)
class CheapestGoodEnough(OneShot):
    """Asks the cheapest candidate whose predicted quality reaches a bar, or else the best one."""

    bar: float = 0.8

    @property
    def knob(self) -> Knob:
        """What is turned to meet a target: the field of that name."""
        return Knob("bar", self.bar, high=1.0, more="better and dearer answers")

    def choose(self, situation: Situation) -> Decision:
        """Only those may be chosen who have not failed yet: `open_arms`."""
        arms = situation.open_arms
        good = [arm for arm in arms if (arm.quality or 0.0) >= self.bar]
        best = max(arms, key=lambda arm: arm.quality or 0.0)
        chosen = min(good, key=lambda arm: arm.cost_usd or 0.0, default=best)
        scores = {a.candidate: {"quality": a.quality, "cost_usd": a.cost_usd} for a in arms}
        return self.ask(chosen.candidate, f"{len(good)} of {len(arms)} are good enough", scores)


def main() -> None:
    train, test = (outcomes.take(rows) for rows in split_indices(len(outcomes), [0.5, 0.5]))
    estimator, policy = ByLength().fit(train), CheapestGoodEnough(bar=0.8)
    done = replay(policy, estimator.predict(test.queries), test)
    print(f"quality {done.mean_quality:.3f} at {1000 * (done.mean_cost_usd or 0):.3f} USD per 1000")
    pool = ZeroEval.load().candidates(outcomes.candidates, known=train)
    router = ChatLLMRouter(candidates=pool, estimator=estimator, policy=policy)
    print(router.route(test.queries[0]).explain())


if __name__ == "__main__":
    main()
