"""Real local models are asked for a confidence, and no stream of theirs shows one."""

import pytest

from langchain_llm_router import Candidate, ChatLLMRouter, route_of
from langchain_llm_router.policies import ConfidenceThreshold
from langchain_llm_router.verification import SelfReported
from langchain_llm_router.verification.confidence_reader import split_last_line
from tests.support.fakes import ScriptedModel
from tests.support.local_models.servers import served

pytestmark = pytest.mark.local_llm

QUESTIONS = [
    "What is the capital of France?",
    "What is 17 + 25?",
    "Tell me in six sentences what bees do all year.",
]


class Sure(ConfidenceThreshold):
    """Believes in every draft before it has begun, so that it is streamed."""

    def p_good(self, situation, attempt):
        verified = attempt.get("verified", False)
        return super().p_good(situation, attempt) if verified else 1.0


def router(mode: str) -> ChatLLMRouter:
    small = served(temperature=0, max_tokens=200, max_retries=0, timeout=300)[0]
    return ChatLLMRouter(
        candidates=[small, Candidate("large", ScriptedModel("I do not know."))],
        policy=Sure(threshold=0.0),
        verifier=SelfReported(),
        streaming_mode=mode,
    )


def check(answers):
    """No answer ends in a confidence, though drafts came with one; models this small forget it."""
    for answer in answers:
        assert answer.text.strip()
        assert split_last_line(answer.text) is None
        assert "onfidence:" not in answer.text
    drafts = [route_of(answer)["attempts"][0] for answer in answers]
    read = [draft["confidence"] for draft in drafts if draft["confidence"] is not None]
    committed = [draft for draft in drafts if draft.get("committed")]
    assert len(read) + len(committed) >= 1
    assert all(0 <= score <= 1 for score in read)


def test_no_answer_of_a_real_model_has_its_confidence():
    asked = router("buffer")
    check([asked.invoke(question) for question in QUESTIONS])


@pytest.mark.parametrize("mode", ["buffer", "commit"])
async def test_no_stream_of_a_real_model_has_its_confidence(mode):
    asked, answers = router(mode), []
    for question in QUESTIONS:
        whole = None
        async for chunk in asked.astream(question):
            whole = chunk if whole is None else whole + chunk
        answers.append(whole)
    check(answers)
