"""From what people thought of answers to an estimator that knows it."""

from types import SimpleNamespace
from uuid import uuid4

import numpy as np
import pytest
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers import LangChainTracer
from langsmith import Client

from langchain_llm_router import Candidate, ChatLLMRouter, Outcomes, Price, route_of
from langchain_llm_router.data.embeddings import LexicalEmbeddings
from langchain_llm_router.estimators import (
    Abstaining,
    ApproximateMemory,
    BradleyTerry,
    Linear,
    NearestNeighbors,
)
from langchain_llm_router.history import (
    DecisionLog,
    ScoredRows,
    import_langsmith,
    read_log,
    refit,
    scored_rows,
)
from langchain_llm_router.policies import Always, Utility
from langchain_llm_router.types import Endpoint
from langchain_llm_router.types.errors import NotFittedError
from tests.support.fake_langsmith import FakeLangSmith
from tests.support.fakes import ScriptedModel, make_outcomes

NAMES = ("small", "large")
TRAINING = make_outcomes(n=80, candidates=NAMES)


@pytest.fixture
def log(tmp_path):
    return DecisionLog(tmp_path / "log.jsonl")


def read(log):
    log.flush()
    return read_log(log.path)


def router(log, policy=None, **kwargs):
    return ChatLLMRouter(
        candidates=[
            Candidate("small", ScriptedModel("small says"), Price(1, 2)),
            Candidate("large", ScriptedModel("large says"), Price(10, 20)),
        ],
        policy=policy or Always("small"),
        log=log,
        **kwargs,
    )


def test_scores_become_a_table_whose_unknown_cells_are_nan(log):
    asked = router(log)
    ids = [route_of(asked.invoke(f"question {i}"))["decision_id"] for i in range(3)]
    log.feedback(ids[0], 0.0)
    log.feedback(ids[0], 1.0, comment="changed my mind")
    log.feedback(ids[1], 0.0, key="judge")
    log.feedback("nobody knows this id", 1.0)
    history = read(log)
    rows = scored_rows(history, NAMES)
    assert rows.queries == ("question 0", "question 1")
    np.testing.assert_array_equal(rows.quality, [[1.0, np.nan], [0.0, np.nan]])
    assert rows.decision_ids == tuple(ids[:2])
    assert len(scored_rows(history, NAMES, key="judge")) == 1
    assert len(scored_rows(history, ("large",))) == 0


def test_an_endpoints_score_is_its_models(log):
    twice = Candidate(
        "small", price=Price(1, 2), endpoints=[Endpoint(n, ScriptedModel(n)) for n in "ab"]
    )
    asked = ChatLLMRouter(candidates=[twice], policy=Always("small"), log=log)
    log.feedback(route_of(asked.invoke("q"))["decision_id"], 0.5)
    np.testing.assert_array_equal(scored_rows(read(log), NAMES).quality, [[0.5, np.nan]])


QUERIES = [f"write a sonnet about the sea {i}" for i in range(30)]
BAD_SMALL = ScoredRows(QUERIES, NAMES, np.array([[0.0, np.nan]] * 30), [""] * 30)


@pytest.mark.parametrize(
    "make",
    [lambda: NearestNeighbors(n_neighbors=5), lambda: Linear(n_surface=32), BradleyTerry],
    ids=["NearestNeighbors", "Linear", "BradleyTerry"],
)
def test_a_refit_learns_what_was_scored_and_leaves_the_rest(make):
    before = make().fit(TRAINING)
    old, elsewhere = before.predict(QUERIES[:1])[0], before.predict(TRAINING.queries[:5])
    after = refit(before, BAD_SMALL, TRAINING)
    new = after.predict(["write a sonnet about the sea 99"])[0]
    assert new[0] < old[0] - 0.1
    assert new[1] - new[0] > old[1] - old[0]
    np.testing.assert_array_equal(before.predict(QUERIES[:1])[0], old)
    assert np.abs(after.predict(TRAINING.queries[:5]) - elsewhere).mean() < 0.15
    assert after.data_hash_ != before.data_hash_


def test_what_an_estimator_abstained_from_it_can_learn():
    before = Abstaining(NearestNeighbors(n_neighbors=5), p_query=0.2).fit(TRAINING)
    assert np.isnan(before.predict(QUERIES)).all()
    after = refit(before, BAD_SMALL, TRAINING).predict(QUERIES[:1])[0]
    np.testing.assert_allclose(after, [0.0, TRAINING.quality[:, 1].mean()])


def test_the_nearest_neighbours_take_rows_in_without_a_refit(tmp_path):
    before = NearestNeighbors(n_neighbors=5).fit(TRAINING)
    after = refit(before, BAD_SMALL)
    assert isinstance(after, NearestNeighbors)
    assert after.memory_.n_rows_ == 110
    assert before.memory_.n_rows_ == 80
    new = after.predict(["write a sonnet about the sea 99"])[0]
    # Of the small one it is known; of the large one nothing is, so its mean stands in.
    np.testing.assert_allclose(new, [0.0, TRAINING.quality[:, 1].mean()])
    easy = ["add easy numbers 1"]
    np.testing.assert_allclose(after.predict(easy), before.predict(easy), atol=1e-12)
    loaded = NearestNeighbors.load(after.save(tmp_path / "it"))
    np.testing.assert_array_equal(loaded.predict(QUERIES), after.predict(QUERIES))
    again = refit(after, BAD_SMALL)
    assert again.memory_.n_rows_ == 140


def test_rows_without_gaps_give_what_a_fit_on_all_rows_gives():
    embeddings = LexicalEmbeddings(width=256).fit(TRAINING.queries)
    first, rest = TRAINING.take(np.arange(50)), TRAINING.take(np.arange(50, 80))
    fit = NearestNeighbors(embeddings, n_neighbors=7).fit
    extended = fit(first).extended(rest.queries, rest.quality)
    np.testing.assert_allclose(
        extended.predict(["prove it 1"]), fit(TRAINING).predict(["prove it 1"])
    )


def test_what_does_not_fit_is_refused():
    fitted = NearestNeighbors(n_neighbors=5).fit(TRAINING)
    with pytest.raises(ValueError, match="must have the estimator's candidates"):
        refit(fitted, ScoredRows(["q"], ("large", "small"), np.array([[1, np.nan]]), [""]))
    with pytest.raises(ValueError, match="pass them as `training`"):
        refit(Linear(n_surface=8).fit(TRAINING), BAD_SMALL)
    with pytest.raises(NotFittedError):
        refit(Linear(), BAD_SMALL)
    with pytest.raises(ValueError, match="quality"):
        fitted.extended(["q"], [[2.0, np.nan]])
    pytest.importorskip("usearch", reason="usearch is not installed")
    approximate = NearestNeighbors(memory=ApproximateMemory()).fit(TRAINING)
    with pytest.raises(ValueError, match="cannot grow"):
        approximate.extended(["q"], [[1.0, np.nan]])


def test_no_rows_change_nothing():
    fitted = NearestNeighbors().fit(TRAINING)
    assert refit(fitted, ScoredRows([], NAMES, np.empty((0, 2)), [])) is fitted


def test_the_whole_way_from_a_thumb_to_another_choice(log):
    queries = [f"add easy numbers {i}" for i in range(30)]
    estimator = NearestNeighbors(n_neighbors=5).fit(Outcomes(queries, NAMES, np.ones((30, 2))))
    policy = Utility(cost=100.0)
    asked = router(log, policy, estimator=estimator)
    for query in QUERIES:
        record = route_of(asked.invoke(query))
        assert record["candidate"] == "small"
        log.feedback(record["decision_id"], 0.0)
    better = refit(estimator, scored_rows(read(log), estimator.fitted_candidates))
    again = router(log, policy, estimator=better)
    assert route_of(again.invoke("write a sonnet about the sea, please"))["candidate"] == "large"
    assert route_of(again.invoke("add easy numbers 5"))["candidate"] == "small"


# LangSmith


class Feedback:
    """LangSmith's feedback in miniature: what `list_feedback` of its client gives."""

    def __init__(self, *given) -> None:
        self.given, self.asked = given, []

    def list_feedback(self, *, run_ids, feedback_key=None, **kwargs):
        self.asked += run_ids
        for run_id, key, score in self.given:
            if run_id in run_ids and (feedback_key is None or key in feedback_key):
                yield SimpleNamespace(id=f"{run_id}{key}", run_id=run_id, key=key, score=score)


def traced(asked, fake, how=lambda asked, config: asked.invoke("q", config)):
    client = Client(api_url=fake.url, api_key="x")
    how(asked, {"callbacks": [LangChainTracer(client=client)]})
    client.flush()
    client.cleanup()


def test_feedback_on_the_routers_run_or_its_trace_is_the_requests(log):
    asked = router(log)
    chain = RunnableLambda(asked.invoke)
    with FakeLangSmith() as fake:
        traced(asked, fake)
        traced(asked, fake, lambda asked, config: chain.invoke("in a chain", config))
        traced(asked, fake, lambda asked, config: chain.map().invoke(["one", "two"], config))
    first, second, *both = read(log).entries
    assert first.run_id == first.trace_id
    assert second.run_id != second.trace_id
    assert both[0].trace_id == both[1].trace_id
    client = Feedback(
        (first.run_id, "thumb", 1),
        (second.trace_id, "thumb", 0),
        (second.run_id, "note", None),
        (both[0].trace_id, "thumb", 1),
        (both[1].run_id, "judge", 0.25),
    )
    history = read(log)
    done = import_langsmith(log, history, client)
    assert (done.n_imported, done.n_without_score, done.n_ambiguous) == (3, 1, 1)
    import_langsmith(log, history, client)
    history = read(log)
    assert [history.score(e.decision_id) for e in history.entries] == [1.0, 0.0, None, 0.25]
    assert history.score(first.decision_id, "thumb") == 1.0
    assert history.score(first.decision_id, "judge") is None


def test_several_people_on_one_run_are_averaged_and_keys_can_be_chosen(log):
    asked = router(log)
    with FakeLangSmith() as fake:
        traced(asked, fake)
    (entry,) = read(log).entries
    client = Feedback((entry.run_id, "a", 5), (entry.run_id, "b", 1))
    import_langsmith(log, read(log), client, scale=(1, 5))
    assert read(log).score(entry.decision_id) == 0.5
    assert import_langsmith(log, read(log), client, keys=["a"], scale=(1, 5)).n_imported == 1
    with pytest.raises(ValueError, match="must be on the scale"):
        import_langsmith(log, read(log), client)


def test_langsmiths_own_client_is_such_a_client(log):
    with FakeLangSmith() as fake:
        traced(router(log), fake)
        (entry,) = read(log).entries
        client = Client(api_url=fake.url, api_key="x")
        client.create_feedback(entry.run_id, "thumb", score=1, session_id=uuid4())
        client.flush()
        assert import_langsmith(log, read(log), client).n_imported == 1
        client.cleanup()
    assert read(log).score(entry.decision_id) == 1.0
