"""Candidates, their endpoints and prices.

The types of this room are frozen dataclasses, except for `Attempt`: it enters LangGraph states and
JSON logs and is a `TypedDict`, because checkpointers reject unknown classes.

Units are in the names: `_usd`, `_usd_per_mtok` (USD per million tokens), `_s`, `_tokens`.
Quality, confidence and probability are floats in [0, 1]. Unknown is `None`, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_llm_router.types.arguments import CheckedArguments, check_range, unwrap_numpy
from langchain_llm_router.types.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages.ai import UsageMetadata
else:  # Only annotations need them.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "langchain_core.language_models": "BaseChatModel",
            "langchain_core.messages.ai": "UsageMetadata",
        },
    )

__all__ = [
    "CHARS_PER_TOKEN",
    "Candidate",
    "Endpoint",
    "Price",
    "candidate_names",
]

CHARS_PER_TOKEN = 4.0
"""Approximate number of characters per token of English text, where tokens were not counted."""


@dataclass(frozen=True, slots=True)
class Price(CheckedArguments):
    """Token prices of a model.

    Example:
        >>> Price(0.15, 0.60).estimate_usd(input_tokens=1_000, output_tokens=500)
        0.00045
    """

    input_usd_per_mtok: float
    """USD per million input tokens."""

    output_usd_per_mtok: float
    """USD per million output tokens."""

    cache_read_usd_per_mtok: float | None = None
    """USD per million input tokens read from the prompt cache; if None, the input price."""

    def __post_init__(self) -> None:
        names = ("input_usd_per_mtok", "output_usd_per_mtok", "cache_read_usd_per_mtok")
        check_range(self, *names)
        unwrap_numpy(self, *names)

    def estimate_usd(
        self, *, input_tokens: float, output_tokens: float, cache_read_tokens: float = 0
    ) -> float:
        """Price a call by its token counts; cached tokens are part of `input_tokens`."""
        cache_rate = self.cache_read_usd_per_mtok
        if cache_rate is None:
            cache_rate = self.input_usd_per_mtok
        return (
            (input_tokens - cache_read_tokens) * self.input_usd_per_mtok
            + cache_read_tokens * cache_rate
            + output_tokens * self.output_usd_per_mtok
        ) / 1e6

    def cost_usd(self, usage: UsageMetadata | None) -> float | None:
        """Price a LangChain usage record; None when the provider reported no usage."""
        if usage is None:
            return None
        cached = usage.get("input_token_details", {}).get("cache_read") or 0
        return self.estimate_usd(
            input_tokens=usage["input_tokens"],
            output_tokens=usage["output_tokens"],
            cache_read_tokens=cached,
        )


@dataclass(frozen=True)
class Endpoint(CheckedArguments):
    """One of several deployments or service tiers of a model.

    A field that is None is that of the candidate.

    Example:
        >>> Candidate("gpt-4o", endpoints=[Endpoint("azure"), Endpoint("openai")]).endpoints[1].name
        'openai'
    """

    name: str
    """Name, unique within its candidate; the arm is named `candidate@endpoint`."""

    model: BaseChatModel | str | None = None
    price: Price | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of its calls, e.g. `{"service_tier": "flex"}`, added to the candidate's."""

    ttft_s: float | None = None
    itl_s: float | None = None

    def __post_init__(self) -> None:
        check_range(self, "ttft_s", "itl_s")


@dataclass(frozen=True)
class Candidate(CheckedArguments):
    """A model that queries can be routed to.

    Example:
        >>> Candidate("small", price=Price(0.15, 0.6)).price.output_usd_per_mtok
        0.6
    """

    name: str
    """Name in policies, records and saved tables; unique within a router."""

    model: BaseChatModel | str | None = None
    """Chat model, or `"provider:model"`; None for offline replay only.

    Tokens and cost of a streamed answer are known only if the model reports usage in streams:
    `ChatOpenAI(base_url=...)` does so with `stream_usage=True`. Otherwise they stay unknown (None).
    """

    price: Price | None = None
    """Token prices; if None, looked up by provider and model name, and unknown if not found."""

    expected_output_tokens: float = 256
    """Length of a typical answer, for pricing a call before it is made."""

    expected_cost_usd: float | None = None
    """Measured mean cost of a call, e.g. from training outcomes; replaces price x tokens where no
    answer length is predicted."""

    ttft_s: float | None = None
    """Typical time to first token, used until live telemetry has measured it."""

    itl_s: float | None = None
    """Typical inter-token latency, used until live telemetry has measured it."""

    max_output_tokens: int | None = None
    """Maximum length of an answer; a budget needs it to bound the cost of a call."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of every call, e.g. `{"reasoning_effort": "low"}`."""

    endpoints: Sequence[Endpoint] = ()
    """Endpoints of the model; each becomes an arm, `name@endpoint`."""

    endpoint_of: str | None = None
    """On an arm expanded from `endpoints`: name of the candidate that has them."""

    def __post_init__(self) -> None:
        if not self.name:
            msg = f"A candidate's name must be a non-empty string, got {self.name!r}."
            raise ValueError(msg)
        numbers = ("expected_output_tokens", "expected_cost_usd", "ttft_s", "itl_s")
        check_range(self, *numbers)
        check_range(self, "max_output_tokens", low=1)
        unwrap_numpy(self, *numbers, "max_output_tokens")
        names = [endpoint.name for endpoint in self.endpoints]
        if len(set(names)) < len(names) or "" in names:
            msg = f"Endpoints of {self.name!r} must have distinct, non-empty names, got {names}."
            raise ValueError(msg)

    @property
    def model_name(self) -> str:
        """The name used by estimators and policies, which all endpoints of a model share."""
        return self.name if self.endpoint_of is None else self.endpoint_of


def candidate_names(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """Return the names in order; refuse duplicates and an empty list."""
    names = tuple(candidate.name for candidate in candidates)
    if not names:
        msg = "`candidates` is empty: give at least one `Candidate`."
        raise ValueError(msg)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        msg = f"Candidate names must be unique, but {twice} occur more than once in {list(names)}."
        raise ValueError(msg)
    return names
