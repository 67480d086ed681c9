"""What policies that learn from tables have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from langchain_llm_router.policies.policy import Policy
from langchain_llm_router.types.arrays import Arrays
from langchain_llm_router.types.errors import NotFittedError

__all__ = ["FittedPolicy"]


class FittedPolicy(Policy):
    """A policy that learns before it decides.

    A subclass is a dataclass of its settings with a `fit`. What it learns are attributes that end
    in an underscore; `_settings` and `_arrays` return them for `save`, `_restore` sets them again.
    Values derived from them are computed in `_remember`, which must not depend on the knob; they
    are neither saved nor pickled.
    """

    _learned: ClassVar[str] = "candidates_"
    """The attribute that exists once the policy is fitted."""

    _fit_call: ClassVar[str] = "fit(outcomes, evaluations)"
    """How it is fitted, for the error message."""

    _remembered: ClassVar[frozenset[str]] = frozenset()
    """The attributes that `_remember` makes."""

    @property
    def named_candidates(self) -> tuple[str, ...]:
        """The candidates it was fitted on."""
        return getattr(self, "candidates_", ())

    def with_knob(self, value: float) -> Self:
        """The same policy at another setting of its knob; nothing is fitted again.

        Raises:
            ValueError: If it has no knob, or the value makes no sense for it.
        """
        field = self.require_knob().field
        other = object.__new__(type(self))
        # The derived values are shared: they do not depend on the knob.
        vars(other).update(vars(self))
        setattr(other, field, value)
        other.__post_init__()
        return other

    def save(self, folder: str | Path) -> Path:
        """Write the fitted policy into a folder: settings as JSON, the rest as arrays.

        Raises:
            NotFittedError: If it was not fitted.
        """
        self._check_fitted()
        return super().save(folder)

    def __post_init__(self) -> None:
        """Check the settings."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: it for name, it in vars(self).items() if name not in self._remembered}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if hasattr(self, self._learned):
            self._remember()

    def _check_fitted(self) -> None:
        if not hasattr(self, self._learned):
            name = type(self).__name__
            msg = (
                f"This {name} is not fitted: call `{self._fit_call}` or `{name}.load(folder)` "
                "first."
            )
            raise NotFittedError(msg)

    def _remember(self) -> None:
        """Compute the values derived from what was learned."""

    @abstractmethod
    def _restore(self, settings: Mapping[str, Any], arrays: Arrays) -> None: ...
