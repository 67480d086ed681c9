"""The contest of all contenders: the choice among them, the verdict on it, and the router."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from langchain_llm_router.data import Outcomes
from langchain_llm_router.evaluation import Sweep, best_single
from langchain_llm_router.evaluation.claims import Goal
from langchain_llm_router.evaluation.judgement import decide_verdict
from langchain_llm_router.evaluation.verdict import Verdict
from langchain_llm_router.policies import Always
from langchain_llm_router.router.saved_router import SavedRouter, mean_costs
from langchain_llm_router.training.contenders import Contender, Tables, contenders
from langchain_llm_router.training.cross_fit import CrossFit, cross_fit, fold_rows
from langchain_llm_router.training.fitted_router import CrossFitted, Fitted, Standing
from langchain_llm_router.training.selection import Choice, Selection
from langchain_llm_router.types.arrays import Floats
from langchain_llm_router.types.progress import Progress, Watch

__all__ = ["Contest"]

_SPAN = 30.0
_N_LAMBDAS = 12


@dataclass(frozen=True)
class Contest:
    """A comparison of all contenders on rows that they were not fitted on.

    Args:
        tables: The rows that are compared on.
        goal: What the router is to reach.
        even_if_worse: Whether the router is returned even if its verdict is not "kept".
        n_folds: Number of parts, each answered by routers that were fitted on the others.
        seed: Seed of the split and of the resampling.
        watch: Callback that receives the progress.
        everything: The rows that the winner is fitted on. If None, those of `tables`.
    """

    tables: Tables
    goal: Goal
    even_if_worse: bool = False
    n_folds: int = 5
    seed: int = 0
    watch: Watch | None = None
    everything: Tables | None = None

    def run(self) -> Fitted:
        """Choose a setting, decide the verdict on it, and fit it on all rows.

        Raises:
            ValueError: If there are fewer than two different queries, or the data lacks what a
                target is about.
        """
        progress = Progress(self.watch, len(list(contenders(self.tables))) + 2)
        tried = self.cross_fit(progress)
        progress.begin("choosing a setting, and choosing again on resampled rows")
        choice, verdict = self.judge(tried)
        lambda_ = float(tried.trials.knob[choice.setting])
        winner = tried.contender[choice.setting]
        progress.begin(f"fitting {winner.name} on all rows")
        router = self._router(winner, lambda_)
        kept = verdict.use is None or self.even_if_worse
        return Fitted(
            router=router if kept else self._single(verdict.use or verdict.best),
            winner=router,
            verdict=verdict,
            goal=self.goal,
            standings=self._standings(tried, choice),
            left_out=tried.left_out,
            outcomes=self.tables.outcomes,
            done=self._done(tried, choice.setting),
            optimism=choice.optimism,
            lambda_=lambda_,
            sweep=self._sweep(tried, winner),
            n_folds=self.n_folds,
            n_rows=len(self._all.outcomes),
        )

    @property
    def _all(self) -> Tables:
        return self.tables if self.everything is None else self.everything

    def cross_fit(self, progress: Progress) -> CrossFit:
        """Try every setting of every contender on rows that it was not fitted on.

        Raises:
            ValueError: If a target names an unknown model, or no contender applies.
        """
        outcomes = self.tables.outcomes
        for target in self.goal.targets:
            target.check(tuple(outcomes.candidates), timed=outcomes.latency_s is not None)
        folds = fold_rows(self.tables, self.n_folds, self.seed)
        tried = cross_fit(self.tables, self._lambdas(), folds, progress)
        if tried is None:
            msg = (
                f"No router can be fitted on {len(outcomes)} rows of {list(outcomes.candidates)}: "
                "there must be two candidates, and rows on which one is good and one is not."
            )
            raise ValueError(msg)
        return tried

    def judge(self, tried: CrossFit) -> tuple[Choice, Verdict]:
        """Choose a setting, and decide the verdict on it."""
        queries = self.tables.outcomes.queries
        clusters = tuple(queries) if len(set(queries)) < len(queries) else None
        choice = Selection(tried.trials, self.goal, clusters=clusters, seed=self.seed).choose()
        trial = tried.trials.pick(choice.setting)
        return choice, decide_verdict(trial, self.goal, clusters=clusters, optimism=choice.optimism)

    def _lambdas(self) -> Floats:
        scale = _default_lambda(self.tables.outcomes)
        around = np.geomspace(scale / _SPAN, scale * _SPAN, _N_LAMBDAS - 1)
        tried = np.concatenate([[0.0], around])
        if self.goal.lambda_ is None:
            return tried
        return np.union1d(tried, [self.goal.lambda_])

    # Results

    def _standings(self, tried: CrossFit, choice: Choice) -> tuple[Standing, ...]:
        """Return each contender at its best setting, the winner first."""
        trials = tried.trials
        quality, cost = trials.quality.mean(axis=1), trials.cost_usd.mean(axis=1)
        names = np.array([contender.name for contender in tried.contender])
        standings = []
        for name in dict.fromkeys(names.tolist()):
            settings = np.flatnonzero(names == name)
            k = int(settings[choice.scores[settings].argmax()])
            knob = float(trials.knob[k])
            standings.append(
                Standing(name, float(choice.scores[k]), float(quality[k]), float(cost[k]), knob)
            )
        standings.sort(key=lambda standing: -standing.score)
        return tuple(standings)

    def _done(self, tried: CrossFit, setting: int) -> CrossFitted:
        trials = tried.trials
        return CrossFitted(
            candidates=trials.candidates,
            quality=trials.quality[setting],
            cost_usd=trials.cost_usd[setting],
            accepted=tried.accepted[setting],
            asked=tried.asked[setting],
            verified=tried.verified[setting],
            streamed=tried.streamed[setting],
            verifier=tried.contender[setting].verifier,
        )

    def _sweep(self, tried: CrossFit, winner: Contender) -> Sweep:
        rows = [i for i, contender in enumerate(tried.contender) if contender is winner]
        trials = tried.trials
        return Sweep(trials.knob[rows], trials.quality[rows], trials.cost_usd[rows])

    def _router(self, winner: Contender, lambda_: float) -> SavedRouter:
        # A contender is bound to its tables.
        (bound,) = [it for it in contenders(self._all) if it.name == winner.name]
        rows = np.arange(len(self._all.outcomes))
        policy = bound.train(rows)(lambda_)
        chain = policy.asks(winner.candidates)
        name = winner.estimator
        verifier = winner.verifier if policy.verifies else None
        return SavedRouter(
            candidates=chain,
            policy=policy,
            estimator=None if name is None else self._all.estimator(name, rows),
            verifier=verifier,
            verifier_description=(
                None if verifier is None else self.tables.evaluations[verifier].verifier
            ),
            expected_cost_usd=self._mean_costs(chain),
        ).taught_by(self._all.outcomes.queries)

    def _single(self, name: str) -> SavedRouter:
        return SavedRouter(
            candidates=(name,), policy=Always(name), expected_cost_usd=self._mean_costs((name,))
        ).taught_by(self._all.outcomes.queries)

    def _mean_costs(self, chain: tuple[str, ...]) -> dict[str, float]:
        return mean_costs(chain, self._all.outcomes.select(chain).cost_usd)


def _default_lambda(outcomes: Outcomes) -> float:
    """Return the λ at which the cheapest and the best candidate have equal utility."""
    quality, cost = outcomes.quality.mean(axis=0), outcomes.mean_cost_usd
    assert cost is not None, "fit_router requires every cost"
    best, cheap = best_single(outcomes), int(cost.argmin())
    gap, price = float(quality[best] - quality[cheap]), float(cost[best] - cost[cheap])
    if gap > 0 and price > 0:
        return gap / price
    # The cheapest candidate is as good as any, so any λ serves as the middle of those to try.
    dearest = float(cost.max())
    return 1 / dearest if dearest > 0 else 1.0
