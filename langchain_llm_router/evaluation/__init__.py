"""Evaluation of routers on recorded data, and explanations of decisions.

`table_replay` replays a policy on recorded outcomes, and `exam` a saved router. Metrics of arrays
are in `metrics` and `cascade_metrics`, their intervals in `intervals`, the time that a router costs
in `latency`, and families of policies in `sweeps`. Two modules write reports: `held_out` on whether
an estimator beats a random mix, and `separability_report` on whether an embedding is useful.
`off_policy_estimates` estimates the score of another policy from a log, and `streamed_logs` does so
for a log that does not fit in memory.

`explain` explains one decision as text, as data, or for `plots.explanation`:

    print(explain(router, "prove that pi is irrational").text())

It calls no model: policies are pure, so the decision at another λ or after another verdict is
found by running the policy.
"""

from typing import TYPE_CHECKING

from langchain_llm_router.types.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_llm_router.evaluation.answer_beliefs import (
        AnswerBelief,
        BelievedAnswer,
        FurtherAnswer,
    )
    from langchain_llm_router.evaluation.cascade_metrics import (
        cost_quality_area,
        cost_quality_area_interval,
        ibc,
        region_ibc_lift,
        region_ibc_lift_interval,
    )
    from langchain_llm_router.evaluation.claims import Goal
    from langchain_llm_router.evaluation.exam import Exam, RouterReport
    from langchain_llm_router.evaluation.explainer import explain, recorded_attempts
    from langchain_llm_router.evaluation.explanation import (
        ArmTerms,
        Explanation,
        Neighbor,
        Outlook,
        StepTaken,
    )
    from langchain_llm_router.evaluation.flips import Span, knob_of, spans
    from langchain_llm_router.evaluation.held_out import HeldOutReport, held_out_report
    from langchain_llm_router.evaluation.intervals import (
        Interval,
        Resampling,
        bootstrap,
        difference_interval,
        mean_interval,
        ratio_interval,
        weighted_bootstrap,
    )
    from langchain_llm_router.evaluation.judgement import decide_verdict, trial_of
    from langchain_llm_router.evaluation.latency import LatencyCost, Waiting, latency_cost
    from langchain_llm_router.evaluation.logged_verdict import LoggedScores, logged_scores
    from langchain_llm_router.evaluation.metric_intervals import (
        aiq_interval,
        apgr_interval,
        cpt_interval,
        tiny_gap_warning,
    )
    from langchain_llm_router.evaluation.metrics import (
        Curve,
        Reliability,
        aiq,
        apgr,
        auc,
        brier,
        cost_at_quality,
        cpt,
        ece,
        hull_quality,
        ibc_lift,
        pgr,
        quality_at_cost,
        random_mix_hull,
        reliability,
        win_rate_curve,
        within_group_apgr,
    )
    from langchain_llm_router.evaluation.off_policy_estimates import (
        OffPolicy,
        Overlap,
        doubly_robust,
        inverse_propensity,
        off_policy,
        self_normalized,
    )
    from langchain_llm_router.evaluation.random_mix import (
        cost_saved,
        cost_saved_interval,
        quality_above_mix_interval,
    )
    from langchain_llm_router.evaluation.repeated_runs import RepeatedRuns
    from langchain_llm_router.evaluation.separability_report import (
        Closeness,
        Separability,
        closeness,
        separability,
    )
    from langchain_llm_router.evaluation.streamed_logs import off_policy_of_logs
    from langchain_llm_router.evaluation.sweeps import (
        Sweep,
        cheapest_good_enough,
        single_sweep,
        utility_sweep,
    )
    from langchain_llm_router.evaluation.table_replay import (
        Replay,
        best_single,
        curve,
        oracle,
        replay,
    )
    from langchain_llm_router.evaluation.targets import Target, parse_targets
    from langchain_llm_router.evaluation.verdict import Verdict
    from langchain_llm_router.policies import Knob
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            ".cascade_metrics": (
                "cost_quality_area cost_quality_area_interval ibc region_ibc_lift "
                "region_ibc_lift_interval"
            ),
            ".exam": "Exam RouterReport",
            ".held_out": "HeldOutReport held_out_report",
            ".claims": "Goal",
            ".intervals": (
                "Interval Resampling bootstrap difference_interval mean_interval ratio_interval "
                "weighted_bootstrap"
            ),
            ".judgement": "decide_verdict trial_of",
            ".logged_verdict": "LoggedScores logged_scores",
            ".metric_intervals": "aiq_interval apgr_interval cpt_interval tiny_gap_warning",
            ".targets": "Target parse_targets",
            ".verdict": "Verdict",
            ".latency": "LatencyCost Waiting latency_cost",
            ".metrics": (
                "Curve Reliability aiq apgr auc brier cost_at_quality cpt ece hull_quality "
                "ibc_lift pgr quality_at_cost random_mix_hull reliability win_rate_curve "
                "within_group_apgr"
            ),
            ".random_mix": "cost_saved cost_saved_interval quality_above_mix_interval",
            ".repeated_runs": "RepeatedRuns",
            ".table_replay": "Replay best_single curve oracle replay",
            ".separability_report": "Closeness Separability closeness separability",
            ".streamed_logs": "off_policy_of_logs",
            ".sweeps": "Sweep cheapest_good_enough single_sweep utility_sweep",
            ".off_policy_estimates": (
                "OffPolicy Overlap doubly_robust inverse_propensity off_policy self_normalized"
            ),
            ".answer_beliefs": "AnswerBelief BelievedAnswer FurtherAnswer",
            ".explainer": "explain recorded_attempts",
            ".explanation": "ArmTerms Explanation Neighbor Outlook StepTaken",
            ".flips": "Span knob_of spans",
            "langchain_llm_router.policies": "Knob",
        },
    )

__all__ = [
    "AnswerBelief",
    "ArmTerms",
    "BelievedAnswer",
    "Closeness",
    "Curve",
    "Exam",
    "Explanation",
    "FurtherAnswer",
    "Goal",
    "HeldOutReport",
    "Interval",
    "Knob",
    "LatencyCost",
    "LoggedScores",
    "Neighbor",
    "OffPolicy",
    "Outlook",
    "Overlap",
    "Reliability",
    "RepeatedRuns",
    "Replay",
    "Resampling",
    "RouterReport",
    "Separability",
    "Span",
    "StepTaken",
    "Sweep",
    "Target",
    "Verdict",
    "Waiting",
    "aiq",
    "aiq_interval",
    "apgr",
    "apgr_interval",
    "auc",
    "best_single",
    "bootstrap",
    "brier",
    "cheapest_good_enough",
    "closeness",
    "cost_at_quality",
    "cost_quality_area",
    "cost_quality_area_interval",
    "cost_saved",
    "cost_saved_interval",
    "cpt",
    "cpt_interval",
    "curve",
    "decide_verdict",
    "difference_interval",
    "doubly_robust",
    "ece",
    "explain",
    "held_out_report",
    "hull_quality",
    "ibc",
    "ibc_lift",
    "inverse_propensity",
    "knob_of",
    "latency_cost",
    "logged_scores",
    "mean_interval",
    "off_policy",
    "off_policy_of_logs",
    "oracle",
    "parse_targets",
    "pgr",
    "quality_above_mix_interval",
    "quality_at_cost",
    "random_mix_hull",
    "ratio_interval",
    "recorded_attempts",
    "region_ibc_lift",
    "region_ibc_lift_interval",
    "reliability",
    "replay",
    "self_normalized",
    "separability",
    "single_sweep",
    "spans",
    "tiny_gap_warning",
    "trial_of",
    "utility_sweep",
    "weighted_bootstrap",
    "win_rate_curve",
    "within_group_apgr",
]
