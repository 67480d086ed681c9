"""A share of the answers is judged after they were given, and the scores are in the log."""

import threading
import time
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from pydantic import Field

from langchain_llm_router import Candidate, ChatLLMRouter, Price, create_cascade, route_of
from langchain_llm_router.budgets import Budget, Budgets
from langchain_llm_router.evaluation import logged_scores
from langchain_llm_router.history import DecisionLog, compared_rows, read_log, scored_rows
from langchain_llm_router.live import Live, PriceFeed
from langchain_llm_router.policies import AnswerPool
from tests.support.fakes import JudgeModel, ScriptedModel

PRICES = {"small": Price(0.1, 0.4), "medium": Price(0.2, 0.8), "large": Price(3, 12)}


def candidates(*texts: str, **kwargs: Any) -> list[Candidate]:
    given = {"max_output_tokens": 50, **kwargs}
    models = [ScriptedModel(texts[0]), ScriptedModel(texts[1]), JudgeModel(texts[2])]
    return [
        Candidate(name, model, PRICES[name], **given)
        for name, model in zip(PRICES, models, strict=True)
    ]


@pytest.fixture
def log(tmp_path):
    return DecisionLog(tmp_path / "log.jsonl")


def ask(router: ChatLLMRouter, n: int = 1) -> list[dict[str, Any]]:
    records = [route_of(router.invoke(f"What is 2 + {i}?")) for i in range(n)]
    router.parts.judged.wait(10)
    router.log.flush()
    return records


def test_of_answers_that_agree_the_returned_and_the_dearest_are_scored(log):
    pool = candidates("4", "4", "5")
    pool[2].model.verdicts = ["no", "yes"]
    router = ChatLLMRouter(candidates=pool, log=log, judge_share=1.0)
    (record,) = ask(router)
    history = read_log(log.path)
    assert record["candidate"] == "small"
    assert len(record["attempts"]) == 2
    assert history.score(record["decision_id"], "judge") == 0.0
    assert history.score(record["decision_id"], "judge", candidate="large") == 1.0


def test_it_is_counted_by_the_verdict_and_by_refit(log):
    router = ChatLLMRouter(candidates=candidates("4", "4", "4"), log=log, judge_share=1.0)
    ask(router, 6)
    history = read_log(log.path)
    scores = logged_scores(history)
    assert len(scores) == 6
    # `large` was asked by the judge alone, and what that cost is in the log.
    assert all(len(entry.attempts) == 2 for entry in history.entries)
    assert scores.baseline_cost_usd == pytest.approx(2.7e-5)
    names = router.policy.candidates_
    assert len(scored_rows(history, names)) == 6
    rows = compared_rows(history, names)
    learned = router.policy.learn(rows.evaluations, rows.quality, asked=rows.asked)
    assert isinstance(learned, AnswerPool)
    assert not learned.is_assumed


def test_the_same_requests_are_drawn_every_time_and_about_as_many_as_said(log):
    router = ChatLLMRouter(candidates=candidates("4", "4", "4"), log=log, judge_share=0.2)
    judged = router.parts.judged
    ids = [f"{i:032x}" for i in range(3000)]
    drawn = [judged.draws(one) for one in ids]
    assert drawn == [judged.draws(one) for one in ids]
    assert sum(drawn) == pytest.approx(600, abs=80)
    records = ask(router, 30)
    scored = set(read_log(log.path).feedback)
    assert scored == {r["decision_id"] for r in records if judged.draws(r["decision_id"])}


class WaitingJudge(JudgeModel):
    """A judge that says nothing before it is told to."""

    told: threading.Event = Field(default_factory=threading.Event)

    def with_structured_output(self, schema, *, include_raw=False, **kwargs):
        judge = super().with_structured_output(schema, include_raw=include_raw, **kwargs)
        return judge.bind() | (lambda output: self.told.wait(30) and output)


async def test_no_driver_waits_for_it(log):
    waiting = WaitingJudge("never asked")
    judge = Candidate("judge", waiting, Price(1, 1), max_output_tokens=50)
    parts = {"log": log, "judge_share": 1.0, "judge": judge}
    router = ChatLLMRouter(candidates=candidates("4", "4", "4"), **parts)
    router.invoke("2 + 2?")
    await router.ainvoke("2 + 2?")
    list(router.stream("2 + 2?"))
    log.flush()
    assert len(read_log(log.path).feedback) == 0
    waiting.told.set()
    router.parts.judged.wait(10)
    log.flush()
    assert len(read_log(log.path).feedback) == 3


def test_the_graph_does_the_same(log):
    graph = create_cascade(candidates("4", "4", "4"), log=log, judge_share=1.0).compile()
    record = route_of(graph.invoke({"messages": [("human", "2 + 2?")]})["messages"][-1])
    for _ in range(100):
        log.flush()
        if read_log(log.path).score(record["decision_id"], candidate="large") is not None:
            break
        time.sleep(0.05)
    assert read_log(log.path).score(record["decision_id"]) == 1.0


def test_the_budget_pays_for_it_what_it_has_cost(log):
    budgets = Budgets([Budget(1.0), Budget(limit_tokens=100_000)])
    pool = candidates("4", "4", "5")
    (record,) = ask(ChatLLMRouter(candidates=pool, log=log, judge_share=1.0, budgets=budgets))
    used = budgets.ledger.used_nano(budgets.budgets[0].account({}, 0.0)) / 1e9
    verdicts = 2 * PRICES["large"].estimate_usd(input_tokens=100, output_tokens=10)
    asked = PRICES["large"].estimate_usd(input_tokens=5, output_tokens=1)
    assert used == pytest.approx(record["cost_usd"] + verdicts + asked, rel=1e-3)


def test_it_costs_what_the_feed_of_prices_says(log):
    dear = Price(3000, 12000)
    budgets = Budgets([Budget(1000.0)])
    with PriceFeed(lambda: {"large": dear}) as feed:
        parts = {"log": log, "judge_share": 1.0, "budgets": budgets, "live": Live(prices=feed)}
        (record,) = ask(ChatLLMRouter(candidates=candidates("4", "4", "5"), **parts))
    used = budgets.ledger.used_nano(budgets.budgets[0].account({}, 0.0)) / 1e9
    verdicts = 2 * dear.estimate_usd(input_tokens=100, output_tokens=10)
    asked = dear.estimate_usd(input_tokens=5, output_tokens=1)
    assert used == pytest.approx(record["cost_usd"] + verdicts + asked, rel=1e-3)


def test_a_tool_call_of_the_dearest_is_not_judged_as_a_text(log):
    pool = candidates("4", "4", "5")
    call = {"name": "add", "args": {}, "id": "1"}
    pool[2].model.script = [AIMessage("", tool_calls=[call])]
    (record,) = ask(ChatLLMRouter(candidates=pool, log=log, judge_share=1.0))
    history = read_log(log.path)
    assert history.score(record["decision_id"], "judge") == 1.0
    assert history.score(record["decision_id"], "judge", candidate="large") is None
    assert len(pool[2].model.judged) == 1


def test_where_the_budget_has_no_room_an_answer_is_not_judged(log):
    # Enough for an answer of each, not for verdicts.
    pool = candidates("4", "4", "5")
    budgets = Budgets([Budget(0.002)])
    records = ask(ChatLLMRouter(candidates=pool, log=log, judge_share=1.0, budgets=budgets))
    assert len(records) == 1
    assert read_log(log.path).feedback == {}
    assert pool[2].model.judged == []


def test_a_judge_that_fails_costs_only_the_score(log):
    pool = candidates("4", "4", "4")
    pool[2].model.verdicts = ["garbage"]
    (record,) = ask(ChatLLMRouter(candidates=pool, log=log, judge_share=1.0))
    assert record["candidate"] == "small"
    assert read_log(log.path).feedback == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"log": None}, "needs a `log`"),
        ({"judge": Candidate("judge", ScriptedModel("x"))}, r"\['judge'\] have no price"),
        ({"judge_share": 0.0, "judge": Candidate("judge", ScriptedModel("x"))}, "only asked with"),
        ({"judge_share": 1.5}, "less than or equal to 1"),
        (
            {
                "judge": Candidate("judge", ScriptedModel("x"), Price(1, 1)),
                "budgets": Budgets([Budget(1.0)]),
            },
            r"set `max_output_tokens` of \['judge'\]",
        ),
    ],
)
def test_what_cannot_be_paid_or_written_is_refused_in_words(arguments, message, log):
    given = {"log": log, "judge_share": 0.02, **arguments}
    with pytest.raises(ValueError, match=message):
        ChatLLMRouter(candidates=candidates("4", "4", "4"), **given)
