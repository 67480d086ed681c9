"""A whole router in one folder: policy, estimator, and which verifier it was fitted with.

The models themselves are not in it: candidates and verifier are given again on loading, by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

from langchain_llm_router import estimators, observation, policies
from langchain_llm_router.artifacts import Artifact, read_artifact, write_artifact
from langchain_llm_router.errors import ArtifactError
from langchain_llm_router.estimators import QualityEstimator
from langchain_llm_router.observation import ObservationModel
from langchain_llm_router.policies import (
    Always,
    ConfidenceThreshold,
    Policy,
    RandomMix,
    SafeArm,
    Threshold,
    Utility,
)
from langchain_llm_router.types import Candidate

__all__ = ["SavedRouter"]

_PLAIN: dict[str, type[Policy]] = {
    kind.__name__: kind for kind in (Always, ConfidenceThreshold, RandomMix, Threshold, Utility)
}


@dataclass(frozen=True, eq=False)
class SavedRouter:
    """Everything of a router that data decides.

    Args:
        candidates: Names, in the order of escalation.
        policy: Whom to ask.
        estimator: Predicts quality; None for policies that need none.
        verifier: Name of the verifier whose scores the policy was fitted on; None: it needs none.
        expected_cost_usd: Measured mean cost of one answer by candidate.
        seen: Fingerprints of the queries that taught it or set its knob: it cannot be judged on
            those.
    """

    candidates: tuple[str, ...]
    policy: Policy
    estimator: QualityEstimator | None = None
    verifier: str | None = None
    expected_cost_usd: Mapping[str, float] = field(default_factory=dict)
    seen: frozenset[str] = frozenset()

    def taught_by(self, queries: Iterable[str]) -> SavedRouter:
        """The same router, after these queries as well have had a part in it."""
        return replace(self, seen=self.seen | {_fingerprint(query) for query in queries})

    def knows(self, queries: Sequence[str]) -> NDArray[np.bool_]:
        """Which of the queries had a part in it, of shape (n_queries,)."""
        return np.array([_fingerprint(query) in self.seen for query in queries], dtype=bool)

    def predict(self, queries: Sequence[str]) -> NDArray[np.float64] | None:
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
            ArtifactError: If the policy is of a kind that cannot be saved.
        """
        folder = Path(folder)
        settings: dict[str, Any] = {
            "candidates": list(self.candidates),
            "verifier": self.verifier,
            "expected_cost_usd": dict(self.expected_cost_usd),
            "estimator": None if self.estimator is None else type(self.estimator).__name__,
            "policy": _save_policy(self.policy, folder),
            "seen": sorted(self.seen),
        }
        if self.estimator is not None:
            self.estimator.save(folder / "estimator")
        return write_artifact(folder, Artifact("SavedRouter", settings))

    @classmethod
    def load(cls, folder: str | Path, *, embeddings: Embeddings | None = None) -> SavedRouter:
        """Read what `save` wrote.

        Raises:
            ArtifactError: If the folder, or a part of it, is corrupted or of another kind.
        """
        folder = Path(folder)
        settings = read_artifact(folder, "SavedRouter").settings
        try:
            estimator = None
            if settings["estimator"] is not None:
                kind = getattr(estimators, settings["estimator"])
                estimator = kind.load(folder / "estimator", embeddings=embeddings)
            return cls(
                candidates=tuple(settings["candidates"]),
                policy=_load_policy(settings["policy"], folder),
                estimator=estimator,
                verifier=settings["verifier"],
                expected_cost_usd=dict(settings["expected_cost_usd"]),
                seen=frozenset(settings.get("seen", ())),
            )
        except (KeyError, TypeError, AttributeError) as error:
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


def _save_policy(policy: Policy, folder: Path) -> dict[str, Any]:
    kind = type(policy).__name__
    if isinstance(policy, SafeArm):
        return {"kind": kind, "safe": policy.safe, "otherwise": _save_policy(policy.policy, folder)}
    save = getattr(policy, "save", None)
    if save is not None:
        save(folder / "policy")
        return {"kind": kind}
    if kind not in _PLAIN:
        msg = f"A {kind} cannot be saved: it has no `save`."
        raise ArtifactError(msg)
    params = {f.name: getattr(policy, f.name) for f in fields(policy)}  # type: ignore[arg-type]
    if not isinstance(policy, ConfidenceThreshold):
        return {"kind": kind, "params": params}
    observed = params.pop("observation")
    by_name = observed if isinstance(observed, Mapping) else {"": observed}
    kinds = {}
    for i, (name, model) in enumerate(by_name.items()):
        if model is not None:
            model.save(folder / "policy" / str(i))
            kinds[name] = type(model).__name__
    return {"kind": kind, "params": params, "observation": kinds}


def _load_policy(spec: Mapping[str, Any], folder: Path) -> Policy:
    kind = spec["kind"]
    if kind == "SafeArm":
        return SafeArm(_load_policy(spec["otherwise"], folder), spec["safe"])
    if "params" not in spec:
        loaded: Policy = getattr(policies, kind).load(folder / "policy")
        return loaded
    params = dict(spec["params"])
    if kind == "ConfidenceThreshold":
        models: dict[str, ObservationModel] = {
            name: getattr(observation, of).load(folder / "policy" / str(i))
            for i, (name, of) in enumerate(spec["observation"].items())
        }
        params["observation"] = models.get("") if "" in models else models or None
    return _PLAIN[kind](**params)


def _fingerprint(query: str) -> str:
    return blake2b(query.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def mean_costs(candidates: tuple[str, ...], costs: Any) -> dict[str, float]:
    """Mean cost by candidate, those that are unknown left out."""
    if costs is None:
        return {}
    means = np.asarray(costs, dtype=np.float64).mean(axis=0)
    return {n: float(m) for n, m in zip(candidates, means, strict=True) if not np.isnan(m)}
