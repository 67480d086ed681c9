"""The verifier that a router was fitted with is part of it, from `collect` to a live answer."""

import json
from dataclasses import replace

import pytest

from langchain_llm_router import ChatLLMRouter, create_cascade
from langchain_llm_router.collect import collect, load_journal
from langchain_llm_router.evaluation import Exam, explain
from langchain_llm_router.policies import ConfidenceThreshold
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.testing import ScriptedChatModel
from langchain_llm_router.types import Candidate, Price
from langchain_llm_router.verification import AnswerLogprob, SelfEvaluator, YesNo
from langchain_llm_router.verification.description import describe_verifier
from tests.support.forks import run_forked
from tests.support.local_server import LocalServer
from tests.support.saved_routers import SAID, TABLE, cascade


def described(verifier) -> SavedRouter:
    return replace(cascade(), verifier_description=describe_verifier(verifier))


def pool(**more) -> list[Candidate]:
    return [Candidate(name, ScriptedChatModel(*["Yes"] * 20), Price(1, 2), **more)
            for name in TABLE.candidates]  # fmt: skip


def test_collect_notes_which_verifier_it_ran_and_the_tables_know_it(tmp_path):
    rows = [{"query": "2 + 2?", "reference": "4"}]
    models = [Candidate("small", ScriptedChatModel("4", "Yes", "No"))]
    path = tmp_path / "run.jsonl"
    done = collect(rows, models, journal=path, grader="number", verifiers={"self": YesNo(2)})
    noted = json.loads(path.read_text().splitlines()[0])["settings"]["verifiers"]
    assert noted == {"self": describe_verifier(YesNo(2))}
    for tables in (done, load_journal(path)):
        kept = tables.evaluations["self"].select(["small"]).take([0]).verifier
        assert kept == describe_verifier(YesNo(2))
    with pytest.raises(ValueError, match=r"was YesNo\(n_samples=2\) in run.jsonl, got YesNo\(n_s"):
        collect(rows, models, journal=path, grader="number", verifiers={"self": YesNo(3)})


def test_journals_of_two_verifiers_under_one_name_are_not_mixed(tmp_path):
    paths = []
    for i, verifier in enumerate((YesNo(2), SelfEvaluator(2))):
        paths.append(tmp_path / f"{i}.jsonl")
        models = [Candidate("small", ScriptedChatModel("4", "Yes", "No", "Yes"))]
        collect([{"id": f"{i}", "query": f"{i}?", "reference": "4"}], models, journal=paths[-1],
                grader="number", verifiers={"self": verifier})  # fmt: skip
    with pytest.raises(ValueError, match=r"YesNo\(n_samples=2\) in one run and is SelfEvaluator"):
        load_journal(*paths)


def test_a_router_that_is_saved_and_loaded_builds_the_verifier_it_was_fitted_with(tmp_path):
    described(YesNo(3, question="Right?")).save(tmp_path / "it")
    loaded = ChatLLMRouter.load(tmp_path / "it", candidates=pool())
    assert loaded.verifier == YesNo(3, question="Right?")
    saved = SavedRouter.load(tmp_path / "it")
    live = saved.arguments({c.name: c for c in pool()})
    assert live["verifier"] == YesNo(3, question="Right?")
    answer = create_cascade(**live).compile().invoke({"messages": "hi"})
    assert answer["messages"][-1].text == "Yes"


def test_another_verifier_is_refused_with_both_named_unless_it_is_asked_for(tmp_path):
    described(YesNo(8)).save(tmp_path / "it")
    other = SelfEvaluator(8)
    with pytest.raises(ValueError, match=r"scores of YesNo\(n_samples=8\), got SelfEvaluator\(n_"):
        ChatLLMRouter.load(tmp_path / "it", candidates=pool(), verifier=other)
    by_name = {"self": YesNo(4), "answer_logprob": AnswerLogprob()}
    with pytest.raises(ValueError, match=r"YesNo\(n_samples=8\), got YesNo\(n_samples=4\)"):
        ChatLLMRouter.load(tmp_path / "it", candidates=pool(), verifier=by_name)
    kept = ChatLLMRouter.load(
        tmp_path / "it", candidates=pool(), verifier=other, check_verifier=False
    )
    assert kept.verifier is other


def test_a_cheaper_way_to_the_same_scores_is_no_other_verifier(tmp_path):
    described(SelfEvaluator(8)).save(tmp_path / "it")
    adaptive = SelfEvaluator(8, adaptive=True)
    loaded = ChatLLMRouter.load(tmp_path / "it", candidates=pool(), verifier=adaptive)
    assert loaded.verifier is adaptive


def test_a_router_of_an_earlier_version_still_asks_for_its_verifier_and_takes_any(tmp_path):
    cascade().save(tmp_path / "it")
    manifest = next((tmp_path / "it").glob("*.json"))
    assert SavedRouter.load(tmp_path / "it").verifier_description is None
    assert "YesNo" not in manifest.read_text()
    with pytest.raises(ValueError, match="verifier 'self': pass `verifier`"):
        ChatLLMRouter.load(tmp_path / "it", candidates=pool())
    assert ChatLLMRouter.load(tmp_path / "it", candidates=pool(), verifier=YesNo(2)) is not None


def test_scores_of_another_verifier_cannot_test_the_router():
    with_yes_no = described(YesNo(8))
    of_another = replace_verifier(SelfEvaluator(8))
    with pytest.raises(ValueError, match=r"data have scores 'self' of SelfEvaluator"):
        Exam.of(with_yes_no, TABLE, {"self": of_another})
    assert Exam.of(with_yes_no, TABLE, {"self": SAID}) is not None
    assert explain(with_yes_no, "hi").decision.action == "ask"


def replace_verifier(verifier):
    scores = SAID.take(range(len(SAID)))
    object.__setattr__(scores, "verifier", describe_verifier(verifier))
    return scores


@pytest.mark.parametrize("known", [True, False])
def test_the_python_block_of_a_report_runs_as_pasted(tmp_path, known):
    router = described(YesNo(2)) if known else cascade()
    router.save(tmp_path / "my router")
    with LocalServer() as server:
        models = {name: f"openai:{name}@{server.url}" for name in router.candidates}
        block = router.python_block(models, tmp_path / "my router")
        done = run_forked(block, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() != ""
    assert "..." not in block
    assert "YesNo" in block


def test_the_python_block_marks_a_model_that_is_not_known():
    block = SavedRouter(("a", "b"), ConfidenceThreshold()).python_block({"a": "openai:gpt-4o"})
    assert "'a=openai:gpt-4o'," in block
    assert "'b=provider:model',  # write your model here" in block
    compile(block, "block", "exec")
