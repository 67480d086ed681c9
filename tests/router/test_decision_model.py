"""A trained router drives LangChain's own model router, where langchain-core has one."""

import warnings
from importlib.util import find_spec

import pytest
from langchain_core.messages import HumanMessage

from langchain_llm_router import Candidate, ChatLLMRouter, Price, route_of
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.policies import RandomMix, Threshold
from langchain_llm_router.types.errors import MissingExtraError
from tests.support.fakes import CapableModel, make_outcomes

HAS_DECISIONS = find_spec("langchain_core.decisions") is not None

needs_decisions = pytest.mark.skipif(not HAS_DECISIONS, reason="langchain-core is older than 1.8")


def router(policy=None) -> ChatLLMRouter:
    estimator = NearestNeighbors(n_neighbors=20).fit(make_outcomes(candidates=("small", "large")))
    candidates = [
        Candidate("small", CapableModel(model="tiny-one"), Price(1, 2)),
        Candidate("large", CapableModel(model="tiny-two"), Price(10, 20)),
    ]
    return ChatLLMRouter(
        candidates=candidates, estimator=estimator, policy=policy or Threshold(0.7)
    )


@needs_decisions
def test_wrong_arguments_are_refused_by_name():
    from langchain_llm_router.router.decision_model import RouterDecisionModel

    with pytest.raises(TypeError, match=r"no argument `ruoter`\. Did you mean `router`"):
        RouterDecisionModel(ruoter=router())
    with pytest.raises(TypeError, match="`router` must be a ChatLLMRouter, got 3"):
        RouterDecisionModel(router=3)


@pytest.mark.skipif(HAS_DECISIONS, reason="langchain-core has decision models")
def test_an_old_core_is_told_what_to_install():
    with pytest.raises(MissingExtraError, match=r"langchain-core 1\.\d+\.\d+ has no decision"):
        router().as_decision_model()


@needs_decisions
@pytest.mark.parametrize(
    "state",
    [
        "prove hard theorem 5",
        HumanMessage("prove hard theorem 5"),
        [HumanMessage("prove hard theorem 5")],
        {"messages": [HumanMessage("prove hard theorem 5")]},
    ],
)
async def test_a_choice_between_candidates_is_the_policys(state):
    from langchain_core.decisions import Choice

    question = Choice(criteria={"small": "easy", "large": "hard"}, instructions="Which?")
    request = {"state": state, "questions": {"route": question}}
    model = router().as_decision_model()
    for response in (model.invoke(request), await model.ainvoke(request)):
        answer = response.choices["route"]
        assert answer.choice == "large"
        assert answer.probabilities == {"small": 0.0, "large": 1.0}
        assert answer.confidence > 0.5


@needs_decisions
def test_a_mixed_policy_gives_its_probabilities_and_other_questions_are_refused():
    from langchain_core.decisions import Choice, Noul

    question = Choice(criteria={"small": None, "large": None}, instructions="Which?")
    model = router(RandomMix({"small": 0.25, "large": 0.75})).as_decision_model()
    answer = model.invoke({"state": "x", "questions": {"q": question}}).choices["q"]
    assert answer.probabilities[answer.choice] == answer.confidence
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    with pytest.raises(TypeError, match="only answer `Choice`"):
        model.invoke({"state": "x", "questions": {"q": Noul(instructions="Is it?")}})


@needs_decisions
def test_langchains_own_model_router_follows_the_trained_policy():
    from langchain.agents import create_agent
    from langchain.agents.middleware import ModelChoice, ModelRouterMiddleware

    ours = router()
    choices = {c.name: ModelChoice(model=c.model, criteria=c.name) for c in ours.candidates}
    with warnings.catch_warnings():
        # LangChain says once per process that it is in beta, which another test may have heard.
        warnings.simplefilter("ignore")
        middleware = ModelRouterMiddleware(
            choices=choices, instructions="Choose.", classifier=ours.as_decision_model()
        )
    agent = create_agent(CapableModel(model="tiny-three"), [], middleware=[middleware])
    for text, model in (("add easy numbers 5", "tiny-one"), ("prove hard theorem 5", "tiny-two")):
        answer = agent.invoke({"messages": [("human", text)]})["messages"][-1]
        assert answer.response_metadata["model_name"] == model
        assert route_of(answer) is None
