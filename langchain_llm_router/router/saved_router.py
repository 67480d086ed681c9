"""A router saved in one folder: policy, estimator, and the name of its verifier.

The models are not saved: on loading, pass candidates and verifier again, under the same names.
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
    incomplete_error,
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

__all__ = [
    "SavedRouter",
    "mean_costs",
]


@dataclass(frozen=True, eq=False)
class SavedRouter(CheckedArguments):
    """The fitted parts of a router.

    Args:
        candidates: The candidates' names, in the order of escalation.
        policy: The policy that chooses the candidate to ask.
        estimator: The estimator that predicts quality, or None if the policy needs none.
        verifier: Name of the verifier whose scores the policy was fitted on, or None if the policy
            needs none.
        expected_cost_usd: Measured mean cost of one answer, by candidate.
        seen: Fingerprints of the queries that the router was fitted or calibrated on; it cannot be
            evaluated on them.
    """

    candidates: tuple[str, ...]
    policy: Policy
    estimator: QualityEstimator | None = None
    verifier: str | None = None
    expected_cost_usd: Mapping[str, float] = field(default_factory=dict)
    seen: frozenset[str] = frozenset()

    def taught_by(self, queries: Iterable[str]) -> SavedRouter:
        """Return the router with these queries added to those that it was fitted on."""
        return replace(self, seen=self.seen | {_fingerprint(query) for query in queries})

    def knows(self, queries: Sequence[str]) -> Bools:
        """Return which of the queries the router was fitted or calibrated on, as (n_queries,)."""
        return np.array([_fingerprint(query) in self.seen for query in queries], dtype=bool)

    def predict(self, queries: Sequence[str]) -> Floats | None:
        """Predict quality, of shape (n_queries, n_candidates); None without an estimator."""
        if self.estimator is None:
            return None
        fitted = list(self.estimator.fitted_candidates)
        return self.estimator.predict(queries)[:, [fitted.index(c) for c in self.candidates]]

    @property
    def expected_costs(self) -> list[float] | None:
        """Measured mean costs in the order of the candidates; None if any is unknown."""
        costs = [self.expected_cost_usd.get(name) for name in self.candidates]
        known_costs = [cost for cost in costs if cost is not None]
        return known_costs if len(known_costs) == len(costs) else None

    def save(self, folder: str | Path) -> Path:
        """Write the router into a folder.

        Raises:
            ArtifactError: If a field of the policy cannot be saved.
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
        """Load a router that `save` wrote.

        Import your own policy and estimator classes first.

        Raises:
            ArtifactError: If the folder is corrupted or holds another kind of artifact.
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
            raise incomplete_error(folder, "SavedRouter", error) from error

    def pool(self, candidates: Mapping[str, Candidate]) -> list[Candidate]:
        """Select this router's candidates, in its order, with their measured costs.

        Raises:
            ValueError: If a candidate is missing.
        """
        missing = [name for name in self.candidates if name not in candidates]
        if missing:
            msg = (
                f"`candidates` must include {missing}, which the router was fitted with, "
                f"got {list(candidates)}."
            )
            raise ValueError(msg)
        pool = [candidates[name] for name in self.candidates]
        costs = self.expected_cost_usd
        return [replace(c, expected_cost_usd=costs.get(c.name, c.expected_cost_usd)) for c in pool]


def _load_policy(manifest: Mapping[str, Any] | None, folder: Path) -> Policy:
    """Load the policy; older versions saved a simple policy in the router's manifest."""
    if manifest is None:
        return Policy.load(folder / "policy")
    if manifest["kind"] == SafeArm.__name__:
        return SafeArm(_load_policy(manifest["otherwise"], folder), manifest["safe"])
    kind = known_class(Policy, manifest["kind"], folder)  # type: ignore[type-abstract]
    if "params" not in manifest:
        return kind.load(folder / "policy")
    return kind(**kind._load_fields(manifest, folder / "policy"))


def _estimator_class(kind: str, folder: Path) -> type[QualityEstimator]:
    # Looked up by name, so that estimators that need torch are imported only when needed.
    exported = getattr(estimators, kind, None) if kind in estimators.__all__ else None
    if isinstance(exported, type) and issubclass(exported, QualityEstimator):
        return exported
    return known_class(QualityEstimator, kind, folder)  # type: ignore[type-abstract]


def _fingerprint(query: str) -> str:
    return blake2b(query.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def mean_costs(candidates: tuple[str, ...], costs: Any) -> dict[str, float]:
    """Return the mean cost by candidate; candidates with unknown costs are left out."""
    if costs is None:
        return {}
    means = np.asarray(costs, dtype=np.float64).mean(axis=0)
    return {n: float(m) for n, m in zip(candidates, means, strict=True) if not np.isnan(m)}
