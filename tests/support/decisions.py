"""A decision model (langchain-core >= 1.8) that needs no provider."""

from typing import Any

from langchain_core.decisions import BaseDecisionModel, ClassifierResponse, NoulAnswer


class FakeDecisions(BaseDecisionModel):
    """Says yes with 0.9 to whatever is easy, else with 0.2."""

    @property
    def _provider(self) -> str:
        return "fake"

    def _classify(self, state: Any, questions: dict[str, Any]) -> ClassifierResponse:
        yes = 0.9 if "easy" in str(state) else 0.2
        return ClassifierResponse(
            model=self.model,
            answers={name: NoulAnswer(type="noul", noul=yes) for name in questions},
            usage={"input_tokens": 5, "output_tokens": 3},
        )
