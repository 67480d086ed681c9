"""How long every real call took and how it ended: live numbers for the arms.

`telemetry` records the calls, `measured` holds one arm's statistics, `decayed` the averages that
forget, `breakers` the circuit breakers; `snapshots` saves the numbers to disk, `shared_state`
shares them through Redis.
"""

from typing import TYPE_CHECKING

from langchain_llm_router.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_llm_router.telemetry.measured import ArmStats, FailureKind
    from langchain_llm_router.telemetry.snapshots import Snapshots
    from langchain_llm_router.telemetry.telemetry import LiveCall, Telemetry
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            ".measured": "ArmStats FailureKind",
            ".snapshots": "Snapshots",
            ".telemetry": "LiveCall Telemetry",
        },
    )

__all__ = [
    "ArmStats",
    "FailureKind",
    "LiveCall",
    "Snapshots",
    "Telemetry",
]
