"""The columns that a router's candidates have in the predictions of its estimators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_llm_router.estimators.estimator import QualityEstimator
    from langchain_llm_router.estimators.output_length import OutputLength

__all__ = ["columns_of"]


def columns_of(
    estimator: QualityEstimator | OutputLength | None,
    names: Sequence[str],
    *,
    whose: str = "router's",
) -> list[int]:
    """Return the column of each candidate in the estimator's predictions.

    Args:
        estimator: The fitted estimator; if None, there are no columns.
        names: Names of the candidates.
        whose: Whose estimator it is, for the error.

    Raises:
        NotFittedError: If the estimator is not fitted.
        ValueError: If it was fitted without one of the candidates.
    """
    if estimator is None:
        return []
    fitted = list(estimator.fitted_candidates)
    missing = [name for name in names if name not in fitted]
    if missing:
        msg = (
            f"The {whose} {type(estimator).__name__} was fitted on the candidates {fitted}, not on "
            f"{missing}: name the candidates as in its training data."
        )
        raise ValueError(msg)
    return [fitted.index(name) for name in names]
