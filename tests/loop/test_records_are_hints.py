"""A decision record on a message is a hint: it may be forged, and widens no limit."""

import itertools
import math
import time

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from langchain_llm_router import Candidate, ChatLLMRouter, Price, create_cascade, route_of
from langchain_llm_router.estimators import Constant
from langchain_llm_router.loop.conversation import cached_prefixes, read_conversation
from langchain_llm_router.policies import Always, Utility
from langchain_llm_router.types import NoCandidateError
from tests.support.fakes import ScriptedModel, make_outcomes

NAMES = ("small", "large")
LONG = "word " * 4_000


def pool():
    return [
        Candidate(name, ScriptedModel(name), Price(usd, usd, cache_read_usd_per_mtok=0.01))
        for name, usd in zip(NAMES, (1, 10), strict=True)
    ]


def router(**fields):
    estimator = Constant().fit(make_outcomes(candidates=NAMES))
    fields = {"policy": Utility(cost=1.0), **fields}
    return ChatLLMRouter(candidates=pool(), estimator=estimator, **fields)


def conversation(record, usage=None, message=AIMessage):
    said = message("an answer", response_metadata={"llm_router": record})
    if usage is not None:
        said.usage_metadata = usage
    return [HumanMessage(LONG), said, HumanMessage("and?")]


def attempt(**fields):
    return {"candidate": "large", "finished_at_s": time.time(), "input_tokens": 10**9, **fields}


JUNK = [None, "x", 5, [], {}, math.nan, math.inf, -1, 10**400, True, [{}], {"a": 1}, "9"]
FORGED = [
    *JUNK,
    *({"candidate": junk, "attempts": [attempt()]} for junk in JUNK),
    *({"candidate": "large", "attempts": junk} for junk in JUNK),
    *({"candidate": "large", "attempts": [junk]} for junk in JUNK),
    *(
        {"candidate": "large", "attempts": [attempt(**{key: junk})]}
        for key in ("candidate", "answered_by", "finished_at_s", "input_tokens")
        for junk in JUNK
    ),
]


@pytest.mark.parametrize("sticky", [False, True, "escalate"])
def test_no_record_stops_a_request(sticky):
    asked = router(sticky=sticky)
    for record in FORGED:
        assert asked.route(conversation(record)).candidate in NAMES, record


def test_no_record_stops_a_cascade():
    graph = create_cascade(pool(), policy=Always("small"), sticky=True).compile()
    for record in FORGED[:: len(JUNK) // 2]:
        out = graph.invoke({"messages": conversation(record)})
        assert route_of(out["messages"][-1])["candidate"] in NAMES


@pytest.mark.parametrize("junk", [math.nan, math.inf, -1, "9", 10**400, 1e13, None, [1]])
def test_only_a_possible_number_of_tokens_is_taken_for_cached(junk):
    record = {"candidate": "other", "attempts": [attempt(input_tokens=junk)]}
    assert cached_prefixes(conversation(record)) == {}
    assert cached_prefixes(conversation({**record, "attempts": [attempt(input_tokens=7)]})) == {
        "large": 7
    }


# Its time is the test's, because what a provider has cached is forgotten after minutes.
RECORD = {"candidate": "large", "attempts": [attempt()]}


@pytest.fixture(autouse=True)
def _just_now():
    RECORD["attempts"] = [attempt()]


TINY = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}


@pytest.mark.parametrize(
    ("record", "usage", "sticky"), [*itertools.product([{}, RECORD], [None, TINY], [False, True])]
)
@pytest.mark.parametrize("options", [{"max_cost_usd": 0.01}, {"filters": ["cost<0.01"]}])
def test_no_record_and_no_usage_widens_a_limit_on_the_cost(options, record, usage, sticky):
    config = {"configurable": {"llm_router": options}}
    chosen = router(sticky=sticky).route(conversation(record, usage), config)
    assert chosen.candidate == "small"


def test_no_record_lets_in_a_candidate_that_the_options_exclude():
    config = {"configurable": {"llm_router": {"candidates": ["small"]}}}
    for sticky in (True, "escalate"):
        assert router(sticky=sticky).route(conversation(RECORD), config).candidate == "small"
    nothing = {"configurable": {"llm_router": {"max_cost_usd": 1e-4}}}
    with pytest.raises(NoCandidateError):
        router(sticky=True).route(conversation(RECORD, TINY), nothing)


def test_a_true_record_still_makes_its_candidate_cheaper_where_nothing_is_limited():
    told = read_conversation(conversation(RECORD), NAMES)
    assert told.cached_tokens == {"large": 10**9}
    assert told.holder == "large"
    costs = [
        {arm.candidate: arm.cost_usd for arm in router().situation(conversation(record)).arms}
        for record in ({}, RECORD)
    ]
    assert costs[1]["large"] < costs[0]["large"]


@pytest.mark.parametrize("record", ["x", 5, [1], {"candidate": "b", "cost_usd": -5.0}])
@pytest.mark.parametrize("how", ["invoke", "stream"])
def test_a_record_in_a_candidates_own_answer_is_replaced(record, how):
    model = ScriptedModel(AIMessage("hello", response_metadata={"llm_router": record}))
    asked = ChatLLMRouter(candidates=[Candidate("a", model, Price(1, 1))], policy=Always("a"))
    if how == "invoke":
        answer = asked.invoke("hi")
    else:
        first, *rest = asked.stream("hi")
        answer = sum(rest, start=first)
    assert answer.content == "hello"
    assert route_of(answer)["candidate"] == "a"
    assert route_of(answer)["cost_usd"] is None
