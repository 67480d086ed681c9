"""Spend no more than you allow, per user and day and in all: then the cheap model, then none.

Offline scripted models answer. With your own keys, change the line marked below.
"""

from langchain_llm_router import Candidate, ChatLLMRouter, Price, route_of
from langchain_llm_router.budgets import Budget, BudgetExceededError, Budgets
from langchain_llm_router.policies import Always
from langchain_llm_router.testing import ScriptedChatModel

# With real keys: small, large = init_chat_model("provider:model"), init_chat_model("...")
small, large = ScriptedChatModel("Short."), ScriptedChatModel("A longer and better answer.")


def build_router() -> ChatLLMRouter:
    # The limit on output bounds what a call may cost; a call that may not fit is not begun.
    return ChatLLMRouter(
        candidates=[
            Candidate("small", small, Price(1, 4), max_output_tokens=20),
            Candidate("large", large, Price(10, 40), max_output_tokens=20),
        ],
        policy=Always("large"),
        budgets=Budgets(
            [
                Budget(0.0016, per="user_id", period="day", timezone="Europe/Berlin"),
                Budget(0.0040),
            ]
        ),
    )


FORCED = {"force": "large"}


def main() -> None:
    router = build_router()
    for user, options in (("ann", {}), ("ann", {}), ("ann", {}), ("ann", FORCED), ("bob", {})):
        config = {"configurable": {"user_id": user, "llm_router": options}}
        try:
            answer = router.invoke("Why is the sky blue?", config)
        except BudgetExceededError as error:
            print(f"{user}: {error}")
            continue
        record = route_of(answer)
        print(f"{user}: {record['candidate']} for ${record['cost_usd']:.5f}  {answer.text}")


if __name__ == "__main__":
    main()
