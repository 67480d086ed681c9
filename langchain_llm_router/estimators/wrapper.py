"""The base class of estimators around another fitted one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from langchain_core.embeddings import Embeddings

from langchain_llm_router.data.artifacts import Artifact
from langchain_llm_router.estimators.ensemble import load_part
from langchain_llm_router.estimators.estimator import QualityEstimator

__all__ = ["Wrapper"]

_PART = "part_0"


class Wrapper(QualityEstimator):
    """An estimator around another one, which is saved in a sub-folder of its artifact.

    A subclass is a dataclass with the field `estimator`, and its `_settings` have the kind of the
    fitted estimator as `part`.

    Attributes:
        estimator_: The fitted estimator inside.
    """

    estimator: QualityEstimator | None
    estimator_: QualityEstimator

    def _write_files(self, folder: Path) -> Sequence[str]:
        self.estimator_.save(folder / _PART)
        return [f"{_PART}/manifest.json"]

    def _restore_artifact(
        self, folder: Path, artifact: Artifact, embeddings: Embeddings | None
    ) -> None:
        self.estimator_ = load_part(folder / _PART, artifact.settings["part"], embeddings)
        self.estimator = self.estimator_
        super()._restore_artifact(folder, artifact, embeddings)
