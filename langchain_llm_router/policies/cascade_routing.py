"""Cascade routing: before each step, choose any candidate to ask next, or stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.policies.exits import Exit
from langchain_llm_router.policies.fitted_policy import FittedPolicy
from langchain_llm_router.policies.knob import Knob
from langchain_llm_router.policies.lambda_search import Rehearsal, best_first_step, lambda_for
from langchain_llm_router.policies.one_shot import require_quality
from langchain_llm_router.policies.policy import (
    accept,
    exit_decision,
    last_resort,
    query_uniform,
)
from langchain_llm_router.policies.supermodels import LinearUpdate, Planner, Stage, sobol_normals
from langchain_llm_router.policies.training_tables import check_tables, mean_costs
from langchain_llm_router.types import Attempt, Decision, Situation
from langchain_llm_router.types.arrays import Arrays, Floats

__all__ = ["CascadeRouting"]

_Group = tuple[int, ...]


@dataclass(eq=False)
class CascadeRouting(FittedPolicy):
    """Runs the set of candidates with the best expected quality - λ·cost, replanned at each step.

    The value of a set of further candidates is the expected maximum of their later quality
    estimates, minus λ times their cost. The cheapest candidate of the best set is asked, its answer
    is verified, and all estimates of quality and cost are updated. When no set has a higher value
    than the best answer so far, that answer is accepted.

    Args:
        lambda_: λ in quality per USD, the higher the cheaper; a request may replace it, and `fit`
            can find it for a budget.
        max_depth: Maximum number of candidates asked for one query; if None, all.
        greedy: Whether to plan only one candidate ahead, which is faster and somewhat worse.
        chain: Whether to ask in declared order without skipping (the optimal cascade).
        first_step: Ratio of the first step's λ to that of later steps; if None, `fit` chooses it. A
            set is charged in full although routing often stops earlier, so a larger λ may be
            better at the first step.
        n_draws: Number of draws for E[max], a power of 2 (the paper uses 100).
        seed: Seed of these draws and of the mixture of two λ that meets a budget exactly.

    Attributes:
        candidates_: Names of the candidates, in the order of the training columns.
        update_: Model of how confidences and predictions change the expected qualities.
        first_step_: The ratio in use.
        mix_: The λ that overspends, the λ that underspends, and the probability of the former.

    References:
        Dekoninck et al., 2024, A Unified Approach to Routing and Cascading for LLMs,
        arXiv:2410.10347, theorems 2 and 3, lemma 1. Deviations: one λ for the first step and one
        for all later ones; estimates are updated by one linear-Gaussian model, also those of
        candidates not run.
    """

    lambda_: float = 0.0
    max_depth: int | None = None
    greedy: bool = False
    chain: bool = False
    first_step: float | None = None
    n_draws: int = 128
    seed: int = 0

    verifies: ClassVar[bool] = True
    _derived_names: ClassVar[frozenset[str]] = frozenset({"_planner"})

    def __post_init__(self) -> None:
        if not 0 <= self.lambda_ < np.inf:
            msg = f"`lambda_` must be >= 0 quality per USD, got {self.lambda_!r}."
            raise ValueError(msg)
        if self.max_depth is not None and self.max_depth < 1:
            msg = f"`max_depth` must be >= 1 or None, got {self.max_depth!r}."
            raise ValueError(msg)
        if self.first_step is not None and not 0 < self.first_step < np.inf:
            msg = f"`first_step` must be > 0 or None, got {self.first_step!r}."
            raise ValueError(msg)
        if self.n_draws < 1 or self.n_draws & (self.n_draws - 1) != 0:
            msg = f"`n_draws` must be a power of 2, got {self.n_draws!r}."
            raise ValueError(msg)

    def fit(
        self,
        outcomes: Outcomes,
        evaluations: SelfEvaluations,
        *,
        predicted: ArrayLike | None = None,
        expected_cost_usd: ArrayLike | None = None,
        max_cost_usd: float | None = None,
    ) -> Self:
        """Fit how observations change the estimates, and find λ if there is a budget.

        Args:
            outcomes: Measured quality and cost.
            evaluations: The verifier's scores and costs, with the same rows and columns.
            predicted: Predictions of an estimator, of shape (n_queries, n_candidates), for rows
                that it was not fitted on; routing then needs the estimator. None without estimator.
            expected_cost_usd: Expected cost of a call, like `predicted` or one per candidate; if
                None, the mean.
            max_cost_usd: Mean cost of a training query that λ is chosen for.

        Raises:
            ValueError: If tables do not fit each other, costs are unknown, or the budget is below
                what the cheapest policy spends.
        """
        check_tables(outcomes, evaluations)
        self.candidates_ = tuple(outcomes.candidates)
        self.cost_usd_ = mean_costs("outcomes", outcomes.cost_usd, self.candidates_)
        self.verification_cost_usd_ = _verification_means(evaluations)
        self.uses_predictions_ = predicted is not None
        features = _features(outcomes, evaluations, predicted)
        expected = self._expected(outcomes, expected_cost_usd)
        assert outcomes.cost_usd is not None, "it has means"
        ratio = outcomes.cost_usd / np.maximum(expected, 1e-30)
        self.update_ = LinearUpdate.fit(features, outcomes.quality)
        self.cost_update_ = LinearUpdate.fit(ratio, np.where(np.isnan(ratio), 1.0, ratio))
        self.mix_ = (self.lambda_, self.lambda_, 0.0)
        self._derive()
        rehearsal = self._rehearsal(outcomes, evaluations, features, expected)
        self.first_step_ = self.first_step or best_first_step(rehearsal)
        if max_cost_usd is not None:
            self.mix_ = lambda_for(rehearsal, max_cost_usd, self.first_step_)
            self.lambda_ = self.mix_[1]
        return self

    def rehearse(
        self,
        lambdas: Sequence[float],
        outcomes: Outcomes,
        evaluations: SelfEvaluations,
        *,
        predicted: ArrayLike | None = None,
        expected_cost_usd: ArrayLike | None = None,
    ) -> tuple[Floats, Floats]:
        """Replay this policy at several λ, much faster than `evaluation.replay`.

        Args:
            lambdas: The values of λ.
            outcomes: As in `fit`, for any rows.
            evaluations: As in `fit`.
            predicted: As in `fit`.
            expected_cost_usd: As in `fit`; if None, the mean of the training rows.

        Returns:
            Quality of the accepted answer and total cost, each of shape (n_lambdas, n_queries).
        """
        self._check_fitted()
        check_tables(outcomes, evaluations)
        features = _features(outcomes, evaluations, predicted if self.uses_predictions_ else None)
        expected = self._expected(outcomes, expected_cost_usd)
        rehearsal = self._rehearsal(outcomes, evaluations, features, expected)
        done = [rehearsal.run(lambda_, self.first_step_) for lambda_ in lambdas]
        return np.array([quality for quality, _ in done]), np.array([cost for _, cost in done])

    @property
    def knob(self) -> Knob:
        """λ; if two are mixed, the higher one."""
        return Knob("lambda", self.lambda_, more="cheaper answers")

    def with_knob(self, value: float) -> Self:
        """Return this policy with a single other λ, without fitting it again."""
        other = super().with_knob(value)
        if value != self.lambda_:
            other.mix_ = (value, value, 0.0)
        return other

    def with_lambda(self, lambda_: float) -> Self:
        """Return `with_knob(lambda_)`."""
        return self.with_knob(lambda_)

    def decide(self, situation: Situation) -> Decision:
        """Verify the last answer, then ask a candidate of the best set, or accept."""
        return self._decide(situation, None)

    def decide_or_abstain(self, situation: Situation, exit_: Exit) -> Decision:
        """Decide where to end without an answer counts as one more answer, of known quality."""
        return self._decide(situation, exit_)

    def _decide(self, situation: Situation, exit_: Exit | None) -> Decision:
        self._check_fitted()
        worth = -np.inf if exit_ is None or not exit_.possible else exit_.worth
        view = self._encode(situation)
        stage, lambda_ = view.stage, np.array([view.lambda_])
        name = type(self).__name__
        if len(stage.run) == 0 and len(stage.allowed) == 0:
            return last_resort(self, situation)
        last = view.unverified
        if last is not None and self._planner.worth_verifying(
            stage, last, view.quality, lambda_, worth
        ):
            candidate = self.candidates_[last]
            return Decision("verify", candidate, name, "a verdict may change the choice")
        # Without an answer a candidate must be asked even beyond `max_depth`.
        is_first = len(stage.run) == 0
        required = replace(stage, depth=max(stage.depth, 1)) if is_first else stage
        if is_first:
            lambda_ = lambda_ * self.first_step_
        chosen = int(self._planner.next(required, view.quality, view.cost, lambda_, worth)[0])
        scores: dict[str, dict[str, float | None]] = {
            candidate: {"quality": float(q), "cost_usd": float(c)}
            for candidate, q, c in zip(
                self.candidates_, np.clip(view.quality[0], 0, 1), view.cost[0], strict=True
            )
        }
        if chosen < 0 and is_first:
            cheapest = min(stage.allowed, key=lambda j: (view.cost[0, j], j))
            reason = f"no set is worth more than {worth:.3f}, what to end without an answer is"
            return exit_decision(self, self.candidates_[cheapest], reason, scores=scores)
        if chosen < 0:
            best = max(stage.run, key=lambda j: (view.quality[0, j], -j))
            quality = min(max(float(view.quality[0, best]), 0.0), 1.0)
            attempt = Attempt(candidate=self.candidates_[best])
            reason = (
                f"the best answer so far is expected at {quality:.3f}, no further set is worth more"
            )
            return accept(self, attempt, reason, scores=scores, confidence=quality)
        return Decision(
            action="ask",
            candidate=self.candidates_[chosen],
            policy=name,
            reason=f"the first of the best set at λ = {view.lambda_:.4g} per USD",
            final=self._is_final(view, chosen, -np.inf if exit_ is None else exit_.worth),
            scores=scores,
        )

    def p_good(self, situation: Situation, attempt: Attempt) -> float | None:
        """Return the expected quality of the attempt's answer, given its score if there is one."""
        name, score = attempt["candidate"], attempt.get("confidence")
        if name not in self.candidates_:
            return super().p_good(situation, attempt)
        done = [a for a in situation.attempts if a["candidate"] != name]
        scored = Attempt(candidate=name, confidence=score, verified=score is not None)
        view = self._encode(replace(situation, attempts=(*done, scored)))
        return float(np.clip(view.quality[0, self.candidates_.index(name)], 0, 1))

    def _is_final(self, view: _EncodedSituation, chosen: int, worth: float) -> bool:
        """Return whether this candidate's answer will be accepted unverified, if it does not fail.

        Such an answer is streamed as it arrives.
        """
        allowed = [j for j in view.stage.allowed if j > chosen or (not self.chain and j != chosen)]
        run = tuple(sorted((*view.stage.run, chosen)))
        after = replace(view.stage, run=run, allowed=tuple(allowed), depth=view.stage.depth - 1)
        if after.can_continue:
            return False
        lambda_ = np.array([view.lambda_])
        if self._planner.worth_verifying(after, chosen, view.quality, lambda_, worth)[0]:
            return False
        return chosen == max(run, key=lambda j: (view.quality[0, j], -j))

    def _settings(self) -> dict[str, Any]:
        return {
            "candidates": list(self.candidates_),
            "mix": list(self.mix_),
            "first_step": self.first_step_,
            "uses_predictions": self.uses_predictions_,
        }

    def _arrays(self) -> Arrays:
        arrays: dict[str, NDArray[Any]] = {
            "cost_usd": self.cost_usd_,
            "verification_cost_usd": self.verification_cost_usd_,
        }
        for name, update in (("quality", self.update_), ("cost", self.cost_update_)):
            arrays |= {f"{name}_{part}": array for part, array in vars(update).items()}
        return arrays

    def _restore(self, settings: Mapping[str, Any], arrays: Arrays) -> None:
        self.candidates_ = tuple(settings["candidates"])
        low, high, gamma = settings["mix"]
        self.mix_ = (low, high, gamma)
        self.first_step_ = settings["first_step"]
        self.uses_predictions_ = settings["uses_predictions"]
        self.cost_usd_ = arrays["cost_usd"]
        self.verification_cost_usd_ = arrays["verification_cost_usd"]
        parts = tuple(LinearUpdate.__dataclass_fields__)
        self.update_ = LinearUpdate(*(arrays[f"quality_{part}"] for part in parts))
        self.cost_update_ = LinearUpdate(*(arrays[f"cost_{part}"] for part in parts))
        self._derive()

    def _derive(self) -> None:
        normals = sobol_normals(self.n_draws, len(self.candidates_), self.seed)
        self._planner = Planner(
            self.update_,
            self.cost_update_,
            self.verification_cost_usd_,
            normals,
            greedy=self.greedy,
            chain=self.chain,
        )

    def _expected(self, outcomes: Outcomes, expected_cost_usd: ArrayLike | None) -> Floats:
        expected = self.cost_usd_ if expected_cost_usd is None else expected_cost_usd
        return np.broadcast_to(np.asarray(expected, dtype=np.float64), outcomes.quality.shape)

    def _rehearsal(
        self, outcomes: Outcomes, evaluations: SelfEvaluations, features: Floats, expected: Floats
    ) -> Rehearsal:
        actual, verifying = outcomes.cost_usd, evaluations.cost_usd
        if actual is None or verifying is None:
            msg = "`outcomes` and `evaluations` must have costs: set their `cost_usd`."
            raise ValueError(msg)
        return Rehearsal(
            self._planner,
            features,
            expected,
            np.where(np.isnan(actual), expected, actual),
            outcomes.quality,
            np.where(np.isnan(verifying), self._planner.verifying, verifying),
            self.max_depth or len(self.candidates_),
        )

    def _encode(self, situation: Situation) -> _EncodedSituation:
        """Encode a situation as arrays of one row."""
        index = {name: j for j, name in enumerate(self.candidates_)}
        k, name = len(index), type(self).__name__
        seen = {index[a["candidate"]]: a for a in situation.attempts if a["candidate"] in index}
        run = tuple(j for j, attempt in seen.items() if attempt.get("error") is None)
        arms = {index[arm.candidate]: arm for arm in situation.arms if arm.candidate in index}
        allowed = sorted(j for j in arms if j not in seen)
        if self.chain and len(run) > 0:
            allowed = [j for j in allowed if j > max(run)]
        features = np.full(self._planner.n_priors + k, np.nan)
        expected, ratio = self.cost_usd_.copy(), np.full(k, np.nan)
        for j, arm in arms.items():
            if arm.cost_usd is not None:
                expected[j] = arm.cost_usd
            if self.uses_predictions_:
                features[j] = require_quality(arm, name)
        verified = []
        for j in run:
            spent = seen[j].get("cost_usd")
            if spent is not None:
                ratio[j] = spent / max(expected[j], 1e-30)
            if seen[j].get("verified", False):
                verified.append(j)
                score = seen[j].get("confidence")
                features[self._planner.n_priors + j] = np.nan if score is None else score
        observed = [j for j in verified if not np.isnan(features[self._planner.n_priors + j])]
        stage = Stage(
            run=tuple(sorted(run)),
            observed=tuple(sorted(observed)),
            allowed=tuple(allowed),
            depth=(self.max_depth or k) - len(run),
        )
        known = tuple(j for j in stage.run if not np.isnan(ratio[j]))
        quality = self._planner.quality(features[None], stage.observed)
        cost = self._planner.cost(expected[None], ratio[None], replace(stage, run=known))
        last = run[-1] if len(run) > 0 and run[-1] not in verified else None
        return _EncodedSituation(stage, quality, cost, last, self._lambda(situation))

    @property
    def reads_query(self) -> bool:
        """Whether two λ are mixed, where the draw depends on the query."""
        return hasattr(self, "mix_") and self.mix_[2] > 0

    def _lambda(self, situation: Situation) -> float:
        if situation.options.lambda_ is not None:
            return situation.options.lambda_
        low, high, gamma = self.mix_
        if gamma <= 0:
            return high
        return low if query_uniform(situation.query, self.seed) < gamma else high


class _EncodedSituation(NamedTuple):
    """A situation as arrays of one row."""

    stage: Stage
    quality: Floats
    cost: Floats
    unverified: int | None
    lambda_: float


def _features(
    outcomes: Outcomes, evaluations: SelfEvaluations, predicted: ArrayLike | None
) -> Floats:
    if predicted is None:
        return evaluations.confidence
    prior = np.asarray(predicted, dtype=np.float64)
    if prior.shape != outcomes.quality.shape:
        msg = f"`predicted` must have shape {outcomes.quality.shape}, got {prior.shape}."
        raise ValueError(msg)
    return np.hstack([prior, evaluations.confidence])


def _verification_means(evaluations: SelfEvaluations) -> Floats:
    """Return the mean cost of verifying each candidate; NaN where there is no score."""
    scored = (~np.isnan(evaluations.confidence)).sum(axis=0) > 0
    cost = evaluations.cost_usd
    if cost is not None:
        cost = np.where(scored[None, :] | ~np.isnan(cost), cost, 0.0)
    means = mean_costs("evaluations", cost, evaluations.candidates)
    return np.where(scored, means, np.nan)
