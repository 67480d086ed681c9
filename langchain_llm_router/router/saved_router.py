"""A router saved in one folder: policy, estimator, and a description of its verifier.

The models are not saved: on loading, pass the candidates again, under the same names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_llm_router.data.artifacts import (
    Artifact,
    as_json,
    from_json,
    incomplete_error,
    kind_of,
    known_class,
    read_artifact,
    write_artifact,
)
from langchain_llm_router.estimators import QualityEstimator
from langchain_llm_router.loop.sensitive import Sensitive
from langchain_llm_router.loop.stuck import StuckDetector
from langchain_llm_router.policies import Policy, SafeArm
from langchain_llm_router.router.fitted_columns import columns_of
from langchain_llm_router.types import Candidate
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.arrays import Bools, Floats
from langchain_llm_router.types.candidates import MODEL_PLACEHOLDER
from langchain_llm_router.types.errors import ArtifactError
from langchain_llm_router.verification import Verifier
from langchain_llm_router.verification.description import (
    build_verifier,
    describe_verifier,
    same_verifier,
    verifier_name,
)

__all__ = [
    "SavedRouter",
    "mean_costs",
]


_RECORDED = {
    "answer_logprob": ("AnswerLogprob", ""),
    "answer_groups": ("AnswerGroups", ""),
    "self_reported": ("SelfReported", ""),
}
"""Class and arguments of the verifiers that `collect` records by default."""


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
        verifier_description: What the verifier was, from `describe_verifier`; None if unknown, as
            in routers of earlier versions.
        goal: What the router is to reach, with its target, λ and confidence; None if unknown,
            as in routers of earlier versions.
        stuck: Reads whether a tool loop is stuck; if None, the live router has its default rules.
        sensitive: Which requests are sensitive, and who may see them; it is saved if its rule is
            made of regular expressions.
    """

    candidates: tuple[str, ...]
    policy: Policy
    estimator: QualityEstimator | None = None
    verifier: str | None = None
    expected_cost_usd: Mapping[str, float] = field(default_factory=dict)
    seen: frozenset[str] = frozenset()
    verifier_description: Mapping[str, Any] | None = None
    goal: Mapping[str, Any] | None = None
    stuck: StuckDetector | None = None
    sensitive: Sensitive | None = None

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
        return self.estimator.predict(queries)[:, columns_of(self.estimator, self.candidates)]

    @property
    def expected_costs(self) -> list[float] | None:
        """Measured mean costs in the order of the candidates; None if any is unknown."""
        costs = [self.expected_cost_usd.get(name) for name in self.candidates]
        known_costs = [cost for cost in costs if cost is not None]
        return known_costs if len(known_costs) == len(costs) else None

    def save(self, folder: str | Path) -> Path:
        """Write the router into a folder.

        Raises:
            ArtifactError: If a field of the policy or of `stuck` cannot be saved.
            TypeError: If the rule of `sensitive` is a function or a Runnable.
        """
        folder = Path(folder)
        settings: dict[str, Any] = {
            "candidates": list(self.candidates),
            "verifier": self.verifier,
            "verifier_description": self.verifier_description,
            "expected_cost_usd": dict(self.expected_cost_usd),
            "estimator": None if self.estimator is None else kind_of(type(self.estimator)),
            "seen": sorted(self.seen),
            "goal": None if self.goal is None else dict(self.goal),
        }
        if self.stuck is not None:
            settings["stuck"] = _stuck_settings(self.stuck)
        if self.sensitive is not None:
            settings["sensitive"] = self.sensitive.data()
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
                kind = known_class(QualityEstimator, settings["estimator"], folder)  # type: ignore[type-abstract]
                estimator = kind.load(folder / "estimator", embeddings=embeddings)
            return cls(
                candidates=tuple(settings["candidates"]),
                policy=_load_policy(settings.get("policy"), folder),
                estimator=estimator,
                verifier=settings["verifier"],
                expected_cost_usd=dict(settings["expected_cost_usd"]),
                seen=frozenset(settings.get("seen", ())),
                verifier_description=settings.get("verifier_description"),
                goal=settings.get("goal"),
                stuck=_load_stuck(settings.get("stuck"), folder),
                # A rule that cannot be read is an error: without one, every candidate sees all.
                sensitive=Sensitive(**settings["sensitive"]) if "sensitive" in settings else None,
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

    def arguments(
        self,
        candidates: Mapping[str, Candidate],
        verifier: Verifier | Mapping[str, Verifier] | None = None,
        *,
        check_verifier: bool = True,
    ) -> dict[str, Any]:
        """Return the arguments for `ChatLLMRouter` or `create_cascade` that make this router live.

        Args:
            candidates: Live candidates by name: the router's, and those that its verifier asks.
            verifier: The verifier, or several by name. If None, it is built as it was when its
                scores were collected.
            check_verifier: Whether to refuse another verifier than the router was fitted with.

        Raises:
            ValueError: If a candidate is missing, or the verifier is missing or another one.
        """
        arguments = {
            "candidates": self.pool(candidates),
            "policy": self.policy,
            "estimator": self.estimator,
            "verifier": self._live_verifier(candidates, verifier, check=check_verifier),
            "sensitive": self.sensitive,
        }
        return arguments if self.stuck is None else {**arguments, "stuck": self.stuck}

    def python_block(
        self, candidate_models: Mapping[str, str] | None = None, folder: str | Path = "router"
    ) -> str:
        """Return Python code that loads this router and asks it a question.

        Args:
            candidate_models: The model of each candidate, written as `provider:model[@base-url]`.
                If one is missing, its place is marked in the code, which then cannot run.
            folder: The folder that the router is saved in.
        """
        models = {**dict.fromkeys(self.candidates, MODEL_PLACEHOLDER), **(candidate_models or {})}
        specs = [
            f"        {f'{name}={model}'!r},"
            + ("  # write your model here" if model == MODEL_PLACEHOLDER else "")
            for name, model in models.items()
        ]
        imports, argument, note = "", "", ""
        if self.verifier is not None and self.verifier_description is not None:
            note = f"# Its verifier, {verifier_name(self.verifier_description)}, comes with it.\n"
        elif self.verifier is not None:
            kind, n = _RECORDED.get(self.verifier, ("YesNo", "8"))
            imports = f"from langchain_llm_router.verification import {kind}\n"
            argument = f", verifier={kind}({n})"
            note = (
                f"# The scores {self.verifier!r} were of this one, if `llm-router collect` ran.\n"
            )
        return (
            "from langchain_llm_router import ChatLLMRouter\n"
            "from langchain_llm_router.collect import parse_candidates\n"
            f"{imports}\n"
            "candidates = parse_candidates(\n    [\n" + "\n".join(specs) + "\n    ]\n)\n"
            f"{note}"
            f"router = ChatLLMRouter.load({str(folder)!r}, candidates=candidates{argument})\n"
            'print(router.invoke("What is 12 * 12?").text)\n'
        )

    def check_scores(self, verifier: Mapping[str, Any] | None) -> None:
        """Refuse recorded scores of another verifier than the router was fitted with.

        Args:
            verifier: Description of the verifier that gave the scores; None if unknown.

        Raises:
            ValueError: If both verifiers are known and differ.
        """
        fitted = self.verifier_description
        if fitted is None or verifier is None or same_verifier(fitted, verifier):
            return
        msg = (
            f"The router was fitted on scores of {verifier_name(fitted, verifier)}, but the data "
            f"have scores {self.verifier!r} of {verifier_name(verifier, fitted)}: use "
            "data that were collected with the same verifier."
        )
        raise ValueError(msg)

    def _live_verifier(
        self,
        candidates: Mapping[str, Candidate],
        given: Verifier | Mapping[str, Verifier] | None,
        *,
        check: bool,
    ) -> Verifier | None:
        if self.verifier is None:
            return None
        if isinstance(given, Mapping):
            given = given.get(self.verifier)
        fitted = self.verifier_description
        if given is None and fitted is None:
            msg = f"The router was fitted with the verifier {self.verifier!r}: pass `verifier`."
            raise ValueError(msg)
        if given is None:
            assert fitted is not None, "checked above"
            try:
                return build_verifier(fitted, candidates)
            except ValueError as error:
                msg = (
                    f"The router was fitted with the verifier {self.verifier!r}. {error} Pass "
                    "`verifier`."
                )
                raise ValueError(msg) from error
        if check and fitted is not None:
            self._check_same(fitted, given)
        return given

    def _check_same(self, fitted: Mapping[str, Any], given: Verifier) -> None:
        now = describe_verifier(given)
        if not same_verifier(fitted, now):
            msg = (
                f"The router was fitted on the scores of {verifier_name(fitted, now)}, got "
                f"{verifier_name(now, fitted)} as `verifier`, whose scores mean something else: "
                "omit `verifier` (`--samples` of `llm-router serve`) to have the right one built, "
                "or pass `check_verifier=False` (`--other-verifier`) to use it all the same."
            )
            raise ValueError(msg)


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


def _stuck_settings(detector: StuckDetector) -> dict[str, Any]:
    """Return a detector of stuck loops as JSON data."""
    name = type(detector).__name__
    if not is_dataclass(detector):
        msg = f"{name} cannot be saved with a router: make it a dataclass."
        raise ArtifactError(msg)
    values = {one.name: getattr(detector, one.name) for one in fields(detector)}
    try:
        return {"kind": kind_of(type(detector)), "fields": as_json(values)}
    except TypeError as error:
        msg = (
            f"{name} cannot be saved with a router, because it holds {error}: save the router "
            "without `stuck`, and pass it to `ChatLLMRouter.load`."
        )
        raise ArtifactError(msg) from error


def _load_stuck(settings: Mapping[str, Any] | None, folder: Path) -> StuckDetector | None:
    if settings is None:
        return None
    kind = known_class(StuckDetector, settings["kind"], folder)  # type: ignore[type-abstract]
    return kind(**from_json(settings["fields"]))


def _fingerprint(query: str) -> str:
    return blake2b(query.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def mean_costs(candidates: tuple[str, ...], costs: Any) -> dict[str, float]:
    """Return the mean cost by candidate; candidates with unknown costs are left out."""
    if costs is None:
        return {}
    means = np.asarray(costs, dtype=np.float64).mean(axis=0)
    return {n: float(m) for n, m in zip(candidates, means, strict=True) if not np.isnan(m)}
