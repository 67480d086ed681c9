"""The knob: the number that controls a policy's choice, and the values worth trying."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Knob", "append_just_above_one", "lambda_values"]

_N_LAMBDAS = 60


@dataclass(frozen=True)
class Knob:
    """The parameter of a policy that calibration, explanations and plots vary.

    Example:
        >>> Knob("bar", 0.8, high=1.0, more="better and dearer answers").spread(3)
        [0.0, 0.5, 1.0]
    """

    name: str
    """`lambda` or `threshold` if the request's option of that name replaces it; otherwise the name
    of the policy's field."""

    value: float
    """Current value: λ in quality per USD (the higher, the cheaper the answers, in every policy), a
    threshold, or a number that the policy defines."""

    low: float = 0.0
    """Smallest value."""

    high: float | None = None
    """Largest value that makes a difference; None means unbounded."""

    more: str = ""
    """Effect of a higher value, e.g. "cheaper answers"."""

    exact: bool = False
    """Whether `Policy.crossings` computes the values at which a choice changes."""

    @property
    def field(self) -> str:
        """Name of the policy's field, which is `lambda_` as `lambda` is reserved in Python."""
        return "lambda_" if self.name == "lambda" else self.name

    def spread(self, n: int) -> list[float]:
        """Return `n` values over the range; without an upper bound, around the current value."""
        import numpy as np  # noqa: PLC0415 - slow to load, and `decide` does not need it

        if self.high is not None:
            return [float(value) for value in np.linspace(self.low, self.high, n)]
        scale = abs(self.value - self.low) or 1.0
        steps = scale * np.geomspace(1e-2, 1e2, n - 1)
        return [self.low, *(self.low + steps).tolist()]


def lambda_values(cost_usd: ArrayLike) -> list[float]:
    """Return values of λ from 0 to where cost outweighs every difference in quality.

    Args:
        cost_usd: Mean cost of each candidate, NaN where unknown.

    Raises:
        ValueError: If λ has no scale because too few costs are known.
    """
    import numpy as np  # noqa: PLC0415 - slow to load, and `decide` does not need it

    costs = np.asarray(cost_usd, dtype=np.float64)
    known = np.unique(costs[~np.isnan(costs)])
    if len(known) < 2 or known[-1] <= 0:
        msg = "The scale of λ is unknown, because fewer than two different costs are: pass `knobs`."
        raise ValueError(msg)
    least = max(float(np.diff(known).min()), 1e-9 * float(known[-1]))
    return [0.0, *np.geomspace(1e-3 / known[-1], 1 / least, _N_LAMBDAS).tolist()]


def append_just_above_one(values: ArrayLike) -> list[float]:
    """Return thresholds in ascending order, plus the smallest one above 1."""
    import numpy as np  # noqa: PLC0415 - slow to load, and `decide` does not need it

    return [*np.unique(np.asarray(values, dtype=np.float64)).tolist(), float(np.nextafter(1, 2))]
