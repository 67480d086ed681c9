"""The article's own data: its synthetic self-evaluations, its example of weights, its riddle."""

import numpy as np
from numpy.typing import NDArray

RIDDLE = (
    "There was a plane crash in which every single person was killed. Yet there were 12 "
    "survivors. How?"
)
RIGHT_ANSWER = "The 12 survivors were married couples."

AXIS = np.linspace(0, 1, 200)
"""Where the article computes its curves."""


def self_evaluations() -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the 150 scores (seed 0, 50 of each kind), and which of the answers are good."""
    random = np.random.RandomState(0)
    poor = random.normal(0.55, 0.05, 50)
    good = np.concatenate([random.normal(0.9, 0.03, 50), random.normal(0.6, 0.03, 50)])
    return np.concatenate([good, poor]), np.repeat([True, False], [100, 50])


def example_of_weights() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the embedding of a new query and those of ten known ones (seed 0)."""
    random = np.random.RandomState(0)
    return random.rand(10), random.rand(10, 10)


def article_weights(
    new: NDArray[np.float64], known: NDArray[np.float64], gamma: float = 10
) -> NDArray[np.float64]:
    """Weigh known queries as the article's `calculate_weight` does."""
    cosine = known @ new / (np.linalg.norm(known, axis=1) * np.linalg.norm(new))
    return np.asarray(gamma ** (1 + cosine / cosine.max()))
