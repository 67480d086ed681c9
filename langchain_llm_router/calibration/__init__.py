"""From a target in words to a policy's knob, checked on rows that did not choose it.

    calibrate(router, data, target="quality >= 0.95 * best", confidence=0.95)

Without `confidence` the best setting on one part of the rows is chosen and checked on the other.
With it, the setting keeps the target with that probability, whatever the data look like, or there
is an error that says how many more labels it would take.
"""

from langchain_llm_router.calibration.calibrate import (
    Calibrated,
    Split,
    calibrate,
    meet_target,
)
from langchain_llm_router.calibration.promises import certified, p_value, rows_needed
from langchain_llm_router.calibration.targets import Target
from langchain_llm_router.calibration.trials import Trials, family_of, try_all

__all__ = [
    "Calibrated",
    "Split",
    "Target",
    "Trials",
    "calibrate",
    "certified",
    "family_of",
    "meet_target",
    "p_value",
    "rows_needed",
    "try_all",
]
