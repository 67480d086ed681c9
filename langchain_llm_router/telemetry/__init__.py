"""How long every real call took and how it ended: live numbers for the arms.

`telemetry` counts, `measured` tells what that says of one arm, `decayed` forgets, `breakers` leave
a failing endpoint alone, `snapshots` keep it on disk, `shared_state` shares it through Redis.
"""

from langchain_llm_router.telemetry.snapshots import Snapshots
from langchain_llm_router.telemetry.telemetry import (
    ArmStats,
    FailureKind,
    LiveCall,
    Telemetry,
)

__all__ = [
    "ArmStats",
    "FailureKind",
    "LiveCall",
    "Snapshots",
    "Telemetry",
]
