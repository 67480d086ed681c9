"""Structured output in a pool of answers: equal objects agree, however a provider writes them."""

import asyncio
import json

import pytest
from langchain_core.messages import AIMessage
from pydantic import BaseModel

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator, route_of
from langchain_llm_router.history import DecisionLog, read_log, replay_log
from langchain_llm_router.policies import ConfidenceThreshold
from langchain_llm_router.testing import ScriptedChatModel

PRICES = {"small": Price(0.1, 0.4), "medium": Price(0.15, 0.6), "large": Price(2.5, 10)}


class City(BaseModel):
    """A city."""

    name: str
    people: float
    tags: list[str] = []


QUITO = City(name="Quito", people=2_000_000)
GUAYAQUIL = City(name="Guayaquil", people=2_000_000)


def called(**args) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": "City", "args": args, "id": "1"}])


def pool(*answers) -> list[Candidate]:
    return [
        Candidate(name, ScriptedChatModel(answer), price)
        for (name, price), answer in zip(PRICES.items(), answers, strict=True)
    ]


def structured(*answers, schema=City, **arguments):
    router = ChatLLMRouter(candidates=pool(*answers), **arguments)
    return router.with_structured_output(schema, include_raw=True)


def groups_of(output) -> dict[str, int | None]:
    attempts = route_of(output["raw"])["attempts"]
    return {attempt["candidate"]: attempt.get("answer_group") for attempt in attempts}


@pytest.mark.parametrize(
    "twin",
    [
        QUITO,
        '{"people": 2e6, "name": "Quito"}',
        ' {\n"tags": [], "name": " Quito\\n", "people": 2000000} ',
        called(people=2_000_000, name="Quito"),
    ],
    ids=["the same", "another order", "spaces", "a call"],
)
@pytest.mark.parametrize("turned", [False, True])
def test_cheap_candidates_that_give_equal_objects_answer_and_the_dearest_is_not_asked(twin, turned):
    answers = (twin, QUITO) if turned else (QUITO, twin)
    output = structured(*answers, GUAYAQUIL).invoke("q")
    assert groups_of(output) == {"small": 0, "medium": 0}
    assert output["parsed"].name.strip() == "Quito"
    assert "2 of 2 answers agree" in route_of(output["raw"])["steps"][-1]["reason"]


@pytest.mark.parametrize(
    "other",
    [
        GUAYAQUIL,
        {"name": "Quito", "people": 2_000_001},
        {"name": "quito", "people": 2_000_000},
        {"name": "Quito", "people": 2_000_000, "tags": ["Andes"]},
    ],
)
def test_the_dearest_is_asked_where_a_field_differs(other):
    output = structured(QUITO, other, GUAYAQUIL).invoke("q")
    groups = groups_of(output)
    assert (groups["small"], groups["medium"]) == (0, 1)
    assert output["parsed"] == GUAYAQUIL


def test_objects_without_a_class_of_their_own_are_compared_too():
    schema = {"title": "city", "type": "object", "properties": {"name": {"type": "string"}}}
    answers = ('{"name": "Quito", "capital": true}', '{"capital": true, "name": "Quito "}', "{}")
    output = structured(*answers, schema=schema).invoke("q")
    assert groups_of(output) == {"small": 0, "medium": 0}
    assert output["parsed"] == {"name": "Quito", "capital": True}


def test_an_object_with_free_text_comes_from_the_dearest_after_one_draft():
    told = [
        {"name": f"{who} says: " + "a long story of a city. " * 20, "people": 1} for who in "abc"
    ]
    output = structured(*told).invoke("q")
    assert groups_of(output) == {"small": None, "large": None}
    assert output["parsed"].name.startswith("c says")


def test_an_object_that_does_not_fit_the_schema_agrees_with_nothing():
    output = structured('{"name": "Quito"}', QUITO, QUITO).invoke("q")
    attempts = route_of(output["raw"])["attempts"]
    assert attempts[0]["error"].startswith("failed parse")
    assert attempts[0].get("answer_group") is None
    assert output["parsed"] == QUITO


def test_thoughts_and_confidence_in_the_schema_are_no_part_of_the_answer():
    class Label(BaseModel):
        reasoning: str
        label: str
        confidence: float

    told = [
        {"reasoning": f"{who} thinks so. " * 30, "label": "spam", "confidence": i / 10}
        for i, who in enumerate("abc")
    ]
    assert groups_of(structured(*told, schema=Label).invoke("q")) == {"small": 0, "medium": 0}


def test_without_the_raw_message_streamed_and_async_the_caller_gets_the_same_object():
    router = ChatLLMRouter(candidates=pool(QUITO, QUITO, GUAYAQUIL))
    plain = router.with_structured_output(City)
    assert plain.invoke("q") == QUITO
    assert asyncio.run(plain.ainvoke("q")) == QUITO
    assert list(plain.stream("q"))[-1] == QUITO


def test_a_log_of_pooled_objects_replays_bit_for_bit(tmp_path):
    log = DecisionLog(tmp_path / "log.jsonl")
    router = ChatLLMRouter(candidates=pool(QUITO, QUITO, GUAYAQUIL), log=log)
    router.with_structured_output(City).invoke("q")
    router.with_structured_output(City).invoke("another one")
    log.flush()
    assert replay_log(read_log(log.path), router.policy).n_identical == 2
    first = json.loads(log.path.read_text(encoding="utf-8").splitlines()[0])
    assert [attempt["comparable"] for attempt in first["attempts"]] == [True, True]


def test_a_verifier_that_scores_texts_takes_a_valid_object_as_before():
    judged = structured(
        QUITO, GUAYAQUIL, GUAYAQUIL,
        policy=ConfidenceThreshold(threshold=0.5), verifier=SelfEvaluator(n_samples=2),
    )  # fmt: skip
    output = judged.invoke("q")
    assert output["parsed"] == QUITO
    assert "comparable" not in route_of(output["raw"])["attempts"][0]


def test_what_has_no_json_is_compared_by_what_the_model_wrote():
    deep = '{"a": ' * 300 + "1" + "}" * 300
    schema = {"title": "deep", "type": "object", "properties": {}}
    output = structured(deep, deep, '{"a": 2}', schema=schema).invoke("q")
    assert groups_of(output) == {"small": None, "large": None}
    assert output["parsed"] == {"a": 2}
