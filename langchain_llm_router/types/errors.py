"""The exceptions of the package.

    LlmRouterError
    ├── NotFittedError          an estimator, observation model or policy used before `fit`
    ├── NoCandidateError        no candidate may be asked (options, capabilities, budget)
    │   └── BudgetExceededError a budget has too little left for any candidate
    ├── LedgerError             the accounts of the budgets cannot be read or written
    ├── PolicyError             a policy decides what cannot be done, or never accepts
    ├── DeadlineError           the time of the whole request is up
    ├── RestoreError            the effects of a rejected agent could not be undone
    ├── EmptyAnswerError        a stream ended without text, tool call, reasoning or finish reason
    ├── CollectionError         collecting stopped early; the journal holds everything so far
    ├── CalibrationError        no setting meets the target, or the labels are too few to promise it
    ├── ArtifactError           a saved artifact cannot be used: wrong version, dimension or hash
    └── MissingExtraError       an optional dependency is not installed

A wrong argument is a plain `ValueError` or `TypeError`; a candidate's own failure is raised as it
came from the provider. Every message names the value, what is allowed, and what to do.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

__all__ = [
    "ArtifactError",
    "BudgetExceededError",
    "CalibrationError",
    "CollectionError",
    "DeadlineError",
    "EffortRefusedError",
    "EmptyAnswerError",
    "LedgerError",
    "LlmRouterError",
    "MissingExtraError",
    "NoCandidateError",
    "NotFittedError",
    "PolicyError",
    "RestoreError",
    "blame_candidate",
    "candidate_of",
    "import_extra",
    "is_pause",
    "own_error",
]


class LlmRouterError(Exception):
    """Base class of this package's errors, wrong arguments excepted."""


class NotFittedError(LlmRouterError):
    """Raised when an estimator, observation model or policy is used before it was fitted."""


class NoCandidateError(LlmRouterError):
    """Raised when no candidate may be asked under the request's options, needs and budget."""


class BudgetExceededError(NoCandidateError):
    """Raised when a budget or a request's cost cap is too small for any candidate."""


class LedgerError(LlmRouterError):
    """Raised when a budget's accounts cannot be read or written, e.g. because Redis is down.

    Not a `BudgetExceededError`: whether the budget has enough left is not known.
    """


class CollectionError(LlmRouterError):
    """Raised when collecting had to stop before its end; a later run resumes there."""


class CalibrationError(LlmRouterError):
    """Raised when a target cannot be met, or cannot be guaranteed with the available labels.

    Attributes:
        more_labels: About how many more labeled rows are needed; None: no number is enough.
    """

    def __init__(self, message: str, *, more_labels: int | None = None) -> None:
        super().__init__(message)
        self.more_labels = more_labels


class PolicyError(LlmRouterError):
    """Raised when a policy decides what cannot be done, or never accepts."""


class DeadlineError(LlmRouterError, TimeoutError):
    """Raised when the time of the whole request is up before a candidate could be asked."""


class RestoreError(LlmRouterError):
    """Raised when `restore` could not undo what a rejected agent has changed."""


class EmptyAnswerError(LlmRouterError):
    """Raised when a stream ended without text, tool call, reasoning or finish reason."""

    is_retryable = True

    def __init__(self, candidate: str) -> None:
        super().__init__(
            f"The stream of {candidate!r} ended without text, tool call, reasoning or finish "
            "reason: its endpoint sent nothing. Retry, or ask another candidate."
        )


class EffortRefusedError(LlmRouterError):
    """Raised when a provider refuses the effort of a candidate; its cause is the provider's error.

    Nothing was billed, and every further call of this candidate would be refused too.
    """

    def __init__(self, candidate: str, effort: str | int, error: Exception) -> None:
        super().__init__(
            f"The provider of candidate {candidate!r} refuses its effort {effort!r}: give it "
            f"another one. The provider says: {error}"
        )
        self.__cause__ = error


class ArtifactError(LlmRouterError):
    """Raised when a saved artifact is corrupted, too new, or does not fit its embedding."""


class MissingExtraError(LlmRouterError, ImportError):
    """Raised when a feature needs an optional dependency that is not installed."""


def own_error(errors: Sequence[Exception | None]) -> Exception:
    """Return the last error that a candidate raised; a `DeadlineError` only if there is none."""
    raised = [error for error in errors if error is not None]
    own = [error for error in raised if not isinstance(error, DeadlineError)]
    return (own or raised)[-1]


def blame_candidate(error: BaseException, candidate: str) -> None:
    """Note that a candidate raised an error, so that it is not taken for the caller's mistake.

    The same holds for an estimator or a policy, by the name of its class.
    """
    error.__dict__["llm_router_candidate"] = candidate


def candidate_of(error: BaseException) -> str | None:
    """Return the name of the candidate that raised an error; None if none is known to have."""
    return getattr(error, "llm_router_candidate", None)


def is_pause(error: BaseException) -> bool:
    """Return whether an error is LangGraph's interrupt, which pauses a graph and is no failure."""
    # Only a graph is interrupted, and langgraph is loaded then; importing it takes long.
    langgraph = sys.modules.get("langgraph.errors")
    return langgraph is not None and isinstance(error, langgraph.GraphBubbleUp)


def import_extra(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or say which extra to install.

    Args:
        module: Dotted name of the module, e.g. `"matplotlib.figure"`.
        extra: The extra of this package that brings it, e.g. `"plot"`.

    Raises:
        MissingExtraError: If the module is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        msg = (
            f"`{error.name}` is not installed: "
            f'run `pip install "langchain-llm-router[{extra}]"` to use this feature.'
        )
        raise MissingExtraError(msg) from error
