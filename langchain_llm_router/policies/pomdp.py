"""AutoMix's POMDP for any number of candidates, solved exactly with a lookup table."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.data.artifacts import data_hash
from langchain_llm_router.policies.belief import (
    Option,
    Plan,
    best_option,
    build_beliefs,
    group_centers,
    group_weights,
    nearest_group,
    solve,
    tilted_weights,
)
from langchain_llm_router.policies.exits import Exit
from langchain_llm_router.policies.fitted_policy import FittedPolicy
from langchain_llm_router.policies.knob import Knob
from langchain_llm_router.policies.observation import LikelihoodKind, score_likelihoods
from langchain_llm_router.policies.policy import accept, exit_decision, last_resort
from langchain_llm_router.policies.recall_plans import PlanState, RecallPlan, solve_with_recall
from langchain_llm_router.policies.training_tables import check_tables, mean_costs
from langchain_llm_router.types import Attempt, Decision, Situation
from langchain_llm_router.types.arguments import check_range
from langchain_llm_router.types.arrays import Arrays, Floats

__all__ = ["Pomdp"]

_Solver = Callable[..., Plan | RecallPlan]

_CACHED_CELLS = 10_000_000
"""Maximum number of cells of all tables of groups, and of all plans with recall, because of their
memory."""


@dataclass(eq=False)
class Pomdp(FittedPolicy):
    """Asks, verifies, and escalates so as to maximize quality - λ·cost under its belief.

    The belief about a query is a weighting of the training rows (particles), updated by every
    verdict and left unchanged by a missing one. The decision problem is solved exactly over the
    finite horizon; verification costs count, and candidates may be skipped. `fit` tabulates all
    histories of observations; the plan for a λ then takes milliseconds and is cached.

    Args:
        lambda_: λ in quality per USD, the higher the cheaper; a request may replace it
            (`RoutingOptions.lambda_`).
        n_samples: k; scores are rounded to the nearest of 0/k, 1/k, …, 1.
        likelihood: P(score | row): `rows`, `kde` or `beta_binomial`, see `score_likelihoods`.
        mode: `exact`, or `article` for the article's rule, which does not plan: in declared order,
            an answer is accepted iff 1 - P(good), the most that the next candidate can add, is not
            worth its λ·cost. P(good) is f_good / (f_good + f_poor) at the answer's own score,
            without the base rate and without what earlier scores say. (The article compares
            P(good) itself with λ·cost, so that a higher λ is dearer; that is
            `ConfidenceThreshold(lambda_raises_bar=True)`.)
            On the answers of local models that ship with the package its quality - λ·cost is 0.02
            to 0.28 lower than that of `exact` (λ of 2,000 to 40,000 per USD).
        recall: Whether an earlier answer may be accepted, not only the last. Candidates may then be
            asked in any order, as in `CascadeRouting`, the last one is verified too if
            `evaluations` have its scores and costs, and predictions count query by query.
            On simulated queries with telling predictions its quality - λ·cost is 0.002 to 0.013
            higher than without (`tests/benchmarks/recall.py`).
        bandwidth: Smallest standard deviation of a kernel.
        n_groups: Number of groups of queries with similar predictions, if `fit` gets predictions:
            the belief then starts from the training rows of a query's group, or with `recall` from
            all rows, weighted so that they are as good as predicted. If None, 8, or 32 with
            `recall`; fewer if rows are few or tables large.

    Attributes:
        candidates_: Names of the candidates in the order of escalation, which is that of the
            training columns.
        cost_usd_: Mean cost of each candidate's answer.
        verification_cost_usd_: Mean cost of verifying it; of the last one 0 without `recall`, and
            NaN if it cannot be verified.

    References:
        Madaan et al., 2023, AutoMix, arXiv:2310.12963, appendix A.3. Deviations: exact expectimax
        instead of AdaOps; an answer may be accepted unverified; the first candidate may be skipped.
    """

    lambda_: float = 0.0
    n_samples: int = 8
    likelihood: LikelihoodKind = "rows"
    mode: Literal["exact", "article"] = "exact"
    recall: bool = False
    bandwidth: float = 0.05
    n_groups: int | None = None

    verifies: ClassVar[bool] = True
    decides_by_verdicts: ClassVar[bool] = True
    _derived_names: ClassVar[frozenset[str]] = frozenset({"_solver"})

    def __post_init__(self) -> None:
        if not 0 <= self.lambda_ < np.inf:
            msg = f"`lambda_` must be >= 0 quality per USD, got {self.lambda_!r}."
            raise ValueError(msg)
        check_range(self, "bandwidth", above=True)
        for name in ("n_samples", "n_groups"):
            value = getattr(self, name)
            if value is not None and value < 1:
                msg = f"`{name}` must be >= 1, got {value!r}."
                raise ValueError(msg)
        for name, allowed in (
            ("likelihood", get_args(LikelihoodKind)),
            ("mode", ("exact", "article")),
        ):
            if getattr(self, name) not in allowed:
                msg = f"`{name}` must be one of {list(allowed)}, got {getattr(self, name)!r}."
                raise ValueError(msg)
        if self.recall and self.mode == "article":
            msg = "`recall` needs the mode 'exact': the article's rule keeps the last answer."
            raise ValueError(msg)

    @property
    def knob(self) -> Knob:
        """λ."""
        return Knob("lambda", self.lambda_, more="cheaper answers")

    def fit(
        self,
        outcomes: Outcomes,
        evaluations: SelfEvaluations,
        *,
        predicted: ArrayLike | None = None,
    ) -> Self:
        """Fit on the quality, the cost and the verifier's scores of each candidate's answers.

        Args:
            outcomes: Measured quality and cost; columns in the order of escalation.
            evaluations: The verifier's scores and costs (0 where free), with the same rows and
                columns. Without `recall` the scores of the last candidate are ignored.
            predicted: Predictions of an estimator for these rows, which it was not fitted on, in
                the shape of the qualities. The belief then starts from a query's predictions.

        Raises:
            ValueError: If the tables do not fit each other, or a candidate has no known cost.
        """
        check_tables(outcomes, evaluations)
        self.candidates_ = tuple(outcomes.candidates)
        self.cost_usd_ = mean_costs("outcomes", outcomes.cost_usd, self.candidates_)
        self.verification_cost_usd_ = self._verification_costs(evaluations)
        self.data_hash_ = data_hash(outcomes.queries, outcomes.candidates, outcomes.quality)
        self.centers_, weights = np.empty((0, len(self.candidates_))), None
        if predicted is not None:
            prior = np.asarray(predicted, dtype=np.float64)
            if prior.shape != outcomes.quality.shape or np.isnan(prior).any():
                msg = (
                    f"`predicted` must have shape {outcomes.quality.shape}, without NaN, got "
                    f"shape {prior.shape}."
                )
                raise ValueError(msg)
            self.centers_ = group_centers(prior, self._count_groups(len(prior)))
            if self.recall:
                weights = tilted_weights(prior, outcomes.quality, self.centers_)
            else:
                weights = group_weights(prior, self.centers_)
        self._tabulate(outcomes.quality, evaluations.confidence, weights)
        return self

    def with_lambda(self, lambda_: float) -> Self:
        """Return this policy with another λ, without fitting it again."""
        return self.with_knob(lambda_)

    def decide(self, situation: Situation) -> Decision:
        """Look up the best action after the observations so far."""
        return self._decide(situation, None)

    def decide_or_abstain(self, situation: Situation, exit_: Exit) -> Decision:
        """Look up the best action, where to abstain is one of the plan's actions."""
        if self.mode == "article":
            return super().decide_or_abstain(situation, exit_)
        return self._decide(situation, exit_)

    def _decide(self, situation: Situation, exit_: Exit | None) -> Decision:
        self._check_fitted()
        asked = {attempt["candidate"]: attempt for attempt in situation.attempts}
        failed = {name for name, attempt in asked.items() if attempt.get("error") is not None}
        index = {name: i for i, name in enumerate(self.candidates_)}
        answered = [index[name] for name in asked if name in index and name not in failed]
        if not self.recall:
            answered.sort()
        # Candidates that were asked stay available, because a plan asks only others.
        allowed = set(situation.names) - failed
        available = tuple(name in allowed for name in self.candidates_)
        if len(answered) == 0 and not any(available):
            return last_resort(self, situation)
        lambda_ = situation.options.lambda_
        state = PlanState(
            plan=self._solver(
                self.lambda_ if lambda_ is None else lambda_,
                available,
                self._group(situation),
                -np.inf if exit_ is None else exit_.worth,
            ),
            history=self._history(asked, failed),
            answered=tuple(answered),
        )
        last = asked[self.candidates_[answered[-1]]] if len(answered) > 0 else None
        if last is not None and not last.get("verified", False) and self._worth_verifying(state):
            name = type(self).__name__
            return Decision("verify", last["candidate"], name, "a verdict may change the choice")
        if self.mode == "article":
            return self._article(state, last)
        decision = self._exact(state)
        if exit_ is None or not exit_.possible:
            return decision
        return self._compare(state, decision, exit_.worth)

    def read_of(self, attempt: Attempt) -> Hashable:
        """Return the candidate, whether its answer is verified, and the rounded score."""
        verified, score = attempt.get("verified", False), attempt.get("confidence")
        index = self._index(score) if verified else None
        return attempt["candidate"], verified, index, attempt.get("error")

    def p_good(self, situation: Situation, attempt: Attempt) -> float | None:
        """Return the expected quality of the attempt's answer, given its score if there is one.

        In the mode `article` it is P(good) by the score alone.

        A score of the last candidate's answer counts as in the training rows; if these have none,
        it is itself what is expected.
        """
        self._check_fitted()
        name, score = attempt["candidate"], attempt.get("confidence")
        if name not in self.candidates_:
            return super().p_good(situation, attempt)
        asked = {earlier["candidate"]: earlier for earlier in situation.attempts}
        asked[name] = Attempt(candidate=name, confidence=score, verified=score is not None)
        failed = {n for n, earlier in asked.items() if earlier.get("error") is not None}
        group, history = self._group(situation), self._history(asked, failed)
        j = self.candidates_.index(name)
        if self.mode == "article" and score is not None and j < len(history):
            return float(self._own_p_good[j, history[j]])
        if score is not None and j == len(history):
            return self._last_p_good(history, score, group)
        beliefs = self.beliefs_ if group == 0 else self._grouped[group - 1]
        expected = beliefs.expected_quality(history)
        return float(expected[j])

    def _verification_costs(self, evaluations: SelfEvaluations) -> Floats:
        """Return the mean costs; that of the last is NaN if `recall` cannot verify it."""
        verifying, scores = evaluations.cost_usd, evaluations.confidence
        priced = None if verifying is None else verifying[:, :-1]
        means = mean_costs("evaluations", priced, self.candidates_[:-1])
        if not self.recall:
            return np.append(means, 0.0)
        known = verifying is not None and not np.isnan(verifying[:, -1]).all()
        if not known or np.isnan(scores[:, -1]).all():
            return np.append(means, np.nan)
        return mean_costs("evaluations", verifying, self.candidates_)

    def _count_groups(self, n_rows: int) -> int:
        wanted = self.n_groups or (32 if self.recall else 8)
        n = len(self.candidates_)
        cells: int = (n + 1) * (self.n_samples + 3) ** (n if self.recall else n - 1)
        return max(1, min(wanted, n_rows // 25, _CACHED_CELLS // cells))

    def _last_p_good(self, history: tuple[int, ...], score: float, group: int) -> float:
        """Return the expected quality of the last candidate's answer after a verdict on it."""
        if np.isnan(self._scores[:, -1]).all():
            return score
        n, observed = len(self._performance), (*history, self._index(score))
        weights = np.ones(n) if self._weights is None or group == 0 else self._weights[group - 1]
        for j, index in enumerate(observed):
            if j == len(history) or index != self.beliefs_.unobserved:
                weights = weights * self._likelihood(j)[index]
        total = float(weights.sum())
        return score if total <= 0 else float(weights @ self._performance[:, -1]) / total

    def _likelihood(self, j: int) -> Floats:
        return score_likelihoods(
            self._scores[:, j],
            self._performance[:, j],
            n_samples=self.n_samples,
            kind=self.likelihood,
            bandwidth=self.bandwidth,
        )

    def _settings(self) -> dict[str, Any]:
        return {"candidates": list(self.candidates_), "data_hash": self.data_hash_}

    def _arrays(self) -> Arrays:
        arrays: dict[str, NDArray[Any]] = {
            "performance": self._performance,
            "scores": self._scores,
            "cost_usd": self.cost_usd_,
            "verification_cost_usd": self.verification_cost_usd_,
            "centers": self.centers_,
        }
        return arrays if self._weights is None else {**arrays, "weights": self._weights}

    def _restore(self, settings: Mapping[str, Any], arrays: Arrays) -> None:
        self.candidates_ = tuple(settings["candidates"])
        self.data_hash_ = settings["data_hash"]
        self.cost_usd_ = arrays["cost_usd"]
        self.verification_cost_usd_ = arrays["verification_cost_usd"]
        self.centers_ = arrays["centers"]
        self._tabulate(arrays["performance"], arrays["scores"], arrays.get("weights"))

    def _tabulate(self, performance: Floats, scores: Floats, weights: Floats | None) -> None:
        self._performance, self._scores, self._weights = performance, scores, weights
        last_too = self.recall and not np.isnan(self.verification_cost_usd_[-1])
        n_verified = performance.shape[1] - (0 if last_too else 1)
        likelihoods = [self._likelihood(j) for j in range(n_verified)]
        self.beliefs_ = build_beliefs(performance, likelihoods)
        self._own_p_good = np.array(
            [
                _balanced_p_good(likelihood, performance[:, j])
                for j, likelihood in enumerate(likelihoods)
            ]
        )
        self._grouped = [
            build_beliefs(performance, likelihoods, row)
            for row in (() if weights is None else weights)
        ]
        self._derive()

    def _derive(self) -> None:
        """Make the cache of plans, which `lru_cache` keeps thread-safe."""
        beliefs = [self.beliefs_, *self._grouped]
        cost, verifying = self.cost_usd_, self.verification_cost_usd_
        make: _Solver = solve
        size = 512
        if self.recall:
            # A plan is then as large as the table of histories.
            make = solve_with_recall
            size = max(8, min(size, _CACHED_CELLS // self.beliefs_.mass.size))

        @lru_cache(maxsize=size)
        def solver(
            lambda_: float,
            available: tuple[bool, ...],
            group: int = 0,
            exit_worth: float = -np.inf,
        ) -> Plan | RecallPlan:
            return make(
                beliefs[group],
                lambda_,
                cost,
                verifying,
                available=available,
                exit_worth=exit_worth,
            )

        self._solver: _Solver = solver

    def _group(self, situation: Situation) -> int:
        """Return the group of the query by its predictions, from 1; 0 if they are unknown."""
        if len(self.centers_) == 0:
            return 0
        quality = {arm.candidate: arm.quality for arm in situation.arms}
        row = np.array([quality.get(name) for name in self.candidates_], dtype=np.float64)
        return 1 + nearest_group(row, self.centers_)

    def _history(self, asked: Mapping[str, Attempt], failed: set[str]) -> tuple[int, ...]:
        """Return the observation of each candidate that may be verified, as a table index."""
        history = []
        unobserved = self.beliefs_.unobserved
        for name in self.candidates_[: self.beliefs_.mass.ndim]:
            attempt = asked.get(name)
            if attempt is None or name in failed or not attempt.get("verified", False):
                history.append(unobserved)
            else:
                score = attempt.get("confidence")
                if score is not None and not 0 <= score <= 1:
                    msg = f"A verifier's score must lie in [0, 1], got {score!r} for {name!r}."
                    raise ValueError(msg)
                history.append(self._index(score))
        return tuple(history)

    def _index(self, score: float | None) -> int:
        # `score_index` does the same, but its arrays would take longer than the rest of a decision.
        return self.n_samples + 1 if score is None else round(score * self.n_samples)

    def _worth_verifying(self, state: PlanState) -> bool:
        if self.mode == "article":
            return any(state.plan.available[state.answered[-1] + 1 :])
        return state.plan.worth_verifying(state.history, state.answered)

    def _exact(self, state: PlanState) -> Decision:
        expected = state.expected
        options = state.plan.options(state.history, state.answered)
        keep = None
        if len(state.answered) > 0:
            keep = state.plan.best_answer(expected, state.answered)
        if len(options) == 0:
            assert keep is not None, "without open arms there is an answer"
            return self._keep(state, keep, "no candidate is left to ask")
        best = best_option(options)
        if keep is not None and not best.utility > expected[keep] + 1e-12:
            reason = f"keeping it is worth {expected[keep]:.3f}, continuing {best.utility:.3f}"
            return self._keep(state, keep, reason, options, _flip(best, expected[keep]))
        flip = None if keep is None else _flip(best, expected[keep])
        reason = f"worth {best.utility:.3f}"
        if keep is not None:
            reason += f", keeping {self.candidates_[keep]}'s answer {expected[keep]:.3f}"
        confidence = None if keep is None else float(expected[keep])
        return self._ask(state, best, reason, options, confidence=confidence, flip=flip)

    def _compare(self, state: PlanState, decision: Decision, worth: float) -> Decision:
        """Return the exit in place of the best other action if it is worth more."""
        j = self.candidates_.index(decision.candidate)
        value = float(state.expected[j])
        if decision.action == "ask":
            options = state.plan.options(state.history, state.answered)
            value = max(option.utility for option in options)
        if value >= worth - 1e-12:
            return decision
        doing = "asking" if decision.action == "ask" else "keeping the answer of"
        reason = (
            f"{doing} {decision.candidate} is worth {value:.3f}, less than {worth:.3f}, what to "
            "end without an answer is worth"
        )
        return exit_decision(self, decision.candidate, reason, scores=decision.scores)

    def _article(self, state: PlanState, last: Attempt | None) -> Decision:
        after = state.answered[-1] if last is not None else -1
        later = [j for j in range(after + 1, len(self.candidates_)) if state.plan.available[j]]
        if len(later) == 0:
            return self._keep(state, after, "no candidate is left to ask")
        following = Option(later[0], len(later) > 1, 0.0, float(self.cost_usd_[later[0]]), 0.0)
        if last is None:
            return self._ask(state, following, "the first in order")
        p = float(self._own_p_good[after, state.history[after]])
        bar = 1 - state.plan.lambda_ * following.cost_usd
        rule = f"P(good) {p:.3f}, 1 - λ·cost of {self.candidates_[later[0]]} {bar:.3f}"
        if p >= bar:
            return replace(self._keep(state, after, rule), confidence=p)
        return self._ask(state, following, rule, confidence=p)

    def _keep(
        self,
        state: PlanState,
        j: int,
        reason: str,
        options: list[Option] | None = None,
        flip: str | None = None,
    ) -> Decision:
        return accept(
            self,
            Attempt(candidate=self.candidates_[j]),
            reason,
            scores=self._scores_of(state, options or []),
            confidence=float(state.expected[j]),
            flip=flip,
        )

    def _ask(
        self,
        state: PlanState,
        option: Option,
        reason: str,
        options: list[Option] | None = None,
        *,
        confidence: float | None = None,
        flip: str | None = None,
    ) -> Decision:
        return Decision(
            action="ask",
            candidate=self.candidates_[option.candidate],
            policy=type(self).__name__,
            reason=reason,
            final=not option.verify,
            scores=self._scores_of(state, options or []),
            confidence=confidence,
            flip=flip,
        )

    def _scores_of(
        self, state: PlanState, options: list[Option]
    ) -> dict[str, dict[str, float | None]]:
        """Return each candidate's expected quality, its cost, and the utility of asking it."""
        utility: dict[int, float] = {}
        for option in options:
            utility[option.candidate] = max(
                option.utility, utility.get(option.candidate, option.utility)
            )
        costs = self.cost_usd_.tolist()
        expected = state.expected.tolist()
        return {
            name: {"quality": expected[j], "cost_usd": costs[j], "utility": utility.get(j)}
            for j, name in enumerate(self.candidates_)
        }


def _balanced_p_good(likelihood: Floats, quality: Floats) -> Floats:
    """Return P(good) after each observation if good and poor answers were equally likely before."""
    good = quality >= 0.5
    sides = [
        side.sum(axis=1) / max(side.shape[1], 1)
        for side in (likelihood[:, good], likelihood[:, ~good])
    ]
    return np.asarray(sides[0] / (sides[0] + sides[1]), dtype=np.float64)


def _flip(option: Option, keep: float) -> str | None:
    """Describe the λ at which this option and accepting now would have the same utility."""
    if option.cost_usd <= 0 or option.quality <= keep:
        return None
    return f"λ ≈ {(option.quality - keep) / option.cost_usd:.4g} per USD"
