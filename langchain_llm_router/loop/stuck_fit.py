"""The fit of a `StuckModel`: penalised logistic regression with weights that are not negative."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize

from langchain_llm_router.loop.stuck_signals import LoopSignals

__all__ = ["fit_hazard"]


def fit_hazard(
    loops: Sequence[tuple[Sequence[LoopSignals], bool]], ridge: float
) -> tuple[dict[str, float], dict[str, float], float]:
    """Fit P(a loop fails | its signals after a turn).

    Args:
        loops: The signals after each turn of every loop, and whether the loop succeeded.
        ridge: Strength of the penalty on the squared weights of standardised signals.

    Returns:
        Weights and means by signal, and the bias.
    """
    turns = [turn for turns_of_loop, _ in loops for turn in turns_of_loop]
    names = [n for n in LoopSignals._fields if all(getattr(turn, n) is not None for turn in turns)]
    table = np.log1p([[getattr(turn, name) for name in names] for turn in turns])
    lengths = [len(turns_of_loop) for turns_of_loop, _ in loops]
    failed = np.repeat([float(not succeeded) for _, succeeded in loops], lengths)
    share = np.repeat([1 / length for length in lengths], lengths)
    means = np.average(table, axis=0, weights=share)
    spread = np.sqrt(np.average((table - means) ** 2, axis=0, weights=share))
    # A signal that never changed carries no information, and keeps the weight 0.
    scaled = (table - means) / np.where(spread > 0, spread, 1.0)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weights, odds = parameters[:-1], scaled @ parameters[:-1] + parameters[-1]
        residual = share * (1 / (1 + np.exp(-np.clip(odds, -700, 700))) - failed)
        value = share @ (np.logaddexp(0, odds) - failed * odds) + ridge / 2 * weights @ weights
        gradient = np.append(scaled.T @ residual + ridge * weights, residual.sum())
        return float(value), gradient

    bounds = [(0.0, None)] * len(names) + [(-20.0, 20.0)]
    found = minimize(loss, np.zeros(len(bounds)), jac=True, method="L-BFGS-B", bounds=bounds)
    weights = found.x[:-1] / np.where(spread > 0, spread, 1.0)
    return (
        {name: float(weight) for name, weight in zip(names, weights, strict=True) if weight > 0},
        {name: float(mean) for name, mean in zip(names, means, strict=True)},
        float(found.x[-1]),
    )
