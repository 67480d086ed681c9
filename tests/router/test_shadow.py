"""A shadow decides beside the router and asks no model."""

import pytest

from langchain_llm_router import (
    ChatLLMRouter,
    SelfEvaluator,
    create_cascade,
    route_of,
)
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.policies import (
    Always,
    ConfidenceThreshold,
    Utility,
)
from langchain_llm_router.router import Shadow
from langchain_llm_router.router.saved_router import SavedRouter
from tests.support.fakes import (
    JudgeModel,
    ScriptedModel,
    make_outcomes,
)
from tests.support.logged_routers import ESTIMATOR, NAMES, cascade, pool, read


async def test_a_shadow_decides_beside_the_router_and_makes_no_call(log):
    large = ScriptedModel("large says")
    other = NearestNeighbors(n_neighbors=3).fit(
        make_outcomes(candidates=("large", "small"), seed=1)
    )
    router = ChatLLMRouter(
        candidates=pool(large=large),
        policy=Always("small"),
        log=log,
        shadow=Shadow(Always("large"), other, name="bold"),
    )
    answers = [router.invoke("q"), await router.ainvoke("q"), list(router.stream("q"))[-1]]
    for answer in answers:
        record = route_of(answer)
        assert record["candidate"] == "small"
        shadow = record["shadow"]
        assert (shadow["name"], shadow["candidate"], shadow["complete"]) == ("bold", "large", False)
        assert shadow["cost_usd"] > record["cost_usd"]
    assert large.seen == []
    assert [entry.shadow["candidate"] for entry in read(log).entries] == ["large"] * 3


@pytest.mark.parametrize("kind", ["live", "saved", "shadow"])
def test_a_second_router_itself_can_be_the_shadow(kind):
    live = ChatLLMRouter(candidates=pool(), policy=Always("large"))
    second = {
        "live": live,
        "saved": SavedRouter(NAMES, Always("large")),
        "shadow": Shadow(Always("large")),
    }[kind]
    for router in (
        ChatLLMRouter(candidates=pool(), policy=Always("small"), shadow=second),
        ChatLLMRouter(candidates=pool(), policy=Always("small")).model_copy(
            update={"shadow": second}
        ),
    ):
        assert route_of(router.invoke("q"))["shadow"]["candidate"] == "large"


def test_anything_else_as_a_shadow_is_refused_in_one_line():
    with pytest.raises(
        TypeError, match="`shadow` must be a Shadow, a ChatLLMRouter, a SavedRouter or None, got"
    ) as caught:
        ChatLLMRouter(candidates=pool(), policy=Always("small"), shadow=pool())
    assert len(str(caught.value)) < 250


async def test_a_shadow_of_a_cascade_sees_what_the_router_saw(log):
    lax = Shadow(ConfidenceThreshold(threshold=0.0))
    router = cascade(log, ["no"], shadow=lax)
    shadow = route_of(router.invoke("q"))["shadow"]
    assert (shadow["candidate"], shadow["complete"]) == ("small", True)
    assert [step["action"] for step in shadow["steps"]] == ["ask", "verify", "accept"]
    graph = create_cascade(
        pool(JudgeModel("draft", verdicts=["no"])),
        policy=ConfidenceThreshold(threshold=0.7),
        verifier=SelfEvaluator(n_samples=1),
        shadow=Shadow(Utility(), ESTIMATOR),
        log=log,
    ).compile()
    state = await graph.ainvoke({"messages": [("human", "prove hard theorem 1")]})
    record = route_of(state["messages"][-1])
    assert record["shadow"]["complete"]
    assert record["shadow"]["scores"]["large"]["quality"] is not None
    assert read(log).entries[-1].shadow == record["shadow"]


def test_a_shadow_that_fails_does_not_affect_the_answer(log):
    class Broken(NearestNeighbors):
        def _predict(self, queries):
            raise RuntimeError("no")

    broken = Broken(n_neighbors=3).fit(make_outcomes(candidates=NAMES))
    router = ChatLLMRouter(
        candidates=pool(), policy=Always("small"), log=log, shadow=Shadow(Utility(), broken)
    )
    assert route_of(router.invoke("q"))["shadow"]["error"] == "RuntimeError: no"
    no_estimate = ChatLLMRouter(candidates=pool(), policy=Always("small"), shadow=Shadow(Utility()))
    assert "needs a predicted quality" in route_of(no_estimate.invoke("q"))["shadow"]["error"]


def test_a_shadow_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="huge"):
        ChatLLMRouter(candidates=pool(), policy=Always("small"), shadow=Shadow(Always("huge")))
    strange = NearestNeighbors().fit(make_outcomes(candidates=("a", "b")))
    with pytest.raises(ValueError, match="small"):
        ChatLLMRouter(candidates=pool(), policy=Always("small"), shadow=Shadow(Utility(), strange))
