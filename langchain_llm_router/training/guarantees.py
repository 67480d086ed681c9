"""Guarantees by finite-sample tests of a mean, in a fixed sequence.

`p_value` is valid for any distribution within the bounds and any number of rows. `certified` tests
settings in order, usually from the safest to the riskiest, and stops at the first that fails, so
the probability that it certifies any wrong setting is at most δ.
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
    """Compute the p-value of the hypothesis "the mean is not above 0", by betting against it.

    Before each row, a part of a capital is bet on a positive margin. If the mean is at most 0, the
    capital is a supermartingale, so the probability that it ever grows by a factor of 1/p is at
    most p, for any distribution and any number of rows.

    Args:
        margins: Margins of independent rows in random order, of shape (n,).
        low: Smallest possible margin; if it is 0 or more, the p-value is 0.
        high: Largest possible margin; if it is 0 or less, the p-value is 1.
        delta: Level for which the size of the bets is optimized; the p-value is valid at any level.

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
    # A bet uses earlier rows only, plus one artificial row at each bound.
    seen = np.arange(len(values)) + 2.0
    mean = (np.concatenate([[0.0], values.cumsum()[:-1]]) + low + high) / seen
    square = np.concatenate([[0.0], (values**2).cumsum()[:-1]]) + low**2 + high**2
    variance = np.maximum(square / seen - mean**2, 1e-12)
    bets = np.sqrt(2 * math.log(1 / delta) / (len(values) * variance))
    capital = np.log1p(np.minimum(bets, _BOLDEST / -low) * values).cumsum()
    return min(1.0, math.exp(-max(0.0, float(capital.max()))))


def certified(p_values: Sequence[Callable[[], float]], delta: float) -> int:
    """Count the settings that pass their tests in order; any is wrong with probability ≤ δ.

    Fixed-sequence testing: each setting is tested at the full level, up to the first that fails.
    The order must not depend on the rows from which the p-values are computed.

    References:
        Angelopoulos et al., 2021, Learn then test, arXiv:2110.01052, section 3.3.
    """
    for passed, p in enumerate(p_values):
        if p() > delta:
            return passed
    return len(p_values)


def rows_needed(margins: ArrayLike, delta: float) -> int | None:
    """Estimate how many rows show a mean above 0 with a power of 80 %.

    Args:
        margins: Margins of the available rows, of shape (n,).
        delta: Level of the test.

    Returns:
        The number of rows, or None if the mean of `margins` is not above 0.
    """
    values = np.asarray(margins, dtype=np.float64)
    mean, spread = float(values.mean()), float(values.std())
    if mean <= 0:
        return None
    # The log-capital after n rows is about √(2Ln)·mean/spread - L ± √(2L), with L = log(1/δ), and
    # must reach L; 0.84 is the 80 % quantile.
    root = (math.sqrt(2 * math.log(1 / delta)) + 0.84) * spread / mean
    return max(1, math.ceil(root**2))
