"""An observation model to draw and to ask."""

import numpy as np

from langchain_llm_router.policies.observation import KernelDensity


def article(**kwargs) -> KernelDensity:
    """The seed article's example: poor answers near 0.55, good ones near 0.9 and near 0.6."""
    rng = np.random.default_rng(0)
    poor = rng.normal(0.55, 0.05, 50)
    good = np.concatenate([rng.normal(0.9, 0.03, 60), rng.normal(0.6, 0.03, 40)])
    scores = np.clip(np.concatenate([poor, good]), 0, 1)
    return KernelDensity(**kwargs).fit(scores, np.repeat([False, True], [50, 100]))
