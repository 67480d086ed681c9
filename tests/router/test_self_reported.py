"""A confidence in the same call: asked of drafts, read, and never in what the user reads."""

import json
from typing import TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel, Field, RootModel, model_validator

from langchain_llm_router import Candidate, ChatLLMRouter, Price, create_cascade, route_of
from langchain_llm_router.budgets.prompt_bounds import bound_keywords
from langchain_llm_router.budgets.token_bounds import bounded_in_units
from langchain_llm_router.calls.report_schemas import ReportSchema, extend_schema
from langchain_llm_router.calls.reports import with_instruction
from langchain_llm_router.history.decision_log import DecisionLog
from langchain_llm_router.policies import Always, ConfidenceThreshold, Policy
from langchain_llm_router.router.middleware import LLMRouterMiddleware
from langchain_llm_router.testing import ScriptedChatModel
from langchain_llm_router.types import Arm, Decision
from langchain_llm_router.verification import ByCandidate, SelfReported
from langchain_llm_router.verification.confidence_reader import split_report
from tests.support.fakes import CapableModel, ScriptedModel

ASKED = SelfReported().report_of("small").instruction
LONG = "Paris is the capital of France, and has been for most of its history. " * 8


def cascade(draft="Paris.\n\nConfidence: 90%", small=None, **kwargs) -> ChatLLMRouter:
    small = small or ScriptedModel(draft)
    large = kwargs.pop("large", None) or ScriptedModel("It is certainly Paris.")
    pool = [Candidate("small", small, Price(1, 2)), Candidate("large", large, Price(9, 9))]
    return ChatLLMRouter(
        candidates=pool,
        policy=kwargs.pop("policy", ConfidenceThreshold(threshold=0.6)),
        verifier=kwargs.pop("verifier", SelfReported()),
        **kwargs,
    )


def model(router, name="small"):
    return router.parts.models[name]


def text(chunks) -> str:
    return "".join(str(chunk.text) for chunk in chunks)


def first_attempt(message):
    return route_of(message)["attempts"][0]


# Text


def test_a_sure_draft_is_accepted_without_its_last_line():
    answer = cascade().invoke("Which city?")
    assert answer.text == "Paris."
    attempt = first_attempt(answer)
    assert attempt["confidence"] == 0.9
    assert attempt["verification_cost_usd"] == 0
    assert attempt["verification_tokens"] == 0


async def test_an_unsure_draft_is_escalated_and_the_last_candidate_is_not_asked():
    router = cascade("Rome.\nConfidence: 20%")
    answer = await router.ainvoke("Which city?")
    assert answer.text == "It is certainly Paris."
    assert [len(seen) for seen in model(router).seen] == [1]
    assert "Confidence: N%" in model(router).seen[0][0].text
    assert model(router, "large").seen[0][0].text == "Which city?"


def test_the_instruction_ends_the_last_human_message_so_that_the_prefix_stays_cached():
    router = cascade()
    blocks = [{"type": "text", "text": "Which city?", "cache_control": {"type": "ephemeral"}}]
    first = [
        SystemMessage("Be brief."),
        HumanMessage("Hi"),
        AIMessage("Hello"),
        HumanMessage(blocks),
    ]
    router.invoke(first)
    asked = model(router).seen[0]
    assert asked[:3] == first[:3]
    assert asked[3].content[0]["text"] == "Which city?"
    assert asked[3].content[-1]["text"] == ASKED
    assert first[3].content == blocks


def test_a_missing_line_is_no_verdict_and_leaves_the_text():
    answer = cascade("Paris, my confidence is yours.").invoke("Which city?")
    attempt = first_attempt(answer)
    assert attempt["confidence"] is None
    assert "left out" in attempt["verification_errors"][0]
    assert attempt["error"] is None


def test_an_answer_that_is_nothing_but_a_confidence_is_empty():
    answer = cascade("Confidence: 99%").invoke("Which city?")
    assert first_attempt(answer)["flaw"] == "empty answer"
    assert answer.text == "It is certainly Paris."


def test_the_last_text_block_is_read_and_the_others_stay():
    thought = {"type": "reasoning", "reasoning": "Confidence: 10%"}
    said = {"type": "text", "text": "Paris.\nConfidence: 90%"}
    answer = cascade(AIMessage([thought, said])).invoke("Which city?")
    assert answer.content == [thought, {"type": "text", "text": "Paris."}]
    assert first_attempt(answer)["confidence"] == 0.9


def test_what_was_cut_off_has_no_log_probabilities_left():
    tokens = [{"token": t, "logprob": -0.1} for t in ("Paris", ".", "\n", "Conf", "idence: 90%")]
    said = "Paris.\nConfidence: 90%"
    draft = AIMessage(said, response_metadata={"logprobs": {"content": tokens}})
    answer = cascade(draft).invoke("Which city?")
    assert answer.response_metadata["logprobs"]["content"] == tokens[:2]


@pytest.mark.parametrize(
    "given", [{"response_format": {"type": "json_object"}}, {"format": "json"}]
)
def test_a_call_with_a_format_of_its_own_is_not_disturbed(given):
    router = cascade('{"city": "Paris"}')
    answer = router.bind(**given).invoke("Which city?")
    assert model(router).seen[0][0].text == "Which city?"
    (why,) = first_attempt(answer)["verification_errors"]
    assert next(iter(given)) in why


def test_each_candidate_may_have_a_verifier_of_its_own():
    router = cascade(verifier=ByCandidate({"small": SelfReported(("Paris", "Rome"))}))
    model(router).script[0] = "Paris\nConfidence: Paris=90, Rome=10"
    answer = router.invoke("Paris or Rome?")
    assert answer.text == "Paris"
    assert first_attempt(answer)["confidence"] == pytest.approx(0.8)


# Streams


class Sure(ConfidenceThreshold):
    """Believes in every draft before it has begun, so that it is streamed."""

    def p_good(self, situation, attempt):
        verified = attempt.get("verified", False)
        return super().p_good(situation, attempt) if verified else 1.0


def heard(handler_events):
    return "".join(str(e["data"]["chunk"].text) for e in handler_events if "stream" in e["event"])


@pytest.mark.parametrize("mode", ["buffer", "commit", "events"])
@pytest.mark.parametrize("body", ["Paris.", LONG.strip()])
@pytest.mark.parametrize("line", ["\n\nConfidence: 90%", "\n**Confidence:** 90 %\n", ""])
async def test_no_stream_has_the_last_line(mode, body, line):
    def router():
        return cascade(body + line, policy=Sure(threshold=0.6), streaming_mode=mode)

    expected = router().invoke("Which city?").text
    if mode == "commit" and len(body) > 300:
        expected = body
    assert text(router().stream("Which city?")) == expected
    chunks = [chunk async for chunk in router().astream("Which city?")]
    assert text(chunks) == expected
    events = [e async for e in router().astream_events("Which city?", version="v2")]
    assert "onfidence" not in heard(events)
    typed = router().stream_events("Which city?", version="v3")
    assert "".join(typed.text) == expected


def test_a_long_draft_that_is_committed_arrives_in_pieces():
    router = cascade(LONG + "\nConfidence: 90%", policy=Sure(), streaming_mode="commit")
    chunks = list(router.stream("Which city?"))
    assert sum(1 for chunk in chunks if chunk.content) > 20
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.text.strip() == LONG.strip()
    assert first_attempt(whole)["committed"]


def test_a_short_draft_is_verified_before_any_of_it_is_shown():
    router = cascade("Rome.\nConfidence: 10%", policy=Sure(threshold=0.6), streaming_mode="commit")
    assert text(router.stream("Which city?")) == "It is certainly Paris."


class OneLetterModel(ScriptedModel):
    """Streams an answer letter by letter."""

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        for letter in self._next(messages).content:
            yield ChatGenerationChunk(message=AIMessageChunk(content=letter))
        last = AIMessageChunk(content="", chunk_position="last")
        yield ChatGenerationChunk(message=last)


def test_single_letters_show_no_beginning_of_the_line_either():
    small = OneLetterModel(LONG + "\n\nConfidence: 90%\n")
    router = cascade(small=small, policy=Sure(), streaming_mode="commit")
    seen = ""
    for chunk in router.stream("Which city?"):
        seen += chunk.text
        assert LONG.startswith(seen.rstrip())


@pytest.mark.parametrize("first", ["It is Paris.", LONG.strip()])
@pytest.mark.parametrize("end", ["", "\nConfidence: 90%", "\nConfidence: 90%\nConfidence: 90%"])
@pytest.mark.parametrize("model_class", [ScriptedModel, OneLetterModel])
def test_no_stream_has_a_confidence_at_the_beginning_or_within(model_class, end, first):
    said = f"Confidence: 90%\n\n{first}\n```\nConfidence: 80%\n```\nSo:\n{LONG}{end}"
    router = cascade(small=model_class(said), policy=Sure(), streaming_mode="commit")
    assert text(router.stream("Which city?")).strip() == f"{first}\nSo:\n{LONG.strip()}"


class TwoBlocksModel(ScriptedModel):
    """Streams an answer letter by letter: its first part is a content block, the rest another."""

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        said = self._next(messages).content
        for at, letter in enumerate(said):
            block = {"type": "text", "text": letter, "index": int(at >= said.index("\n\n"))}
            yield ChatGenerationChunk(message=AIMessageChunk(content=[block]))
        last = AIMessageChunk(content="", chunk_position="last")
        yield ChatGenerationChunk(message=last)


def test_no_block_of_a_stream_has_a_confidence_within():
    said = f"Sure.\nConfidence: 80%\nSo:\n\n{LONG}\nConfidence: 90%"
    router = cascade(small=TwoBlocksModel(said), policy=Sure(), streaming_mode="commit")
    assert text(router.stream("Which city?")).strip() == f"Sure.\nSo:\n\n{LONG.strip()}"


def test_a_stream_keeps_figures_and_code_that_have_a_confidence():
    said = f"Support: 30%\nConfidence: 85%\nLift: 2\n\n```\n{LONG}\nconfidence = 0.9\n{LONG}\n```\n"
    said += f"Confidence: 85% of it\n{LONG}"
    router = cascade(small=OneLetterModel(said), policy=Sure(), streaming_mode="commit")
    assert text(router.stream("Which city?")).strip() == said.strip()


@pytest.mark.parametrize("model_class", [ScriptedModel, OneLetterModel])
@pytest.mark.parametrize(
    "figures",
    ["Confidence: 85%\nLift: 2.1, because", "Sicherheit: hoch\nPreis: niedrig, denn",
     "```python\nprint(x)\nconfidence = 0.85\n```\n"],
)  # fmt: skip
def test_a_stream_keeps_what_the_lines_behind_show_to_be_figures(figures, model_class):
    said = f"{figures} {LONG}\n{LONG}".strip()
    assert split_report(said) is None
    router = cascade(small=model_class(said), policy=Sure(), streaming_mode="commit")
    assert text(router.stream("Which city?")).strip() == said


def test_a_draft_that_stands_in_for_a_failed_model_has_no_confidence():
    for line in (
        "Confidence: high",
        "```\nConfidence: 20%\n```",
        "Confidence: 20%\nConfidence: 20%",
    ):
        large = ScriptedModel(TimeoutError("down"))
        router = cascade(f"Rome.\n{line}", large=large)
        assert router.invoke("Which city?").text == "Rome."


@pytest.mark.parametrize("draft", ["Paris.\nConfidence: 90%", LONG + "\nConfidence: 90%"])
@pytest.mark.parametrize("mode", ["buffer", "commit"])
async def test_langgraph_s_message_stream_has_no_confidence(draft, mode):
    router = cascade(draft, policy=Sure(threshold=0.6), streaming_mode=mode)

    def ask(state):
        return {"messages": [AIMessage(text(router.stream(state["messages"])))]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", END)
    question = {"messages": [("human", "Which city?")]}
    shown = [part for part, _ in builder.compile().stream(question, stream_mode="messages")]
    assert "Paris" in text(shown)
    assert "onfidence" not in text(shown)


# The graph


@pytest.mark.parametrize("draft", ["Paris.\nConfidence: 90%", "Rome.\nConfidence: 5%"])
def test_no_state_of_the_graph_has_the_last_line(draft):
    graph = create_cascade(
        [Candidate("small", ScriptedModel(draft)), Candidate("large", ScriptedModel("Paris."))],
        policy=ConfidenceThreshold(threshold=0.6),
        verifier=SelfReported(),
    ).compile()
    question = {"messages": [("human", "Which city?")]}
    for mode in ("values", "updates", "messages", "debug"):
        for part in graph.stream(question, stream_mode=mode):
            assert "onfidence: " not in str(part)
    assert graph.invoke(question)["messages"][-1].text == "Paris."


# Tools


@tool
def look_up(city: str) -> str:
    """Look up a city."""
    return city


def test_tool_calls_are_not_touched():
    router = cascade(small=CapableModel())
    answer = router.bind_tools([look_up]).invoke("Look up 'Paris'")
    assert answer.tool_calls[0]["args"] == {"city": "Paris"}
    assert first_attempt(answer)["form"] == "tool_calls"
    assert route_of(answer)["candidate"] == "small"


@pytest.mark.parametrize(("percent", "by"), [(90, "small"), (10, "large")])
def test_a_confidence_beside_a_tool_call_is_its_verdict(percent, by):
    calls = [{"name": "look_up", "args": {"city": "Paris"}, "id": "1"}]
    draft = AIMessage(f"I look it up.\nConfidence: {percent}%", tool_calls=calls)
    answer = cascade(draft).invoke("Look up 'Paris'")
    assert route_of(answer)["candidate"] == by
    if by == "small":
        assert answer.text == "I look it up."
        assert answer.tool_calls[0]["args"] == {"city": "Paris"}


# Structured output


class City(BaseModel):
    """A city."""

    name: str
    people: int = 0

    @model_validator(mode="after")
    def _once(self):
        self.people += 1
        return self


class CityDict(TypedDict):
    """A city."""

    name: str


CITY_JSON = {
    "title": "city",
    "description": "A city.",
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}


class ToolModel(ScriptedModel):
    """A scripted model that takes tools."""

    def bind_tools(self, tools, **kwargs):
        return self


SCHEMAS = [City, CityDict, CITY_JSON]


class SchemaModel(CapableModel):
    """Fills a schema in, with the confidence that it is told."""

    says: int | None = 90
    schemas: list = Field(default_factory=list)

    def _tool_calls(self, messages, tools, choice):
        calls = super()._tool_calls(messages, tools, choice)
        for call, spec in zip(calls, tools, strict=False):
            self.schemas.append(spec["function"]["parameters"])
            known = spec["function"]["parameters"]["properties"]
            for name in [name for name in known if name.endswith("confidence")]:
                if self.says is None:
                    del call["args"][name]
                else:
                    call["args"][name] = self.says
        return calls


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize(("says", "by"), [(90, "small"), (20, "large"), (None, "large")])
def test_a_schema_gets_a_field_that_the_caller_never_sees(schema, says, by):
    small = SchemaModel(says=says)
    router = cascade(small=small, large=SchemaModel(model="large"))
    output = router.with_structured_output(schema, include_raw=True).invoke("The city 'Paris'")
    assert "confidence" in small.schemas[0]["required"]
    assert list(small.schemas[0]["properties"])[-1] == "confidence"
    assert (
        "confidence" not in model(router, "large").schemas[0]["properties"] if by == "large" else 1
    )
    assert route_of(output["raw"])["candidate"] == by
    parsed = output["parsed"]
    assert (parsed["name"] if isinstance(parsed, dict) else parsed.name) == "Paris"
    assert "onfidence" not in str(parsed)
    assert "onfidence" not in str(output["raw"].tool_calls)
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        assert type(parsed) is City
        assert parsed.people == 2
        assert parsed == City.model_construct(name="Paris", people=2)
        assert "confidence" not in parsed.model_dump()


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize(("says", "by"), [(90, "small"), (20, "large"), (None, "large")])
def test_where_no_schema_is_sent_the_prompt_asks_for_the_field(schema, says, by):
    fields = {"name": "Paris"} | ({} if says is None else {"confidence": says})
    small = ScriptedChatModel(json.dumps(fields))
    router = cascade(small=small, large=ScriptedChatModel('{"name": "Paris"}'))
    output = router.with_structured_output(schema, method="json_mode", include_raw=True).invoke(
        "The city 'Paris', as JSON"
    )
    asked = small.calls[0].messages[-1].text
    assert asked.startswith("The city 'Paris', as JSON\n\n(In the JSON object, add a field")
    assert route_of(output["raw"])["candidate"] == by
    parsed = output["parsed"]
    assert (parsed["name"] if isinstance(parsed, dict) else parsed.name) == "Paris"
    assert "onfidence" not in str(parsed) + output["raw"].text


def test_the_verdict_on_structured_output_is_in_the_record():
    router = cascade(small=SchemaModel(says=75))
    output = router.with_structured_output(City, include_raw=True).invoke("The city 'Paris'")
    attempt = first_attempt(output["raw"])
    assert (attempt["form"], attempt["confidence"]) == ("structured", 0.75)


def test_a_schema_s_own_confidence_stays_the_caller_s():
    class Guess(BaseModel):
        """A guess."""

        city: str
        confidence: int

    small = SchemaModel(says=80)
    guess = cascade(small=small).with_structured_output(Guess).invoke("The city 'Paris' 7")
    assert guess == Guess(city="Paris", confidence=80)
    assert "answer_confidence" in small.schemas[0]["properties"]


class Cities(RootModel[list[str]]):
    """Cities."""


@pytest.mark.parametrize(
    "schema",
    [{**CITY_JSON, "maxProperties": 1}, {"title": "t", "description": "d", "type": "object",
     "properties": {}, "anyOf": [CITY_JSON]}],
)  # fmt: skip
def test_a_schema_without_a_place_for_it_is_left_alone_and_the_record_says_so(schema):
    small = SchemaModel()
    output = cascade(small=small).with_structured_output(schema, include_raw=True).invoke("'Paris'")
    attempt = first_attempt(output["raw"])
    assert attempt["confidence"] is None
    assert "No field for a confidence can be added" in attempt["verification_errors"][0]
    assert "confidence" not in small.schemas[0]["properties"]
    assert route_of(output["raw"])["candidate"] == "small"


def test_scores_of_options_have_a_field_too():
    class OptionsModel(SchemaModel):
        def _tool_calls(self, messages, tools, choice):
            calls = super()._tool_calls(messages, tools, choice)
            calls[0]["args"]["confidence"] = {"Paris": 90, "Rome": 20}
            return calls

    router = cascade(small=OptionsModel(), verifier=SelfReported(("Paris", "Rome")))
    output = router.with_structured_output(City, include_raw=True).invoke("The city 'Paris'")
    assert first_attempt(output["raw"])["confidence"] == pytest.approx(0.7)


# Policies that take other steps


class AskTwice(Policy):
    """Drafts with small and large, then accepts small."""

    verifies = True

    def decide(self, situation):
        asked = [attempt["candidate"] for attempt in situation.attempts]
        for name in ("small", "large"):
            if name not in asked:
                return Decision("ask", name, "twice", "both")
        return Decision("accept", "small", "twice", "it is the first")


def test_a_draft_that_is_accepted_unverified_has_no_last_line_either():
    router = cascade(policy=AskTwice())
    assert router.invoke("Which city?").text == "Paris."
    assert "Confidence" not in str(model(router, "large").seen[0][1:])


def test_a_policy_that_verifies_nothing_changes_no_prompt():
    router = cascade("Paris.", policy=Always("small"))
    assert router.invoke("Which city?").text == "Paris."
    assert model(router).seen[0][0].text == "Which city?"


def test_the_log_has_the_confidence_as_a_number_only(tmp_path):
    path = tmp_path / "log.jsonl"
    log = DecisionLog(path)
    cascade(log=log).invoke("Which city?")
    log.flush()
    (line,) = [json.loads(line) for line in path.read_text().splitlines()]
    assert line["attempts"][0]["confidence"] == 0.9
    assert "Confidence: " not in json.dumps(line)


# Agents


def agent(router, **kwargs):
    never = ScriptedModel(AssertionError("the agent's own model was asked"))
    return create_agent(never, [look_up], middleware=[LLMRouterMiddleware(router)], **kwargs)


async def test_an_agent_s_messages_have_no_confidence():
    small = CapableModel(reply="It is Paris.\nConfidence: 90%")
    question = {"messages": [("human", "Look up 'Paris'")]}
    router = cascade(small=small)
    for state in (agent(router).invoke(question), await agent(router).ainvoke(question)):
        *_, asked, found, answer = state["messages"]
        assert (asked.tool_calls[0]["name"], found.text) == ("look_up", "Paris")
        assert answer.text == "It is Paris."
        assert first_attempt(answer)["confidence"] == 0.9
    assert small.calls[0][0][0].text.endswith(ASKED)
    for mode in ("messages", "values", "updates"):
        shown = [str(part) for part in agent(router).stream(question, stream_mode=mode)]
        assert "onfidence: " not in "".join(shown)


@pytest.mark.parametrize(("percent", "by"), [(90, "small"), (10, "large")])
def test_an_agent_s_structured_answer_has_its_confidence_beside_the_call(percent, by):
    calls = [{"name": "City", "args": {"name": "Paris"}, "id": "1"}]
    small = ToolModel(AIMessage(f"Confidence: {percent}%", tool_calls=calls))
    large = ToolModel(AIMessage("", tool_calls=calls))
    asking = agent(cascade(small=small, large=large), response_format=ToolStrategy(City))
    state = asking.invoke({"messages": [("human", "The city 'Paris'")]})
    assert small.seen[0][-1].text.endswith(ASKED)
    assert state["structured_response"].name == "Paris"
    (answer,) = [m for m in state["messages"] if isinstance(m, AIMessage)]
    assert (route_of(answer)["candidate"], answer.text) == (by, "")
    assert first_attempt(answer)["confidence"] == pytest.approx(percent / 100)


def test_an_agent_s_answer_in_a_format_of_the_provider_s_is_asked_for_as_it_is():
    small = ToolModel('{"name": "Paris"}')
    router = cascade(small=small, large=ToolModel('{"name": "Rome"}'))
    asking = agent(router, response_format=ProviderStrategy(City))
    record = None
    for part in asking.stream({"messages": [("human", "The city 'Paris'")]}):
        for update in part.values():
            record = record or route_of(update["messages"][-1])
    assert "Confidence" not in str(small.seen[0])
    (said,) = record["attempts"][0]["verification_errors"]
    assert "ToolStrategy" in said


# Money


@pytest.mark.parametrize("kwargs", [{}, {"options": ("Paris", "Rome")}])
def test_the_longer_prompt_is_in_the_worst_case(kwargs):
    small = Candidate("small", ScriptedModel("x"), Price(1, 2), max_output_tokens=10)
    verifier = SelfReported(**kwargs)

    def worst(verifier=None, in_tokens=False):
        question = [HumanMessage("Which city?")]
        (arm,) = bounded_in_units(
            [Arm("small")], {"small": small}, question, {}, in_tokens=in_tokens, verifier=verifier
        )
        return arm

    asked = with_instruction([HumanMessage("Which city?")], verifier.report_of("small").instruction)
    added = len(asked[0].text.encode()) - len("Which city?")
    assert worst(verifier).worst_call_usd >= worst().worst_call_usd + added * 1e-6
    assert worst(verifier).worst_verification_usd == 0
    more = worst(verifier, in_tokens=True).worst_call_tokens
    assert more >= worst(in_tokens=True).worst_call_tokens + added
    assert worst(ByCandidate({"large": verifier})).worst_call_usd == worst().worst_call_usd


def test_the_worst_case_covers_the_longer_schema():
    report = SelfReported().report_of("small")
    extended = extend_schema(City, report)
    assert isinstance(extended, ReportSchema)
    longer = bound_keywords({"schema": extended.schema}) - bound_keywords({"schema": City})
    assert 0 < longer <= report.most_tokens
