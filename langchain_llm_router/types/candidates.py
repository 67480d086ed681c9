"""Candidates, their endpoints and prices.

The types of this room are frozen dataclasses, except for `Attempt`: it enters LangGraph states and
JSON logs and is a `TypedDict`, because checkpointers reject unknown classes.

Units are in the names: `_usd`, `_usd_per_mtok` (USD per million tokens), `_s`, `_tokens`.
Quality, confidence and probability are floats in [0, 1]. Unknown is `None`, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from langchain_llm_router.types.arguments import CheckedArguments, check_range, unwrap_numpy
from langchain_llm_router.types.decisions import sum_usd
from langchain_llm_router.types.hosted_tools import FREE_KINDS
from langchain_llm_router.types.lazy import lazy_names
from langchain_llm_router.types.usage import Usage, read_usage

if TYPE_CHECKING:
    from langchain_core.messages.ai import UsageMetadata
    from langchain_core.runnables import Runnable
else:  # Only annotations need them.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "langchain_core.runnables": "Runnable",
            "langchain_core.messages.ai": "UsageMetadata",
        },
    )

__all__ = [
    "CHARS_PER_TOKEN",
    "MEDIA_KINDS",
    "MODEL_PLACEHOLDER",
    "Candidate",
    "Endpoint",
    "Price",
    "candidate_names",
]

CHARS_PER_TOKEN = 4.0
"""Approximate number of characters per token of English text, where tokens were not counted."""

MODEL_PLACEHOLDER = "provider:model"
"""Stands in code that is printed where a reader writes a model."""

MEDIA_KINDS = ("image", "audio", "video", "file")
"""Kinds of content other than text, by which their tokens are bounded."""


@dataclass(frozen=True, slots=True)
class Price(CheckedArguments):
    """What a model's tokens, requests and hosted tools cost.

    A rate that is None is that of the plain input or output tokens.

    Example:
        >>> Price(0.15, 0.60).estimate_usd(input_tokens=1_000, output_tokens=500)
        0.00045
        >>> long = Price(2.5, 15.0, tiers={200_000: Price(5.0, 22.5)})
        >>> long.estimate_usd(input_tokens=300_000, output_tokens=0)
        1.5
    """

    input_usd_per_mtok: float
    """USD per million input tokens."""

    output_usd_per_mtok: float
    """USD per million output tokens."""

    cache_read_usd_per_mtok: float | None = None
    """USD per million input tokens read from the prompt cache."""

    cache_write_usd_per_mtok: float | None = None
    """USD per million input tokens written to the prompt cache."""

    cache_write_1h_usd_per_mtok: float | None = None
    """USD per million input tokens written to the prompt cache for an hour; if None, as for other
    writes."""

    input_audio_usd_per_mtok: float | None = None
    """USD per million input tokens of audio."""

    output_audio_usd_per_mtok: float | None = None
    """USD per million output tokens of audio."""

    input_image_usd_per_mtok: float | None = None
    """USD per million input tokens of images; as usage does not tell them from text, only bounds
    use it."""

    reasoning_usd_per_mtok: float | None = None
    """USD per million output tokens of reasoning."""

    request_usd: float = 0.0
    """USD per request, whatever its length."""

    tool_fees_usd: Mapping[str, float] = field(default_factory=dict, hash=False)
    """USD per use of a tool that runs at the provider, by kind: `web_search`, `file_search`,
    `code_execution`, ... An answer that used a kind which is not here has an unknown cost."""

    tiers: Mapping[int, Price] = field(default_factory=dict, hash=False)
    """Prices of long prompts: with more input tokens than a key, all of the call has that price."""

    def __repr__(self) -> str:
        """Return the two main rates, and of the others those that are given."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        main = ("input_usd_per_mtok", "output_usd_per_mtok")
        shown = [f"{k}={v!r}" for k, v in values.items() if k in main or v not in (None, 0, {})]
        return f"Price({', '.join(shown)})"

    def __post_init__(self) -> None:
        rates = [name for name in self.__dataclass_fields__ if name.endswith("_usd_per_mtok")]
        check_range(self, *rates, "request_usd")
        unwrap_numpy(self, *rates, "request_usd")
        invalid = {k: v for k, v in self.tool_fees_usd.items() if not 0 <= v < math.inf}
        if invalid:
            msg = f"`tool_fees_usd` must hold finite numbers >= 0, got {invalid}."
            raise ValueError(msg)
        if any(start < 0 or price.tiers for start, price in self.tiers.items()):
            msg = (
                "`tiers` must map numbers of input tokens >= 0 to prices without tiers of their "
                f"own, got {dict(self.tiers)}."
            )
            raise ValueError(msg)

    def estimate_usd(
        self, *, input_tokens: float, output_tokens: float, cache_read_tokens: float = 0
    ) -> float:
        """Price a call by its token counts; cached tokens are part of `input_tokens`."""
        rates = self._tier(input_tokens)
        cached = min(cache_read_tokens, input_tokens)
        return (
            rates.request_usd
            + (
                (input_tokens - cached) * rates.input_usd_per_mtok
                + cached * _first(rates.cache_read_usd_per_mtok, rates.input_usd_per_mtok)
                + output_tokens * rates.output_usd_per_mtok
            )
            / 1e6
        )

    def worst_usd(
        self, *, input_tokens: float, output_tokens: float, media: Collection[str] = ()
    ) -> float:
        """Return an upper bound on the cost of a call of at most these lengths, tools excluded.

        Args:
            input_tokens: Most tokens of the prompt.
            output_tokens: Most tokens of the answer, reasoning included.
            media: Kinds of media in the prompt: `audio` and `image` have rates of their own.
        """
        reachable = [self, *(tier for start, tier in self.tiers.items() if input_tokens > start)]
        return max(one._dearest_usd(input_tokens, output_tokens, media) for one in reachable)

    def _dearest_usd(
        self, input_tokens: float, output_tokens: float, media: Collection[str]
    ) -> float:
        inputs = [
            self.input_usd_per_mtok,
            self.cache_read_usd_per_mtok,
            self.cache_write_usd_per_mtok,
            self.cache_write_1h_usd_per_mtok,
            self.input_audio_usd_per_mtok if "audio" in media else None,
            self.input_image_usd_per_mtok if "image" in media else None,
        ]
        outputs = [
            self.output_usd_per_mtok,
            self.reasoning_usd_per_mtok,
            self.output_audio_usd_per_mtok,
        ]
        dearest = [max(rate for rate in rates if rate is not None) for rates in (inputs, outputs)]
        return self.request_usd + (input_tokens * dearest[0] + output_tokens * dearest[1]) / 1e6

    def cost_usd(self, usage: UsageMetadata | Usage | None) -> float | None:
        """Price what an answer used; None if that is unknown or used a tool of unknown fee.

        Args:
            usage: A LangChain usage record, or what `usage_of` read from a message.
        """
        used = usage if usage is None or isinstance(usage, Usage) else read_usage(usage)
        if used is None:
            return None
        if used.from_cache:
            return 0.0
        fees = self.fees_usd(used.tool_uses)
        return None if fees is None else fees + self._tier(used.input_tokens)._tokens_usd(used)

    def fees_usd(self, uses: Mapping[str, int]) -> float | None:
        """Return the fees of uses of hosted tools by kind; None if a kind's fee is unknown."""
        if not uses:
            return 0.0
        fees = dict.fromkeys(FREE_KINDS, 0.0) | dict(self.tool_fees_usd)
        amounts = [n * fees[kind] if kind in fees else None for kind, n in uses.items()]
        return sum_usd(amounts)

    def _tokens_usd(self, used: Usage) -> float:
        rate_in, rate_out = self.input_usd_per_mtok, self.output_usd_per_mtok
        cached = used.cache_read_tokens + used.cache_write_tokens
        plain_in = max(0, used.input_tokens - cached - used.input_audio_tokens)
        plain_out = max(0, used.output_tokens - used.reasoning_tokens - used.output_audio_tokens)
        if plain_in == used.input_tokens and plain_out == used.output_tokens:
            # No kind of tokens has a price of its own, the most frequent case.
            return self.request_usd + (plain_in * rate_in + plain_out * rate_out) / 1e6
        write = _first(self.cache_write_usd_per_mtok, rate_in)
        return (
            self.request_usd
            + (
                plain_in * rate_in
                + used.cache_read_tokens * _first(self.cache_read_usd_per_mtok, rate_in)
                + (used.cache_write_tokens - used.cache_write_1h_tokens) * write
                + used.cache_write_1h_tokens * _first(self.cache_write_1h_usd_per_mtok, write)
                + used.input_audio_tokens * _first(self.input_audio_usd_per_mtok, rate_in)
                + plain_out * rate_out
                + used.reasoning_tokens * _first(self.reasoning_usd_per_mtok, rate_out)
                + used.output_audio_tokens * _first(self.output_audio_usd_per_mtok, rate_out)
            )
            / 1e6
        )

    def _tier(self, input_tokens: float) -> Price:
        if len(self.tiers) == 0:
            return self
        start = max((one for one in self.tiers if input_tokens > one), default=None)
        return self if start is None else self.tiers[start]


def _first(rate: float | None, otherwise: float) -> float:
    return otherwise if rate is None else rate


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

    model: Runnable[Any, Any] | str | None = None
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

    model: Runnable[Any, Any] | str | None = None
    """Chat model, also one with `bind`, or `"provider:model"`; None for offline replay only. In
    `create_cascade` also an agent: a compiled graph, or another runnable from messages to messages.

    Tokens and cost of a streamed answer are known only if the model reports usage in streams:
    `ChatOpenAI(base_url=...)` does so with `stream_usage=True`. Otherwise they stay unknown (None).
    """

    price: Price | None = None
    """Token prices; if None, looked up by provider and model name, and unknown if not found. Of an
    agent: the price of all of its model calls; if None, each is looked up."""

    expected_output_tokens: float = 256
    """Length of a typical answer, for pricing a call before it is made."""

    expected_cost_usd: float | None = None
    """Measured mean cost of a call, e.g. from training outcomes; replaces price x tokens where no
    answer length is predicted. Of an agent: that of a whole run."""

    ttft_s: float | None = None
    """Typical time to first token, used until live telemetry has measured it."""

    itl_s: float | None = None
    """Typical inter-token latency, used until live telemetry has measured it."""

    max_output_tokens: int | None = None
    """Maximum length of an answer; a budget needs it to bound the cost of a call. Where there is a
    budget, it is sent to the provider unless the model has a limit of its own."""

    max_input_tokens: int | None = None
    """Maximum length of a prompt, its media included, such as the context window. A budget needs it
    where the length cannot be told from the prompt: files by URL or id, hosted tools."""

    media_tokens: Mapping[str, int] = field(default_factory=dict)
    """Maximum tokens of one medium by kind (`image`, `audio`, `video`, `file`), for the bounds of a
    budget; images that are not here count as the provider's largest."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of every call, e.g. `{"reasoning_effort": "low"}`."""

    endpoints: Sequence[Endpoint] = ()
    """Endpoints of the model; each becomes an arm, `name@endpoint`."""

    endpoint_of: str | None = None
    """On an arm expanded from `endpoints`: name of the candidate that has them."""

    effort: str | int | None = None
    """How hard the model thinks: its provider's word for it, such as `"low"`, or the most tokens of
    thinking. None leaves it to the model. See `efforts`."""

    effort_of: str | None = None
    """On an arm made by `efforts`: name of the candidate that it was made of."""

    max_cost_usd: float | None = None
    """Most that one run of an agent may cost; its next model call fails where it could exceed that.
    Under a budget an agent needs it. A chat model's cost is bounded by `max_output_tokens`."""

    draws_several: bool | None = None
    """Whether its provider draws several replies to one prompt in one request (`n`): equal verdicts
    of it are then one request, which bills the prompt once. None: only OpenAI and Azure are known
    to. vLLM and SGLang do as well; Gemini does with some models."""

    def __post_init__(self) -> None:
        if isinstance(self.effort, int) and self.effort < 0:
            msg = f"`effort` must be a word or a number of tokens >= 0, got {self.effort!r}."
            raise ValueError(msg)
        if not self.name:
            msg = f"A candidate's name must be a non-empty string, got {self.name!r}."
            raise ValueError(msg)
        numbers = ("expected_output_tokens", "expected_cost_usd", "ttft_s", "itl_s")
        check_range(self, *numbers)
        check_range(self, "max_cost_usd", above=True)
        limits = ("max_input_tokens", "max_output_tokens")
        check_range(self, *limits, low=1)
        unwrap_numpy(self, *numbers, "max_cost_usd", *limits)
        for kind, tokens in self.media_tokens.items():
            if kind not in MEDIA_KINDS or not 0 < tokens < math.inf:
                msg = (
                    f"`media_tokens` must map kinds of {list(MEDIA_KINDS)} to numbers > 0, got "
                    f"{kind!r}: {tokens!r}."
                )
                raise ValueError(msg)
        names = [endpoint.name for endpoint in self.endpoints]
        if len(set(names)) < len(names) or "" in names:
            msg = f"Endpoints of {self.name!r} must have distinct, non-empty names, got {names}."
            raise ValueError(msg)

    @property
    def model_name(self) -> str:
        """The name used by estimators and policies, which all endpoints of a model share."""
        return self.name if self.endpoint_of is None else self.endpoint_of

    @property
    def is_agent(self) -> bool:
        """Whether its model is no chat model, but a graph or another runnable that asks models."""
        if self.model is None or isinstance(self.model, str):
            return False
        from langchain_core.language_models import (  # noqa: PLC0415 - slow to load
            BaseLanguageModel,
        )

        return not isinstance(self.model, BaseLanguageModel)

    def efforts(self, *levels: str, thinking_budget: Sequence[int] = ()) -> tuple[Candidate, ...]:
        """Return one candidate per effort of this model, with a name and measurements of its own.

        Until they are measured, answers are expected to be as long as at the default effort times
        what MCPMark's runs of GPT-5 models had (low 0.5, high 2.2), or longer by the whole budget.

        Args:
            *levels: The provider's words, e.g. `"low", "medium", "high"`.
            thinking_budget: Most tokens of thinking, e.g. `[1024, 8192]`.

        Raises:
            TypeError: If a level is no text, or a budget no list of whole numbers.
            ValueError: If no effort is given, one is given twice, or the candidate has one already.

        Example:
            >>> [arm.name for arm in Candidate("mini").efforts("low", "high")]
            ['mini:low', 'mini:high']
        """
        for level in levels:
            if not isinstance(level, str):
                msg = f"An effort must be a word such as 'low', got {level!r}: pass each by itself."
                raise TypeError(msg)
        if isinstance(thinking_budget, str) or not all(
            isinstance(n, int) and not isinstance(n, bool) for n in thinking_budget
        ):
            msg = f"`thinking_budget` must be numbers of tokens, got {thinking_budget!r}."
            raise TypeError(msg)
        chosen: list[str | int] = [*levels, *thinking_budget]
        if not chosen or len(set(chosen)) < len(chosen) or "" in chosen:
            msg = f"Efforts of {self.name!r} must be distinct and not empty, got {chosen}."
            raise ValueError(msg)
        if self.effort is not None:
            msg = f"{self.name!r} has the effort {self.effort!r} already: make arms of one without."
            raise ValueError(msg)
        return tuple(self._with_effort(effort) for effort in chosen)

    def _with_effort(self, effort: str | int) -> Candidate:
        length = self.expected_output_tokens
        if isinstance(effort, int):
            length += effort
        else:
            length *= _LENGTHS.get(effort, 1.0)
        return replace(
            self,
            name=f"{self.name}:{effort}",
            effort=effort,
            effort_of=self.name,
            expected_output_tokens=length,
            # It was measured at another effort.
            expected_cost_usd=None,
        )


# Output tokens of an answer, hidden ones included, relative to medium effort: geometric means over
# gpt-5, gpt-5-mini and gpt-5-nano on MCPMark (0.31 to 0.86, and 1.7 to 2.8).
_LENGTHS = {"none": 0.5, "minimal": 0.5, "low": 0.5, "high": 2.2, "xhigh": 2.2, "max": 2.2}


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
