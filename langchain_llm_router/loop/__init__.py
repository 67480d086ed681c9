"""The loop of decisions over one request: situation, steps, and what may come next. No I/O.

`arms` builds the situation that a policy sees, `loop` takes the steps, `endpoints` chooses among
one model's endpoints, `conversation` reads the messages, `capabilities` says who can do what they
need, `charges` what it can still afford, `commitment` whether a partial answer may be shown,
`record` what is reported.
"""

from typing import TYPE_CHECKING

from langchain_llm_router.types.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_llm_router.loop.loop import Loop, Reader
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            ".loop": "Loop Reader",
        },
    )

__all__ = [
    "Loop",
    "Reader",
]
