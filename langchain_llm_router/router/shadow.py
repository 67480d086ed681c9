"""A second router whose decisions are recorded beside the first one's, but not carried out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_core.runnables.config import run_in_executor

from langchain_llm_router.estimators.estimator import QualityEstimator
from langchain_llm_router.history.retraced import retrace
from langchain_llm_router.loop.arms import replace_quality
from langchain_llm_router.loop.loop import check_policy
from langchain_llm_router.loop.record import brief_steps
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.router.fitted_columns import columns_of
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.types import Attempt, Situation
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.operations import Operation
from langchain_llm_router.types.secrets import describe_error

__all__ = ["Shadow", "ShadowOperation"]


@dataclass(frozen=True, eq=False)
class Shadow(CheckedArguments):
    """A router whose decisions are only recorded, in each record's field `shadow` and in the log.

    After the real answer is accepted, the shadow's policy takes its steps in the same loop, over
    the same candidates and attempts. If it needs an answer or a verdict that the real router did
    not get, it stops there and `complete` is False. If it fails, the error is recorded and the
    answer is not affected.

    Args:
        policy: The policy that decides.
        estimator: The estimator that predicts quality for it; if None, the real router's
            predictions are used.
        name: Name in the log, to distinguish several shadows.
    """

    policy: Policy
    estimator: QualityEstimator | None = None
    name: str = "shadow"

    @classmethod
    def load(
        cls, folder: str | Path, *, embeddings: Embeddings | None = None, name: str | None = None
    ) -> Shadow:
        """Load a saved router as a shadow, by default named after its folder.

        Raises:
            ArtifactError: If the folder is corrupted or holds another kind of artifact.
        """
        saved = SavedRouter.load(folder, embeddings=embeddings)
        return cls(saved.policy, saved.estimator, name or Path(folder).name)

    def check(self, names: Sequence[str]) -> None:
        """Refuse a shadow that does not fit the router's candidates.

        Raises:
            ValueError: If the policy names an unknown candidate, or the estimator was fitted
                without one of them.
            NotFittedError: If its estimator is not fitted.
        """
        check_policy(self.policy, names, whose="shadow's")
        columns_of(self.estimator, names, whose="shadow's")

    def decide(
        self, situations: Sequence[Situation], attempts: Sequence[Attempt]
    ) -> dict[str, Any]:
        """Return the shadow's decisions, as plain data.

        Args:
            situations: The real router's situations, one before each step.
            attempts: The results of the real router's steps.
        """
        if self.estimator is not None:
            row = self.estimator.predict([situations[0].query])[0]
            quality = dict(zip(self.estimator.fitted_candidates, row.tolist(), strict=True))
            situations = [replace_quality(situation, quality) for situation in situations]
        path = retrace(self.policy, situations, attempts)
        first = next((step for step in path.steps if len(step.scores) > 0), None)
        return {
            "name": self.name,
            "policy": type(self.policy).__name__,
            "candidate": path.candidate,
            "complete": path.on_record,
            "cost_usd": path.cost_usd,
            "propensity": path.propensity,
            "scores": {} if first is None else {n: dict(s) for n, s in first.scores.items()},
            "steps": brief_steps(path.steps),
            **({} if path.error is None else {"error": path.error}),
        }


@dataclass(frozen=True)
class ShadowOperation(Operation):
    """The operation in which a shadow decides; it may embed the query over the network."""

    shadow: Shadow
    situations: Sequence[Situation]
    attempts: Sequence[Attempt]
    refusal: Exception | None = None
    """Why the shadow does not decide; None if it does."""

    def perform(self) -> dict[str, Any]:
        """Decide in this thread."""
        if self.refusal is not None:
            return self._failed(self.refusal)
        try:
            return self.shadow.decide(self.situations, self.attempts)
        except Exception as error:  # noqa: BLE001 - a shadow must not break an answer
            return self._failed(error)

    def _failed(self, error: Exception) -> dict[str, Any]:
        embeddings = getattr(self.shadow.estimator, "embeddings", None)
        return {"name": self.shadow.name, "error": describe_error(error, embeddings)}

    async def aperform(self) -> dict[str, Any]:
        """Decide in a thread if it predicts, so that the event loop is not blocked."""
        if self.shadow.estimator is None:
            return self.perform()
        return await run_in_executor(None, self.perform)
