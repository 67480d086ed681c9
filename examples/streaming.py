"""Stream a cascade: tokens as they come, or the steps of the decision while it is made.

Offline scripted models answer. With your own keys, change the line marked below.
"""

import asyncio
import time

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator, route_of
from langchain_llm_router.policies import ConfidenceThreshold
from langchain_llm_router.testing import ScriptedChatModel

QUESTION = "Which city is the capital of Ecuador?"

# With real keys: small, large = init_chat_model("provider:model"), init_chat_model("...")
small = ScriptedChatModel("Guayaquil, I think.", verdicts=["Incorrect"])
large = ScriptedChatModel("The capital of Ecuador is Quito.")


def build_router(streaming_mode: str) -> ChatLLMRouter:
    return ChatLLMRouter(
        candidates=[
            Candidate("small", small, Price(0.15, 0.6)),
            Candidate("large", large, Price(2.5, 10)),
        ],
        policy=ConfidenceThreshold(threshold=0.5),
        verifier=SelfEvaluator(n_samples=2),
        streaming_mode=streaming_mode,
    )


def stream_answer() -> None:
    """A draft is held back until it is kept, so a reader never sees one that is discarded."""
    begun, first_s, whole = time.perf_counter(), None, None
    for chunk in build_router("buffer").stream(QUESTION):
        if first_s is None:
            first_s = time.perf_counter() - begun
        print(chunk.text, end="", flush=True)
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    record = route_of(whole)
    print(
        f"\nby {record['candidate']} for ${record['cost_usd']:.6f}, first token in {first_s:.2f} s"
    )


async def stream_steps() -> None:
    """The steps, as the live page shows them."""
    events = build_router("events").astream_events(QUESTION, version="v2")
    steps = [e["data"] async for e in events if e["event"] == "on_custom_event"]
    for step in steps:
        print(f"{step['event']:9s} {step['candidate']:6s} {step.get('reason') or ''}")


if __name__ == "__main__":
    stream_answer()
    asyncio.run(stream_steps())
