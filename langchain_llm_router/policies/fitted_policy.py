"""The base class of policies that are fitted on tables."""

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
    """A policy that must be fitted before it decides.

    A subclass is a dataclass of its settings with a `fit`. Fitted attributes end in an underscore;
    `_settings` and `_arrays` return them for `save`, `_restore` sets them again. Values derived
    from them are computed in `_derive`, which must not depend on the knob; they are neither saved
    nor pickled.
    """

    _fitted_attribute: ClassVar[str] = "candidates_"
    """Name of an attribute that exists only if the policy is fitted."""

    _fit_call: ClassVar[str] = "fit(outcomes, evaluations)"
    """The call that fits it, for the error message."""

    _derived_names: ClassVar[frozenset[str]] = frozenset()
    """Names of the attributes that `_derive` sets."""

    @property
    def named_candidates(self) -> tuple[str, ...]:
        """The candidates that it was fitted on."""
        return getattr(self, "candidates_", ())

    def with_knob(self, value: float) -> Self:
        """Return this policy with another value of its knob, without fitting it again.

        Raises:
            ValueError: If it has no knob, or the value is not allowed.
        """
        field = self.require_knob().field
        other = object.__new__(type(self))
        # Derived values are shared, because they do not depend on the knob.
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
        return {
            name: value for name, value in vars(self).items() if name not in self._derived_names
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if hasattr(self, self._fitted_attribute):
            self._derive()

    def _check_fitted(self) -> None:
        if not hasattr(self, self._fitted_attribute):
            name = type(self).__name__
            msg = (
                f"This {name} is not fitted: call `{self._fit_call}` or `{name}.load(folder)` "
                "first."
            )
            raise NotFittedError(msg)

    def _derive(self) -> None:
        """Compute the values derived from fitted attributes."""

    @abstractmethod
    def _restore(self, settings: Mapping[str, Any], arrays: Arrays) -> None: ...
