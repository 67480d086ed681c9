"""What counts as an answer, in a stream and as a whole, and who answers in its place."""

import time

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGenerationChunk

from langchain_llm_router import Candidate, ChatLLMRouter, Price, route_of
from langchain_llm_router.data import Outcomes
from langchain_llm_router.estimators import Constant
from langchain_llm_router.live import Live, Resilience
from langchain_llm_router.policies import ConfidenceThreshold, Utility
from langchain_llm_router.types.errors import EmptyAnswerError
from langchain_llm_router.verification import SelfEvaluator
from tests.support.fakes import JudgeModel, ProviderError, ScriptedModel

ROLE = AIMessageChunk("", response_metadata={"model_provider": "openai"})
END = AIMessageChunk("", response_metadata={"finish_reason": "stop"})


class ChunkModel(ScriptedModel):
    """Streams its script chunk by chunk; an exception is raised, a number is a pause in seconds."""

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        self.seen.append(list(messages))
        for entry in self.script:
            if isinstance(entry, Exception):
                raise entry
            if isinstance(entry, float):
                time.sleep(entry)
                continue
            yield ChatGenerationChunk(message=entry.model_copy())


def one_shot(*models, **fields):
    names = [chr(ord("a") + i) for i in range(len(models))]
    outcomes = Outcomes(["q"], tuple(names), [[1 - i / 10 for i in range(len(names))]])
    pool = [Candidate(name, model, Price(1, 1)) for name, model in zip(names, models, strict=True)]
    return ChatLLMRouter(
        candidates=pool, policy=Utility(), estimator=Constant().fit(outcomes), **fields
    )


def read(router):
    whole = None
    for chunk in router.stream("hi"):
        whole = chunk if whole is None else whole + chunk
    return whole


async def aread(router):
    whole = None
    async for chunk in router.astream("hi"):
        whole = chunk if whole is None else whole + chunk
    return whole


LIVE = [None, Resilience(), Resilience(timeout_s=5), Resilience(hedge_after=0.9)]


@pytest.mark.parametrize("resilience", LIVE)
@pytest.mark.parametrize(
    "script",
    [
        [ROLE, ProviderError(529)],
        [ROLE, AIMessageChunk([]), ProviderError(529)],
        [ProviderError(529)],
        [ROLE],
        [ROLE, AIMessageChunk("")],
    ],
)
async def test_until_a_chunk_says_something_another_candidate_may_answer(script, resilience):
    live = None if resilience is None else Live(resilience=resilience)
    models = ChunkModel(*script), ScriptedModel("fine")
    for message in (read(one_shot(*models, live=live)), await aread(one_shot(*models, live=live))):
        record = message.response_metadata["llm_router"]
        assert (message.text, record["candidate"]) == ("fine", "b")
        assert record["attempts"][0]["error"] is not None


@pytest.mark.parametrize("resilience", LIVE)
def test_a_stream_of_nothing_is_an_error_if_no_other_candidate_answers(resilience):
    live = None if resilience is None else Live(resilience=resilience)
    with pytest.raises(EmptyAnswerError, match="'a'"):
        read(one_shot(ChunkModel(ROLE), live=live))


def test_after_the_first_word_a_failure_is_raised():
    with pytest.raises(ProviderError):
        read(one_shot(ChunkModel(ROLE, AIMessageChunk("half"), ProviderError(529)),
                      ScriptedModel("fine")))  # fmt: skip


def test_the_clock_of_the_first_token_does_not_stop_at_a_role_chunk():
    live = Live(resilience=Resilience(first_token_timeout_s=0.3))
    slow = ChunkModel(ROLE, 1.0, AIMessageChunk("late"), END)
    assert read(one_shot(slow, ScriptedModel("fine"), live=live)).text == "fine"


@pytest.mark.parametrize("live", [False, True])
def test_the_time_to_the_first_token_is_that_of_the_first_word(live):
    live = Live() if live else None
    model = ChunkModel(ROLE, 0.2, AIMessageChunk("word"), END)
    record = read(one_shot(model, live=live)).response_metadata["llm_router"]
    assert record["attempts"][0]["ttft_s"] >= 0.2
    if live is not None:
        assert live.telemetry.look(["a"])["a"].ttft_s >= 0.2


def flawed(content="", **metadata):
    return AIMessage(content, response_metadata=metadata)


FLAWS = [
    (flawed(finish_reason="content_filter"), "content_filter"),
    (flawed(finish_reason="length"), "empty_answer"),
    (flawed(stopReason="guardrail_intervened"), "content_filter"),
    (flawed("half an", done_reason="length"), "cut_off"),
    (flawed(stop_reason="refusal"), "refusal"),
    (flawed("half an", finish_reason="ERROR"), "provider_error"),
    (flawed("half an", model_provider="anthropic"), "no_finish_reason"),
]


@pytest.mark.parametrize(("message", "kind"), FLAWS)
async def test_a_one_shot_router_records_a_flaw_and_falls_back_where_told_to(message, kind):
    for fields, text in (({}, message.text), ({"fallback_on": (kind,)}, "fine")):
        router = one_shot(ScriptedModel(message), ScriptedModel("fine"), **fields)
        for answer in (router.invoke("hi"), await router.ainvoke("hi")):
            assert answer.text == text
            assert kind.replace("_", " ") in route_of(answer)["attempts"][0]["flaw"]


@pytest.mark.parametrize(("message", "kind"), FLAWS)
def test_a_stream_falls_back_only_while_nothing_has_been_shown(message, kind):
    router = one_shot(ScriptedModel(message), ScriptedModel("fine"), fallback_on=(kind,))
    answer = read(router)
    record = answer.response_metadata["llm_router"]
    assert kind.replace("_", " ") in record["attempts"][0]["flaw"]
    assert answer.text == (message.text or "fine")


def test_if_every_answer_is_flawed_the_last_is_returned_and_the_record_says_so():
    cut = flawed("half an", finish_reason="length")
    answer = one_shot(ScriptedModel(cut), ScriptedModel(cut), fallback_on=("cut_off",)).invoke("hi")
    assert answer.text == "half an"
    assert "every answer is flawed" in route_of(answer)["reason"]


def test_an_unknown_kind_of_flaw_is_refused_and_the_known_ones_are_named():
    with pytest.raises(ValueError, match="content_filter"):
        one_shot(ScriptedModel("fine"), fallback_on=("boring",))


@pytest.mark.parametrize(("message", "kind"), [flaw for flaw in FLAWS if flaw[1] != "cut_off"])
def test_a_cascade_escalates_a_flawed_draft_without_asking_its_judge(message, kind):
    small = JudgeModel(message, verdicts=["yes"])
    router = ChatLLMRouter(
        candidates=[Candidate("small", small), Candidate("large", ScriptedModel("Paris"))],
        policy=ConfidenceThreshold(threshold=0.5),
        verifier=SelfEvaluator(2),
    )
    answer = router.invoke("Capital of France?")
    assert answer.text == "Paris"
    assert route_of(answer)["attempts"][0]["error"].startswith(kind.replace("_", " "))
    assert small.judged == []


class WindowModel(ScriptedModel):
    """A model with a context window; None if its profile has none."""

    window: int | None = None

    def __init__(self, *script, window=None):
        super().__init__(*script, window=window)
        self.profile = {} if window is None else {"max_input_tokens": window}


class TooLongError(Exception):
    status_code = 400

    def __str__(self):
        return "This model's maximum context length is 8192 tokens."


def test_after_a_prompt_that_is_too_long_the_largest_known_window_comes_next():
    small = WindowModel(TooLongError(), window=8_000)
    same = WindowModel("same", window=8_000)
    wider = WindowModel("wider", window=100_000)
    widest, unknown = WindowModel("widest", window=1_000_000), WindowModel("unknown")
    answer = one_shot(small, same, unknown, wider, widest).invoke("hi")
    assert answer.text == "widest"
    assert "largest (1000000 tokens)" in route_of(answer)["reason"]
    assert one_shot(small, same, unknown).invoke("hi").text == "unknown"
    with pytest.raises(TooLongError):
        one_shot(small, same).invoke("hi")


def test_a_chinese_prompt_is_not_sent_to_a_model_whose_window_is_too_small():
    router = one_shot(WindowModel("small", window=3_000), WindowModel("large", window=100_000))
    assert router.invoke([HumanMessage("字" * 8_000)]).text == "large"
    assert router.invoke([HumanMessage("a" * 8_000)]).text == "small"
