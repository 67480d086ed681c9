"""From data to a saved router in one call, with a report that says what it is worth.

`fit_router` lets every kind of router that applies to the data compete (`contenders`, `contest`).
`calibrate` sets a policy's knob to a target in words, checked on rows
that did not choose it:

    calibrate(router, data, target="quality >= 0.95 * best", confidence=0.95)

Without `confidence` the best setting on one part of the rows is chosen and checked on the other.
With it, the setting keeps the target with that probability, whatever the data look like, or there
is an error that says how many more labels it would take.
"""

from typing import TYPE_CHECKING

from langchain_llm_router.types.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_llm_router.training.calibration import Calibrated, Split, calibrate, meet_target
    from langchain_llm_router.training.fit import fit_router, load_data
    from langchain_llm_router.training.fitted_router import Fitted, Standing
    from langchain_llm_router.training.guarantees import certified, p_value, rows_needed
    from langchain_llm_router.training.targets import Target
    from langchain_llm_router.training.trials import Trials, family_of, try_all
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            ".calibration": "Calibrated Split calibrate meet_target",
            ".guarantees": "certified p_value rows_needed",
            ".targets": "Target",
            ".trials": "Trials family_of try_all",
            ".fit": "fit_router load_data",
            ".fitted_router": "Fitted Standing",
        },
    )

__all__ = [
    "Calibrated",
    "Fitted",
    "Split",
    "Standing",
    "Target",
    "Trials",
    "calibrate",
    "certified",
    "family_of",
    "fit_router",
    "load_data",
    "meet_target",
    "p_value",
    "rows_needed",
    "try_all",
]
