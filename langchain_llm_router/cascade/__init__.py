"""The cascade as an explicit LangGraph state machine.

    predict ──► decide ──► one node per candidate ──► decide
                  │  ▲
                  ▼  │
              self_evaluate          decide ──► END

`decide`'s outgoing edge *is* the policy: it leads to a candidate, to `self_evaluate`, or to END. A
one-shot policy is the same graph whose policy accepts the first answer. With `approve` there is
one more stop on the way from a draft to a dearer candidate, where a person is asked. The state
holds plain dicts and messages, so that every checkpointer can keep it; rejected drafts stay inside
`trace`, where no message stream looks. Decisions, drafts and verdicts go to
`stream_mode="custom"` as they come.
"""

from langchain_llm_router.cascade.edges import routing_edge
from langchain_llm_router.cascade.graph import create_cascade
from langchain_llm_router.cascade.state import CascadeState

__all__ = ["CascadeState", "create_cascade", "routing_edge"]
