"""Promises that hold: finite-sample tests of a mean, in a sequence fixed beforehand.

`p_value` is valid for any distribution within the bounds and any number of rows: no normal
approximation, no bootstrap. `certified` walks through settings from the safest to the riskiest and
stops at the first that cannot be shown to keep the promise, so that the probability that any of
them is wrong is at most δ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["certified", "p_value", "rows_needed"]

_BOLDEST = 0.75
"""Largest part of the capital that a single row may cost."""


def p_value(margins: ArrayLike, low: float, high: float, *, delta: float = 0.05) -> float:
    """P-value of "the mean is not above 0", by betting against it.

    A gambler bets, before each row is seen, a part of the capital on its margin being positive. If
    the mean is at most 0 the capital is a supermartingale: that it ever multiplies by 1/p has
    probability at most p, whatever the distribution and however many the rows.

    Args:
        margins: Independent rows in random order, of shape (n,).
        low: Smallest value a margin can have, below 0.
        high: Largest value a margin can have, above 0.
        delta: The level that the bets are sized for; the p-value is valid at any.

    Raises:
        ValueError: If a margin lies outside the bounds.

    References:
        Waudby-Smith and Ramdas, 2020, Estimating means of bounded random variables by betting,
        arXiv:2010.09686, section 3.1 (predictable plug-in bets, here on one side).
    """
    values = np.asarray(margins, dtype=np.float64)
    if len(values) == 0 or high <= 0:
        return 1.0
    if low >= 0:
        return 0.0
    if not (values.min() >= low - 1e-12 and values.max() <= high + 1e-12):
        msg = f"Margins must lie in [{low!r}, {high!r}], got {values.min()!r} to {values.max()!r}."
        raise ValueError(msg)
    # A bet looks at earlier rows only; before the first there is one made-up row at each bound.
    seen = np.arange(len(values)) + 2.0
    mean = (np.concatenate([[0.0], values.cumsum()[:-1]]) + low + high) / seen
    square = np.concatenate([[0.0], (values**2).cumsum()[:-1]]) + low**2 + high**2
    variance = np.maximum(square / seen - mean**2, 1e-12)
    bets = np.sqrt(2 * math.log(1 / delta) / (len(values) * variance))
    capital = np.log1p(np.minimum(bets, _BOLDEST / -low) * values).cumsum()
    return min(1.0, math.exp(-max(0.0, float(capital.max()))))


def certified(p_values: Sequence[Callable[[], float]], delta: float) -> int:
    """How many of the settings, in the given order, keep their promise; wrong with probability ≤ δ.

    Fixed-sequence testing: each is tested at the full level, up to the first that fails. The order
    must not depend on the rows that the p-values are computed from.

    References:
        Angelopoulos et al., 2021, Learn then test, arXiv:2110.01052, section 3.3.
    """
    for passed, p in enumerate(p_values):
        if p() > delta:
            return passed
    return len(p_values)


def rows_needed(margins: ArrayLike, delta: float) -> int | None:
    """About how many rows would show, four times in five, that the mean is above 0.

    Args:
        margins: Rows seen so far: they stand for those to come.
        delta: Level of the test.

    Returns:
        The number; None if the mean seen so far is not above 0.
    """
    values = np.asarray(margins, dtype=np.float64)
    mean, spread = float(values.mean()), float(values.std())
    if mean <= 0:
        return None
    # The log-capital after n rows is about √(2Ln)·mean/spread - L ± √(2L), with L = log(1/δ), and
    # must reach L; 0.84 is the 80 % quantile.
    root = (math.sqrt(2 * math.log(1 / delta)) + 0.84) * spread / mean
    return max(1, math.ceil(root**2))
