"""A second router that decides beside the first, answers nothing and costs nothing."""

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
from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.types import Attempt, Situation
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.operations import Operation

__all__ = ["Shadow", "Shadowing"]


@dataclass(frozen=True, eq=False)
class Shadow(CheckedArguments):
    """Which candidate another router would have asked, in each record (`shadow`) and in the log.

    It takes its steps over the same candidates through the same loop, after the real answer is
    known, and sees what the real router saw. Where it wants an answer or a verdict that the real
    one did not get, `complete` is False and it stops there. If it fails, the record says so and
    the answer is not affected.

    Args:
        policy: The policy that decides.
        estimator: Predicts quality for it; None: the real router's predictions.
        name: Tells several shadows apart in a log.
    """

    policy: Policy
    estimator: QualityEstimator | None = None
    name: str = "shadow"

    @classmethod
    def load(
        cls, folder: str | Path, *, embeddings: Embeddings | None = None, name: str | None = None
    ) -> Shadow:
        """A fitted router (`fit_router`, `llm-router fit`) as a shadow, named after its folder.

        Raises:
            ArtifactError: If the folder is corrupted or holds something else.
        """
        saved = SavedRouter.load(folder, embeddings=embeddings)
        return cls(saved.policy, saved.estimator, name or Path(folder).name)

    def check(self, names: Sequence[str]) -> None:
        """Refuse a shadow that does not fit the router's candidates.

        Raises:
            ValueError: With the names that are unknown.
            NotFittedError: If its estimator is not fitted.
        """
        check_policy(self.policy, names)
        known = names if self.estimator is None else self.estimator.fitted_candidates
        missing = [name for name in names if name not in known]
        if missing:
            msg = f"The shadow's estimator knows nothing of {missing}: it was fitted on {known}."
            raise ValueError(msg)

    def decide(
        self, situations: Sequence[Situation], attempts: Sequence[Attempt]
    ) -> dict[str, Any]:
        """What it would have done, as plain data.

        Args:
            situations: Before each step, as the real router saw them.
            attempts: The results of the real router's steps.
        """
        if self.estimator is not None:
            row = self.estimator.predict([situations[0].query])[0]
            quality = dict(zip(self.estimator.fitted_candidates, row.tolist(), strict=True))
            situations = [replace_quality(situation, quality) for situation in situations]
        went = retrace(self.policy, situations, attempts)
        first = next((step for step in went.steps if len(step.scores) > 0), None)
        return {
            "name": self.name,
            "policy": type(self.policy).__name__,
            "candidate": went.candidate,
            "complete": went.on_record,
            "cost_usd": went.cost_usd,
            "propensity": went.propensity,
            "scores": {} if first is None else {n: dict(s) for n, s in first.scores.items()},
            "steps": [
                {"action": step.action, "candidate": step.candidate, "reason": step.reason}
                for step in went.steps
            ],
            **({} if went.error is None else {"error": went.error}),
        }


@dataclass(frozen=True)
class Shadowing(Operation):
    """Let the shadow decide; its estimator may call an embedding model over the network."""

    shadow: Shadow
    situations: Sequence[Situation]
    attempts: Sequence[Attempt]

    def perform(self) -> dict[str, Any]:
        """Decide in place."""
        try:
            return self.shadow.decide(self.situations, self.attempts)
        except Exception as error:  # noqa: BLE001 - a shadow must not break an answer
            return {"name": self.shadow.name, "error": f"{type(error).__name__}: {error}"}

    async def aperform(self) -> dict[str, Any]:
        """Decide in a thread if it predicts, so that the event loop is not blocked."""
        if self.shadow.estimator is None:
            return self.perform()
        return await run_in_executor(None, self.perform)
