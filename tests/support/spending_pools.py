"""Routers that spend: models whose answers cost what a test says."""

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata

from langchain_llm_router import Candidate, ChatLLMRouter, Price
from langchain_llm_router.budgets import (
    Budgets,
)
from langchain_llm_router.budgets.ledgers import (
    to_usd,
)
from langchain_llm_router.policies import RandomMix

PRICE = Price(1.0, 10.0)


def answer(tokens: int, text: str = "fine") -> AIMessage:
    usage = UsageMetadata(input_tokens=10, output_tokens=tokens, total_tokens=10 + tokens)
    return AIMessage(text, usage_metadata=usage)


def cost(tokens: int) -> float:
    return PRICE.estimate_usd(input_tokens=10, output_tokens=tokens)


def router(*models, budgets, policy=None, **kwargs) -> ChatLLMRouter:
    names = ["first", "second", "third"]
    return ChatLLMRouter(
        candidates=[
            Candidate(name, model, PRICE, max_output_tokens=100)
            for name, model in zip(names, models, strict=False)
        ],
        policy=policy or RandomMix({"first": 1.0}),
        budgets=budgets if isinstance(budgets, Budgets) else Budgets([budgets]),
        **kwargs,
    )


def used(model: ChatLLMRouter, config=None) -> float:
    budgets = model.budgets
    account = budgets.budgets[0].account(config or {}, budgets.clock())
    return to_usd(budgets.ledger.used_nano(account))
