"""The doubles for users' tests behave as a provider's models do."""

import asyncio
import pickle
from typing import TypedDict

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langchain_tests.unit_tests import ChatModelUnitTests
from pydantic import BaseModel

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator, route_of
from langchain_llm_router.data import RecordedChatModel
from langchain_llm_router.policies import ConfidenceThreshold
from langchain_llm_router.testing import RecordedChatModel as SameRecordedChatModel
from langchain_llm_router.testing import ScriptedChatModel


class TestStandard(ChatModelUnitTests):
    @property
    def chat_model_class(self):
        return ScriptedChatModel

    @property
    def chat_model_params(self):
        return {"script": ["Hello."]}

    @property
    def standard_chat_model_params(self):
        # It has no key of its own.
        params = super().standard_chat_model_params
        return {name: value for name, value in params.items() if name != "api_key"}


class City(BaseModel):
    """A city."""

    name: str
    people: int


class Town(TypedDict):
    """A town."""

    name: str


@tool
def weather(city: str) -> str:
    """Say how the weather is."""
    return f"Fine in {city}."


CALL = {"name": "weather", "args": {"city": "Lima"}, "id": "1", "type": "tool_call"}


def whole(chunks):
    chunks = list(chunks)
    message = chunks[0]
    for chunk in chunks[1:]:
        message += chunk
    return message


def test_answers_come_in_order_and_the_last_is_repeated():
    model = ScriptedChatModel("one", AIMessage("two"), "three")
    said = [model.invoke("hi").content for _ in range(4)]
    assert said == ["one", "two", "three", "three"]


def test_a_repeated_message_is_a_new_message_each_time():
    entry = AIMessage("again")
    model = ScriptedChatModel(entry)
    first, second = model.invoke("hi"), model.invoke("hi")
    assert first.id != second.id
    assert entry.id is None
    assert entry.usage_metadata is None


@pytest.mark.parametrize("failure", [TimeoutError("slow"), TimeoutError])
def test_an_exception_in_the_script_is_raised(failure):
    model = ScriptedChatModel(failure, "ok")
    with pytest.raises(TimeoutError):
        list(model.stream("hi"))
    assert asyncio.run(model.ainvoke("hi")).content == "ok"
    assert len(model.calls) == 2


def test_whole_and_streamed_answers_are_the_same_and_report_usage():
    model = ScriptedChatModel("  It is  Lima.\n", model="tiny")

    async def astream():
        return [chunk async for chunk in model.astream("Capital of Peru?")]

    invoked = model.invoke("Capital of Peru?")
    chunks = list(model.stream("Capital of Peru?"))
    assert [chunk.content for chunk in chunks[:3]] == ["  It ", "is  ", "Lima.\n"]
    for message in (invoked, whole(chunks), whole(asyncio.run(astream()))):
        assert message.content == "  It is  Lima.\n"
        assert message.usage_metadata["input_tokens"] == 3
        assert message.usage_metadata["output_tokens"] == 3
        assert message.response_metadata["model_name"] == "tiny"


def test_a_message_keeps_what_it_says_of_itself():
    usage = {"input_tokens": 7, "output_tokens": 9, "total_tokens": 16}
    said = AIMessage("x", usage_metadata=usage, response_metadata={"model_name": "other"})
    message = whole(ScriptedChatModel(said).stream("hi"))
    assert message.usage_metadata == usage
    assert message.response_metadata["model_name"] == "other"


def test_tool_calls_come_whole_and_streamed():
    model = ScriptedChatModel(AIMessage("", tool_calls=[CALL]))
    bound = model.bind_tools([weather], tool_choice="any")
    for message in (bound.invoke("hi"), whole(bound.stream("hi"))):
        assert message.tool_calls == [CALL]
        assert message.response_metadata["finish_reason"] == "tool_calls"
        assert message.usage_metadata["output_tokens"] > 0
    assert model.calls[0].kwargs["tool_choice"] == "any"
    assert model.calls[0].kwargs["tools"][0]["function"]["name"] == "weather"


def test_structured_output_is_read_from_objects_mappings_and_texts():
    lima = City(name="Lima", people=10)
    model = ScriptedChatModel(lima, lima.model_dump(), lima.model_dump_json())
    reader = model.with_structured_output(City, method="function_calling")
    assert [reader.invoke("hi") for _ in range(3)] == [lima] * 3
    assert model.calls[0].kwargs["response_format"]["title"] == "City"
    assert model.calls[0].kwargs["method"] == "function_calling"
    assert ScriptedChatModel({"name": "Ica"}).with_structured_output(Town).invoke("hi") == {
        "name": "Ica"
    }


@pytest.mark.parametrize("entry", [{"name": "Lima"}, "no idea"])
def test_structured_output_that_does_not_fit_is_a_parsing_error(entry):
    model = ScriptedChatModel(entry)
    found = model.with_structured_output(City, include_raw=True).invoke("hi")
    assert found["parsed"] is None
    assert isinstance(found["parsing_error"], OutputParserException)
    assert found["raw"].usage_metadata["input_tokens"] == 1
    with pytest.raises(OutputParserException):
        model.with_structured_output(City).invoke("hi")


def test_structured_output_with_its_raw_answer_has_no_error_when_it_fits():
    lima = City(name="Lima", people=10)
    reader = ScriptedChatModel(lima).with_structured_output(City, include_raw=True)
    found = asyncio.run(reader.ainvoke("hi"))
    assert (found["parsed"], found["parsing_error"]) == (lima, None)


def test_calls_remember_messages_settings_and_keywords():
    model = ScriptedChatModel("ok", temperature=0.5)
    model.invoke([HumanMessage("hi")], stop=["\n"], seed=3)
    (call,) = model.calls
    assert call.messages == [HumanMessage("hi")]
    assert call.kwargs == {"temperature": 0.5, "stop": ["\n"], "seed": 3}


def test_a_text_ends_at_a_stop_and_after_the_longest_answer():
    model = ScriptedChatModel("a b c. d", max_tokens=2)
    cut = model.invoke("hi")
    assert (cut.content, cut.response_metadata["finish_reason"]) == ("a b ", "length")
    stopped = model.invoke("hi", max_tokens=9, stop=["."])
    assert (stopped.content, stopped.response_metadata["finish_reason"]) == ("a b c", "stop")


def test_several_samples_are_the_next_answers():
    model = ScriptedChatModel("a", "b", "c", "d")
    result = model.generate([[HumanMessage("hi")]], n=3)
    assert [one.text for one in result.generations[0]] == ["a", "b", "c"]
    assert model.invoke("hi").content == "d"
    assert len(model.calls) == 2


def test_answers_asked_for_at_once_are_all_different():
    model = ScriptedChatModel(*map(str, range(50)))
    said = [message.content for message in model.batch(["hi"] * 50)]
    assert sorted(said, key=int) == list(map(str, range(50)))


def test_counting_tokens_needs_no_tokenizer():
    assert ScriptedChatModel("ok").get_num_tokens("three short words") == 3


def cascade(small, large, n_samples=2):
    return ChatLLMRouter(
        candidates=[Candidate("small", small, Price(1, 2)), Candidate("large", large)],
        policy=ConfidenceThreshold(threshold=0.7),
        verifier=SelfEvaluator(n_samples=n_samples),
    )


@pytest.mark.parametrize(
    ("verdicts", "chosen"),
    [
        (["Correct"], "small"),
        (["Correct", "Incorrect"], "large"),
        # What cannot be read or fails is missing, not wrong.
        (["mumble", "Correct"], "small"),
        ([TimeoutError("slow"), "Correct"], "small"),
        ([{"rationale": "no", "verdict": "Incorrect"}], "large"),
    ],
)
def test_scripted_verdicts_decide_a_cascade(verdicts, chosen):
    small = ScriptedChatModel("draft", "second draft", verdicts=verdicts)
    router = cascade(small, ScriptedChatModel("final"))
    assert route_of(router.invoke("hi"))["candidate"] == chosen
    # Verdicts take nothing from the script.
    assert small.invoke("hi").content == "second draft"
    # One that cannot be read is asked for once more.
    n_again = verdicts.count("mumble")
    assert [len(call.kwargs.get("response_format", ())) > 0 for call in small.calls] == [
        *(False, True, True),
        *[True] * n_again,
        False,
    ]


def test_a_model_with_verdicts_alone_can_judge_and_says_so_when_asked_to_answer():
    judge = ScriptedChatModel(verdicts=["Correct"])
    with pytest.raises(ValueError, match="has only `verdicts`"):
        judge.invoke("hi")


def test_verdicts_are_not_given_for_other_schemas():
    lima = City(name="Lima", people=10)
    model = ScriptedChatModel(lima, verdicts=["Correct"])
    assert model.with_structured_output(City).invoke("hi") == lima


def test_an_unknown_argument_is_refused_by_name():
    with pytest.raises(TypeError, match=r"no argument `verdict`.*verdicts"):
        ScriptedChatModel("ok", verdict=["Correct"])


@pytest.mark.parametrize("entry", [3, None, HumanMessage("hi"), int])
def test_an_entry_of_another_kind_is_refused(entry):
    with pytest.raises(TypeError, match="An answer must be"):
        ScriptedChatModel(entry)


def test_an_empty_script_and_two_scripts_are_refused():
    with pytest.raises(ValueError, match="at least one answer"):
        ScriptedChatModel()
    with pytest.raises(TypeError, match="not both"):
        ScriptedChatModel("a", script=["b"])


def test_a_pickled_model_goes_on_where_it_was():
    model = ScriptedChatModel("one", "two", ValueError("three"))
    model.invoke("hi")
    again = pickle.loads(pickle.dumps(model))
    assert again.invoke("hi").content == model.invoke("hi").content == "two"
    with pytest.raises(ValueError, match="three"):
        again.invoke("hi")


def test_a_copy_with_other_settings_shares_script_and_calls():
    model = ScriptedChatModel("one", "two")
    assert model.model_copy(update={"temperature": 1.0}).invoke("hi").content == "one"
    assert model.invoke("hi").content == "two"
    assert [call.kwargs for call in model.calls] == [{"temperature": 1.0}, {}]


def test_a_stream_breaks_off_after_the_texts_before_a_failure():
    model = ScriptedChatModel(["It is ", "Li", TimeoutError("cut")], "Lima.")
    stream = model.stream("?")
    assert [next(stream).text, next(stream).text] == ["It is ", "Li"]
    with pytest.raises(TimeoutError, match="cut"):
        next(stream)
    assert model.invoke("?").text == "Lima."
    with pytest.raises(TimeoutError):
        ScriptedChatModel(["It is ", TimeoutError]).invoke("?")


def test_answers_given_as_one_list_are_told_to_be_separate_arguments():
    with pytest.raises(TypeError, match="separate arguments"):
        ScriptedChatModel(["a", "b"])


def test_an_object_is_a_call_of_the_bound_tool_with_its_name():
    model = ScriptedChatModel(City(name="Lima", people=10))
    (call,) = model.bind_tools([City]).invoke("?").tool_calls
    assert (call["name"], call["args"]) == ("City", {"name": "Lima", "people": 10})
    assert model.invoke("?").text == '{"name":"Lima","people":10}'


def test_a_scripted_tool_call_is_structured_output_too():
    call = {"name": "City", "args": {"name": "Lima", "people": 10}, "id": "1", "type": "tool_call"}
    model = ScriptedChatModel(AIMessage("", tool_calls=[call]))
    asked = model.with_structured_output(City, method="function_calling", include_raw=True)
    assert asked.invoke("?")["parsed"] == City(name="Lima", people=10)


def test_an_agent_gets_its_structured_response():
    create_agent = pytest.importorskip("langchain.agents").create_agent
    agent = create_agent(ScriptedChatModel(City(name="Lima", people=10)), response_format=City)
    result = agent.invoke({"messages": [HumanMessage("?")]})
    assert result["structured_response"] == City(name="Lima", people=10)


def test_a_verdict_is_read_in_any_case():
    judged = ScriptedChatModel("x", verdicts=["correct"])
    schema = {"title": "V", "type": "object", "properties": {"verdict": {"type": "string"}}}
    assert judged.with_structured_output(schema).invoke("?")["verdict"] == "Correct"


def test_a_repeated_exception_has_the_traceback_of_one_call():
    model = ScriptedChatModel(ValueError("again"))
    depths = []
    for _ in range(3):
        with pytest.raises(ValueError, match="again") as told:
            model.invoke("?")
        depths.append(len(told.traceback))
    assert len(set(depths)) == 1


def test_recorded_models_are_here_too():
    assert SameRecordedChatModel is RecordedChatModel
