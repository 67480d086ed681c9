"""LangChain's own standard tests, on the router in its three shapes.

Nothing is skipped by hand: what the suite skips, it skips by its own feature flags (no image
input, not serializable, no environment variables to start from). A router has no key of its own and
refuses one, so of the suite's standard parameters `api_key` alone is left out.
"""

from typing import Any

from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator
from langchain_llm_router.policies import Always, ConfidenceThreshold
from tests.support.fakes import CapableModel


def candidates() -> list[Candidate]:
    return [
        Candidate("small", CapableModel(model="tiny-one"), Price(1, 2)),
        Candidate("large", CapableModel(model="tiny-two"), Price(10, 20)),
    ]


def cascade(threshold: float) -> dict[str, Any]:
    return {
        "candidates": candidates(),
        "policy": ConfidenceThreshold(threshold=threshold),
        "verifier": SelfEvaluator(n_samples=2),
    }


class OneShot:
    """What the suite needs to know of a router with a one-shot policy."""

    def build(self) -> dict[str, Any]:
        return {"candidates": candidates(), "policy": Always("small")}

    @property
    def chat_model_class(self):
        return ChatLLMRouter

    @property
    def chat_model_params(self):
        return self.build()

    @property
    def standard_chat_model_params(self):
        params = super().standard_chat_model_params
        return {name: value for name, value in params.items() if name != "api_key"}

    @property
    def model_override_value(self):
        return "tiny-two"


class AcceptingCascade(OneShot):
    def build(self) -> dict[str, Any]:
        return cascade(threshold=0.0)


class EscalatingCascade(OneShot):
    def build(self) -> dict[str, Any]:
        return cascade(threshold=1.1)


class TestOneShotUnit(OneShot, ChatModelUnitTests):
    pass


class TestOneShot(OneShot, ChatModelIntegrationTests):
    pass


class TestAcceptingCascadeUnit(AcceptingCascade, ChatModelUnitTests):
    pass


class TestAcceptingCascade(AcceptingCascade, ChatModelIntegrationTests):
    pass


class TestEscalatingCascadeUnit(EscalatingCascade, ChatModelUnitTests):
    pass


class TestEscalatingCascade(EscalatingCascade, ChatModelIntegrationTests):
    pass
