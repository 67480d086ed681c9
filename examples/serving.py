"""Serve a router to any OpenAI client: one address, and the router chooses the model.

Here client and server are in one process, without a port. `llm-router serve` does the same for a
saved router; your own router is served by `uvicorn.run(app, port=8080)`, with a page at `/`.
"""

import asyncio

import httpx
from openai import AsyncOpenAI

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator
from langchain_llm_router.apps.server import create_app
from langchain_llm_router.policies import ConfidenceThreshold
from langchain_llm_router.testing import ScriptedChatModel

# With real keys: small, large = init_chat_model("provider:model"), init_chat_model("...")
small = ScriptedChatModel("Guayaquil.", verdicts=["Incorrect"])
large = ScriptedChatModel("Quito.")

router = ChatLLMRouter(
    candidates=[
        Candidate("small", small, Price(0.15, 0.6)),
        Candidate("large", large, Price(2.5, 10)),
    ],
    policy=ConfidenceThreshold(threshold=0.5),
    verifier=SelfEvaluator(n_samples=2),
)
app = create_app(router, api_keys=["my-key"], examples=["Which city is the capital of Ecuador?"])


async def main() -> None:
    # Against a server: AsyncOpenAI(base_url="http://127.0.0.1:8080/v1", api_key="my-key")
    transport = httpx.AsyncClient(transport=httpx.ASGITransport(app))
    client = AsyncOpenAI(base_url="http://localhost/v1", api_key="my-key", http_client=transport)
    question = [{"role": "user", "content": "Which city is the capital of Ecuador?"}]
    # The router, a candidate by its name, and the router with options for this request.
    for model in ("router", "small", "router@models:small"):
        answer = await client.chat.completions.create(model=model, messages=question)
        print(f"{model:20s} {answer.model:6s} {answer.choices[0].message.content}")
    answer = await client.chat.completions.create(model="router", messages=question)
    record = answer.model_extra["llm_router"]
    print(f"why {record['candidate']}: {record['reason']}; ${record['cost_usd']:.6f}")
    await client.close()


if __name__ == "__main__":
    asyncio.run(main())
