"""Test your own code that calls a router: candidates that say what the test needs.

The router is the real one, so what is tested is what will run: which draft is kept, what happens
when a model fails, and what it all costs.
"""

from langchain_core.language_models import BaseChatModel

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator, route_of
from langchain_llm_router.budgets import Budget, BudgetExceededError, Budgets
from langchain_llm_router.policies import ConfidenceThreshold
from langchain_llm_router.testing import ScriptedChatModel

# With real keys: build_router(init_chat_model("provider:model"), init_chat_model(...), 5.0)
QUESTION = "Which city is the capital of Ecuador?"


def build_router(small: BaseChatModel, large: BaseChatModel, limit_usd: float) -> ChatLLMRouter:
    """Your code: a cascade within a budget."""
    return ChatLLMRouter(
        candidates=[
            Candidate("small", small, Price(1, 4), max_output_tokens=200),
            Candidate("large", large, Price(10, 40), max_output_tokens=200),
        ],
        policy=ConfidenceThreshold(threshold=0.5),
        verifier=SelfEvaluator(n_samples=2),
        budgets=Budgets([Budget(limit_usd)]),
    )


def answer(router: ChatLLMRouter, question: str) -> tuple[str, str]:
    """Your code: the answer, and who gave it; a text of its own when the money is spent."""
    try:
        message = router.invoke(question)
    except BudgetExceededError:
        return "Come back tomorrow.", "nobody"
    return str(message.text), (route_of(message) or {})["candidate"]


def test_a_draft_that_its_judge_finds_correct_is_kept() -> None:
    small, large = ScriptedChatModel("Quito.", verdicts=["Correct"]), ScriptedChatModel("Unused.")
    assert answer(build_router(small, large, 1.0), QUESTION) == ("Quito.", "small")
    assert large.calls == []


def test_a_draft_that_its_judge_finds_incorrect_is_escalated() -> None:
    small, large = ScriptedChatModel("Lima.", verdicts=["Incorrect"]), ScriptedChatModel("Quito.")
    assert answer(build_router(small, large, 1.0), QUESTION) == ("Quito.", "large")
    assert large.calls[0].messages[-1].text == QUESTION


def test_a_candidate_that_fails_is_passed_over() -> None:
    small, large = ScriptedChatModel(ConnectionError("down")), ScriptedChatModel("Quito.")
    assert answer(build_router(small, large, 1.0), QUESTION) == ("Quito.", "large")


def test_money_is_booked_and_nothing_is_asked_once_it_is_spent() -> None:
    small, large = ScriptedChatModel("Quito.", verdicts=["Correct"]), ScriptedChatModel("Unused.")
    router = build_router(small, large, 0.0)
    assert answer(router, QUESTION) == ("Come back tomorrow.", "nobody")
    assert small.calls == []
    record = route_of(build_router(small, large, 1.0).invoke(QUESTION)) or {}
    assert 0 < record["cost_usd"] < 1.0


if __name__ == "__main__":  # pytest would find them by their names
    tests = [test for name, test in sorted(globals().items()) if name.startswith("test_")]
    for test in tests:
        test()
    print(f"{len(tests)} tests passed")
