"""The one place for fakes: they behave like the real thing instead of being told to."""

from collections.abc import Sequence

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_llm_router.data import Outcomes


class TableEmbeddings(Embeddings):
    """Text → vector by a dict; what is not in it gets the fallback."""

    def __init__(self, table: dict[str, list[float]], fallback: list[float] | None = None) -> None:
        self.table, self.fallback = table, fallback

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        vector = self.table.get(text, self.fallback)
        if vector is None:
            raise KeyError(text)
        return list(vector)


def make_outcomes(
    n: int = 60, candidates: Sequence[str] = ("small", "medium", "large"), seed: int = 0
) -> Outcomes:
    """Outcomes in which wording tells difficulty: "easy" queries suit all, "hard" ones the last."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n) < 0.5
    queries = [
        f"{'prove hard theorem' if h else 'add easy numbers'} {i}" for i, h in enumerate(hard)
    ]
    k = len(candidates)
    p = np.where(hard[:, None], np.linspace(0.1, 0.9, k), np.linspace(0.9, 0.95, k))
    quality = (rng.random((n, k)) < p).astype(float)
    cost = np.tile(np.geomspace(1e-4, 1e-2, k), (n, 1))
    return Outcomes(queries, candidates, quality, cost, ["hard" if h else "easy" for h in hard])
