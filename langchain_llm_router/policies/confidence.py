"""The simple cascade policy: ask in order, verify, accept the first good enough answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from langchain_llm_router.data.artifacts import kind_of, known_class
from langchain_llm_router.policies.knob import Knob, append_just_above_one
from langchain_llm_router.policies.one_shot import require_cost
from langchain_llm_router.policies.policy import Policy, accept
from langchain_llm_router.types import Arm, Attempt, Decision, Situation
from langchain_llm_router.types.arguments import check_range
from langchain_llm_router.types.lazy import lazy_names
from langchain_llm_router.types.options import RoutingOptions

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from langchain_llm_router.policies.observation import ObservationModel
else:
    # Types of arguments, which are resolved when an argument is checked.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "langchain_llm_router.policies.observation": "ObservationModel",
            "numpy.typing": "ArrayLike",
        },
    )

__all__ = ["ConfidenceThreshold"]


@dataclass(frozen=True)
class ConfidenceThreshold(Policy):
    """Escalates through the candidates in declared order until an answer is good enough.

    After each verification the observation model converts the score to P(good), with the
    estimator's prediction as prior if there is one. With `lambda_` the answer is accepted iff
    1 - P(good), the most that the next candidate can add, is not worth λ·cost of that candidate;
    otherwise iff P(good) ≥ `threshold`. The answer of the last candidate is accepted unverified. If
    the verdict is missing, the prior decides, and without a prior the next candidate is asked.

    Args:
        observation: Observation model of all candidates, or one per candidate name; if None, the
            raw score is used as P(good).
        threshold: Smallest P(good) at which an answer is accepted.
        lambda_: λ in quality per USD, the higher the cheaper; replaces `threshold`.
        use_prior: Whether an estimator's prediction replaces the base rate.
        lambda_raises_bar: The rule of policies that earlier versions saved: with `lambda_`, accept
            iff P(good) > λ·cost of the next candidate. It has no knob, because there a higher λ is
            dearer; a request's λ switches to the rule above.

    References:
        Madaan et al., 2023, AutoMix, arXiv:2310.12963, section 3 (thresholded self-verification).
        Deviation: the score is calibrated before it is compared.
    """

    observation: ObservationModel | Mapping[str, ObservationModel] | None = None
    threshold: float = 0.5
    lambda_: float | None = None
    use_prior: bool = True
    lambda_raises_bar: bool = False

    verifies: ClassVar[bool] = True
    decides_by_verdicts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_range(self, "threshold", "lambda_")

    @property
    def named_candidates(self) -> tuple[str, ...]:
        """The candidates that have an observation model of their own."""
        return tuple(self.observation) if isinstance(self.observation, Mapping) else ()

    def decide(self, situation: Situation) -> Decision:
        """Ask, verify, then accept or escalate."""
        if len(situation.attempts) == 0:
            return self._ask(situation.arms, "the first in order")
        waiting = situation.open_arms
        last = situation.attempts[-1]
        if last.get("error") is not None:
            if len(waiting) > 0:
                return self._ask(waiting, f"{last['candidate']} failed")
            return self._accept_best(situation)
        if len(waiting) == 0:
            return accept(self, last, "no candidate is left to ask")
        if not last.get("verified", False):
            return Decision(
                action="verify",
                candidate=last["candidate"],
                policy=type(self).__name__,
                reason="is this answer good enough?",
            )
        return self._accept_or_escalate(situation, last, waiting)

    def p_good(self, situation: Situation, attempt: Attempt) -> float | None:
        """Return P(the attempt's answer is good); None without score and prior."""
        name = attempt["candidate"]
        score = attempt.get("confidence")
        quality = next((arm.quality for arm in situation.arms if arm.candidate == name), None)
        prior = quality if self.use_prior else None
        model = self.observation_model(name)
        if model is None:
            return prior if score is None else score
        verdicts = attempt.get("verdicts") or [True]
        missing = sum(verdict is None for verdict in verdicts) / len(verdicts)
        return model.p_good(score, prior=prior, missing=missing)

    def observation_model(self, candidate: str) -> ObservationModel | None:
        """Return the observation model of a candidate."""
        model = self.observation
        return model.get(candidate) if isinstance(model, Mapping) else model

    @property
    def knob(self) -> Knob | None:
        """λ if it is set, otherwise the threshold."""
        if self.lambda_ is not None and self.lambda_raises_bar:
            return None
        if self.lambda_ is not None:
            return Knob("lambda", self.lambda_, more="cheaper answers")
        return Knob("threshold", self.threshold, high=1.0, more="more escalations")

    def with_options(self, options: RoutingOptions) -> Self:
        """Return this policy with the request's λ or threshold."""
        if options.lambda_ is not None:
            return replace(self, lambda_=options.lambda_, lambda_raises_bar=False)
        if options.threshold is not None:
            return replace(self, lambda_=None, threshold=options.threshold)
        return self

    def knob_values(
        self, cost_usd: ArrayLike = (), quality: ArrayLike | None = None, *, n: int = 51
    ) -> list[float]:
        """Return values as any policy does; for a threshold also one that P(good) = 1 misses."""
        values = super().knob_values(cost_usd, quality, n=n)
        return append_just_above_one(values) if self.require_knob().name == "threshold" else values

    def _save_fields(self, folder: Path) -> dict[str, Any]:
        settings = Policy._save_fields(replace(self, observation=None), folder)
        given = self.observation
        models = given if isinstance(given, Mapping) else {} if given is None else {"": given}
        # Folders are numbered, because candidates' names need not be file names.
        for i, model in enumerate(models.values()):
            model.save(folder / str(i))
        kinds = {name: kind_of(type(model)) for name, model in models.items()}
        return {**settings, "observation": kinds}

    @classmethod
    def _load_fields(cls, settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        from langchain_llm_router.policies.observation import (  # noqa: PLC0415 - loads NumPy
            ObservationModel,
        )

        models = {}
        for i, (name, kind) in enumerate(settings["observation"].items()):
            model_class = known_class(ObservationModel, kind, folder)  # type: ignore[type-abstract]
            models[name] = model_class.load(folder / str(i))
        observation = models.get("") if "" in models else models or None
        loaded = {**super()._load_fields(settings, folder), "observation": observation}
        # Before this field existed, a higher λ raised the bar.
        return {"lambda_raises_bar": loaded["lambda_"] is not None, **loaded}

    def _accept_or_escalate(
        self, situation: Situation, last: Attempt, waiting: tuple[Arm, ...]
    ) -> Decision:
        p = self.p_good(situation, last)
        bar, rule = self._bar(situation, waiting[0])
        if p is None:
            return self._ask(waiting, f"no verdict on {last['candidate']}'s answer")
        scores = {
            a.candidate: {"quality": a.quality, "cost_usd": a.cost_usd} for a in situation.arms
        }
        scores[last["candidate"]]["p_good"] = p
        passes = p >= bar
        if self._has_old_rule(situation):
            passes, flip = p > bar, None
        else:
            flip = self._flip(situation, waiting[0], p, accepts=passes)
        if passes:
            reason = f"P(good) {p:.3f} passes {rule}"
            return accept(self, last, reason, scores=scores, confidence=p, bar=bar, flip=flip)
        reason = f"P(good) {p:.3f} of {last['candidate']} does not pass {rule}"
        return self._ask(waiting, reason, scores, confidence=p, bar=bar, flip=flip)

    def _has_old_rule(self, situation: Situation) -> bool:
        """Return whether the decision is by the λ of an earlier version."""
        options = situation.options
        replaced = options.lambda_ is not None or options.threshold is not None
        return self.lambda_raises_bar and self.lambda_ is not None and not replaced

    def _flip(self, situation: Situation, following: Arm, p: float, *, accepts: bool) -> str:
        """Describe the setting at which the choice changes."""
        if self._effective_lambda(situation) is None:
            return f"a threshold {'above' if accepts else 'of at most'} {p:.3f}"
        cost = require_cost(following, "ConfidenceThreshold with λ")
        if cost <= 0:
            return "no λ, because the next candidate is free"
        return f"λ {'below' if accepts else 'of at least'} {(1 - p) / cost:.4g} per USD"

    def _effective_lambda(self, situation: Situation) -> float | None:
        if situation.options.lambda_ is not None:
            return situation.options.lambda_
        return None if situation.options.threshold is not None else self.lambda_

    def _bar(self, situation: Situation, following: Arm) -> tuple[float, str]:
        lambda_ = self._effective_lambda(situation)
        if lambda_ is not None:
            price = lambda_ * require_cost(following, "ConfidenceThreshold with λ")
            if self._has_old_rule(situation):
                return price, f"λ·cost of {following.candidate} = {price:.3f}"
            bar = 1 - price
            return bar, f"1 - λ·cost of {following.candidate} = {bar:.3f}"
        bar = self.threshold
        if situation.options.threshold is not None:
            bar = situation.options.threshold
        return bar, f"the threshold {bar:.3f}"

    def _ask(
        self,
        waiting: tuple[Arm, ...],
        reason: str,
        scores: Mapping[str, Mapping[str, float | None]] | None = None,
        *,
        confidence: float | None = None,
        bar: float | None = None,
        flip: str | None = None,
    ) -> Decision:
        return Decision(
            action="ask",
            candidate=waiting[0].candidate,
            policy=type(self).__name__,
            reason=reason,
            final=len(waiting) == 1,
            scores={} if scores is None else scores,
            confidence=confidence,
            bar=bar,
            flip=flip,
        )

    def _accept_best(self, situation: Situation) -> Decision:
        answered = situation.answered
        if len(answered) == 0:
            return accept(self, situation.attempts[-1], "every candidate failed")
        ranked = [(self.p_good(situation, attempt), i) for i, attempt in enumerate(answered)]
        _, best = max(ranked, key=lambda pair: (-1.0 if pair[0] is None else pair[0], pair[1]))
        return accept(self, answered[best], "the best answer so far; the last candidate failed")
