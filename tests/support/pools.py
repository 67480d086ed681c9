"""Answers of a made-up pool, of which it is known who is right and which of them are equal."""

import numpy as np

from langchain_llm_router.data import Outcomes, SelfEvaluations

POOL = ("small", "medium", "large", "giant")
COSTS = (0.0002, 0.0004, 0.002, 0.004)


def make_pool(
    n: int = 300, names: tuple[str, ...] = POOL, seed: int = 0, *, theta: float = 3.0
) -> tuple[Outcomes, SelfEvaluations]:
    """Easy and hard questions: longer answers on hard ones, more often wrong where it is cheap."""
    rng = np.random.default_rng(seed)
    m, hard = len(names), rng.random(n) < 0.5
    ability = np.where(hard[:, None], np.linspace(0.3, 0.75, m), np.linspace(0.85, 0.97, m))
    good = rng.random((n, m)) < ability
    groups = np.where(good, 0, -1)
    for row, wrong in zip(groups, ~good, strict=True):
        seats: list[int] = []
        for j in np.flatnonzero(wrong):
            if rng.random() < 0.05:
                continue
            k = rng.random() * (len(seats) + theta)
            seats.append(seats[int(k)] if k < len(seats) else max(seats, default=0) + 1)
            row[j] = seats[-1]
    tokens = np.exp(rng.normal(np.where(hard, 5.5, 4.5)[:, None], 0.4, (n, m)))
    queries = [
        f"{'prove hard theorem' if h else 'add easy numbers'} {i}" for i, h in enumerate(hard)
    ]
    cost = np.array(COSTS[:m]) * tokens / tokens.mean()
    outcomes = Outcomes(
        queries, names, good.astype(float), cost,
        ["hard" if h else "easy" for h in hard], output_tokens=tokens.round(),
    )  # fmt: skip
    confidence = np.full((n, m), np.nan)
    return outcomes, SelfEvaluations(
        names, confidence, np.zeros((n, m)), answer_groups=groups.astype(np.intp)
    )
