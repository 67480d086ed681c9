"""The decision loop of one request, without I/O.

`arms` builds the situation that a policy sees, `loop` takes the steps, `endpoints` chooses the
endpoint of a model. `conversation` reads the messages, `capabilities` checks which models can serve
them, `charges` which ones the budget covers. `overrides` has the steps that are not the policy's
choice. `commitment` decides whether a partial answer may be streamed, `record` builds the decision
record. `stuck_signals` reads the signals of a tool loop that is stuck, `stuck` judges them
(`stuck_fit` fits a model that does), `climbs` chooses the stronger candidate that takes over.
`sensitive` says which requests only some candidates may see. `answer_numbers` numbers recorded
groups of equal answers.
"""

from typing import TYPE_CHECKING

from langchain_llm_router.types.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_llm_router.loop.loop import Loop, Reader
    from langchain_llm_router.loop.sensitive import Sensitive
    from langchain_llm_router.loop.stuck import StuckDetector, StuckModel, StuckRules
    from langchain_llm_router.loop.stuck_signals import LoopSignals, read_signals
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            ".loop": "Loop Reader",
            ".sensitive": "Sensitive",
            ".stuck": "StuckDetector StuckModel StuckRules",
            ".stuck_signals": "LoopSignals read_signals",
        },
    )

__all__ = [
    "Loop",
    "LoopSignals",
    "Reader",
    "Sensitive",
    "StuckDetector",
    "StuckModel",
    "StuckRules",
    "read_signals",
]
