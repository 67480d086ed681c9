"""Fitting and calibrating routers.

`fit_router` compares every kind of router that applies to the data (`contenders`, `contest`) and
tests the winner. `calibrate` sets a policy's knob to meet a target:

    calibrate(router, data, target="quality >= best - 1 point")

The setting meets the target with confidence 0.95 for any distribution of the data, or an error
states how many more labels are needed. With `confidence=None`, the best setting is chosen on one
part of the rows and checked on the other, without a promise.
"""

from typing import TYPE_CHECKING

from langchain_llm_router.types.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_llm_router.evaluation.targets import Target
    from langchain_llm_router.evaluation.trials import Trials, family_of, try_all
    from langchain_llm_router.training.calibration import Calibrated, Split, calibrate, meet_target
    from langchain_llm_router.training.data_files import load_data
    from langchain_llm_router.training.fit import fit_router
    from langchain_llm_router.training.fitted_router import Fitted, Standing
    from langchain_llm_router.training.guarantees import certified, p_value, rows_needed
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            ".calibration": "Calibrated Split calibrate meet_target",
            ".guarantees": "certified p_value rows_needed",
            "langchain_llm_router.evaluation.targets": "Target",
            "langchain_llm_router.evaluation.trials": "Trials family_of try_all",
            ".data_files": "load_data",
            ".fit": "fit_router",
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
