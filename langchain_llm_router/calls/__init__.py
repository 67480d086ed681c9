"""The only room that does I/O with models: ask a candidate, run a verifier, trace a decision.

`ask`, `judge` and `tracing` hold the operations, `bindings` keeps tools and schemas until a
candidate is chosen, `chat_models` resolves candidates, `prices` looks up what tokens cost,
`provider_messages` rewrites a conversation for a provider, `answer_checks` classifies answers.
"""

from typing import TYPE_CHECKING

from langchain_llm_router.types.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_llm_router.calls.answer_checks import is_refusal
    from langchain_llm_router.calls.prices import look_up_price, published_prices
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            ".answer_checks": "is_refusal",
            ".prices": "look_up_price published_prices",
        },
    )

__all__ = [
    "is_refusal",
    "look_up_price",
    "published_prices",
]
