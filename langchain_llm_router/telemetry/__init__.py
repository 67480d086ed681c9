"""How long every real call took and how it ended: live numbers for the arms.

`telemetry` counts, `measured` tells what that says of one arm, `decayed` forgets, `breakers` leave
a failing endpoint alone, `snapshots` keep it on disk, `shared_state` shares it through Redis.
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
