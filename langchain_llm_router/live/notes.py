"""Notes on the calls of one request that failed or lost a race."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_llm_router.live.client_retries import client_retries
from langchain_llm_router.live.failure_rules import may_be_billed
from langchain_llm_router.types import Candidate
from langchain_llm_router.types.secrets import find_secrets, redact

if TYPE_CHECKING:
    from langchain_llm_router.live.races import Call

__all__ = ["Notes", "error_text"]


@dataclass
class Notes:
    """The failed calls of one request to a candidate, for the decision record."""

    failures: list[dict[str, Any]] = field(default_factory=list)
    """Calls that failed or lost a race: candidate, error, waited_s, may_be_billed."""

    answered_by: Candidate | None = None
    """The arm that answered, where a hedged call went to another endpoint."""

    may_be_billed: bool | None = None
    """Whether a call that is not among the failures may have been billed although it failed; None
    if there is none."""

    is_heard: bool = False
    """Whether a handler shows the tokens of a call that is invoked."""

    tokens_shown: bool = False
    """Whether it has shown some, so that no other answer can follow."""

    def add_failure(self, call: Call, error: str, *, billed: bool) -> None:
        """Add a call that failed or lost a race."""
        waited = time.monotonic() - call.started_s if call.started_s > 0 else 0.0
        self.failures.append(
            {
                "candidate": call.candidate.name,
                "error": redact(error, find_secrets(call.candidate.model)),
                "waited_s": waited,
                "may_be_billed": billed or client_retries(call.candidate.model) > 0,
            }
        )

    def add_end(self, candidate: Candidate, error: BaseException) -> None:
        """Add how the last call ended, where no guard has added it."""
        if len(self.failures) == 0:
            self.may_be_billed = may_be_billed(error) or client_retries(candidate.model) > 0

    @property
    def n_unsure(self) -> int:
        """Number of calls without an answer that may have been billed."""
        billed = [one["may_be_billed"] for one in self.failures]
        return sum(map(bool, [*billed, self.may_be_billed]))

    def add_refusal(self, candidate: Candidate, error: Exception) -> None:
        """Add a candidate that was not asked at all."""
        self.failures.append(
            {
                "candidate": candidate.name,
                "error": error_text(error),
                "waited_s": 0.0,
                "may_be_billed": False,
            }
        )


def error_text(error: BaseException) -> str:
    """Return the class and message of an error."""
    return f"{type(error).__name__}: {error}"
