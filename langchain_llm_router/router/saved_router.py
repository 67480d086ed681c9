"""A whole router in one folder: policy, estimator, and the name of the verifier it was fitted with.

The models themselves are not in it: pass candidates and verifier again on loading, by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_llm_router import estimators
from langchain_llm_router.data.artifacts import (
    Artifact,
    kind_of,
    known_class,
    read_artifact,
    write_artifact,
)
from langchain_llm_router.estimators import QualityEstimator
from langchain_llm_router.policies import Policy, SafeArm
from langchain_llm_router.types import Candidate
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.arrays import Bools, Floats
from langchain_llm_router.types.errors import ArtifactError

__all__ = [
    "SavedRouter",
    "mean_costs",
]


@dataclass(frozen=True, eq=False)
class SavedRouter(CheckedArguments):
    """Everything in a router that was fitted on data.

    Args:
        candidates: Names, in the order of escalation.
        policy: Chooses the candidate to ask.
        estimator: Predicts quality; None for policies that need none.
        verifier: Name of the verifier whose scores the policy was fitted on; None: it needs none.
        expected_cost_usd: Measured mean cost of one answer by candidate.
        seen: Fingerprints of the queries it was fitted on or its knob was set on: it cannot be
            judged on those.
    """

    candidates: tuple[str, ...]
    policy: Policy
    estimator: QualityEstimator | None = None
    verifier: str | None = None
    expected_cost_usd: Mapping[str, float] = field(default_factory=dict)
    seen: frozenset[str] = frozenset()

    def taught_by(self, queries: Iterable[str]) -> SavedRouter:
        """The same router, with these queries marked as seen too."""
        return replace(self, seen=self.seen | {_fingerprint(query) for query in queries})

    def knows(self, queries: Sequence[str]) -> Bools:
        """Which of the queries it has seen, of shape (n_queries,)."""
        return np.array([_fingerprint(query) in self.seen for query in queries], dtype=bool)

    def predict(self, queries: Sequence[str]) -> Floats | None:
        """Predicted quality, of shape (n_queries, n_candidates); None without an estimator."""
        if self.estimator is None:
            return None
        known = list(self.estimator.fitted_candidates)
        return self.estimator.predict(queries)[:, [known.index(c) for c in self.candidates]]

    @property
    def expected_costs(self) -> list[float] | None:
        """Measured mean costs in the order of the candidates; None if any is unknown."""
        costs = [self.expected_cost_usd.get(name) for name in self.candidates]
        known = [cost for cost in costs if cost is not None]
        return known if len(known) == len(costs) else None

    def save(self, folder: str | Path) -> Path:
        """Write the router into a folder.

        Raises:
            ArtifactError: If the policy holds something that cannot be saved.
        """
        folder = Path(folder)
        settings: dict[str, Any] = {
            "candidates": list(self.candidates),
            "verifier": self.verifier,
            "expected_cost_usd": dict(self.expected_cost_usd),
            "estimator": None if self.estimator is None else kind_of(type(self.estimator)),
            "seen": sorted(self.seen),
        }
        self.policy.save(folder / "policy")
        if self.estimator is not None:
            self.estimator.save(folder / "estimator")
        return write_artifact(folder, Artifact("SavedRouter", settings))

    @classmethod
    def load(cls, folder: str | Path, *, embeddings: Embeddings | None = None) -> SavedRouter:
        """Read what `save` wrote.

        Import your own policies and estimators first.

        Raises:
            ArtifactError: If the folder, or a part of it, is corrupted or of another kind.
        """
        folder = Path(folder)
        settings = read_artifact(folder, "SavedRouter").settings
        try:
            estimator = None
            if settings["estimator"] is not None:
                kind = _estimator_class(settings["estimator"], folder)
                estimator = kind.load(folder / "estimator", embeddings=embeddings)
            return cls(
                candidates=tuple(settings["candidates"]),
                policy=_load_policy(settings.get("policy"), folder),
                estimator=estimator,
                verifier=settings["verifier"],
                expected_cost_usd=dict(settings["expected_cost_usd"]),
                seen=frozenset(settings.get("seen", ())),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            msg = f"{str(folder)!r} does not hold a whole router: {error}."
            raise ArtifactError(msg) from error

    def pool(self, candidates: Mapping[str, Candidate]) -> list[Candidate]:
        """The candidates that this router asks, in its order, with their measured costs.

        Raises:
            ValueError: If one is missing.
        """
        missing = [name for name in self.candidates if name not in candidates]
        if missing:
            msg = f"The router was fitted with {missing}, but was given {list(candidates)}."
            raise ValueError(msg)
        pool = [candidates[name] for name in self.candidates]
        costs = self.expected_cost_usd
        return [replace(c, expected_cost_usd=costs.get(c.name, c.expected_cost_usd)) for c in pool]


def _load_policy(earlier: Mapping[str, Any] | None, folder: Path) -> Policy:
    """The policy; older routers kept simple policies in their own manifest, given as `earlier`."""
    if earlier is None:
        return Policy.load(folder / "policy")
    if earlier["kind"] == SafeArm.__name__:
        return SafeArm(_load_policy(earlier["otherwise"], folder), earlier["safe"])
    kind = known_class(Policy, earlier["kind"], folder)  # type: ignore[type-abstract]
    if "params" not in earlier:
        return kind.load(folder / "policy")
    return kind(**kind._load_fields(earlier, folder / "policy"))


def _estimator_class(kind: str, folder: Path) -> type[QualityEstimator]:
    # Looked up by name, so that estimators that need torch are imported only when needed.
    found = getattr(estimators, kind, None) if kind in estimators.__all__ else None
    if isinstance(found, type) and issubclass(found, QualityEstimator):
        return found
    return known_class(QualityEstimator, kind, folder)  # type: ignore[type-abstract]


def _fingerprint(query: str) -> str:
    return blake2b(query.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def mean_costs(candidates: tuple[str, ...], costs: Any) -> dict[str, float]:
    """Mean cost by candidate; unknown costs are left out."""
    if costs is None:
        return {}
    means = np.asarray(costs, dtype=np.float64).mean(axis=0)
    return {n: float(m) for n, m in zip(candidates, means, strict=True) if not np.isnan(m)}
