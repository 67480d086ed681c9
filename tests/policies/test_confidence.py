"""A cascade's bar: when a verified answer is good enough."""

from langchain_llm_router.data.artifacts import Artifact, write_artifact
from langchain_llm_router.policies import ConfidenceThreshold, Policy
from langchain_llm_router.policies.observation import KernelDensity
from langchain_llm_router.types import Arm, Attempt, Situation
from tests.support.situations import two


def verified(confidence, **options) -> Situation:
    attempt = Attempt(candidate="weak", verified=True, confidence=confidence)
    return two(attempts=(attempt,), **options)


def test_a_draft_is_kept_where_all_that_is_missing_is_not_worth_the_next_candidate():
    policy = ConfidenceThreshold(lambda_=5.0, use_prior=False)  # the bar is 1 - 5 * 0.1 = 0.5
    assert policy.decide(verified(0.51)).action == "accept"
    assert policy.decide(verified(0.49)).candidate == "strong"
    assert policy.decide(verified(0.49, **{"lambda": 6.0})).action == "accept"
    assert policy.decide(verified(0.95, **{"lambda": 0.0})).candidate == "strong"
    assert policy.decide(verified(0.51)).flip == "λ below 4.9 per USD"


def test_a_policy_of_an_earlier_version_keeps_its_rule_and_has_no_knob_that_pulls_the_other_way(
    tmp_path,
):
    ConfidenceThreshold(lambda_=5.0).save(tmp_path / "new")
    assert Policy.load(tmp_path / "new") == ConfidenceThreshold(lambda_=5.0)
    settings = ConfidenceThreshold(lambda_=8.0)._save_fields(tmp_path / "old")
    settings["params"].pop("lambda_raises_bar")
    write_artifact(tmp_path / "old", Artifact("ConfidenceThreshold", settings))
    old = Policy.load(tmp_path / "old")  # the bar is 8 * 0.1 = 0.8
    assert old.decide(verified(0.81)).action == "accept"
    assert old.decide(verified(0.79)).candidate == "strong"
    assert old.knob is None
    assert old.decide(verified(0.79, **{"lambda": 8.0})).action == "accept"


def test_a_missing_verdict_leaves_the_prior():
    policy = ConfidenceThreshold(threshold=0.3)
    assert policy.decide(verified(None)).action == "accept"  # predicted quality 0.4
    assert ConfidenceThreshold(threshold=0.5).decide(verified(None)).action == "ask"
    blind = ConfidenceThreshold(threshold=0.3, use_prior=False)
    assert blind.decide(verified(None)).reason.startswith("no verdict")


def test_a_score_is_read_through_the_observation_model():
    model = KernelDensity().fit([0.9, 0.92, 0.95, 1.0], [False, False, False, True])
    policy = ConfidenceThreshold(model, threshold=0.5, use_prior=False)
    assert policy.decide(verified(0.92)).action == "ask"
    per_name = ConfidenceThreshold({"strong": model}, threshold=0.5, use_prior=False)
    assert per_name.decide(verified(0.92)).action == "accept"
    assert per_name.named_candidates == ("strong",)


def test_the_best_answer_is_kept_when_the_last_candidate_fails():
    attempts = (
        Attempt(candidate="a", verified=True, confidence=0.4),
        Attempt(candidate="b", verified=True, confidence=0.2),
        Attempt(candidate="c", error="down"),
    )
    arms = (Arm("a"), Arm("b"), Arm("c"))
    decision = ConfidenceThreshold(threshold=0.9).decide(Situation("q", arms, attempts))
    assert (decision.action, decision.candidate) == ("accept", "a")
