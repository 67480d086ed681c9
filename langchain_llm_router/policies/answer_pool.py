"""A cascade that asks until enough answers agree, and returns the one most likely right."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.data.artifacts import data_hash
from langchain_llm_router.data.row_checks import column_indices
from langchain_llm_router.policies.answer_partitions import (
    NOT_ASKED,
    UNREADABLE,
    answer_partitions,
    canonical,
)
from langchain_llm_router.policies.exits import Exit
from langchain_llm_router.policies.fitted_policy import FittedPolicy
from langchain_llm_router.policies.knob import Knob
from langchain_llm_router.policies.policy import accept, exit_decision, last_resort
from langchain_llm_router.policies.pool_choice import expected_costs
from langchain_llm_router.policies.pool_model import (
    Calibration,
    PoolModel,
    PoolSettings,
    replay_pool,
)
from langchain_llm_router.policies.pool_rows import read_rows
from langchain_llm_router.policies.pool_search import STOP, PoolPlan, round_cost
from langchain_llm_router.policies.training_tables import check_tables, mean_costs
from langchain_llm_router.types import Attempt, Candidate, Decision, Situation
from langchain_llm_router.types.arguments import check_range
from langchain_llm_router.types.arrays import Arrays, Floats
from langchain_llm_router.types.figures import format_score

__all__ = ["AnswerPool"]

_PRIOR_ROWS = 1000.0
"""Number of rows that the assumptions by price count for; fitted on fewer alone is worse."""
_LIKELY = 0.7
"""P(a candidate is asked next) from which it may be asked at the same time."""
_DAY_ONE_WORTH = 0.1
"""λ × the cost of the dearest candidate, where no data are known."""
_DAY_ONE_STEP = 2**0.25


@dataclass(eq=False)
class AnswerPool(FittedPolicy):
    """Asks candidates until the answer that most likely is right is not worth improving on.

    Every answer is compared with the earlier ones, which the verifier `AnswerGroups` does. The
    state is who was asked and which answers are equal; the belief is over latent classes of
    difficulty, in which candidates are right, wrong or unreadable independently and wrong answers
    coincide as a Chinese-restaurant process. It starts from the predicted qualities of the arms,
    if `fit` got such, and changes with the lengths of the answers. The next step maximizes
    P(right) - λ·cost exactly over all further steps, for beliefs rounded to `n_beliefs` centers
    and without foresight of lengths. In the end the cheapest member's answer of the group that is
    most likely right is accepted, which need not be the last answer.

    Agreement says little where few answers are possible, e.g. two to four letters: measure before
    you use it there. A pool has two to six candidates, see `choose_pool`.

    Args:
        lambda_: λ in quality per USD, the higher the cheaper; a request may replace it
            (`RoutingOptions.lambda_`) without a new fit.
        n_classes: Number of classes of difficulty.
        length_weight: Weight in [0, 1] of the length of an answer as evidence of its class; 0 to
            ignore lengths. Below 1, because the lengths of several answers depend on each other.
        n_beliefs: Number of centers.

    Attributes:
        candidates_: Names of the candidates, in the order of the training columns.
        model_: The classes, the belief over them, and costs.
        calibration_: Map from the model's probabilities, which are too high, to measured ones.
        verification_cost_usd_: Mean cost of comparing each candidate's answer.
        n_scored_: Number of requests with a score that corrected the assumptions by price; None if
            the policy was fitted on data.
        relative_: Whether λ holds for a request at which the dearest candidate costs what it does
            usually, and counts each cost relative to its cost at the request, see `from_prices`.

    Example:
        >>> pool = AnswerPool.from_prices({"small": 0.0001, "medium": 0.0002, "large": 0.003})
        >>> pool.named_candidates
        ('small', 'medium', 'large')

    References:
        Dawid and Skene, 1979, Maximum Likelihood Estimation of Observer Error-Rates Using the EM
        Algorithm; Aldous, 1985, Exchangeability and Related Topics (Chinese-restaurant process).
    """

    lambda_: float = 0.0
    n_classes: int = 8
    length_weight: float = 0.5
    n_beliefs: int = 96

    verifies: ClassVar[bool] = True
    looks_ahead: ClassVar[bool] = True
    learns: ClassVar[bool] = True
    _fit_call: ClassVar[str] = "fit(outcomes, evaluations)` or `AnswerPool.from_prices(prices)"
    _derived_names: ClassVar[frozenset[str]] = frozenset(
        {"_tables", "_steps", "_index", "_rank", "_roots", "_mean_costs"}
    )

    def __post_init__(self) -> None:
        check_range(self, "lambda_")
        check_range(self, "length_weight", high=1.0)
        for name in ("n_classes", "n_beliefs"):
            if getattr(self, name) < 1:
                msg = f"`{name}` must be >= 1, got {getattr(self, name)!r}."
                raise ValueError(msg)

    @property
    def knob(self) -> Knob:
        """λ."""
        return Knob("lambda", self.lambda_, more="cheaper answers", exact=True)

    def knob_for(self, situation: Situation) -> Knob:
        """Return the λ that holds for a request."""
        return replace(self.knob, value=self._lambda(situation, self._costs(situation)))

    def with_knob(self, value: float) -> Self:
        """Return this policy with another λ, the same for all requests."""
        other = super().with_knob(value)
        other.relative_ = self.relative_ and value == self.lambda_
        return other

    def fit(
        self,
        outcomes: Outcomes,
        evaluations: SelfEvaluations,
        quality: ArrayLike | None = None,
        *,
        unlabelled: SelfEvaluations | None = None,
        pool: Sequence[str] | None = None,
    ) -> Self:
        """Fit on measured answers and on which of them are equal.

        Args:
            outcomes: Measured quality (at least 0.5 counts as right) and cost, and, if known, the
                tokens of the answers.
            evaluations: The groups of equal answers, with the same rows and columns. Without costs
                comparing is free.
            quality: Predictions of an estimator for these rows, which it was not fitted on, in the
                shape of the qualities. The belief then starts from the predictions of a query.
            unlabelled: Groups of further answers whose quality is unknown, with the same columns.
                They help most where labels are few.
            pool: Names of the candidates that it asks, e.g. `choose_pool(outcomes)`; the answers of
                the others only tell which questions are hard. If None, all.

        Raises:
            ValueError: If the tables do not fit each other or have no groups, if the pool has more
                than six candidates, or if one of them has no known cost.
        """
        check_tables(outcomes, evaluations)
        names = tuple(outcomes.candidates) if pool is None else tuple(pool)
        answer_partitions(len(names))
        rows = read_rows(outcomes, evaluations, quality, names, unlabelled)
        cost_usd = mean_costs("outcomes", rows.cost_usd, names)
        comparing = evaluations.select(names).cost_usd
        self.verification_cost_usd_ = (
            np.zeros(len(names))
            if comparing is None
            else mean_costs("evaluations", comparing, names)
        )
        self.candidates_ = names
        self.n_scored_: int | None = None
        self.relative_ = False
        self.data_hash_ = data_hash(outcomes.queries, outcomes.candidates, outcomes.quality)
        settings = PoolSettings(self.n_classes, self.length_weight, self.n_beliefs)
        self.model_ = PoolModel.fit(rows, cost_usd, settings)
        self.calibration_ = Calibration.fit(rows, cost_usd, settings)
        self._derive()
        return self

    @classmethod
    def from_prices(
        cls,
        candidates: Mapping[str, float] | Sequence[Candidate],
        lambda_: float | None = None,
    ) -> Self:
        """Return a policy that needs no data: dearer candidates are assumed to be more able.

        Nothing was measured: see `ClassModel.from_prices` for all that is assumed. Stated
        probabilities are those of the assumptions.

        Args:
            candidates: Expected cost of a call in USD by name, or candidates, whose expected cost
                is taken or else made from their prices and expected tokens.
            lambda_: λ in quality per USD. If None, 0.1 divided by the cost of the dearest
                candidate: asking it is worth as much as 0.1 more P(right), whatever a request
                costs, long ones too. Where requests would then cost more in expectation than the
                dearest candidate alone, because the others are nearly as dear, the least higher λ
                at which they do not.

        Raises:
            TypeError: If the candidates are neither costs by name nor candidates.
            ValueError: If there are fewer than two or more than six candidates, or a cost is
                unknown or below 0, or all are 0.
        """
        costs = expected_costs(candidates)
        if len(costs) < 2:
            msg = f"A pool must have at least two candidates, got {list(costs)}."
            raise ValueError(msg)
        answer_partitions(len(costs))
        model = PoolModel.from_prices(list(costs.values()))
        policy = cls(0.0 if lambda_ is None else lambda_)
        policy.candidates_, policy.n_scored_ = tuple(costs), 0
        policy.relative_ = lambda_ is None
        policy.data_hash_ = ""
        policy.verification_cost_usd_ = np.zeros(len(costs))
        policy.model_, policy.calibration_ = model, Calibration()
        policy._derive()
        if lambda_ is None:
            policy.lambda_ = policy._day_one_lambda()
        return policy

    def learn(
        self,
        evaluations: SelfEvaluations,
        quality: ArrayLike | None = None,
        *,
        asked: ArrayLike | None = None,
    ) -> Self:
        """Return a policy that was made of prices after it has seen answers.

        The assumptions count for 1,000 rows. Give it answers of known quality: 1,420 rows of
        recorded answers without made it worse than the prices alone.

        Args:
            evaluations: The groups of equal answers of the pool's candidates.
            quality: Measured quality of the answers (at least 0.5 counts as right), NaN where
                unknown, in the shape of the groups. If None, all are unknown. An equal answer is as
                right as the one that was judged.
            asked: Whether each candidate was asked and its answer compared, same shape; if None,
                all were. Where not, a known quality tells only how able the candidate is.

        Raises:
            ValueError: If the policy was fitted on data, or the groups are missing.
        """
        self._check_fitted()
        groups = evaluations.select(self.candidates_).answer_groups
        if groups is None or self.n_scored_ is None:
            msg = (
                "`learn` needs groups of equal answers, and a pool from `AnswerPool.from_prices`: "
                "fit one that was fitted on data again, with these answers as `unlabelled`."
            )
            raise ValueError(msg)
        columns = column_indices(self.candidates_, evaluations.candidates)
        known = np.full(groups.shape, np.nan)
        if quality is not None:
            known = np.asarray(quality, dtype=np.float64)[:, columns]
        if asked is not None:
            groups = np.where(np.asarray(asked, dtype=bool)[:, columns], groups, NOT_ASKED)
        policy = self.with_knob(self.lambda_)
        policy.model_ = self.model_.learned(groups, known, _PRIOR_ROWS)
        n_scored = int((~np.isnan(known)).any(axis=1).sum())
        if n_scored > 0:
            policy.n_scored_ = self.n_scored_ + n_scored
            policy.data_hash_ = data_hash(self.candidates_, groups, known)
        policy._derive()
        return policy

    @property
    def is_assumed(self) -> bool:
        """Whether no quality was measured, only prices are known, see `from_prices`."""
        self._check_fitted()
        return self.data_hash_ == ""

    @property
    def _basis(self) -> str:
        if self.n_scored_ is None:
            return ""
        if self.n_scored_ == 0:
            return " (assumed from prices, not measured)"
        requests = f"{self.n_scored_:,} scored request{'s' * (self.n_scored_ != 1)}"
        return f" (assumed from prices, corrected by {requests})"

    def asks(self, candidates: Sequence[str]) -> tuple[str, ...]:
        """Return the candidates of the pool."""
        return tuple(name for name in candidates if name in self.candidates_)

    def rehearse(
        self,
        lambdas: Sequence[float],
        outcomes: Outcomes,
        evaluations: SelfEvaluations,
        quality: ArrayLike | None = None,
    ) -> tuple[Floats, Floats]:
        """Replay this policy at several λ, much faster than `evaluation.replay`.

        Costs of the arms are those of the training rows.

        Args:
            lambdas: The values of λ.
            outcomes: As in `fit`, for any rows; other candidates than its own are ignored.
            evaluations: As in `fit`.
            quality: As in `fit`.

        Returns:
            Quality of the accepted answer and total cost, each of shape (n_lambdas, n_queries).
        """
        self._check_fitted()
        check_tables(outcomes, evaluations)
        rows = read_rows(outcomes, evaluations, quality, self.candidates_)
        asked, accepted, _ = replay_pool(self.model_, self._tables, rows, lambdas)
        comparing = evaluations.select(self.candidates_).cost_usd
        cost = rows.cost_usd + (0.0 if comparing is None else comparing)
        sets = asked[..., None] >> np.arange(cost.shape[1]) & 1
        spent = np.where(sets == 1, cost, 0.0).sum(axis=2)
        return rows.quality[np.arange(len(rows.quality)), accepted], spent

    def decide(self, situation: Situation) -> Decision:
        """Compare the last answer, then look up the best next step."""
        return self._decide(situation, None)

    def decide_or_abstain(self, situation: Situation, exit_: Exit) -> Decision:
        """Look up the best next step, where to abstain after any answer is one of the steps."""
        step = self._decide(situation, exit_)
        if step.action != "ask" or len(situation.answered) > 0 or not exit_.possible:
            return step
        worth = self.calibration_.apply(step.scores[step.candidate]["value"] or 0.0)
        if worth >= exit_.worth:
            return step
        reason = f"asking is worth {worth:.3f}, to end without an answer {exit_.worth:.3f}"
        return exit_decision(self, step.candidate, reason, scores=step.scores)

    def _decide(self, situation: Situation, exit_: Exit | None) -> Decision:
        self._check_fitted()
        view = self._view(situation)
        if len(view.answered) == 0 and not any(view.open):
            return last_resort(self, situation)
        name = None if view.uncompared is None else self.candidates_[view.uncompared]
        is_last = name is not None and situation.attempts[-1]["candidate"] == name
        if name is not None and is_last and (any(view.open) or len(view.answered) > 1):
            reason = "equal answers of several candidates are more likely right"
            return Decision("verify", name, type(self).__name__, reason)
        worth = 0.0 if exit_ is None else self.calibration_.invert(exit_.worth)
        step = self._step(situation, view, worth)
        if step.action == STOP:
            return self._accept(view, step)
        return self._ask(view, step)

    def crossings(self, situation: Situation) -> list[float]:
        """Return the λ at which the next step changes, see `PoolTables.crossings`."""
        self._check_fitted()
        view = self._view(situation)
        tables = self._tables.at(self._column(view))
        return tables.crossings(view.state, np.array(self._costs(situation)), _available(view))

    def p_good(self, situation: Situation, attempt: Attempt) -> float | None:
        """Return P(the attempt's answer is right), given all answers so far, recalibrated.

        Without a comparison, that of an answer which may be equal to none of the others.
        """
        self._check_fitted()
        name = attempt["candidate"]
        if name not in self.candidates_:
            return super().p_good(situation, attempt)
        others = [a for a in situation.attempts if a["candidate"] != name]
        known = [a for a in situation.attempts if a["candidate"] == name]
        merged: Any = {**(known[0] if known else {}), **attempt, "error": None}
        view = self._view(situation, (*others, merged))
        return self._chances(view)[self._index[name]]

    def _settings(self) -> dict[str, Any]:
        return {
            "candidates": list(self.candidates_),
            "data_hash": self.data_hash_,
            "n_scored": self.n_scored_,
            "relative": self.relative_,
            "calibration": list(self.calibration_),
        }

    def _arrays(self) -> Arrays:
        return {**self.model_.arrays(), "verification_cost_usd": self.verification_cost_usd_}

    def _restore(self, settings: Mapping[str, Any], arrays: Arrays) -> None:
        self.candidates_ = tuple(settings["candidates"])
        self.data_hash_ = settings["data_hash"]
        # Older files do not have the number.
        self.n_scored_ = settings.get("n_scored", 0 if self.data_hash_ == "" else None)
        self.relative_ = settings.get("relative", False)
        self.calibration_ = Calibration(*settings["calibration"])
        self.verification_cost_usd_ = arrays["verification_cost_usd"]
        self.model_ = PoolModel.from_arrays(arrays)
        self._derive()

    def _derive(self) -> None:
        """Tabulate the pool, and make the caches, which `lru_cache` keeps thread-safe."""
        self._index = {name: j for j, name in enumerate(self.candidates_)}
        self._tables = tables = self.model_.tables()
        self._rank = np.argsort(tables.order).tolist()
        self._roots = np.sqrt(self.model_.centers)
        model = self.model_
        costs = (model.cost_usd, self.verification_cost_usd_)
        self._mean_costs = list(zip(*(table.tolist() for table in costs), strict=True))

        @lru_cache(maxsize=32)
        def solver(key: _PlanKey) -> PoolPlan:
            costs = np.array(key.cost_usd)
            return tables.solve(key.lambda_, costs, key.available, key.exit_worth)

        @lru_cache(maxsize=8192)
        def steps(key: _PlanKey, state: int, column: int) -> _Step:
            plan = solver(key)
            action = int(plan.action[state, column])
            final = action != STOP and tables.accepts_any(
                plan, state, action, model.nearby(action, column)
            )
            *right, total = (tables.right[state] @ model.centers[column]).tolist()
            asking = tables.values_of_asking(plan, state, column).tolist()
            values = [
                p / total if math.isnan(value) else value
                for p, value in zip(right, asking, strict=True)
            ]
            after = None
            if action != STOP and not final:
                chances = tables.chances_of_next(plan, state, column)
                likeliest = int(chances.argmax())
                after = likeliest if chances[likeliest] >= _LIKELY else None
            return _Step(action, final, values, key.cost_usd, after)

        self._steps: Callable[[_PlanKey, int, int], _Step] = steps

    def _day_one_lambda(self) -> float:
        """Return the λ that is assumed without data, see `from_prices`."""
        dearest = float(self.model_.cost_usd.max())
        lambda_, tables = _DAY_ONE_WORTH / dearest, self._tables.at(0)
        while tables.expected_cost(lambda_, self.model_.cost_usd) > dearest * (1 + 1e-6):
            lambda_ *= _DAY_ONE_STEP
        return lambda_

    def _view(self, situation: Situation, attempts: Sequence[Attempt] | None = None) -> _View:
        """Read a situation as a state and a belief."""
        attempts = situation.attempts if attempts is None else attempts
        groups, tokens = [NOT_ASKED] * len(self._index), []
        answered: list[int] = []
        uncompared = None
        for attempt in attempts:
            j = self._index.get(attempt["candidate"])
            if j is None or attempt.get("error") is not None:
                continue
            answered.append(j)
            uncompared = None if attempt.get("verified", False) else j
            if uncompared is None:
                group = attempt.get("answer_group")
                groups[j] = UNREADABLE if group is None else group
            length = attempt.get("output_tokens")
            if length is not None:
                tokens.append((j, length))
        arms = {arm.candidate: arm.quality for arm in situation.arms}
        # A candidate that cannot be asked says nothing; one without a prediction means that there
        # is no estimator, or that it abstains.
        known = all(arms.get(name, 0.0) is not None for name in self.candidates_)
        quality = [arms.get(name) for name in self.candidates_] if known else None
        asked = {attempt["candidate"] for attempt in attempts}
        return _View(
            state=answer_partitions(len(groups)).index[canonical(groups)],
            groups=tuple(groups),
            belief=self.model_.beliefs.of_request(quality, tokens),
            answered=tuple(answered),
            uncompared=uncompared,
            open=tuple(name in arms and name not in asked for name in self.candidates_),
        )

    def _step(self, situation: Situation, view: _View, exit_worth: float) -> _Step:
        """Look up the step for this λ, the costs of now, and the candidates that can be asked."""
        costs = self._costs(situation)
        key = _PlanKey(self._lambda(situation, costs), costs, _available(view), exit_worth)
        return self._steps(key, view.state, self._column(view))

    def _lambda(self, situation: Situation, cost_usd: Sequence[float]) -> float:
        """Return the λ of a request."""
        given = situation.options.lambda_
        lambda_ = self.lambda_ if given is None else given
        dearest = max(cost_usd)
        if not self.relative_ or lambda_ != self.lambda_ or dearest <= 0:
            return lambda_
        return lambda_ * float(max(map(sum, self._mean_costs))) / dearest

    def _costs(self, situation: Situation) -> tuple[float, ...]:
        """Return what asking each candidate and comparing its answer costs now."""
        arms = {arm.candidate: arm for arm in situation.arms}
        costs = []
        for name, (usual, comparing) in zip(self.candidates_, self._mean_costs, strict=True):
            arm = arms.get(name)
            if arm is not None and arm.cost_usd is not None:
                usual = round_cost(arm.cost_usd, usual)  # noqa: PLW2901 - the usual cost now
            if arm is not None and arm.verification_cost_usd is not None:
                comparing = arm.verification_cost_usd  # noqa: PLW2901 - likewise
            costs.append(usual + comparing)
        return tuple(costs)

    def _column(self, view: _View) -> int:
        """Return the number of the center that is nearest to the belief."""
        roots = np.array([math.sqrt(p) for p in view.belief])
        return int((self._roots @ roots).argmax())

    def _chances(self, view: _View) -> list[float]:
        """Return P(right) of each candidate's answer, also of one not asked for, recalibrated."""
        *right, total = (self._tables.right[view.state] @ np.array(view.belief)).tolist()
        return [self.calibration_.apply(p / total) for p in right]

    def _scores(
        self, view: _View, step: _Step, chances: Sequence[float]
    ) -> dict[str, dict[str, float | None]]:
        """Return what is known of each answer, and of asking each candidate that can be asked."""
        scores: dict[str, dict[str, float | None]] = {}
        for j, name in enumerate(self.candidates_):
            if j in view.answered:
                scores[name] = {"p_right": chances[j], "value": step.values[j]}
            elif view.open[j]:
                scores[name] = {"value": step.values[j], "cost_usd": step.cost_usd[j]}
        return scores

    def _accept(self, view: _View, step: _Step) -> Decision:
        """Accept the cheapest of the answers that are most likely right."""
        chances = self._chances(view)
        highest = max(chances[j] for j in view.answered) * (1 - 1e-9)
        equal = [j for j in view.answered if chances[j] >= highest]
        best = min(equal, key=lambda j: self._rank[j])
        p = chances[best]
        scores = self._scores(view, step, chances)
        reason = f"{_agreement(view, best)}, P(right) = {format_score(p)}{self._basis}"
        attempt = Attempt(candidate=self.candidates_[best])
        return accept(self, attempt, reason, scores=scores, confidence=p)

    def _ask(self, view: _View, step: _Step) -> Decision:
        chances, name = self._chances(view), self.candidates_[step.action]
        best = max((chances[j] for j in view.answered), default=None)
        keeping = (
            "" if best is None else f", the best answer so far has P(right) = {format_score(best)}"
        )
        return Decision(
            action="ask",
            candidate=name,
            policy=type(self).__name__,
            reason=f"asking it is worth {step.values[step.action]:.3f}{keeping}{self._basis}",
            final=step.final,
            likely_next=None if step.likely_next is None else self.candidates_[step.likely_next],
            scores=self._scores(view, step, chances),
            # A final answer is accepted with what is known before it comes.
            confidence=chances[step.action] if step.final else best,
        )


class _PlanKey(NamedTuple):
    """What a plan depends on."""

    lambda_: float
    cost_usd: tuple[float, ...]
    available: tuple[bool, ...]
    exit_worth: float = 0.0


class _Step(NamedTuple):
    """What a plan says of one state and belief.

    Attributes:
        action: Number of the candidate to ask, or `STOP`.
        final: Whether any readable answer of it would be accepted.
        values: Value of asking each candidate, and of keeping the answer of one that was asked:
            P(right) - λ·further cost, before recalibration.
        cost_usd: Cost of asking each candidate and of comparing its answer.
        likely_next: Number of the candidate that will probably be asked next; None if
            there is none.
    """

    action: int
    final: bool
    values: Sequence[float]
    cost_usd: tuple[float, ...]
    likely_next: int | None


class _View(NamedTuple):
    """A situation as the pool sees it.

    Attributes:
        state: Number of the state.
        groups: Group of each candidate's answer, as in a state.
        belief: P(class).
        answered: Numbers of the candidates that have answered.
        uncompared: The last of them, if its answer was not compared.
        open: Which candidates can be asked.
    """

    state: int
    groups: tuple[int, ...]
    belief: list[float]
    answered: tuple[int, ...]
    uncompared: int | None
    open: tuple[bool, ...]


def _available(view: _View) -> tuple[bool, ...]:
    """Return which candidates a plan may ask.

    Those that have answered count too, so that one plan serves the whole request.
    """
    return tuple(
        is_open or group != NOT_ASKED for is_open, group in zip(view.open, view.groups, strict=True)
    )


def _agreement(view: _View, j: int) -> str:
    """Say how many of the answers are equal to a candidate's."""
    n = len(view.answered)
    if n == 1:
        return "the only answer"
    if view.groups[j] < 0:
        return f"of {n} answers this one cannot be compared"
    equal = view.groups.count(view.groups[j])
    return f"{equal} of {n} answers agree" if equal > 1 else f"the likeliest of {n} answers"
