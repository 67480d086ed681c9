"""What would a router have cost and scored, and how sure is that? Replay, figures, intervals.

`replaying` runs a policy over recorded outcomes, `examining` a whole saved router; the figures are
in `metrics` (from plain arrays) and `cascade_metrics`, their intervals in `intervals`, families of
routers at once in `sweeps`. Two reports in words: `held_out` (does it beat a random mix?) and
`separability`.
"""

from langchain_llm_router.evaluation.cascade_metrics import (
    cost_quality_area,
    cost_quality_area_interval,
    ibc,
    region_ibc_lift,
    region_ibc_lift_interval,
)
from langchain_llm_router.evaluation.examining import Exam, RouterReport
from langchain_llm_router.evaluation.held_out import (
    HeldOutReport,
    held_out_report,
)
from langchain_llm_router.evaluation.intervals import (
    Interval,
    Resampling,
    aiq_interval,
    apgr_interval,
    bootstrap,
    cpt_interval,
    mean_interval,
    weighted_bootstrap,
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
from langchain_llm_router.evaluation.mixing import (
    cost_saved,
    cost_saved_interval,
    quality_above_mix_interval,
)
from langchain_llm_router.evaluation.replaying import (
    Replay,
    best_single,
    curve,
    oracle,
    replay,
)
from langchain_llm_router.evaluation.separability import (
    Separability,
    separability,
)
from langchain_llm_router.evaluation.sweeps import (
    Sweep,
    single_sweep,
    utility_sweep,
)

__all__ = [
    "Curve",
    "Exam",
    "HeldOutReport",
    "Interval",
    "Reliability",
    "Replay",
    "Resampling",
    "RouterReport",
    "Separability",
    "Sweep",
    "aiq",
    "aiq_interval",
    "apgr",
    "apgr_interval",
    "auc",
    "best_single",
    "bootstrap",
    "brier",
    "cost_at_quality",
    "cost_quality_area",
    "cost_quality_area_interval",
    "cost_saved",
    "cost_saved_interval",
    "cpt",
    "cpt_interval",
    "curve",
    "ece",
    "held_out_report",
    "hull_quality",
    "ibc",
    "ibc_lift",
    "mean_interval",
    "oracle",
    "pgr",
    "quality_above_mix_interval",
    "quality_at_cost",
    "random_mix_hull",
    "region_ibc_lift",
    "region_ibc_lift_interval",
    "reliability",
    "replay",
    "separability",
    "single_sweep",
    "utility_sweep",
    "weighted_bootstrap",
    "win_rate_curve",
    "within_group_apgr",
]
